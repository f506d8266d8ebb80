#!/bin/bash
# Open vSwitch 3.1.0 (Debian 12): a push of a VLAN tag onto a frame that has two tags.
#
# other_config:vlan-limit=0 means as many tags as Open vSwitch can handle: two (ovs-vswitchd.conf.db(5)).
# A good guess: tags below the second are payload, so a push adds a tag and changes nothing else, or it fails.
# What happens: without an error the innermost tag is removed, and the frame leaves with two tags. But if a
# frame with one tag came first, its cached flow takes the later frame with two tags as well, and that leaves
# with all three. So what becomes of a customer's tags depends on who sent before. The rule is the same.
#
# Needs: Debian 12, amd64, apt-get, dpkg, python3, the network. Everything is in a temporary directory; nothing
# is installed, and the switches have the datapath "dummy", which needs no root.
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

one_tag=02000000000202000000000181000007
two_tags=0200000000020200000000018100000781000008
payload=88b5$(printf '00%.0s' $(seq 46))

# A switch that pushes a tag onto all frames. Prints the VLANs of what it sends for some frames, one after the other.
try() {
    local at="$work/$1" frame
    mkdir "$at"
    export OVS_RUNDIR="$at" OVS_LOGDIR="$at" OVS_DBDIR="$at"
    ovsdb-tool create "$at/conf.db" "$OVS_PKGDATADIR/vswitch.ovsschema"
    ovsdb-server "$at/conf.db" --remote="punix:$at/db.sock" --unixctl="$at/db.ctl" -vconsole:off &
    started+=($!)
    until [ -S "$at/db.sock" ]; do sleep 0.05; done
    local vsctl=(ovs-vsctl --db="unix:$at/db.sock" -t 20)
    "${vsctl[@]}" --no-wait init
    "${vsctl[@]}" --no-wait set Open_vSwitch . other_config:vlan-limit=0
    "$switch" "unix:$at/db.sock" --enable-dummy --disable-system --unixctl="$at/vs.ctl" -vconsole:off &
    started+=($!)
    "${vsctl[@]}" add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow13
    for port in 1 2; do
        "${vsctl[@]}" add-port br0 "p$port" -- set Interface "p$port" type=dummy ofport_request="$port" \
            options:tx_pcap="$at/p$port.pcap"
    done
    ovs-ofctl -O OpenFlow13 add-flow "$at/br0.mgmt" "in_port=1,actions=push_vlan:0x8100,set_field:4100->vlan_vid,output:2"
    shift
    for frame in "$@"; do
        ovs-appctl -t "$at/vs.ctl" netdev-dummy/receive p1 "$frame$payload"
        sleep 0.5
    done
    python3 - "$at/p2.pcap" <<'P'
import sys
data = open(sys.argv[1], "rb").read()[24:]
while data:
    size = int.from_bytes(data[8:12], "little")
    frame, data = data[16 : 16 + size], data[16 + size :]
    at, vlans = 12, []
    while frame[at : at + 2] == b"\x81\x00":
        vlans.append(str(int.from_bytes(frame[at + 2 : at + 4]) & 0xFFF))
        at += 4
    print(" ".join(vlans))
P
}

try alone "$two_tags" >alone.out
alone=$(tail -1 alone.out)
echo "a frame with the tags 7 8 leaves with the tags $alone"
try after "$one_tag" "$two_tags" >after.out
after=$(tail -1 after.out)
echo "after a frame with the tag 7, it leaves with the tags $after"
[ "$alone" = "4 7" ] && [ "$after" = "4 7 8" ] || { echo "CHANGED"; exit 1; }
echo "as found: the innermost tag is lost, unless the flow of a frame with one tag is in the cache"
