"""relay: the process between two TUN devices, `python -m scripts.netlab.relay NAMESPACE DEVICE NAMESPACE DEVICE`.

It reads one JSON object a line on its standard input, an `Impairment` by direction, and answers each with its counters.
Packets wait in the order in which they came: for the link's rate, with a bounded queue, then for the delay.
"""

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

import msgspec

from scripts.netlab.link import Impairment

TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001
CLONE_NEWNET = 0x40000000
PACKET_BYTES = 65536


def open_tun(namespace: str, device: str) -> int:
    """A new TUN device in a namespace; this process stays in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    os.close(fd)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN_NO_PI))
    return tun


class Direction:
    """One way through the link."""

    def __init__(self, out: int, seed: int) -> None:
        self.shape = Impairment()
        self.packets = self.bytes = self.dropped = 0
        self._out, self._random = out, random.Random(seed)
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._free_s = self._last_s = 0.0  # when the line is free again, when the newest packet leaves

    def take(self, packet: bytes, now_s: float) -> None:
        """A packet comes in: it is dropped, or will leave at its time."""
        shape = self.shape
        start_s = max(now_s, self._free_s)
        late = shape.rate_mbit and (start_s - now_s) * shape.rate_mbit * 1e6 / 8 > shape.queue_bytes
        if shape.cut or late or self._random.random() < shape.loss:
            self.dropped += 1
            return
        self._free_s = start_s + (len(packet) * 8 / (shape.rate_mbit * 1e6) if shape.rate_mbit else 0.0)
        due_s = self._free_s + (shape.delay_ms + self._random.uniform(0, shape.jitter_ms)) / 1e3
        self._last_s = max(self._last_s, due_s)  # the order is kept
        self._waiting.append((self._last_s, packet))

    def deliver(self, now_s: float) -> float | None:
        """Lets leave what is due; when the next one is, None: nothing waits."""
        while self._waiting and self._waiting[0][0] <= now_s:
            _, packet = self._waiting.popleft()
            if self.shape.cut:
                self.dropped += 1
                continue
            try:
                os.write(self._out, packet)
            except OSError:  # the interface is down, or its queue is full
                self.dropped += 1
                continue
            self.packets += 1
            self.bytes += len(packet)
        return self._waiting[0][0] if self._waiting else None


def main() -> None:
    """Until the standard input ends."""
    left, right = open_tun(*sys.argv[1:3]), open_tun(*sys.argv[3:5])
    ways = {left: Direction(right, 1), right: Direction(left, 2)}
    print("{}", flush=True)
    while True:
        now_s = time.monotonic()
        dues = [due for way in ways.values() if (due := way.deliver(now_s)) is not None]
        timeout_s = max(0.0, min(dues) - time.monotonic()) if dues else 1.0
        ready, _, _ = select.select([left, right, sys.stdin], [], [], timeout_s)  # to the microsecond
        if sys.stdin in ready and not _hear(ways[left], ways[right]):
            return
        for fd in (left, right):
            if fd in ready:
                _drain(fd, ways[fd])


def _drain(fd: int, way: Direction) -> None:
    """What has come by now. Each packet is timed when it was read: one that came while this process slept is late, and
    never earlier than it came.
    """
    for _ in range(64):
        try:
            packet = os.read(fd, PACKET_BYTES)
        except (BlockingIOError, OSError):
            return
        way.take(packet, time.monotonic())


def _hear(up: Direction, down: Direction) -> bool:
    line = sys.stdin.readline()
    if not line:
        return False
    for name, shape in json.loads(line).items():
        way = {"up": up, "down": down}[name]
        way.shape = msgspec.convert(shape, Impairment)
    counts = {name: [w.packets, w.bytes, w.dropped] for name, w in (("up", up), ("down", down))}
    print(json.dumps(counts), flush=True)
    return True


if __name__ == "__main__":
    assert Path("/dev/net/tun").exists(), "the link needs TUN devices"
    main()
