"""The contract of `Sampler` as a program: one line in the test of each implementation."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from cloud.store.index import HEAD, Index, Place
from cloud.store.sampler import Drawn, LateColumns, Learning, Moment, Sampler
from user_rl.errors import NothingToDraw, SpecError
from user_rl.rows import Kind, Klass
from user_rl.specs import Array

Weigh = Callable[[Moment], Mapping[int, float]]  # the probability of each row that may be drawn

CAPACITY_ROWS = 300
COUNT = 32
LOOK_AHEAD = 2
HORIZONS = (300, 470, 470, 640, 810)  # of the draws that are compared
MANY = 20_000  # rows drawn to look at their distribution
VERSIONS_PER_CHUNK = 3  # chunks that one version acts in


def check_sampler(make: Callable[[], Sampler], *, weigh: Weigh | None = None, late: LateColumns | None = None) -> None:
    """Raises AssertionError where `make()` breaks the contract on a random log.

    A sampler that learns must have LOOK_AHEAD. `weigh` states the distribution, where there is one.
    """
    chunks = example_chunks(seed=1)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # numpy's own form
    _check_empty(make())
    _check_draws(make, chunks, late)
    _check_horizon(make, chunks, late)
    _check_state(make, chunks, late)
    _check_turns(make, chunks, late)
    if weigh is not None:
        _check_distribution(make(), chunks, late, weigh)
    after = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert before == after, "numpy's global generator was used; draw from the one that is given"


def example_chunks(*, seed: int) -> list[tuple[Place, Array]]:
    """About a thousand rows of three cells and two tasks in commit order: demonstrations, then online episodes.

    Some succeed, some end in time, some are cut by a crash; a person's hand comes and goes.
    """
    rng = np.random.default_rng(seed)
    streams = [_stream(rng, demonstrations=i == 0) for i in range(3)]
    chunks: list[tuple[Place, Array]] = []
    while any(len(rows) for rows in streams):
        i = int(rng.choice([i for i, rows in enumerate(streams) if len(rows)]))
        count, seq = int(rng.integers(1, 12)), len(chunks) + 1
        rows, streams[i] = streams[i][:count], streams[i][count:]
        rows["version"] = np.where(rows["klass"] == Klass.ONLINE, 1 + seq // VERSIONS_PER_CHUNK, 0)
        chunks.append((Place(f"cell{i}/00/run", seq, len(rows)), rows))
    return chunks


def index_of(chunks: list[tuple[Place, Array]], end: int | None = None, cut: int = 7) -> Index:
    """An index of the first `end` rows, taken in `cut` chunks at a time; a chunk may be cut at `end`."""
    index, room = Index(), sum(len(head) for _, head in chunks) if end is None else end
    kept: list[tuple[Place, Array]] = []
    for place, head in chunks:
        part = head[: max(0, room)]
        if len(part):
            kept.append((Place(place.stream, place.seq, len(part)), part))
        room -= len(head)
    for start in range(0, len(kept), cut):
        piece = kept[start : start + cut]
        index.append([place for place, _ in piece], np.concatenate([head for _, head in piece]))
    return index


def generator(number: int, seed: int = 5) -> np.random.Generator:
    """As the replay makes it, of (seed, n)."""
    return np.random.Generator(np.random.Philox(key=(number << 64) | seed))


def _stream(rng: np.random.Generator, *, demonstrations: bool) -> Array:
    parts, step = [], 0
    for episode in range(20):
        length, whole = int(rng.integers(4, 30)), bool(rng.random() < 0.85)
        rows = np.zeros(length + whole, HEAD)
        rows["step"], rows["episode"] = step + np.arange(len(rows)), episode
        rows["frame_index"] = np.arange(len(rows))
        rows["klass"] = Klass.DEMONSTRATION if demonstrations and episode < 6 else Klass.ONLINE
        rows["task"], rows["next.reward"] = [b"peg", b"plug"][episode % 2], rng.random(len(rows))
        rows["is_intervention"] = (np.arange(len(rows)) // 5 % 4 == 3) & bool(rng.random() < 0.8)
        if whole:
            rows["kind"][-1] = Kind.LAST
            rows["next.done"][-2] = rows["next.success"][-2] = rng.random() < 0.5
            rows["next.truncated"][-2] = not rows["next.done"][-2]
        parts.append(rows)
        step += len(rows)
    return np.concatenate(parts)


def _moment(index: Index, number: int, end: int, late: LateColumns | None) -> Moment:
    version = 1 + index.peak.array[min(end, len(index)) - 1] if end else 1
    return Moment(index=index, end=end, number=number, version=int(version), capacity_rows=CAPACITY_ROWS, late=late)


def _check_empty(sampler: Sampler) -> None:
    nothing = _moment(Index(), 0, 0, Complete())
    assert not sampler.can_draw(nothing), "can_draw of an empty log; look at the moment's views"
    try:
        drawn = sampler.draw(nothing, generator(0), 1)
    except NothingToDraw:
        return
    raise AssertionError(f"{drawn.rows.tolist()} were drawn from an empty log; raise NothingToDraw")


def _check_draws(make: Callable[[], Sampler], chunks: list[tuple[Place, Array]], late: LateColumns | None) -> None:
    index = index_of(chunks)
    for count in (1, 7, COUNT):
        for moment, drawn in _draws(make(), index, late, count=count):
            rows, weights = drawn.rows, drawn.weights
            assert rows.shape == (count,), f"{rows.shape} rows were drawn, not {count}"
            assert rows.dtype == np.int64, f"row numbers are {rows.dtype}, not int64"
            assert rows.max() < moment.end, f"row {rows.max()} came after the horizon {moment.end}"
            after = index.next.array[rows]
            here = index.is_step.array[rows] & (after >= 0) & (after < moment.end)
            assert here.all(), f"row {rows[~here][0]} has no successor within the horizon {moment.end}"
            old = moment.online.rows[0] if len(moment.online) else 0
            online = (index.klass.array[rows] == Klass.ONLINE) & ~index.intervened.array[rows]
            assert (rows[online] >= old).all(), f"online row {rows[online].min()} was passed by the capacity"
            assert weights.shape == (count,), f"{weights.shape} weights were given, not {count}"
            assert weights.dtype == np.float32, f"weights are {weights.dtype}, not float32"
            assert (np.isfinite(weights) & (weights > 0)).all(), f"weights of {weights.min()} to {weights.max()}"


def _check_horizon(make: Callable[[], Sampler], chunks: list[tuple[Place, Array]], late: LateColumns | None) -> None:
    whole = index_of(chunks)
    drawn = [d.rows.tolist() for _, d in _draws(make(), whole, late)]
    again = [d.rows.tolist() for _, d in _draws(make(), whole, late)]
    assert drawn == again, "the same (seed, n, horizon) gave other rows"
    other = [d.rows.tolist() for _, d in _draws(make(), index_of(chunks, cut=1), late)]
    assert drawn == other, "the draw depends on how the rows were cut into chunks"
    for i, end in enumerate(HORIZONS):
        known = index_of(chunks, end)
        seen = [d.rows.tolist() for _, d in _draws(make(), known, late, horizons=HORIZONS[: i + 1])]
        assert seen == drawn[: i + 1], f"draw {i} depends on rows that came after its horizon {end}"
    seeded = [d.rows.tolist() for _, d in _draws(make(), whole, late, seed=6)]
    assert seeded != drawn, "another seed gave the same rows; use the generator that is given"
    alone = [d.rows.tolist() for _, d in _draws(make(), whole, late, horizons=HORIZONS[-1:], first=len(HORIZONS) - 1)]
    assert _learns(make()) or alone == drawn[-1:], "a draw depends on the draws before it"


def _check_state(make: Callable[[], Sampler], chunks: list[tuple[Place, Array]], late: LateColumns | None) -> None:
    sampler, successor, index = make(), make(), index_of(chunks)
    if not isinstance(sampler, Learning) or not isinstance(successor, Learning) or not sampler.state_dict(0):
        return
    at = 3
    _run(sampler, index, late, range(at))
    saved = sampler.state_dict(at)
    kept = {name: value.copy() for name, value in saved.items()}
    ahead = _run(sampler, index, late, range(at, len(HORIZONS)))
    assert _same(saved, kept), "the saved state changed with later draws; copy it"
    assert _same(sampler.state_dict(at), kept), "the state before a draw was another one after it"
    successor.load_state_dict(saved)
    assert _same(successor.state_dict(at), kept), "a loaded state is saved as another one"
    assert _run(successor, index, late, range(at, len(HORIZONS))) == ahead, "a resumed sampler took another path"
    sampler.take_back(at)
    assert _same(sampler.state_dict(at), kept), "the state after draws were taken back is not the one before them"
    assert _run(sampler, index, late, range(at, len(HORIZONS))) == ahead, (
        "draws that were taken back came out otherwise"
    )
    try:
        make().load_state_dict({"foreign": np.zeros(1)})  # type: ignore[attr-defined]  # it learns, see above
    except SpecError:
        return
    raise AssertionError("a foreign state was loaded; raise SpecError")


def _check_turns(make: Callable[[], Sampler], chunks: list[tuple[Place, Array]], late: LateColumns | None) -> None:
    """Priorities of draw 0 act at draw LOOK_AHEAD, neither before nor after, and are missed there."""
    if not _heeds(make()):
        return
    index, found = index_of(chunks), []
    for scale in (1.0, 1e3):
        sampler = make()
        found.append([d.rows.tolist() for _, d in _draws(sampler, index, late, scale=scale)])
    assert found[0][:LOOK_AHEAD] == found[1][:LOOK_AHEAD], f"priorities of draw 0 acted before draw {LOOK_AHEAD}"
    assert found[0][LOOK_AHEAD] != found[1][LOOK_AHEAD], f"priorities of draw 0 did not act at draw {LOOK_AHEAD}"
    sampler = make()
    for number in range(LOOK_AHEAD):
        sampler.draw(_moment(index, number, HORIZONS[number], late), generator(number), COUNT)
    try:
        sampler.draw(_moment(index, LOOK_AHEAD, HORIZONS[LOOK_AHEAD], late), generator(LOOK_AHEAD), COUNT)
    except SpecError:
        return
    raise AssertionError(f"draw {LOOK_AHEAD} was made without the priorities of draw 0; raise SpecError")


def _check_distribution(
    sampler: Sampler, chunks: list[tuple[Place, Array]], late: LateColumns | None, weigh: Weigh
) -> None:
    index = index_of(chunks)
    moment = _moment(index, 0, HORIZONS[-1], late)
    expected = {row: p * MANY for row, p in weigh(moment).items()}
    rows, found = np.unique(sampler.draw(moment, generator(0), MANY).rows, return_counts=True)
    strange = set(rows.tolist()) - expected.keys()
    assert not strange, f"rows {sorted(strange)[:5]} were drawn, which the sampler's weights leave out"
    counts = dict(zip(rows.tolist(), found.tolist(), strict=True))
    chi = sum((counts.get(row, 0) - want) ** 2 / want for row, want in expected.items())
    limit = len(expected) + 6 * np.sqrt(2 * len(expected)) + 6
    assert chi < limit, f"rows are not drawn by their weights: chi-square {chi:.0f}, allowed {limit:.0f}"


def _draws(
    sampler: Sampler, index: Index, late: LateColumns | None, *,
    count: int = COUNT, horizons: tuple[int, ...] = HORIZONS, first: int = 0, seed: int = 5, scale: float = 1.0,
) -> Iterator[tuple[Moment, Drawn]]:  # fmt: skip
    """Draws, each followed by priorities where the sampler learns."""
    for number, end in enumerate(horizons, first):
        moment = _moment(index, number, end, late)
        assert sampler.can_draw(moment), f"can_draw is false at horizon {end} of a log where every kind of row is"
        drawn = sampler.draw(moment, generator(number, seed), count)
        if isinstance(sampler, Learning):
            sampler.update(number, drawn.rows, _priorities(drawn.rows) * (1.0 if number else scale))
        yield moment, drawn


def _run(sampler: Sampler, index: Index, late: LateColumns | None, numbers: range) -> list[list[int]]:
    horizons = HORIZONS[numbers.start : numbers.stop]
    drawn = _draws(sampler, index, late, horizons=horizons, first=numbers.start)
    return [d.rows.tolist() for _, d in drawn]


def _priorities(rows: Array) -> Array:
    return np.asarray(rows * 37 % 101 / 10.0)


def _learns(sampler: Sampler) -> bool:
    return isinstance(sampler, Learning) and bool(sampler.state_dict(0))


def _heeds(sampler: Sampler) -> bool:
    return _learns(sampler) and isinstance(sampler, Learning) and sampler.heeds


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class Complete:
    """See cloud.store.view.LateColumns: every row has every column, and nothing was judged again."""

    def mask(self, column: str, rows: Array) -> Array:
        return np.ones(len(rows), np.bool_)

    def succeeded(self, rows: Array, own: Array) -> Array:
        return own

    def kept(self, rows: Array) -> Array:
        return np.ones(len(rows), np.bool_)
