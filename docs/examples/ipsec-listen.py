#!/usr/bin/env python3
"""Prints what happens to the security associations of this network namespace, one message a line.

An example for ipsec-bus(7): it needs nothing but Python, and root to join the multicast group.
"""

import ipaddress
import socket
import struct
import sys

NETLINK_USERSOCK = 2
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE = 33
GROUP = 21
NLMSGHDR, SADB_MSG, SADB_EXT = 16, 16, 4

KINDS = {1: "GETSPI", 2: "UPDATE", 3: "ADD", 4: "DELETE", 6: "ACQUIRE", 8: "EXPIRE", 9: "FLUSH",
         13: "UPDATE PAIR", 14: "DELETE PAIR", 22: "NEW MAPPING"}
LIMITS = {3: "hard", 4: "soft", 26: "idle"}
TYPES = {0: "all", 2: "ah", 3: "esp"}
ROLES = {1: "auth", 2: "encr"}
SA, ADDRESS_SRC, ADDRESS_DST, PROPOSAL, EXTENDED_PROPOSAL = 1, 5, 6, 13, 18


def address(body):
    family, = struct.unpack_from("=H", body, 4)
    if family == socket.AF_INET:
        return ipaddress.ip_address(body[8:12])
    return ipaddress.ip_address(body[12:28])


def proposal(body):
    """A regular proposal: the transforms of one protocol, the preferred one first, as numbers ENCRYPTION/AUTHENTICATION."""
    count = (len(body) - 4) // 72
    return ",".join("%d/%d" % (body[4 + 72 * n + 1], body[4 + 72 * n]) for n in range(count))


def extended_proposal(body):
    """Combinations, the preferred one first; the algorithms of one, for ESP and AH together, are joined with a plus."""
    count, = struct.unpack_from("=H", body, 2)
    at, all_of_them = 4, []
    for _ in range(count):
        algorithms, at = body[at], at + 64
        each = [struct.unpack_from("=BBB", body, at + 8 * n) for n in range(algorithms)]
        all_of_them.append("+".join("%s-%s-%d" % (TYPES.get(satype, satype), ROLES.get(role, role), number)
                                    for satype, role, number in each))
        at += 8 * algorithms
    return ",".join(all_of_them)


def show(message):
    """One message behind the netlink header: the base header, then extensions."""
    version, kind, errno, satype, words = struct.unpack_from("=BBBBH", message)
    if version != 2 or words * 8 > len(message):
        return
    line = [KINDS.get(kind, str(kind)), TYPES.get(satype, str(satype))]
    rest = message[SADB_MSG:words * 8]
    while len(rest) >= SADB_EXT:
        words, extension = struct.unpack_from("=HH", rest)
        if words == 0 or words * 8 > len(rest):
            return
        body = rest[SADB_EXT:words * 8]
        if extension == SA:
            line.append("spi=0x%x" % struct.unpack_from("!I", body))
        elif extension == ADDRESS_SRC:
            line.append("src=%s" % address(body))
        elif extension == ADDRESS_DST:
            line.append("dst=%s" % address(body))
        elif extension == PROPOSAL:
            line.append("proposal=%s" % proposal(body))
        elif extension == EXTENDED_PROPOSAL:
            line.append("proposal=%s" % extended_proposal(body))
        elif extension in LIMITS and KINDS.get(kind) == "EXPIRE":
            line.append("limit=%s" % LIMITS[extension])
        rest = rest[words * 8:]
    print(*line, flush=True)


def main():
    bus = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
    bus.bind((0, 0))
    bus.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
    # Before the group is joined, so that every message comes with its sender.
    bus.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    bus.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP)
    print("listening", flush=True)
    while True:
        try:
            datagram, control, _, _ = bus.recvmsg(8192, socket.CMSG_SPACE(12))
        except OSError as error:
            # The queue was full: what was lost is in nobody's memory but that of the SADB.
            print("messages were lost: %s" % error.strerror, flush=True)
            continue
        # Any user may send to the group; only root is believed.
        senders = [struct.unpack("=iII", data) for level, kind, data in control
                   if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)]
        if not senders or senders[0][1] != 0:
            continue
        show(datagram[NLMSGHDR:])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
