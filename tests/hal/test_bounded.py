import threading

import pytest

from hal.bounded import bounded
from user_rl.errors import RobotUnreachable


def test_a_call_that_returns_gives_its_result() -> None:
    assert bounded(lambda: 7, "asking", timeout_s=5.0) == 7
    assert bounded(lambda: None, "asking", timeout_s=5.0) is None


def test_a_call_that_hangs_is_left_to_itself() -> None:
    go_on = threading.Event()
    with pytest.raises(RobotUnreachable, match=r"asking: no answer within 0.02 s; look at the arm and its cable"):
        bounded(go_on.wait, "asking", timeout_s=0.02)
    go_on.set()


def test_what_the_sdk_raises_is_the_robots() -> None:
    def fail() -> None:
        raise RuntimeError("boost: broken pipe")

    with pytest.raises(RobotUnreachable, match="asking: boost: broken pipe; look at the arm and its cable") as caught:
        bounded(fail, "asking", timeout_s=5.0)
    assert isinstance(caught.value.__cause__, RuntimeError)
