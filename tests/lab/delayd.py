"""Holds back the packets of an NFQUEUE: the lab's delay and jitter on kernels without sch_netem.

One-way delay = delay(in port) + delay(out port) +- jitter. Only packet ids travel to user space,
never payload. The table (argv[1]) has a line "ifindex delay_ms jitter_ms" per port; SIGHUP reads
it again. Runs in the switch's network namespace and ends with SIGTERM. No library: the netlink
messages are four, written out below (linux/netfilter/nfnetlink_queue.h).
"""

import heapq
import random
import select
import signal
import socket
import struct
import sys
import time

QUEUE = 7
NETLINK_NETFILTER = 12
SUBSYS_QUEUE = 3 << 8
PACKET, VERDICT, CONFIG = 0, 1, 2

table = {}


def load(*_):
    """Reads the delay table; a port that is not in it is not delayed."""
    table.clear()
    with open(sys.argv[1]) as lines:
        for line in lines:
            port, delay, jitter = line.split()
            table[int(port)] = (float(delay) / 1e3, float(jitter) / 1e3)


def attribute(kind, body):
    return struct.pack("=HH", len(body) + 4, kind) + body + b"\0" * (-len(body) % 4)


def message(kind, body, family=0):
    header = struct.pack("=IHHII", 20 + len(body), SUBSYS_QUEUE | kind, 1, 0, 0)
    return header + struct.pack("!BBH", family, 0, QUEUE) + body


def open_queue():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    s.setsockopt(270, 5, 1)  # SOL_NETLINK, NETLINK_NO_ENOBUFS
    s.bind((0, 0))
    s.send(message(CONFIG, attribute(1, struct.pack("!BBH", 1, 0, 2))))  # bind the queue
    s.send(message(CONFIG, attribute(2, struct.pack("!IB", 0, 1))))  # copy mode: meta only
    s.send(message(CONFIG, attribute(3, struct.pack("!I", 65536))))  # queue length
    flags = attribute(4, struct.pack("!I", 5)) + attribute(5, struct.pack("!I", 5))
    s.send(message(CONFIG, flags))  # fail-open, and GSO packets stay whole
    return s


def packets(buf):
    """Yields (packet id, in port, out port) of each queued packet in a netlink datagram."""
    offset = 0
    while offset + 16 <= len(buf):
        length, kind = struct.unpack_from("=IH", buf, offset)
        if length < 16:
            return
        if kind == SUBSYS_QUEUE | PACKET:
            at, ident, port_in, port_out = offset + 20, 0, 0, 0
            while at + 4 <= offset + length:
                size, what = struct.unpack_from("=HH", buf, at)
                what &= 0x3FFF
                if what == 1:
                    (ident,) = struct.unpack_from("!I", buf, at + 4)
                elif what == 7:
                    (port_in,) = struct.unpack_from("!I", buf, at + 4)
                elif what == 8:
                    (port_out,) = struct.unpack_from("!I", buf, at + 4)
                at += (size + 3) & ~3 or 4
            yield ident, port_in, port_out
        offset += (length + 3) & ~3


def main():
    load()
    signal.signal(signal.SIGHUP, load)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    queue, held, count = open_queue(), [], 0
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while held and held[0][0] <= now:
            ident = heapq.heappop(held)[2]
            queue.send(message(VERDICT, attribute(2, struct.pack("!II", 1, ident))))  # accept
        wait = max(0, held[0][0] - now) if held else None
        if not select.select([queue], [], [], wait)[0]:
            continue
        buf, now = queue.recv(1 << 20), time.monotonic()
        for ident, *ports in packets(buf):
            delay = 0.0
            for port in ports:
                if port in table:
                    fixed, jitter = table[port]
                    delay += fixed + random.uniform(-1, 1) * jitter
            count += 1
            heapq.heappush(held, (now + max(0.0, delay), count, ident))


main()
