"""The window: what control shows is seen whole or not at all, and the bell rings for it."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.inference.window import Placed, Posted, Window
from edge.shared import Shared, make_shared
from hal.cell import Observation
from user_rl.rows import make_schema
from user_rl.specs import Array, Image, box

STATE = box("state", [("x", "m", -1e6, 1e6)])
SCHEMA = make_schema(
    {"observation.state": STATE, "observation.images.wrist": Image(name="wrist", height=4, width=5)},
    box("command", [("dx", "m", -1, 1), ("dy", "m", -1, 1)]),
)
NO_PLAN = np.zeros((0, 2), np.float32)
WRITER = """
import sys, numpy as np
from edge.shared import Shared
from tests.edge.inference.test_window import SCHEMA, Window, seen, NO_PLAN
window = Window(Shared(int(sys.argv[1])), SCHEMA)
for step in range(20000):
    window.show(seen(step), NO_PLAN, first=0, explore=False, taken_s=float(step), acted_s=0.0)
"""


def seen(value: float) -> Observation:
    values: dict[str, Array] = {
        "observation.state": np.array([value], np.float32),
        "observation.images.wrist": np.full((4, 5, 3), int(value) % 256, np.uint8),
    }
    return Observation(values=values, stamps_s=dict.fromkeys(values, 0.0))


@pytest.fixture
def shared() -> Iterator[Shared]:
    memory = make_shared(bytes(16))
    yield memory
    memory.close()


def rings(window: Window) -> bool:
    return bool(select.select([window.bell], [], [], 0)[0])


def test_what_control_shows_is_what_link_sees(shared: Shared) -> None:
    control, link = Window(shared, SCHEMA), Window(Shared(shared.fd), SCHEMA)
    assert link.look() is None
    assert control.step == 0
    plan = np.array([[0.5, 1], [0.25, -1]], np.float32)
    control.show(seen(7), plan, first=0, explore=True, taken_s=12.5, acted_s=0.25)
    glance = link.look()
    assert glance is not None
    assert (glance.step, glance.first, glance.explore, glance.taken_s, glance.acted_s) == (0, 0, True, 12.5, 0.25)
    assert glance.plan.tolist() == plan.tolist()
    for name, value in seen(7).values.items():
        assert np.array_equal(glance.values[name], value)
        assert glance.values[name].dtype == value.dtype
    assert link.step == control.step == 1


def test_only_the_newest_is_seen_and_it_stays_as_it_was(shared: Shared) -> None:
    window = Window(shared, SCHEMA)
    for step in range(5):
        window.show(seen(step), NO_PLAN, first=3, explore=False, taken_s=0.0, acted_s=0.0)
    glance = window.look()
    assert glance is not None
    assert (glance.step, glance.first) == (4, 3)
    for step in range(5):
        window.show(seen(100 + step), NO_PLAN, first=3, explore=False, taken_s=0.0, acted_s=0.0)
    assert glance.values["observation.state"][0] == 4


def test_the_bell_rings_for_each_glance_until_it_is_heeded(shared: Shared) -> None:
    control, link = Window(shared, SCHEMA), Window(Shared(shared.fd), SCHEMA)
    assert not rings(link)
    control.show(seen(1), NO_PLAN, first=0, explore=False, taken_s=0.0, acted_s=0.0)
    assert rings(link)
    link.heed()
    assert not rings(link)
    link.heed()
    link.ring()
    assert rings(link)


def test_a_torn_glance_is_not_handed_out(shared: Shared) -> None:
    window = Window(shared, SCHEMA)
    window.show(seen(1), NO_PLAN, first=0, explore=False, taken_s=0.0, acted_s=0.0)
    memory = os.pread(shared.fds[1], 2**20, 0)
    at = memory.rindex(seen(1).values["observation.images.wrist"].tobytes())
    os.pwrite(shared.fds[1], b"\xff", at)
    assert window.look() is None


def test_a_glance_that_is_written_but_not_counted_is_not_seen(shared: Shared) -> None:
    window = Window(shared, SCHEMA)
    for step in range(3):
        window.show(seen(step), NO_PLAN, first=0, explore=False, taken_s=0.0, acted_s=0.0)
    os.pwrite(shared.fds[1], (1).to_bytes(8, "little"), 0)  # step 2 lies where step 0 did
    assert window.look() is None


def test_chunks_and_the_choice_come_back_through_it(shared: Shared) -> None:
    control, link = Window(shared, SCHEMA), Window(Shared(shared.fd), SCHEMA)
    posted = Posted(first=3, horizon=200, actions=bytes(200 * 64 * 4), version=1, version_hash=bytes(16), frozen=0)
    link.chunk.post(posted)
    link.placed.post(Placed(name="cloud", reason="r" * 500))
    assert control.chunk.read() == posted
    assert control.placed.read() == Placed(name="cloud", reason="r" * 500)
    control.show(seen(1), NO_PLAN, first=0, explore=False, taken_s=0.0, acted_s=0.0)
    assert control.chunk.read() == posted


@pytest.mark.slow
def test_glances_from_another_process_never_tear_and_never_go_back(shared: Shared) -> None:
    window = Window(shared, SCHEMA)
    argv = [sys.executable, "-c", WRITER, str(shared.fd)]
    newest = -1
    with subprocess.Popen(argv, pass_fds=shared.fds, cwd=Path(__file__).parents[3]) as writer:
        while newest < 19_999:
            glance = window.look()
            if glance is not None:
                assert newest <= glance.step == int(glance.values["observation.state"][0]) == glance.taken_s
                assert (glance.values["observation.images.wrist"] == glance.step % 256).all()
                newest = glance.step
            assert newest >= 0 or writer.poll() in (None, 0)
    assert writer.returncode == 0
