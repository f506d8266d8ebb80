#!/bin/bash
# OVN 23.03.1 (Debian 12): a router port with the lower address of a /31 prefix.
#
# A good guess: RFC 3021 makes both addresses of a /31 hosts' addresses, so it does not matter which of the two the
# router has; ovn-nbctl accepts both.
# What happens: with the lower address, the router takes the upper one for the broadcast address of the prefix, and
# drops packets that come from it: the host at the other end sends nothing through the router. With the upper
# address, the packets of the host are routed.
#
# Needs: Debian 12, amd64, apt-get, dpkg, the network. Everything is in a temporary directory; nothing is
# installed, and no packet is sent: ovn-trace tells what the logical router would do with one. No root.
set -euo pipefail

ovn=23.03.1-1~deb12u2 ovs=3.1.0-2+deb12u1
work=$(mktemp -d)
started=()
clean() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean EXIT

cd "$work"
apt-get -q download "ovn-central=$ovn" "ovn-common=$ovn" "openvswitch-common=$ovs" "openvswitch-switch=$ovs" \
    libunbound8 libcap-ng0 libevent-2.1-7 >apt.log 2>&1 || { cat apt.log; exit 1; }
for package in ./*.deb; do dpkg -x "$package" tree; done
export LD_LIBRARY_PATH="$work/tree/usr/lib/x86_64-linux-gnu:$work/tree/lib/x86_64-linux-gnu"
export PATH="$work/tree/usr/bin:$work/tree/usr/sbin:$PATH"
export OVN_RUNDIR="$work" OVS_RUNDIR="$work" OVS_LOGDIR="$work" OVN_LOGDIR="$work"
ovn-nbctl --version | head -1

for name in nb sb; do
    ovsdb-tool create "$work/$name.db" "$work/tree/usr/share/ovn/ovn-$name.ovsschema"
    ovsdb-server "$work/$name.db" --remote="punix:$work/$name.sock" --unixctl="$work/$name.ctl" -vconsole:off &
    started+=($!)
    until [ -S "$work/$name.sock" ]; do sleep 0.05; done
done
export OVN_NB_DB="unix:$work/nb.sock" OVN_SB_DB="unix:$work/sb.sock"
ovn-nbctl init
ovn-sbctl init
ovn-northd --ovnnb-db="$OVN_NB_DB" --ovnsb-db="$OVN_SB_DB" --unixctl="$work/northd.ctl" -vconsole:off &
started+=($!)

# A router with one host at a /31, and one behind another port.
router() { # name, the router's and the host's address in the /31
    ovn-nbctl lr-add "$1" \
        -- lrp-add "$1" "$1-near" 02:00:00:00:00:01 "$2/31" \
        -- lrp-add "$1" "$1-far" 02:00:00:00:00:02 192.0.2.254/24 \
        -- ls-add "$1-ls" -- lsp-add "$1-ls" "$1-up" -- lsp-set-type "$1-up" router \
        -- lsp-set-addresses "$1-up" router -- lsp-set-options "$1-up" "router-port=$1-near" \
        -- lsp-add "$1-ls" "$1-host" -- lsp-set-addresses "$1-host" "02:00:00:00:00:11 $3"
    ovn-nbctl --wait=sb sync
    ovn-trace --detailed "$1-ls" "inport == \"$1-host\" && eth.src == 02:00:00:00:00:11 &&
        eth.dst == 02:00:00:00:00:01 && ip4 && ip4.src == $3 && ip4.dst == 192.0.2.1 && ip.ttl == 64" >"$1.trace"
    if grep -q "lr_in_ip_input.*ip4.src == .*$3.*" "$1.trace"; then
        echo "  router $2/31, host $3: dropped by $(grep -o 'lr_in_ip_input.*ip4.src == {[^}]*}' "$1.trace")"
        return 1
    fi
    grep -q "lr_in_ip_routing" "$1.trace"
    echo "  router $2/31, host $3: routed"
}

router upper 10.0.0.1 10.0.0.0 || { echo "CHANGED: with the upper address, packets are dropped"; exit 1; }
! router lower 10.0.0.0 10.0.0.1 || { echo "CHANGED: with the lower address, packets are routed"; exit 1; }
echo "as found: the router with the lower address drops what the host sends"
