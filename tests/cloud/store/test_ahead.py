"""Batches in the making: drawn in order, by the caller; read by a thread; forgotten when something else is wanted."""

import threading

import pytest

from cloud.store.ahead import MAKING, Ahead


class Making:
    """Notes what was drawn and read."""

    def __init__(self, depth: int) -> None:
        self.drawn: list[int] = []
        self.made: list[tuple[int, list[int]]] = []
        self.drawers: set[int] = set()
        self.bad: set[int] = set()
        self.ahead: Ahead[int, str] = Ahead(self.draw, self.make, depth)

    def draw(self, number: int) -> int:
        self.drawers.add(threading.get_ident())
        self.drawn.append(number)
        return 10 * number

    def make(self, number: int, drawn: int, later: list[int]) -> str:
        if number in self.bad:
            raise KeyError(number)
        self.made.append((number, later))
        return f"{number}:{drawn}"


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_batches_come_in_order_and_each_is_drawn_once(depth: int) -> None:
    making = Making(depth)
    assert [making.ahead.take(n) for n in range(8)] == [f"{n}:{10 * n}" for n in range(8)]
    making.ahead.close()
    assert making.drawn == list(range(8 + depth))
    assert making.drawers == {threading.get_ident()}


def test_what_is_read_knows_what_comes_after_it() -> None:
    making = Making(4)
    making.ahead.take(0)
    making.ahead.close()
    assert making.made[0] == (0, [10, 20, 30, 40])
    assert len(making.made) <= 1 + MAKING


@pytest.mark.parametrize("depth", [0, 3])
def test_another_number_starts_afresh(depth: int) -> None:
    making = Making(depth)
    making.ahead.take(0)
    assert making.ahead.take(7) == "7:70"
    assert making.ahead.take(8) == "8:80"
    making.ahead.close()
    assert making.drawn == [*range(1 + depth), *range(7, 9 + depth)]


@pytest.mark.parametrize("depth", [0, 3])
def test_a_batch_that_cannot_be_read_raises_when_it_is_taken_and_can_be_drawn_again(depth: int) -> None:
    making = Making(depth)
    making.bad = {2}
    assert [making.ahead.take(n) for n in range(2)] == ["0:0", "1:10"]
    with pytest.raises(KeyError):
        making.ahead.take(2)
    making.ahead.forget()
    making.bad = set()
    assert making.ahead.take(2) == "2:20"
    assert making.drawn.count(2) == 2
    making.ahead.close()
