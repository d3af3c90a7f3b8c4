"""Where the time of a step goes: the loop's parts against a clock that moves by known amounts."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Pace
from edge.shared import Shared
from edge.timings import BYTES, COMMAND, JUDGE, NAMES, OBSERVE, PROPOSE, RECORD, WAIT, Timings, Watch
from hal.camera import Frame
from hal.testing import FakeCamera
from tests.edge.rig import bench
from user_rl.clock import FakeClock
from user_rl.histogram import Histogram


def timings() -> Timings:
    return Timings(memoryview(bytearray(BYTES)))


@given(st.lists(st.floats(-1.0, 200.0), min_size=1, max_size=20))
def test_the_loops_own_way_of_adding_counts_what_a_histogram_does(durations_s: list[float]) -> None:
    made, one = timings(), Histogram()
    for duration_s in durations_s:
        made.add([duration_s] * len(NAMES))
        one.add(duration_s)
    for found in made.take().values():
        assert (found.counts == one.counts).all()


def test_what_was_taken_is_not_taken_again_even_by_a_successor() -> None:
    memory = bytearray(BYTES)
    control, link = Timings(memoryview(memory)), Timings(memoryview(memory))
    control.add([0.001] * len(NAMES))
    assert {h.count for h in link.take().values()} == {1}
    control.add([0.002] * len(NAMES))
    successor = Timings(memoryview(memory))
    assert successor.take()["work"].percentile(50) == pytest.approx(0.002, rel=1e-3)
    assert {h.count for h in successor.take().values()} == {0}


def test_each_part_of_a_step_counts_by_its_own_name_and_the_wait_by_none() -> None:
    clock, made = FakeClock(50.0), timings()
    watch = Watch(clock, made)
    for _ in range(2):  # nothing of a step is left for the next one
        clock.advance(0.004)
        watch.begin(clock.now_s() - 0.004)
        parts = ((OBSERVE, 0.010), (PROPOSE, 0.020), (RECORD, 0.001), (COMMAND, 0.030), (WAIT, 5.0), (JUDGE, 0.040))
        for part, took_s in (*parts, (RECORD, 0.002)):
            clock.advance(took_s)
            assert watch.lap(part) == clock.now_s()
        watch.end(0.7)
    expected = {"observe": 0.01, "propose": 0.02, "record": 0.003, "command": 0.03, "judge": 0.04,
                "work": 0.103, "late": 0.004, "age": 0.7}  # fmt: skip
    found = made.take()
    assert list(found) == list(expected)
    assert {name: h.percentile(100) for name, h in found.items()} == pytest.approx(expected, rel=2e-3)
    assert {h.count for h in found.values()} == {2}


def test_the_loop_measures_itself_in_the_memory_that_link_reads() -> None:
    with bench(max_steps=4) as b:
        b.robot.works_s = 0.025
        b.stop_after(0.45)
        b.run()
        found = Shared(os.dup(b.shared.fd)).timings.take()
    assert {h.count for h in found.values()} == {4 + 1}
    assert found["command"].percentile(50) == pytest.approx(0.025, rel=1e-3)
    assert found["age"].percentile(100) == pytest.approx(0.025, rel=1e-3)
    assert found["work"].percentile(100) == pytest.approx(0.025, rel=1e-3)
    assert found["late"].percentile(100) == 0.0


class OldCamera(FakeCamera):
    """Its frames are a quarter of a second old when they come."""

    def read(self) -> Frame:
        return Frame(stamp_s=self.clock.now_s() - 0.25, pixels=super().read().pixels)


def test_the_age_is_that_of_the_oldest_part_of_an_observation() -> None:
    with bench(max_steps=2) as b:
        b.cell.cameras["front"] = OldCamera(clock=b.clock)
        b.cell.cameras["front"].open()
        b.robot.works_s = 0.025
        b.stop_after(0.2)
        b.run()
        age = b.shared.timings.take()["age"]
    assert age.percentile(1) == pytest.approx(0.275, rel=1e-3)


def test_a_step_after_a_slow_one_is_late_by_all_that_it_should_have_begun_earlier() -> None:
    with bench(max_steps=3) as b:
        b.robot.works_s = 0.12
        b.stop_after(0.37)
        b.run()
        late = b.shared.timings.take()["late"]
    assert [late.percentile(p) for p in (30, 60, 100)] == pytest.approx([0.0, 0.02, 0.04], abs=1e-3)


def test_periods_that_were_left_out_count_as_lateness_of_the_step_after_them() -> None:
    with bench(max_steps=3) as b:
        b.robot.works_s = 0.25
        b.stop_after(0.65)
        b.run()
        late = b.shared.timings.take()["late"]
        assert b.pacer.skipped > 0
    assert late.percentile(100) == pytest.approx(0.2, abs=1e-3)  # at 300 ms instead of at 100


def test_in_free_pace_nothing_is_measured() -> None:
    with bench(max_steps=2, pace=Pace.FREE) as b:
        b.stop_after(0.2)
        b.run()
        assert len(b.rows()) == 3
        assert {h.count for h in b.shared.timings.take().values()} == {0}


def test_the_timings_and_the_ring_do_not_touch() -> None:
    with bench(max_steps=2) as b:
        b.shared.timings.add([1e9] * len(NAMES))  # the last bucket of each
        before = np.asarray(b.recorder.ring.rows).tobytes()
        b.shared.timings.take()
        assert np.asarray(b.recorder.ring.rows).tobytes() == before
        assert b.shared.orders.read() == b.orders
