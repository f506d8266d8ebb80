#!/bin/bash
# Open vSwitch 3.1.0 (Debian 12): a fast-failover group that watches a patch port.
#
# Patch ports join two bridges like a cable. A good guess: like the ends of a cable, or of a veth pair, both ends
# go down when one end is set down with OpenFlow's PORT_MOD (ovs-ofctl mod-port), or when the other end is removed,
# and a fast-failover group then takes its next bucket.
# What happens: PORT_MOD with PORT_DOWN is answered by no error and changes nothing, at neither end: config stays 0
# and traffic goes on. When the peer is deleted, the port stays LIVE, link_state and admin_state stay "up", and the
# group goes on with the bucket of that port, where every packet is dropped. Only the column "error" tells it. A
# second bucket with a port that works is not taken.
#
# Needs: Debian 12, amd64, apt-get, dpkg, the network. Everything is in a temporary directory; nothing is installed,
# and the switches have the datapath "dummy", which needs no root.
set -euo pipefail

version=3.1.0-2+deb12u1
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
export OVS_PKGDATADIR="$work/tree/usr/share/openvswitch"
export OVS_RUNDIR="$work" OVS_LOGDIR="$work" OVS_DBDIR="$work"
ovs-vsctl --version | head -1
switch=$(command -v ovs-vswitchd.openvswitch-switch || command -v ovs-vswitchd)

ovsdb-tool create conf.db "$OVS_PKGDATADIR/vswitch.ovsschema"
ovsdb-server conf.db --remote="punix:$work/db.sock" --unixctl="$work/db.ctl" -vconsole:off &
started+=($!)
until [ -S db.sock ]; do sleep 0.05; done
vsctl() { ovs-vsctl --db="unix:$work/db.sock" -t 20 "$@"; }
vsctl --no-wait init
"$switch" "unix:$work/db.sock" --enable-dummy --disable-system --unixctl="$work/vs.ctl" -vconsole:off &
started+=($!)
for bridge in br0 br1; do
    vsctl add-br "$bridge" -- set Bridge "$bridge" datapath_type=dummy fail_mode=secure protocols=OpenFlow13
done
vsctl add-port br0 in -- set Interface in type=dummy ofport_request=1
vsctl add-port br0 spare -- set Interface spare type=dummy ofport_request=2
vsctl add-port br1 out -- set Interface out type=dummy ofport_request=1
vsctl add-port br0 x0 -- set Interface x0 type=patch options:peer=x1 ofport_request=9 \
    -- add-port br1 x1 -- set Interface x1 type=patch options:peer=x0 ofport_request=9
ofctl() { ovs-ofctl -O OpenFlow13 "$@"; }
ofctl add-group "$work/br0.mgmt" "group_id=1,type=ff,bucket=watch_port:9,output:9,bucket=watch_port:2,output:2"
ofctl add-flow "$work/br0.mgmt" "in_port=1,actions=group:1"
ofctl add-flow "$work/br1.mgmt" "in_port=9,actions=output:1"

# What is told of the patch port, the bucket that the group takes, and what becomes of a packet.
seen() {
    local trace
    trace=$(ovs-appctl -t "$work/vs.ctl" ofproto/trace br0 in_port=1)
    echo "$(ofctl dump-ports-desc "$work/br0.mgmt" | awk '/\(x0\)/ {x = 1} x && /config:/ {printf "%s ", $2}
        x && /state:/ {print $2; exit}')" \
        "$(vsctl get Interface x0 link_state admin_state | tr '\n' ' ')" \
        "$(sed -n 's/.*-> using bucket \([0-9]\).*/bucket \1/p' <<<"$trace")," \
        "$(sed -n 's/^Datapath actions: \(.*\)/\1/p' <<<"$trace" | sed 's/^[0-9]*$/sent on/')"
}

before=$(seen)
ofctl mod-port "$work/br0.mgmt" x0 down
ofctl mod-port "$work/br1.mgmt" x1 down
sleep 1
down=$(seen)
vsctl del-port br1 x1
sleep 1
gone=$(seen)
error=$(vsctl get Interface x0 error)
echo "with its peer:              $before"
echo "both ends set down:         $down"
echo "the peer is deleted:        $gone; error: $error"
as_found="0 LIVE up up  bucket 0,"
[ "$before" = "$as_found sent on" ] && [ "$down" = "$as_found sent on" ] && [ "$gone" = "$as_found drop" ] ||
    { echo "CHANGED"; exit 1; }
echo "as found: a patch port cannot be set down, and stays live without its peer"
