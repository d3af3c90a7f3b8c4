"""user_rl.clock: time that waits, time that does not, and time that a test moves."""

from user_rl.clock import Clock, FakeClock, FreeRunningClock, SystemClock


def test_a_fake_clock_moves_only_when_told_and_remembers_its_sleeps() -> None:
    clock = FakeClock(5.0)
    clock.advance(1.5)
    clock.sleep_until(10.0)
    clock.sleep_until(1.0)
    assert clock.now_s() == 10.0
    assert clock.sleeps_s == [3.5, 0.0]


def test_the_system_clock_waits_until_its_deadline() -> None:
    clock: Clock = SystemClock()
    deadline_s = clock.now_s() + 0.01
    clock.sleep_until(deadline_s)
    assert clock.now_s() >= deadline_s


def test_a_free_running_clock_never_waits() -> None:
    clock: Clock = FreeRunningClock()
    start_s = clock.now_s()
    clock.sleep_until(start_s + 3600)
    assert clock.now_s() < start_s + 60
