#!/bin/bash
# Open vSwitch 3.1.0 (Debian 12): other_config:vlan-limit that is set after the first bridge was made.
#
# ovs-vswitchd.conf.db(5) has it as a setting of the whole switch that may be changed at any time.
# A good guess: from then on, frames with two tags follow the rules like all others.
# What happens: they are forwarded by the rules, but a rule that changes later is not applied to those that
# are in the cache: they go on leaving at the old port, as long as there are such frames. dpif/show-dp-features
# goes on saying "Max VLAN headers: 1". If the setting was made before the first bridge, the change applies.
#
# Needs: Debian 12, amd64, apt-get, dpkg, the network. Everything is in a temporary directory; nothing is
# installed, and the switches have the datapath "dummy", which needs no root.
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
ovs-vsctl --version | head -1
switch=$(command -v ovs-vswitchd.openvswitch-switch || command -v ovs-vswitchd)

# A switch whose vlan-limit is set before or after its bridge is made. Prints how many of 20 frames with two
# tags leave at ports 2 and 3, before and after the rule for their inner tag is changed from 2 to 3.
try() {
    local when=$1 at="$work/$1" port
    mkdir "$at"
    export OVS_RUNDIR="$at" OVS_LOGDIR="$at" OVS_DBDIR="$at"
    ovsdb-tool create "$at/conf.db" "$OVS_PKGDATADIR/vswitch.ovsschema"
    ovsdb-server "$at/conf.db" --remote="punix:$at/db.sock" --unixctl="$at/db.ctl" -vconsole:off &
    started+=($!)
    until [ -S "$at/db.sock" ]; do sleep 0.05; done
    local vsctl=(ovs-vsctl --db="unix:$at/db.sock" -t 20)
    "${vsctl[@]}" --no-wait init
    [ "$when" = after ] || "${vsctl[@]}" --no-wait set Open_vSwitch . other_config:vlan-limit=0
    "$switch" "unix:$at/db.sock" --enable-dummy --disable-system --unixctl="$at/vs.ctl" -vconsole:off &
    started+=($!)
    "${vsctl[@]}" add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow13
    for port in 1 2 3; do
        "${vsctl[@]}" add-port br0 "p$port" -- set Interface "p$port" type=dummy ofport_request="$port"
    done
    [ "$when" = before ] || "${vsctl[@]}" set Open_vSwitch . other_config:vlan-limit=0
    local ofctl=(ovs-ofctl -O OpenFlow13) bridge="$at/br0.mgmt"
    "${ofctl[@]}" add-flow "$bridge" "table=0,in_port=1,dl_vlan=5,actions=pop_vlan,goto_table:1"
    "${ofctl[@]}" add-flow "$bridge" "table=1,dl_vlan=7,actions=pop_vlan,output:2"
    echo "vlan-limit set $when the bridge was made:"
    ovs-appctl -t "$at/vs.ctl" dpif/show-dp-features br0 | grep "Max VLAN headers"
    count "$at" "${ofctl[@]}"
    "${ofctl[@]}" add-flow "$bridge" "table=1,dl_vlan=7,actions=pop_vlan,output:3"
    # Revalidation of the cache takes milliseconds.
    frames "$at"; sleep 1; frames "$at"; sleep 1
    count "$at" "${ofctl[@]}"
}

frames() {
    local frame _
    # Ethernet, 802.1ad tags 5 and 7, an IPv4 packet.
    frame=02000000000202000000000188a8000588a800070800450000280000000040110000
    frame+=0a0000010a000002000000000014000000000000000000000000000000000000
    for _ in $(seq 20); do ovs-appctl -t "$1/vs.ctl" netdev-dummy/receive p1 "$frame" >/dev/null; done
}

sent() { # how many frames have left at a port
    ovs-ofctl -O OpenFlow13 dump-ports "$1/br0.mgmt" "$2" | sed -n 's/.*tx pkts=\([0-9]*\).*/\1/p'
}

count() {
    local at=$1 two three
    two=$(sent "$at" 2) three=$(sent "$at" 3)
    frames "$at"; sleep 0.5
    left=$(($(sent "$at" 2) - two)) right=$(($(sent "$at" 3) - three))
    echo "  of 20 frames, $left leave at port 2 and $right at port 3"
}

try before
[ "$left $right" = "0 20" ] || { echo "CHANGED: a rule that changes is not applied, although the limit was set first"; exit 1; }
try after
[ "$left $right" = "20 0" ] || { echo "CHANGED: the changed rule is applied"; exit 1; }
echo "as found: set after the bridge was made, the changed rule is not applied to frames in the cache"
