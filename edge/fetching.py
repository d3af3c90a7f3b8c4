"""Fetching weights at the pace of the way down: as much is asked for as the link brings without a queue."""

from edge.config import LinkConfig
from edge.connection import Connection
from edge.pace import Pace, part_bytes, window_bytes
from user_rl.downlink import Downlink


def fetch(downlink: Downlink, weights: Connection, down: Pace, config: LinkConfig, now_s: float) -> bool:
    """One turn of the weights socket; False when nothing happened."""
    down.turn(now_s)
    came = downlink.came_bytes
    allowed = down.budget(now_s) if downlink.fetching else 0
    downlink.credit_bytes = allowed
    downlink.part_bytes = part_bytes(down, config.part_bytes)
    downlink.window_bytes = window_bytes(down)
    busy = weights.pump(downlink, now_s)
    _tell(down, int(allowed - downlink.credit_bytes), downlink.came_bytes - came, now_s)
    if not downlink.awaited_bytes:
        down.forget()
    return busy


def _tell(down: Pace, asked: int, came: int, now_s: float) -> None:
    """What was asked for is as good as sent: it comes a round trip later."""
    if asked:
        down.sent(asked, now_s)
    if came:
        down.arrived(came, now_s)
