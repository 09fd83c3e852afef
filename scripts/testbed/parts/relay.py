# SPDX-License-Identifier: Apache-2.0
"""A cable that delays, loses and corrupts frames, whatever protocol they carry.

As a program: `relay.py NODE REPORT OPTIONS`, OPTIONS being the JSON of Impairment. It stands between two TAP devices,
NODE-a towards the node and NODE-b towards the bridge, which are there as long as it runs. The kernel hands it
frames as they are on a wire: cut to size, checksums filled in.
"""
import collections
import dataclasses
import fcntl
import json
import os
import random
import select
import signal
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
FRAME_BYTES = 2048
FRAMES_A_TURN = 64
REPORT_EVERY_S = 0.5

ETHERNET_BYTES = 14
TCP = 6


@dataclasses.dataclass
class Impairment:
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    corrupt: float = 0.0
    direction: str = "both"  # out: what the node sends; in: what it receives
    seed: int = 1


def open_tap(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def payload_span(frame):
    """(TCP header, payload, end) as offsets into the frame; None for a frame without TCP payload over IPv4."""
    if frame[12:14] != b"\x08\x00" or frame[ETHERNET_BYTES + 9] != TCP:
        return None
    tcp = ETHERNET_BYTES + 4 * (frame[ETHERNET_BYTES] & 15)
    end = ETHERNET_BYTES + int.from_bytes(frame[ETHERNET_BYTES + 2:ETHERNET_BYTES + 4], "big")
    payload = tcp + 4 * (frame[tcp + 12] >> 4)
    return (tcp, payload, end) if payload < end <= len(frame) else None


def flip_bit(frame, tcp, byte, bit):
    """The frame with one bit turned, and TCP's checksum as if it had been sent so (RFC 1624, equation 3)."""
    result = bytearray(frame)
    word = byte - (byte - tcp) % 2
    before = int.from_bytes(frame[word:word + 2].ljust(2, b"\0"), "big")
    result[byte] ^= 1 << bit
    after = int.from_bytes(bytes(result[word:word + 2]).ljust(2, b"\0"), "big")
    checksum = int.from_bytes(frame[tcp + 16:tcp + 18], "big")
    total = (~checksum & 0xFFFF) + (~before & 0xFFFF) + after
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    result[tcp + 16:tcp + 18] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(result)


class Way:
    """One direction: takes frames from `source`, and hands them to `target` when they are due."""

    def __init__(self, source, target, impairment, seed):
        self.source, self.target = source, target
        self.impairment = impairment
        self.random = random.Random(seed)
        self.waiting = collections.deque()
        self.passed = self.lost = self.corrupted = 0

    def take(self):
        for _ in range(FRAMES_A_TURN):
            try:
                frame = os.read(self.source, FRAME_BYTES)
            except BlockingIOError:
                return
            self.impair(frame)

    def impair(self, frame):
        wanted = self.impairment
        if wanted.loss and self.random.random() < wanted.loss:
            self.lost += 1
            return
        if wanted.corrupt and self.random.random() < wanted.corrupt:
            frame = self.corrupt(frame)
        if wanted.delay_s or wanted.jitter_s:
            due = time.monotonic() + wanted.delay_s + self.random.uniform(0, wanted.jitter_s)
            # Frames keep their order, as on a cable.
            self.waiting.append((max(due, self.waiting[-1][0]) if self.waiting else due, frame))
        else:
            self.give(frame)

    def corrupt(self, frame):
        span = payload_span(frame)
        if not span:
            return frame
        tcp, payload, end = span
        self.corrupted += 1
        return flip_bit(frame, tcp, self.random.randrange(payload, end), self.random.randrange(8))

    def give(self, frame):
        try:
            os.write(self.target, frame)
            self.passed += 1
        except OSError:  # the device is down: a cable that is cut
            self.lost += 1

    def give_due(self):
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            self.give(self.waiting.popleft()[1])

    def counts(self):
        return {"passed": self.passed, "lost": self.lost, "corrupted": self.corrupted}


def write_report(file, impairment, out, into):
    text = json.dumps({**dataclasses.asdict(impairment), "out": out.counts(), "in": into.counts()})
    partial = f"{file}.partial"
    with open(partial, "w", encoding="utf-8") as report:
        report.write(text + "\n")
    os.replace(partial, file)


def next_timeout(ways):
    due = [way.waiting[0][0] for way in ways if way.waiting]
    return min([REPORT_EVERY_S, *(max(0.0, moment - time.monotonic()) for moment in due)])


def main(node, report, options):
    wanted = Impairment(**json.loads(options))
    clean = Impairment(direction=wanted.direction)
    towards_node, towards_bridge = open_tap(f"{node}-a"), open_tap(f"{node}-b")
    out = Way(towards_node, towards_bridge, clean if wanted.direction == "in" else wanted, wanted.seed)
    into = Way(towards_bridge, towards_node, clean if wanted.direction == "out" else wanted, wanted.seed + 1)
    by_source = {way.source: way for way in (out, into)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    next_report = 0.0
    while True:
        readable, _, _ = select.select(list(by_source), [], [], next_timeout((out, into)))
        for source in readable:
            by_source[source].take()
        out.give_due()
        into.give_due()
        if time.monotonic() >= next_report:
            write_report(report, wanted, out, into)
            next_report = time.monotonic() + REPORT_EVERY_S


if __name__ == "__main__":
    main(*sys.argv[1:])
