#!/bin/sh
# What root in a guest can try against others. Says which of it worked, one line each.
# Needs: NAME GATEWAY GATEWAY_MAC LAN METADATA INTERNET NEIGHBOUR NEIGHBOUR_MAC NEIGHBOUR_IPV6 OTHER ANOTHER OTHER_MAC

interface=$(ip route | sed -n 's/^default .* dev \([^ ]*\).*/\1/p')

try() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "$name"; fi
}
reached() { ping -c 1 -W 1 "$@"; }
answered() { # by the farm's name server, which has a name that no VM can have
    question='\000\034\000\007\001\000\000\001\000\000\000\000\000\000\007_banger\002vm\000\000\001\000\001'
    # shellcheck disable=SC2059  # it is a format: that makes bytes of it
    printf "$question" | timeout 10 nc -w 10 "$GATEWAY" 53 | grep _banger
}
greeted() { timeout 2 nc -w 2 "$1" "$2" </dev/null | grep .; }

try "ping the gateway" reached "$GATEWAY" &
try "DNS over UDP" timeout 10 nslookup -type=a "$NAME.vm" "$GATEWAY" &
try "DNS over TCP" answered &
try "the internet" greeted "$INTERNET" 80 &
try "the host's service" greeted "$GATEWAY" 7777 &
try "the host's service, by another address" greeted "$LAN" 7777 &
try "DNS, by another address of the host's" greeted "$LAN" 53 &
try "the host by another address" reached "$LAN" &
try "metadata" greeted "$METADATA" 80 &
try "the neighbour" reached "$NEIGHBOUR" &
try "the neighbour's SSH" greeted "$NEIGHBOUR" 22 &
try "the neighbour over IPv6" reached -6 -I "$interface" "$NEIGHBOUR_IPV6" &
wait

arp -s "$NEIGHBOUR" "$NEIGHBOUR_MAC"
try "the neighbour, its MAC known" reached "$NEIGHBOUR"
arp -s "$NEIGHBOUR" "$GATEWAY_MAC"
try "the neighbour, by way of the host" reached "$NEIGHBOUR"
arp -d "$NEIGHBOUR"

ip addr add "$OTHER/32" dev "$interface"
try "under another address" reached -I "$OTHER" "$GATEWAY"

mac=$(cat "/sys/class/net/$interface/address")
ip addr add "$ANOTHER/32" dev "$interface"
ip link set dev "$interface" address "$OTHER_MAC"
try "under another MAC" reached -I "$ANOTHER" "$GATEWAY"
ip link set dev "$interface" address "$mac"
