# The peer of a host under test, with scapy for ESP: sends echo requests of every size given, sealed, and checks that
# each answer comes back sealed and unchanged. Arguments: a JSON object, see scenario/second_opinion.rs.
import json
import os
import socket
import sys
import time

from scapy.all import ESP, ICMP, IP, Ether, IPv6, Raw
from scapy.config import conf
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.layers.ipsec import SecurityAssociation

case = json.loads(sys.argv[1])
conf.ipv6_enabled = True
outer6, inner6 = ":" in case["remote"], ":" in case["inner_remote"]
tunnel = case["tunnel"]


def association(spi, key, source, destination):
    header = (IPv6 if outer6 else IP)(src=source, dst=destination) if tunnel else None
    return SecurityAssociation(
        ESP,
        spi=spi,
        crypt_algo=case["algorithm"],
        crypt_key=bytes.fromhex(key),
        tunnel_header=header,
        esn_en=case["esn"],
        esn=0,
    )


sealing = association(case["spi_out"], case["key_out"], case["local"], case["remote"])
opening = association(case["spi_in"], case["key_in"], case["remote"], case["local"])

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((case["interface"], 0))
wire.settimeout(0.05)
ether = Ether(src=wire.getsockname()[4], dst=case["gateway"], type=0x86DD if outer6 else 0x0800)


def request(number, payload):
    if inner6:
        return IPv6(src=case["inner_local"], dst=case["inner_remote"]) / ICMPv6EchoRequest(
            id=77, seq=number, data=payload
        )
    return IP(src=case["inner_local"], dst=case["inner_remote"], id=number) / ICMP(id=77, seq=number) / Raw(payload)


def outer_of(frame):
    """The IP packet of a frame, if it is ESP for us; padding of short frames goes away with the parsing."""
    packet = Ether(frame).payload
    if packet.name != ("IPv6" if outer6 else "IP") or packet.dst != case["local"] or ESP not in packet:
        return None
    return packet


def check(packet, number, payload):
    """Whether it is the answer to that request; anything that does not verify raises."""
    inner = opening.decrypt(packet)
    if inner6:
        reply = inner.getlayer(ICMPv6EchoReply)
        found = bytes(reply.data) if reply else None
    else:
        reply = inner.getlayer(ICMP)
        found = bytes(reply.payload) if reply and reply.type == 0 else None
    if reply is None or reply.seq != number:
        return False
    assert (inner.src, inner.dst) == (case["inner_remote"], case["inner_local"]), inner.summary()
    assert found == payload, f"size {len(payload)}: the answer has other content"
    checksum = reply.cksum if inner6 else reply.chksum
    fresh = inner.__class__(bytes(inner))
    layer = fresh.getlayer(ICMPv6EchoReply if inner6 else ICMP)
    delattr(layer, "cksum" if inner6 else "chksum")
    rebuilt = fresh.__class__(bytes(fresh)).getlayer(ICMPv6EchoReply if inner6 else ICMP)
    assert checksum == (rebuilt.cksum if inner6 else rebuilt.chksum), "wrong ICMP checksum inside"
    return True


answered, sequence = 0, []
for number, size in enumerate(case["sizes"], 1):
    payload = os.urandom(size)
    sealed = sealing.encrypt(request(number, payload), iv=os.urandom(8))
    wire.send(bytes(ether / sealed))
    limit = time.monotonic() + 2
    while time.monotonic() < limit:
        try:
            frame, address = wire.recvfrom(70000)
        except socket.timeout:
            continue
        if address[2] == socket.PACKET_OUTGOING:
            continue
        packet = outer_of(frame)
        if packet is None:
            continue
        sequence.append(packet[ESP].seq)
        if check(packet, number, payload):
            answered += 1
            break
    else:
        sys.exit(f"no answer to the request with {size} octets; {answered} answered before")

assert sequence == list(range(sequence[0], sequence[0] + len(sequence))), f"sequence numbers with gaps: {sequence}"
print(f"{answered} answered")
