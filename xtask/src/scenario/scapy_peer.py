# The peer of a host under test, with scapy for ESP and AH. Each line of its input is a case, a JSON object as
# scenario/second_opinion.rs and scenario/corners.rs make it: for it the peer sends echo requests of every size given,
# sealed, and checks that each answer comes back sealed and unchanged, and that nothing else does. Between them go
# dummy packets, or bad ones of a kind, if the case says so. It answers every case with a line: "answered N", or what was
# wrong. Argument: the interface, and the hardware address of its gateway.
import json
import os
import socket
import sys
import time

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.all import AH, ESP, ICMP, IP, UDP, Ether, IPv6, Padding, Raw, bind_layers
from scapy.config import conf
from scapy.layers import ipsec
from scapy.layers.inet import IPOption_Router_Alert, IPOption_RR
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
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
        # AH-02: to be ignored, and covered by the ICV.
        pkt[AH].reserved = 0x1234
        pkt[AH].padding = os.urandom(len(pkt[AH].padding or b""))
        mac = self.new_mac(key)
        mac.update(bytes(ipsec.zero_mutable_fields(pkt.copy(), sending=True)))
        if esn_en:
            mac.update(esn.to_bytes(4, "big"))
        pkt[AH].icv = mac.finalize()[: self.icv_size]
        return pkt


# scapy binds what follows AH in a tunnel to protocol 0 instead of 4, by which IPv4 goes in IPv4.
bind_layers(AH, IP, nh=4)

# Nor does it look for ESP behind extension headers.
for extension in (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting):
    bind_layers(extension, ESP, nh=50)

# Extension headers by the names that cases have for them.
EXTENSIONS = {
    "hop-by-hop": lambda: IPv6ExtHdrHopByHop(options=[RouterAlert()]),
    "destination": lambda: IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"\x04" * 7)]),
    # No segments are left, so that the receiver is the last (RFC 8200 section 4.4).
    "routing": lambda: IPv6ExtHdrRouting(addresses=["2001:db8:ffff::1"], segleft=0),
}

where_scapy_splits = ipsec.split_for_transport


def split_behind(extensions):
    """What scapy puts ESP behind: so many extension headers, and not always those that Linux has in front of it."""

    def split(packet, protocol):
        header = packet.__class__(bytes(packet))
        if header.version == 4:
            return where_scapy_splits(packet, protocol)
        last = header
        for _ in range(extensions):
            last = last.payload
        payload, number = last.payload, last.nh
        last.nh = protocol
        last.remove_payload()
        del header.plen
        return header, number, payload

    return split


# What a router may change in an option of IPv6 has this bit in its type (RFC 8200 section 4.2).
MUTABLE = 0x20

# What is sent arrives in that order.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((interface, 0))
wire.settimeout(0.05)


class Failed(Exception):
    pass


class Case:
    def __init__(self, case):
        self.case = case
        self.outer6, self.inner6 = ":" in case["remote"], ":" in case["inner_remote"]
        # Headers in front of ESP, and of what is in it.
        self.outside, self.inside = case.get("outside", []), case.get("inside", [])
        plain = not (self.outside or self.inside)
        ipsec.split_for_transport = where_scapy_splits if plain else split_behind(len(self.outside))
        # In the order in which a packet is sealed; it is opened in the other.
        self.sealing = self.associations("out", case.get("from", case["local"]), case["remote"])
        self.opening = self.associations("in", case["remote"], case["local"])[::-1]
        self.ether = Ether(src=wire.getsockname()[4], dst=gateway, type=0x86DD if self.outer6 else 0x0800)
        # Packets that took a sequence number, in either direction.
        self.sent = self.answered = 0
        self.latest = None

    def outer(self, source, destination):
        """The header in front of ESP in tunnel mode."""
        if self.outer6:
            header = IPv6(src=source, dst=destination)
            for name in self.outside:
                header /= EXTENSIONS[name]()
            return header
        return IP(src=source, dst=destination, options=ipv4_options() if self.outside else [])

    def associations(self, direction, source, destination):
        header = self.outer(source, destination) if self.case["tunnel"] else None
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

    def request(self, number, payload, source=None, destination=None):
        source, destination = source or self.case["inner_local"], destination or self.case["inner_remote"]
        headers = self.inside if self.case["tunnel"] else self.outside + self.inside
        if self.inner6:
            packet = IPv6(src=source, dst=destination)
            if self.case["options"]:
                packet /= IPv6ExtHdrHopByHop(options=[RouterAlert(), HBHOptUnknown(otype=0x3E, optdata=b"\x01\x02\x03")])
                packet /= IPv6ExtHdrDestOpt(
                    options=[HBHOptUnknown(otype=0x1E, optdata=b"\x04" * 7), HBHOptUnknown(otype=0x3E, optdata=b"\x05")]
                )
            for name in headers:
                packet /= EXTENSIONS[name]()
        else:
            packet = IP(src=source, dst=destination, id=number)
            if self.case["options"] or headers:
                packet.options = ipv4_options()
        if "udp" in self.case:
            return packet / UDP(sport=7777, dport=self.case["udp"]) / Raw(payload)
        if self.inner6:
            return packet / ICMPv6EchoRequest(id=77, seq=number, data=payload)
        return packet / ICMP(id=77, seq=number) / Raw(payload)

    def next(self):
        self.sent += 1
        return self.case["start"] + self.sent

    def seal(self, packet, sequence, spi=None):
        for association in self.sealing:
            # What scapy takes for "not given" is 0, so that it is not handed over but set.
            association.seq_num, association.esn = sequence & 0xFFFFFFFF, sequence >> 32
            iv = os.urandom(association.crypt_algo.iv_size) if association.proto is ESP else None
            own, association.spi = association.spi, spi or association.spi
            packet = association.encrypt(packet, iv=iv)
            association.spi = own
        if self.case["ah"]:
            packet = self.travelled(packet)
        return bytes(self.ether / packet)

    def make(self, content, number, pad=None, padding=None, sequence=None):
        """ESP with anything in it: content, padding, pad length and next header that need not be right, all sealed."""
        (association,) = self.sealing
        sequence = sequence or self.next()
        right = -(len(content) + 2) % max(4, association.crypt_algo.block_size)
        plain = ipsec._ESPPlain(
            spi=association.spi,
            seq=sequence & 0xFFFFFFFF,
            iv=os.urandom(association.crypt_algo.iv_size),
            data=Raw(content),
            padding=bytes(range(1, right + 1)) if padding is None else padding * right,
            padlen=right if pad is None else pad,
            nh=number,
        )
        esn = {"esn_en": self.case["esn"], "esn": sequence >> 32}
        algorithm, key = association.crypt_algo, association.crypt_key
        esp = algorithm.encrypt(association, plain, key, association.crypt_icv_size, **esn)
        association.auth_algo.sign(esp, association.auth_key, **esn)
        return bytes(self.ether / self.outer(self.case["local"], self.case["remote"]) / esp)

    def dummy(self, **how):
        return self.make(os.urandom(self.sent * 97 % 600), 59, **how)

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

    def bad(self, kind):
        """A packet that is to be dropped, of a kind in scenario/corners.rs."""
        protocol = self.sealing[-1].proto
        # Odd, so that there is padding.
        request = self.request(0, os.urandom(33))
        inner, number, other = bytes(request), *((41, 4) if self.inner6 else (4, 41))
        if kind == "clear":
            return bytes(self.ether / request)
        if kind.startswith("udp "):
            ends = {"src": self.case["local"], "dst": self.case["remote"]}
            packet = (IPv6 if self.outer6 else IP)(**ends) / UDP(sport=4500, dport=4500)
            return bytes(self.ether / packet / Raw(bytes.fromhex(kind[4:])))
        if kind == "replayed":
            return self.latest
        if kind == "left of the window":
            return self.seal(request, self.case["start"] + self.sent - 64)
        if kind == "number zero":
            return self.seal(request, 0)
        if kind == "unknown SPI":
            return self.seal(request, self.next(), spi=0x7001)
        if kind == "SPI zero":
            frame = self.seal(request, self.next())
            return frame.replace(self.sealing[-1].spi.to_bytes(4, "big"), bytes(4), 1)
        if kind in ("forged", "forged, far ahead"):
            # What is not authentic moves no window: the packets after it still fit in.
            frame = self.seal(request, self.case["start"] + self.sent + (1 if kind == "forged" else 100_000))
            return frame[:-1] + bytes([frame[-1] ^ 1])
        if kind == "changed on the way":
            packet = Ether(self.seal(request, self.case["start"] + self.sent + 1))
            packet[protocol].seq += 1
            return bytes(packet)
        if kind == "foreign source":
            if self.case["tunnel"]:
                return self.seal(self.request(0, b"", source=inner_stranger(self.inner6)), self.next())
            packet = Ether(self.seal(request, self.next())).payload
            packet.src = inner_stranger(self.outer6)
            return bytes(self.ether / fresh_lengths(packet))
        if kind == "foreign destination":
            return self.seal(self.request(0, b"", destination=inner_stranger(self.inner6)), self.next())
        if kind.startswith("error about "):
            other = "2001:db8:d::9" if self.inner6 else "10.4.0.9"
            return self.error(self.case["inner_local"] if kind == "error about this flow" else other)
        if kind == "AH length":
            packet = Ether(self.seal(request, self.next()))
            packet[AH].payloadlen += 1
            return bytes(packet)
        if kind == "cut short":
            packet = Ether(self.seal(request, self.next())).payload
            content = bytes(packet[protocol])
            packet[protocol].underlayer.remove_payload()
            return bytes(self.ether / fresh_lengths(packet / Raw(content[:16])))
        if kind == "block not whole":
            packet = Ether(self.seal(request, self.next())).payload
            content = bytes(packet[ESP])
            packet[ESP].underlayer.remove_payload()
            return bytes(self.ether / fresh_lengths(packet / Raw(content + b"\0")))
        if kind == "dummy, forged":
            frame = self.dummy(sequence=self.case["start"] + self.sent + 1)
            return frame[:-1] + bytes([frame[-1] ^ 1])
        return {
            "pad length": lambda: self.make(inner, number, pad=255),
            "padding": lambda: self.make(inner, number, padding=b"\x07"),
            "next header": lambda: self.make(inner, 17),
            "other version": lambda: self.make(inner, other),
            "longer inside": lambda: self.make(inner[:-4], number),
            "no header inside": lambda: self.make(inner[:12], number),
        }[kind]()

    def error(self, destination):
        """What a router that no SA knows says about a packet of the host under test to that destination."""
        source, ip = self.case["inner_remote"], IPv6 if self.inner6 else IP
        header = ip(src=inner_stranger(self.inner6), dst=source)
        header /= ICMPv6DestUnreach(code=1) if self.inner6 else ICMP(type=3, code=13)
        return self.seal(header / ip(src=source, dst=destination) / UDP(sport=7, dport=9) / Raw(b"12345678"), self.next())

    def outer_of(self, frame):
        """The IP packet of a frame, if it is sealed and for us; padding of short frames goes away with the parsing."""
        packet = Ether(frame).payload
        if packet.name != ("IPv6" if self.outer6 else "IP") or packet.dst != self.case["local"]:
            return None
        if self.opening[0].proto in packet:
            return packet
        # What the router asks for its neighbour is no answer.
        asked = bytes(packet)[6] == 58 and bytes(packet)[40] in range(133, 138) if self.outer6 else False
        if not asked:
            raise Failed(f"an answer in clear: {packet.summary()}")
        return None

    def check(self, packet, number, payload):
        """Whether it is the answer to that request; anything that does not verify raises."""
        sequence = self.case.get("answers", self.case["start"]) + self.answered + 1
        inner = packet
        self.check_outside(packet)
        for association in self.opening:
            found = inner[association.proto].seq
            if found != sequence & 0xFFFFFFFF:
                raise Failed(f"sequence number {found:#x}, expected was {sequence:#x}")
            if association.proto is AH and inner[AH].reserved:
                raise Failed("the reserved field of AH is not zero")
            association.esn = sequence >> 32
            inner = association.decrypt(inner)
            # What follows AH is not parsed before.
            inner = inner.__class__(bytes(inner))
        # A peer that has not said that it takes TFC padding gets none.
        if Padding in inner:
            raise Failed(f"{len(inner[Padding])} octets behind the inner packet")
        self.answered += 1
        if self.case["tunnel"]:
            self.check_headers(inner, "headers inside")
            if "hops" in self.case and inner.fields.get("ttl", inner.fields.get("hlim")) != self.case["hops"]:
                raise Failed(f"hops inside: {inner.summary()}")
        kind = UDP if "udp" in self.case else ICMPv6EchoReply if self.inner6 else ICMP
        reply = inner.getlayer(kind)
        if reply is None or kind is ICMP and reply.type != 0 or kind is not UDP and reply.seq != number:
            return False
        if (inner.src, inner.dst) != (self.case["inner_remote"], self.case["inner_local"]):
            raise Failed(inner.summary())
        if (bytes(reply.data) if kind is ICMPv6EchoReply else bytes(reply.payload)) != payload:
            raise Failed(f"size {len(payload)}: the answer has other content")
        field = "cksum" if kind is ICMPv6EchoReply else "chksum"
        fresh = inner.__class__(bytes(inner))
        delattr(fresh.getlayer(kind), field)
        rebuilt = fresh.__class__(bytes(fresh)).getlayer(kind)
        if getattr(reply, field) != getattr(rebuilt, field):
            raise Failed("wrong checksum inside")
        return True

    def check_outside(self, packet):
        """The header of a tunnel is its own: no options, no extension headers, no hops of the packet inside; in transport
        mode those of the packet stand in front."""
        self.check_headers(packet, "headers outside")
        # A router is on the way.
        if self.case["tunnel"] and packet.fields.get("ttl", packet.fields.get("hlim")) != 63:
            raise Failed(f"hops outside: {packet.summary()}")

    def check_headers(self, packet, which):
        found, header = [], packet.payload
        while isinstance(header, tuple(type(make()) for make in EXTENSIONS.values())):
            found.append(next(name for name, make in EXTENSIONS.items() if isinstance(header, type(make()))))
            header = header.payload
        if packet.version == 4 and packet.options:
            found = ["options"]
        expected = self.case.get(which, [] if which == "headers inside" or self.case["tunnel"] else None)
        if expected is not None and found != expected:
            raise Failed(f"{which}: {found}, expected were {expected}")

    def echo(self, number, payload):
        """One request, and its answer; a second one when the case sends it twice."""
        packet = self.request(number, payload)
        if tfc := self.case.get("tfc"):
            # With its lengths as they are without what comes behind.
            packet = packet.__class__(bytes(packet)) / Raw(os.urandom(tfc[number % len(tfc)]))
        self.latest = self.seal(packet, self.next())
        for _ in range(2 if self.case.get("twice") else 1):
            wire.send(self.latest)
            self.wait(number, payload)

    def wait(self, number, payload):
        limit = time.monotonic() + self.case.get("patience", 5)
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
            for _ in range(self.case.get("dummies", 0)):
                wire.send(self.dummy())
            for kind in self.case.get("bad", [])[number - 1 : number]:
                wire.send(self.bad(kind))
        return f"answered {len(self.case['sizes'])}"


def ipv4_options():
    # The routers on the way there and back write their addresses into the second.
    return [IPOption_Router_Alert(), IPOption_RR(length=23, pointer=4, routers=["0.0.0.0"] * 5)]


def inner_stranger(six):
    return "2001:db8:c::9" if six else "10.3.0.9"


def fresh_lengths(packet):
    for field in ("len", "plen", "chksum"):
        if field in packet.fields:
            delattr(packet, field)
    return packet.__class__(bytes(packet))


for line in sys.stdin:
    try:
        answer = Case(json.loads(line)).run()
    except Exception as error:
        answer = f"{error}"
    print(answer.replace("\n", " "), flush=True)
