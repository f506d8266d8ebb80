#!/bin/bash
# Open vSwitch 3.1.0 (Debian 12): frames that arrive after the reply to a barrier.
#
# OpenFlow 1.3.5, section 7.3.8: a switch sends the reply when it has carried out all that came before.
# A good guess: a frame that reaches the switch after that is forwarded by the new rules.
# What happens: it is forwarded by the old ones if its flow is in the cache. The cache follows the rules in the
# background: with some flows within milliseconds, with 20,000 flows some tenths of a second later (of 90 frames
# at once after the reply, 86 left by the old rule), on a busy machine longer. So two switches that are changed one after the other, each with a barrier, may lose or
# double frames: the second sends by its new rules to a first one that goes on by its old ones.
#
# Needs: Debian 12, amd64, apt-get, dpkg, python3, the network. Everything is in a temporary directory; nothing
# is installed, and the switch has the datapath "dummy", which needs no root.
set -euo pipefail

version=3.1.0-2+deb12u1
flows=20000
work=$(mktemp -d)
started=()
clean() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean EXIT

cd "$work"
apt-get -q download "openvswitch-switch=$version" "openvswitch-common=$version" \
    libunbound8 libxdp1 libbpf1 libcap-ng0 libnuma1 libevent-2.1-7 libelf1 >apt.log 2>&1 || { cat apt.log; exit 1; }
for package in ./*.deb; do dpkg -x "$package" tree; done
export LD_LIBRARY_PATH="$work/tree/usr/lib/x86_64-linux-gnu:$work/tree/lib/x86_64-linux-gnu"
export PATH="$work/tree/usr/bin:$work/tree/usr/sbin:$work/tree/usr/lib/openvswitch-switch:$PATH"
export OVS_PKGDATADIR="$work/tree/usr/share/openvswitch" OVS_RUNDIR="$work" OVS_LOGDIR="$work" OVS_DBDIR="$work"
ovs-vsctl --version | head -1
switch=$(command -v ovs-vswitchd.openvswitch-switch || command -v ovs-vswitchd)

ovsdb-tool create conf.db "$OVS_PKGDATADIR/vswitch.ovsschema"
ovsdb-server conf.db --remote="punix:$work/db.sock" --unixctl="$work/db.ctl" -vconsole:off &
started+=($!)
until [ -S db.sock ]; do sleep 0.05; done
vsctl=(ovs-vsctl "--db=unix:$work/db.sock" -t 20)
"${vsctl[@]}" --no-wait init
"$switch" "unix:$work/db.sock" --enable-dummy --disable-system --unixctl="$work/vs.ctl" -vconsole:off &
started+=($!)
"${vsctl[@]}" add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow13
for port in 1 2 3; do
    "${vsctl[@]}" add-port br0 "p$port" -- set Interface "p$port" type=dummy ofport_request="$port"
done
ofctl=(ovs-ofctl -O OpenFlow13) bridge="$work/br0.mgmt"
# A rule for one source address, so that the cache has a flow for each.
"${ofctl[@]}" add-flow "$bridge" "priority=2,in_port=1,dl_src=06:00:00:00:00:00,actions=drop"
"${ofctl[@]}" add-flow "$bridge" "priority=1,in_port=1,actions=output:2"

# Ethernet, a source address for each flow, an experimental type.
python3 -c 'for n in range('$flows'): print("020000000002" + f"02000001{n:04x}" + "88b5" + "00" * 46)' >all
# A port of this datapath takes at most 100 frames at a time.
head -90 all >some
receive() { xargs -n 90 ovs-appctl -t "$work/vs.ctl" netdev-dummy/receive p1 <"$1" >/dev/null; }
sent() { # how many frames have left at a port
    "${ofctl[@]}" dump-ports "$bridge" "$1" | sed -n 's/.*tx pkts=\([0-9]*\).*/\1/p'
}

receive all; sleep 0.5; receive some; sleep 0.5
echo "flows in the cache: $(ovs-appctl -t "$work/vs.ctl" dpctl/dump-flows | grep -c 'in_port(')"
two=$(sent 2)
# ovs-ofctl returns when the barrier behind the change was answered.
"${ofctl[@]}" mod-flows "$bridge" "in_port=1,actions=output:3"
receive some; sleep 0.5
late=$(($(sent 2) - two))
echo "90 frames after the reply to the barrier: $late leave at port 2, $(sent 3) at port 3"
sleep 3
two=$(sent 2) three=$(sent 3)
receive some; sleep 0.5
later=$(($(sent 2) - two))
echo "90 frames 3 s later: $later leave at port 2, $(($(sent 3) - three)) at port 3"
[ "$late" -gt 0 ] && [ "$later" = 0 ] || { echo "CHANGED: frames follow the rules after a barrier"; exit 1; }
echo "as found: cached flows outlast the reply to a barrier"
