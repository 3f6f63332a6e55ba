# The peer of a host under test, with scapy for ESP. Each line of its input is a case, a JSON object as
# scenario/second_opinion.rs makes it: for it the peer sends echo requests of every size given, sealed, and checks that
# each answer comes back sealed and unchanged. It answers every case with a line: "answered N", or what was wrong.
# Argument: the interface, and the hardware address of its gateway.
import json
import os
import socket
import sys
import time

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.all import ESP, ICMP, IP, Ether, IPv6, Raw
from scapy.config import conf
from scapy.layers import ipsec
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest

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

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((interface, 0))
wire.settimeout(0.05)


class Failed(Exception):
    pass


class Case:
    def __init__(self, case):
        self.case = case
        self.outer6, self.inner6 = ":" in case["remote"], ":" in case["inner_remote"]
        self.sealing = self.association(case["out"], case["local"], case["remote"])
        self.opening = self.association(case["in"], case["remote"], case["local"])
        self.ether = Ether(src=wire.getsockname()[4], dst=gateway, type=0x86DD if self.outer6 else 0x0800)

    def association(self, keys, source, destination):
        header = (IPv6 if self.outer6 else IP)(src=source, dst=destination) if self.case["tunnel"] else None
        return ipsec.SecurityAssociation(
            ESP,
            spi=keys["spi"],
            crypt_algo=self.case["crypt"],
            crypt_key=bytes.fromhex(keys["key"]),
            crypt_icv_size=self.case["icv"],
            auth_algo=self.case["auth"],
            auth_key=bytes.fromhex(keys["auth_key"]),
            tunnel_header=header,
            esn_en=self.case["esn"],
        )

    def request(self, number, payload):
        source, destination = self.case["inner_local"], self.case["inner_remote"]
        if self.inner6:
            return IPv6(src=source, dst=destination) / ICMPv6EchoRequest(id=77, seq=number, data=payload)
        return IP(src=source, dst=destination, id=number) / ICMP(id=77, seq=number) / Raw(payload)

    def seal(self, number, payload):
        sequence = self.case["start"] + number
        # What scapy takes for "not given" is 0, so that it is not handed over but set.
        self.sealing.seq_num, self.sealing.esn = sequence & 0xFFFFFFFF, sequence >> 32
        iv = os.urandom(self.sealing.crypt_algo.iv_size)
        return bytes(self.ether / self.sealing.encrypt(self.request(number, payload), iv=iv))

    def outer_of(self, frame):
        """The IP packet of a frame, if it is ESP for us; padding of short frames goes away with the parsing."""
        packet = Ether(frame).payload
        if packet.name != ("IPv6" if self.outer6 else "IP") or packet.dst != self.case["local"] or ESP not in packet:
            return None
        return packet

    def check(self, packet, number, payload):
        """Whether it is the answer to that request; anything that does not verify raises."""
        sequence = self.case["start"] + number
        if packet[ESP].seq != sequence & 0xFFFFFFFF:
            raise Failed(f"sequence number {packet[ESP].seq:#x}, expected was {sequence:#x}")
        self.opening.esn = sequence >> 32
        inner = self.opening.decrypt(packet)
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
