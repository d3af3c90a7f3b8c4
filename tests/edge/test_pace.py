"""The pace over links in a model: how long the queue is, how much of the link is used, how several edges share it."""

from collections.abc import Callable

import pytest

from edge.pace import ALL, PACKET, Heard, Pace, PaceConfig, Phase, chunk_bytes, part_bytes
from edge.pace_meters import Lowest, Meter
from tests.edge.bottleneck import Bottleneck, Edge, run
from user_rl.errors import ConfigError

MBIT = 125e3  # bytes/s
LIMIT_S = 0.010

pytestmark = pytest.mark.slow


def constant(rate: float) -> Callable[[float], float]:
    return lambda now_s: rate


def used(edges: list[Edge], link: Bottleneck, rate: float, from_s: float, to_s: float) -> float:
    """The share of the link that bulk's own bytes take in a stretch of time."""
    before = sum(edge.arrived for edge in edges)
    run(link, edges, from_s, to_s)
    return (sum(edge.arrived for edge in edges) - before) / (to_s - from_s) / rate


@pytest.mark.parametrize(
    ("mbit", "round_trip_s"), [(20, 0.08), (20, 0.004), (2, 0.02), (100, 0.02)], ids=lambda value: str(value)
)
def test_the_link_is_used_and_its_queue_stays_short(mbit: float, round_trip_s: float) -> None:
    link = Bottleneck(rate=constant(mbit * MBIT), way_s=round_trip_s / 2)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 8.0)
    assert used([edge], link, mbit * MBIT, 8.0, 20.0) >= 0.8
    assert link.worst_queue_s(8.0) <= (LIMIT_S if mbit > 5 else 0.013)  # where a packet takes 5 ms
    assert link.worst_queue_s(0.0, 1.0) <= 0.15, "the start must not fill the link either"


def test_an_action_waits_ten_milliseconds_more_at_most() -> None:
    link = Bottleneck(rate=constant(20 * MBIT))
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 15.0)
    waits = sorted(took - 0.08 for sent, took in edge.round_trips_s if sent > 5.0)
    assert waits[int(0.95 * len(waits))] <= LIMIT_S


def test_a_link_that_becomes_ten_times_slower_is_found_again() -> None:
    link = Bottleneck(rate=lambda now_s: (20 if now_s < 6 else 2) * MBIT)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 12.0)
    assert used([edge], link, 2 * MBIT, 12.0, 24.0) >= 0.75
    assert link.worst_queue_s(14.0, 0.95) <= 0.013


def test_a_link_that_becomes_ten_times_faster_is_found_again() -> None:
    link = Bottleneck(rate=lambda now_s: (2 if now_s < 6 else 20) * MBIT)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 25.0)
    assert used([edge], link, 20 * MBIT, 25.0, 30.0) >= 0.8
    assert link.worst_queue_s(25.0) <= LIMIT_S


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_edges_that_share_a_link_get_like_shares_though_they_come_one_after_another(count: int) -> None:
    link = Bottleneck(rate=constant(20 * MBIT))
    edges: list[Edge] = []
    for number in range(count):
        edges.append(Edge(link, 4.0 * number))
        run(link, edges, 4.0 * number, 4.0 * (number + 1))
    settled_s = 4.0 * count + 14.0 * count
    run(link, edges, 4.0 * count, settled_s)
    before = [edge.arrived for edge in edges]
    run(link, edges, settled_s, settled_s + 10.0)
    shares = [edge.arrived - then for edge, then in zip(edges, before, strict=True)]
    assert max(shares) <= 2 * min(shares), shares
    assert sum(shares) / 10 / (20 * MBIT) >= 0.75
    assert link.worst_queue_s(settled_s) <= LIMIT_S


@pytest.mark.parametrize("trouble", [{"jitter_s": 0.01}, {"jitter_s": 0.004}, {"loss": 0.01}], ids=str)
def test_jitter_and_loss_are_no_queue(trouble: dict[str, float]) -> None:
    link = Bottleneck(rate=constant(20 * MBIT), **trouble)  # type: ignore[arg-type]
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 15.0)
    assert used([edge], link, 20 * MBIT, 15.0, 25.0) >= 0.5
    assert link.worst_queue_s(15.0, 0.97) <= LIMIT_S


def test_after_a_cut_the_link_is_full_again_and_nothing_was_heaped_up_before_it() -> None:
    link = Bottleneck(rate=lambda now_s: 0.0 if 6.0 <= now_s < 26.0 else 20 * MBIT)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 26.0)
    assert link.queue_bytes <= 0.5 * 20 * MBIT, "in flight is bounded while nothing arrives"
    run(link, [edge], 26.0, 28.0)
    assert used([edge], link, 20 * MBIT, 28.0, 40.0) >= 0.8


def test_a_fast_link_is_not_paced_and_is_found_soon() -> None:
    link = Bottleneck(rate=constant(100e6), way_s=0.0005)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 1.0)
    assert edge.pace.phase == Phase.FAST
    assert edge.pace.budget(1.0) == ALL


def test_a_fast_link_that_became_slow_is_paced_again() -> None:
    link = Bottleneck(rate=lambda now_s: 100e6 if now_s < 1 else 2e6, way_s=0.0005)
    edge = Edge(link, 0.0, wants=lambda now_s: 60e6 * min(now_s, 1.0) + 2e6 * max(0.0, now_s - 1.0))
    run(link, [edge], 0.0, 1.0)
    phases = [edge.pace.phase]
    for ping in range(40):  # each of them finds a queue of 100 ms
        edge.pace.hear(Heard(1.0 + 0.05 * ping, 1234.6, 0.1))
        edge.pace.sent(100_000, 1.0 + 0.05 * ping)
        edge.pace.turn(1.0 + 0.05 * ping)
        phases.append(edge.pace.phase)
    assert (phases[0], phases[-1]) == (Phase.FAST, Phase.DRAINING)


def test_where_nobody_answers_pings_nothing_is_held_back_for_long() -> None:
    pace = Pace(PaceConfig(), 0.0)
    assert pace.budget(2.9) <= 2 * pace.piece_bytes
    assert pace.budget(3.0) == ALL
    pace.hear(Heard(3.0, 0.01, 0.02))
    assert pace.budget(3.1) < ALL


def test_silence_cuts_hard_and_again_and_again() -> None:
    pace = Pace(PaceConfig(), 0.0)
    pace.hear(Heard(0.0, 0.01, 0.02))
    pace.turn(0.1)
    rates = []
    for now_s in (1.0, 1.2, 1.9, 2.2, 4.2):
        pace.turn(now_s)
        rates.append(pace.rate)
    assert rates == [250e3, 62.5e3, 62.5e3, 15.625e3, 8e3]


@pytest.mark.parametrize(("silent_s", "phase"), [(1.5, Phase.DRAINING), (4.5, Phase.START)])
def test_after_a_long_silence_the_rate_is_looked_for_anew(silent_s: float, phase: Phase) -> None:
    pace = Pace(PaceConfig(), 0.0)
    pace.rate = 2e6
    for now_s in (0.1, 1.2, 2.3, silent_s):
        if now_s <= silent_s:
            pace.turn(now_s)
        if now_s == 0.1:
            pace.hear(Heard(0.0, 0.01, 0.02))
            pace.turn(0.1)
    pace.hear(Heard(silent_s - 0.02, 0.01, 0.02))
    pace.turn(silent_s)
    assert pace.phase == phase
    assert (pace.rate == PaceConfig().first_bytes_s) == (phase == Phase.START)


def test_arrivals_that_are_late_halve_the_rate_to_come_back_to_and_no_more() -> None:
    pace = Pace(PaceConfig(), 0.0)
    pace.hear(Heard(0.0, 0.01, 0.02))
    pace.turn(0.0)
    pace.rate, pace.phase = 2e6, Phase.STEADY
    pace.budget(0.0)
    pace.sent(200_000, 0.1)
    for ping in range(9):  # a queue, and next to nothing arrives
        pace.arrived(100, 0.05 + 0.04 * ping)
        pace.hear(Heard(0.1 + 0.04 * ping, 0.05, 0.06))
        pace.turn(0.15 + 0.04 * ping)
    drains = pace.phase == Phase.DRAINING
    for ping in range(12):
        pace.hear(Heard(0.7 + 0.04 * ping, 0.01, 0.02))
        pace.turn(0.71 + 0.04 * ping)
    assert drains
    assert pace.phase == Phase.STEADY
    assert 0.1 * 2e6 <= pace.rate < 0.5 * 2e6


def test_a_message_of_rows_is_a_quarter_second_of_the_link() -> None:
    pace = Pace(PaceConfig(), 0.0)
    assert chunk_bytes(pace, 2**22) == 62_500
    pace.rate = 8e3
    assert chunk_bytes(pace, 2**22) == 2**14
    assert chunk_bytes(pace, 1000) == 1000
    pace.turn(3.0)  # nobody answers pings: it is not paced
    assert chunk_bytes(pace, 2**22) == 2**22


def test_a_burst_is_two_pieces_and_what_others_spend_is_taken_off() -> None:
    pace = Pace(PaceConfig(), 0.0)
    pace.hear(Heard(0.0, 0.01, 0.02))
    assert pace.budget(1.0) == 2 * PACKET
    pace.spent(1000)
    assert pace.budget(1.0) == 2 * PACKET - 1000
    pace.sent(1400, 1.0)
    assert pace.budget(1.0) == 0
    assert pace.budget(1.004) == 1000


def test_no_more_is_in_flight_than_the_window() -> None:
    pace = Pace(PaceConfig(), 0.0)
    sent = 0
    for tick in range(900):
        if pace.budget(tick / 1000) >= PACKET:
            pace.sent(PACKET, tick / 1000)
            sent += PACKET
    assert pace.window_bytes - PACKET < sent <= pace.window_bytes
    pace.arrived(sent, 0.9)
    assert pace.budget(0.9) > 0


def test_pings_come_often_while_bulk_flows_and_never_take_more_than_a_fiftieth() -> None:
    pace = Pace(PaceConfig(), 0.0)
    assert pace.ping_every_s(0.0) == 0.2
    pace.budget(0.1)
    assert pace.ping_every_s(0.1) == pytest.approx(0.04)
    pace.rate = 2.5e6
    assert pace.ping_every_s(0.1) == 0.01


def test_a_queue_before_anything_was_sent_is_somebody_elses() -> None:
    pace = Pace(PaceConfig(), 0.0)
    pace.budget(0.0)
    for ping in range(10):
        pace.hear(Heard(0.1 * ping, 0.04 + 0.03 * (ping > 4), 0.08))
        pace.turn(0.1 * ping + 0.08)
    assert (pace.phase, pace.queue_s > 0.01) == (Phase.START, True)
    pace.sent(50_000, 1.0)
    for ping in range(10, 14):
        pace.hear(Heard(0.1 * ping, 0.07, 0.08))
        pace.turn(0.1 * ping + 0.08)
    assert pace.phase == Phase.DRAINING


def test_a_way_that_becomes_longer_is_no_queue() -> None:
    link = Bottleneck(rate=constant(20 * MBIT), way_s=0.02)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 8.0)
    link.way_s = 0.06
    run(link, [edge], 8.0, 10.0)
    assert used([edge], link, 20 * MBIT, 10.0, 18.0) >= 0.6
    assert link.worst_queue_s(10.0) <= LIMIT_S


def test_from_the_lowest_rate_it_comes_back_within_seconds() -> None:
    link = Bottleneck(rate=lambda now_s: (0.064 if now_s < 10 else 20) * MBIT)
    edge = Edge(link, 0.0)
    run(link, [edge], 0.0, 10.0)
    assert edge.pace.rate < 30e3
    assert used([edge], link, 20 * MBIT, 30.0, 40.0) >= 0.5


def test_bulk_that_waits_where_no_ping_sees_it_is_a_rate_too_high() -> None:
    pace, waiting, told = Pace(PaceConfig(), 0.0), 0.0, 0.0
    pace.hear(Heard(0.0, 0.04, 0.08))
    pace.turn(0.0)
    pace.rate, pace.phase = 5e6, Phase.STEADY
    for tick in range(8000):  # a sender's own buffer, emptied at 2.4 MB/s, beside which pings pass
        now_s = tick / 1000
        while pace.budget(now_s) >= PACKET:
            pace.sent(PACKET, now_s)
            waiting += PACKET
        out = min(waiting, 2400)
        waiting, told = waiting - out, told + out
        if tick % 5 == 0:
            pace.arrived(int(told), now_s)
            told = 0.0
        if tick % 10 == 0:
            pace.hear(Heard(now_s - 0.08, 0.04, 0.08))
    assert 1.6e6 < pace.rate < 3.7e6
    assert waiting < 250e3


def test_the_pace_in_words_says_how_fast_and_what_the_link_answers() -> None:
    pace = Pace(PaceConfig(), 0.0)
    assert pace.words == ""
    pace.hear(Heard(0.0, 0.04, 0.081))
    pace.turn(0.0)
    assert pace.words == "0.25 MB/s (start), round trip 81 ms, queue 0 ms"
    pace.phase = Phase.FAST
    assert pace.words == "as fast as it goes, round trip 81 ms, queue 0 ms"


@pytest.mark.parametrize("phase", [Phase.START, Phase.STEADY])
def test_however_long_a_trickle_flows_the_rate_stays_that_of_a_link(phase: Phase) -> None:
    pace = Pace(PaceConfig(), 0.0)
    pace.hear(Heard(0.0, 0.0001, 0.0002))
    pace.turn(0.0)
    pace.phase = phase
    for tick in range(20_000):  # 1,000 s: a small row whenever there is one, and it arrives
        now_s = tick / 20
        if pace.budget(now_s) >= 300:
            pace.sent(300, now_s)
            pace.arrived(300, now_s)
        pace.hear(Heard(now_s, 0.0001, 0.0002))
        pace.turn(now_s + 0.01)
    assert pace.rate <= PaceConfig().fast_bytes_s
    assert pace.piece_bytes >= PACKET


def test_what_people_watch_never_stops_bulk() -> None:
    pace = Pace(PaceConfig(first_bytes_s=8e3), 0.0)
    pace.budget(0.0)
    for _ in range(100):
        pace.spent(1000)
    pace.turn(0.0)
    assert pace.budget(0.5) >= PACKET


def test_a_message_of_the_thinnest_link_is_waited_for_as_long_as_its_pieces_take() -> None:
    pace = Pace(PaceConfig(first_bytes_s=8e3), 0.0)
    assert pace.told_every_s == pytest.approx(1.2)


def test_weights_are_asked_for_in_parts_that_follow_the_pace() -> None:
    pace = Pace(PaceConfig(), 0.0)
    assert part_bytes(pace, 2**19) == PACKET
    pace.rate = 10e6
    assert part_bytes(pace, 2**19) == 20_000
    assert part_bytes(pace, 10_000) == 10_000
    pace.turn(3.0)
    assert part_bytes(pace, 2**19) == 2**19


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target_ms": 10.0}, "link.pace.target_ms = 10, allowed above 0 and below limit_ms = 10; leave both out"),
        ({"floor_bytes_s": 3e5}, "link.pace.floor, first, fast_bytes_s = 300000, 250000, 4e+07, allowed"),
        ({"creep": 0.0}, "link.pace.piece_ms, creep, base_s, silence_s = 2, 0, 10, 1, allowed above 0; mend them"),
    ],
)  # fmt: skip
def test_bounds_that_cannot_be_are_refused(changes: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        PaceConfig(**changes)
    assert str(error.value).startswith(text)


def test_the_lowest_of_a_while_is_forgotten_after_it() -> None:
    lowest = Lowest(10.0)
    assert lowest.value == 0.0
    assert [lowest.add(value, now_s) for value, now_s in ((3.0, 0.0), (5.0, 4.0), (4.0, 6.0))] == [3.0, 3.0, 3.0]
    assert lowest.add(6.0, 11.5) == 4.0


def test_a_meter_measures_what_was_added_since_it_began() -> None:
    meter = Meter()
    meter.begin(0.0)
    for tick in range(1, 11):
        meter.add(100, tick / 10)
    assert meter.rate(0.5, 1.0) == pytest.approx(1000)
    assert meter.best(0.2, 0.0) == pytest.approx(1000)
    meter.begin(2.0)
    meter.add(100, 2.1)
    assert meter.rate(0.5, 2.1) is None
    assert meter.rate(0.1, 2.1) == pytest.approx(1000)
