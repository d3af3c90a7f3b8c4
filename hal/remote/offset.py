"""Offset: how far the server's clock is ahead of ours, from the quickest round trip of the last minute."""

from user_rl.clock import Clock

KEEP_S = 60.0  # an estimate is used for so long, unless a quicker answer gives a better


class Offset:
    """Server time minus ours, and server stamps on any clock of ours."""

    def __init__(self, system: Clock) -> None:
        self._system = system
        self._round_trip_s, self._offset_s, self._when_s = float("inf"), 0.0, 0.0

    def learn(self, server_s: float, sent_s: float) -> None:
        """Takes the server's time out of an answer that has just come, to a request sent at `sent_s` of ours."""
        now_s = self._system.now_s()
        if now_s - sent_s < self._round_trip_s or now_s - self._when_s > KEEP_S:
            self._round_trip_s, self._when_s = now_s - sent_s, now_s
            self._offset_s = server_s - (now_s + sent_s) / 2

    def server_s(self, own_s: float) -> float:
        """The server's time at `own_s` of the system's clock here."""
        return own_s + self._offset_s

    def stamp_s(self, server_s: float, clock: Clock) -> float:
        """`server_s` on `clock`: as old there as it is on the server, and never of the future."""
        age_s = self._system.now_s() + self._offset_s - server_s
        return clock.now_s() - max(0.0, age_s)
