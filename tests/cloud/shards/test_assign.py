import random
from collections import Counter
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.shards.assign import Load, assign, loads

SITES = ("", "north", "south")
CELLS = st.dictionaries(
    st.integers(0, 30).map("cell-{}".format), st.builds(Load, site=st.sampled_from(SITES), weight=st.integers(0, 3)),
    max_size=12,
)  # fmt: skip
SHARDS = st.dictionaries(st.integers(0, 5), st.sampled_from(SITES), min_size=1, max_size=4)
HOMES = st.dictionaries(st.integers(0, 30).map("cell-{}".format), st.integers(0, 5), max_size=12)


def allowed(load: Load, shards: dict[int, str]) -> set[int]:
    return {number for number, site in shards.items() if site == load.site} or set(shards)


@settings(max_examples=40)
@given(CELLS, SHARDS, HOMES)
def test_a_cell_goes_to_its_own_site_where_a_shard_is_there(
    cells: dict[str, Load], shards: dict[int, str], homes: dict[str, int]
) -> None:
    found = assign(cells, shards, homes)
    assert found.keys() == cells.keys()
    assert all(found[cell] in allowed(load, shards) for cell, load in cells.items())


@settings(max_examples=40)
@given(CELLS, SHARDS, HOMES)
def test_no_shard_that_a_cell_may_go_to_has_two_fewer(
    cells: dict[str, Load], shards: dict[int, str], homes: dict[str, int]
) -> None:
    found = assign(cells, shards, homes)
    count = Counter(found.values())
    for cell, load in cells.items():
        assert count[found[cell]] <= 1 + min(count[shard] for shard in allowed(load, shards))


@settings(max_examples=40)
@given(CELLS, SHARDS, HOMES)
def test_what_is_even_already_stays(cells: dict[str, Load], shards: dict[int, str], homes: dict[str, int]) -> None:
    found = assign(cells, shards, homes)
    assert assign(cells, shards, found) == found


@settings(max_examples=40)
@given(CELLS, SHARDS, HOMES, st.randoms())
def test_the_order_of_telling_means_nothing(
    cells: dict[str, Load], shards: dict[int, str], homes: dict[str, int], rng: random.Random
) -> None:
    names, numbers = list(cells), list(shards)
    rng.shuffle(names)
    rng.shuffle(numbers)
    told = assign({name: cells[name] for name in names}, {number: shards[number] for number in numbers}, homes)
    assert told == assign(cells, shards, homes)


@given(st.integers(0, 6), st.integers(1, 3), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_no_cell_moves_that_need_not(count: int, shards: int, at: list[int]) -> None:
    cells = {f"c{i}": Load() for i in range(count)}
    homes = {f"c{i}": at[i] for i in range(count)}
    found = assign(cells, dict.fromkeys(range(shards), ""), homes)

    def moves(places: tuple[int, ...]) -> int:
        return sum(place != at[i] for i, place in enumerate(places))

    even = [p for p in product(range(shards), repeat=count) if max(_counts(p, shards)) - min(_counts(p, shards)) <= 1]
    assert moves(tuple(found[f"c{i}"] for i in range(count))) == min(map(moves, even))


def _counts(places: tuple[int, ...], shards: int) -> list[int]:
    return [places.count(shard) for shard in range(shards)]


def test_a_shard_that_joins_gets_its_share_and_one_that_dies_leaves_it_to_the_others() -> None:
    cells = {f"c{i}": Load() for i in range(6)}
    three = assign(cells, dict.fromkeys(range(3), ""), assign(cells, dict.fromkeys(range(2), ""), {}))
    assert sorted(Counter(three.values()).items()) == [(0, 2), (1, 2), (2, 2)]
    left = assign(cells, {0: "", 2: ""}, three)
    assert sum(left[c] != three[c] for c in cells) == 2
    assert sorted(Counter(left.values()).items()) == [(0, 3), (2, 3)]


def test_of_those_with_as_many_cells_the_one_with_fewer_bytes_gets_the_next() -> None:
    cells = {"a": Load(weight=100.0), "b": Load(weight=10.0), "c": Load(weight=10.0)}
    assert assign(cells, {0: "", 1: ""}, {"a": 0, "b": 1})["c"] == 1


def test_without_a_living_shard_nobody_goes_anywhere() -> None:
    assert assign({"a": Load()}, {}, {"a": 3}) == {}


def test_a_cells_rate_is_its_weight() -> None:
    assert loads({"a": {"site": "north", "rate_hz": 10.0, "state": "leased"}}) == {"a": Load(site="north", weight=10.0)}
