"""Notify: what halt tells systemd (`sd_notify(3)`): ready, alive, how it is. Without NOTIFY_SOCKET: nothing."""

import os
import socket
from collections.abc import Callable, Mapping

STATUS_S = 1.0  # between two looks at what to say
STOP_MARGIN_S = 10.0


class Notifier:
    """One thread. systemd ends a service that is silent for WatchdogSec; it is told three times in that time."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._alive_every_s = int(environ.get("WATCHDOG_USEC", "0")) / 3e6 if for_us else 0.0
        self._alive_s = self._looked_s = float("-inf")
        self._told = ""

    def ready(self) -> None:
        """The children are started and watched."""
        self._say("READY=1")

    def turn(self, now_s: float, words: Callable[[], str]) -> None:
        """Says what is due: that this process lives, and `words()` where they have changed."""
        if not self._address:
            return
        if self._alive_every_s and now_s - self._alive_s >= self._alive_every_s:
            self._alive_s = now_s
            self._say("WATCHDOG=1")
        if now_s - self._looked_s >= STATUS_S:
            self._looked_s = now_s
            if (text := words().replace("\n", " ")) != self._told:
                self._told = text
                self._say(f"STATUS={text}")

    def stopping(self, within_s: float) -> None:
        """The end may take so long; the watchdog waits for it."""
        self._say(f"STOPPING=1\nWATCHDOG_USEC={round((within_s + STOP_MARGIN_S) * 1e6)}")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as wire:
            try:
                wire.sendto(text.encode(), address)
            except OSError:  # a manager that does not listen is no reason to stop a robot
                return
