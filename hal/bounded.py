"""Calls into a vendor's library that may never return, with an end."""

import threading
from collections.abc import Callable
from typing import TypeVar

from user_rl.errors import RobotUnreachable

T = TypeVar("T")


def bounded(call: Callable[[], T], what: str, *, timeout_s: float) -> T:
    """What `call` returns; RobotUnreachable when it has not after `timeout_s`, or raises RuntimeError.

    A call that hangs keeps its thread, and with it whatever it uses, until the process ends.
    """
    results: list[T] = []
    errors: list[RuntimeError] = []

    def run() -> None:
        try:
            results.append(call())
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise RobotUnreachable(f"{what}: {errors[0]}; look at the arm and its cable, then start again") from errors[0]
    if not results:
        raise RobotUnreachable(f"{what}: no answer within {timeout_s:g} s; look at the arm and its cable, start again")
    return results[0]
