# The peer of a host under test, with scapy for ESP and AH. Each line of its input is a case, a JSON object as
# scenario/second_opinion.rs makes it: for it the peer sends echo requests of every size given, sealed, and checks that
# each answer comes back sealed and unchanged. It answers every case with a line: "answered N", or what was wrong.
# Argument: the interface, and the hardware address of its gateway.
import json
import os
import socket
import sys
import time

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.all import AH, ESP, ICMP, IP, Ether, IPv6, Raw, bind_layers
from scapy.config import conf
from scapy.layers import ipsec
from scapy.layers.inet import IPOption_Router_Alert, IPOption_RR
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)

conf.ipv6_enabled = True
interface, gateway = sys.argv[1:]

# scapy hands AES-GCM to an interface that knows ICVs of 16 octets only. RFC 4106 section 6: shorter ones are the first
# octets of that, which its other way to a cipher does.
ipsec.CRYPT_ALGOS["AES-GCM-SHORT"] = ipsec.CryptAlgo(
    "AES-GCM-SHORT",
    cipher=algorithms.AES,
    mode=modes.GCM,
    block_size=1,
    iv_size=8,
    icv_size=16,
    salt_size=4,
    format_mode_iv=lambda sa, iv, **_: sa.crypt_salt + iv,
)


class Outermost(ipsec.AuthAlgo):
    """An authenticator that signs the AH header that is there: scapy's own looks for ESP first, also inside AH. What
    pads the ICV is not zero, as it may be (RFC 4302 section 3.3.3.2.1)."""

    def __init__(self, like):
        super().__init__(like.name, like.mac, like.digestmod, like.icv_size, like.key_size)

    def sign(self, pkt, key, esn_en=False, esn=0):
        pkt[AH].padding = os.urandom(len(pkt[AH].padding or b""))
        mac = self.new_mac(key)
        mac.update(bytes(ipsec.zero_mutable_fields(pkt.copy(), sending=True)))
        if esn_en:
            mac.update(esn.to_bytes(4, "big"))
        pkt[AH].icv = mac.finalize()[: self.icv_size]
        return pkt


# scapy binds what follows AH in a tunnel to protocol 0 instead of 4, by which IPv4 goes in IPv4.
bind_layers(AH, IP, nh=4)

# What a router may change in an option of IPv6 has this bit in its type (RFC 8200 section 4.2).
MUTABLE = 0x20

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((interface, 0))
wire.settimeout(0.05)


class Failed(Exception):
    pass


class Case:
    def __init__(self, case):
        self.case = case
        self.outer6, self.inner6 = ":" in case["remote"], ":" in case["inner_remote"]
        # In the order in which a packet is sealed; it is opened in the other.
        self.sealing = self.associations("out", case["local"], case["remote"])
        self.opening = self.associations("in", case["remote"], case["local"])[::-1]
        self.ether = Ether(src=wire.getsockname()[4], dst=gateway, type=0x86DD if self.outer6 else 0x0800)

    def associations(self, direction, source, destination):
        header = (IPv6 if self.outer6 else IP)(src=source, dst=destination) if self.case["tunnel"] else None
        made = []
        esp, ah = self.case["esp"], self.case["ah"]
        if esp:
            keys = esp[direction]
            made.append(
                ipsec.SecurityAssociation(
                    ESP,
                    spi=keys["spi"],
                    crypt_algo=esp["crypt"],
                    crypt_key=bytes.fromhex(keys["key"]),
                    crypt_icv_size=esp["icv"],
                    auth_algo=esp["auth"],
                    auth_key=bytes.fromhex(keys["auth_key"]),
                    tunnel_header=header,
                    esn_en=self.case["esn"],
                )
            )
        if ah:
            keys = ah[direction]
            association = ipsec.SecurityAssociation(
                AH,
                spi=keys["spi"],
                auth_algo=ah["auth"],
                auth_key=bytes.fromhex(keys["key"]),
                # Around ESP it stands behind the IP header that ESP has put on.
                tunnel_header=None if esp else header,
                esn_en=self.case["esn"],
            )
            association.auth_algo = Outermost(association.auth_algo)
            made.append(association)
        return made

    def request(self, number, payload):
        source, destination = self.case["inner_local"], self.case["inner_remote"]
        if self.inner6:
            packet = IPv6(src=source, dst=destination)
            if self.case["options"]:
                packet /= IPv6ExtHdrHopByHop(options=[RouterAlert(), HBHOptUnknown(otype=0x3E, optdata=b"\x01\x02\x03")])
                packet /= IPv6ExtHdrDestOpt(
                    options=[HBHOptUnknown(otype=0x1E, optdata=b"\x04" * 7), HBHOptUnknown(otype=0x3E, optdata=b"\x05")]
                )
            return packet / ICMPv6EchoRequest(id=77, seq=number, data=payload)
        options = []
        if self.case["options"]:
            # The routers on the way there and back write their addresses into it.
            options = [IPOption_Router_Alert(), IPOption_RR(length=23, pointer=4, routers=["0.0.0.0"] * 5)]
        return IP(src=source, dst=destination, id=number, options=options) / ICMP(id=77, seq=number) / Raw(payload)

    def seal(self, number, payload):
        sequence = self.case["start"] + number
        packet = self.request(number, payload)
        for association in self.sealing:
            # What scapy takes for "not given" is 0, so that it is not handed over but set.
            association.seq_num, association.esn = sequence & 0xFFFFFFFF, sequence >> 32
            iv = os.urandom(association.crypt_algo.iv_size) if association.proto is ESP else None
            packet = association.encrypt(packet, iv=iv)
        if self.case["ah"]:
            packet = self.travelled(packet)
        return bytes(self.ether / packet)

    def travelled(self, packet):
        """Everything in front of AH that routers may change is something else."""
        if not self.outer6:
            packet.tos ^= 0x2E
            packet.flags = "DF"
            packet.ttl -= 3
            del packet.chksum
            return packet
        packet.tc ^= 0x2E
        packet.fl ^= 0x54321
        packet.hlim -= 3
        header = packet.payload
        while not isinstance(header, AH):
            for option in header.options:
                if option.otype & MUTABLE:
                    option.optdata = os.urandom(len(option.optdata))
            header = header.payload
        return packet

    def outer_of(self, frame):
        """The IP packet of a frame, if it is sealed and for us; padding of short frames goes away with the parsing."""
        packet = Ether(frame).payload
        if packet.name != ("IPv6" if self.outer6 else "IP") or packet.dst != self.case["local"]:
            return None
        return packet if self.opening[0].proto in packet else None

    def check(self, packet, number, payload):
        """Whether it is the answer to that request; anything that does not verify raises."""
        sequence = self.case["start"] + number
        inner = packet
        for association in self.opening:
            found = inner[association.proto].seq
            if found != sequence & 0xFFFFFFFF:
                raise Failed(f"sequence number {found:#x}, expected was {sequence:#x}")
            association.esn = sequence >> 32
            inner = association.decrypt(inner)
            # What follows AH is not parsed before.
            inner = inner.__class__(bytes(inner))
        if self.inner6:
            reply = inner.getlayer(ICMPv6EchoReply)
            found = bytes(reply.data) if reply else None
        else:
            reply = inner.getlayer(ICMP)
            found = bytes(reply.payload) if reply and reply.type == 0 else None
        if reply is None or reply.seq != number:
            return False
        if (inner.src, inner.dst) != (self.case["inner_remote"], self.case["inner_local"]):
            raise Failed(inner.summary())
        if found != payload:
            raise Failed(f"size {len(payload)}: the answer has other content")
        field = "cksum" if self.inner6 else "chksum"
        fresh = inner.__class__(bytes(inner))
        layer = fresh.getlayer(ICMPv6EchoReply if self.inner6 else ICMP)
        delattr(layer, field)
        rebuilt = fresh.__class__(bytes(fresh)).getlayer(ICMPv6EchoReply if self.inner6 else ICMP)
        if getattr(reply, field) != getattr(rebuilt, field):
            raise Failed("wrong ICMP checksum inside")
        return True

    def echo(self, number, payload):
        wire.send(self.seal(number, payload))
        limit = time.monotonic() + 2
        while time.monotonic() < limit:
            try:
                frame, address = wire.recvfrom(70000)
            except socket.timeout:
                continue
            packet = self.outer_of(frame) if address[2] != socket.PACKET_OUTGOING else None
            if packet is not None and self.check(packet, number, payload):
                return
        raise Failed("no answer")

    def run(self):
        for number, size in enumerate(self.case["sizes"], 1):
            try:
                self.echo(number, os.urandom(size))
            except Exception as error:
                raise Failed(f"{size} octets, {number - 1} answered before: {type(error).__name__}: {error}") from error
        return f"answered {len(self.case['sizes'])}"


for line in sys.stdin:
    try:
        answer = Case(json.loads(line)).run()
    except Exception as error:
        answer = f"{error}"
    print(answer.replace("\n", " "), flush=True)
