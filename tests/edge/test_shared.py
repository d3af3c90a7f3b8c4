"""The shared memory: mailboxes that never tear, and what a successor finds after any death."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.mailbox import Mailbox
from edge.orders import Orders, Report, State
from edge.shared import Shared, make_shared
from tests.edge.test_ring import SCHEMA, card, publish
from user_rl.errors import ConfigError, StorageError
from user_rl.rows import make_schema
from user_rl.specs import box

WRITER = """
import sys
from edge.orders import Orders
from edge.shared import Shared
shared = Shared(int(sys.argv[1]))
for number in range(1, 20001):
    shared.orders.post(Orders(token=number, run="r" * (number % 40), last_step=number))
"""


@pytest.fixture
def shared() -> Iterator[Shared]:
    memory = make_shared(b"0123456789abcdef")
    yield memory
    os.close(memory.fd)


def mailbox(size: int = 1024) -> Mailbox[Orders]:
    return Mailbox(memoryview(bytearray(size)), Orders)


def test_a_mailbox_holds_the_newest_message_only() -> None:
    box_ = mailbox()
    assert box_.read() is None
    assert box_.post(Orders(token=1)) == 1
    assert box_.post(Orders(token=2)) == 2
    assert box_.read() == Orders(token=2)
    assert box_.seen == 2


def test_an_unchanged_message_is_the_same_object() -> None:
    box_ = mailbox()
    box_.post(Orders(token=1))
    assert box_.read() is box_.read()


def test_a_message_that_does_not_fit_is_refused_and_the_old_one_stays() -> None:
    box_ = mailbox(256)
    box_.post(Orders(token=1))
    with pytest.raises(StorageError, match="a Orders of 341 bytes, allowed 48; shorten it"):
        box_.post(Orders(run="x" * 300))
    assert box_.read() == Orders(token=1)


def test_a_writer_that_dies_in_the_middle_leaves_the_message_before_it() -> None:
    memory = bytearray(1024)
    writer = Mailbox(memoryview(memory), Orders)
    writer.post(Orders(token=1))
    half = (1024 - 64) // 2 // 64 * 64
    memory[64 : 64 + half] = b"\xff" * half  # the slot that the next post, number 2, writes first
    assert Mailbox(memoryview(memory), Orders).read() == Orders(token=1)


def test_a_torn_message_is_not_handed_out() -> None:
    memory = bytearray(1024)
    reader = Mailbox(memoryview(memory), Orders)
    Mailbox(memoryview(memory), Orders).post(Orders(token=1))
    half = (1024 - 64) // 2 // 64 * 64
    memory[64 + half + 20] ^= 1
    assert reader.read() is None


def test_each_part_of_the_memory_is_its_own(shared: Shared) -> None:
    shared.pulse.promise(12.5)
    shared.orders.post(Orders(token=5))
    shared.report.post(Report(state=State.RUNNING, step=3))
    ring = shared.make_ring(card(), 0)
    publish(ring, 4)
    other = Shared(shared.fd)
    assert other.boot == b"0123456789abcdef"
    assert other.pulse.alive_until_s == 12.5
    assert other.orders.read() == Orders(token=5)
    assert other.report.read() == Report(state=State.RUNNING, step=3)
    assert other.card.read() == card()
    seen = other.ring()
    assert seen is not None
    assert seen.head == 1


def test_there_is_no_ring_before_control_has_made_it(shared: Shared) -> None:
    assert shared.ring() is None


def test_a_restarted_control_finds_its_predecessors_ring(shared: Shared) -> None:
    publish(shared.make_ring(card(), 2**20), 41)
    again = Shared(shared.fd).make_ring(card(), 2**10)
    last = again.last()
    assert last is not None
    assert int(last.rows["step"][0]) == 41
    assert again.capacity == 2**20 // (SCHEMA.row_bytes + 16)


def test_a_cell_whose_rows_changed_may_not_go_on_in_the_same_daemon(shared: Shared) -> None:
    shared.make_ring(card(), 0)
    other = make_schema({"observation.state": box("state", [("y", "m", -1, 1)])}, box("a", [("dx", "m", -1, 1)]))
    with pytest.raises(ConfigError, match="rows changed while the daemon ran; stop the daemon and start it again"):
        shared.make_ring(card(other), 0)


def test_other_memory_is_refused() -> None:
    fd = os.memfd_create("other")
    os.ftruncate(fd, 2**22)
    with pytest.raises(StorageError, match="is no shared memory of this version; start user-rl-edge run"):
        Shared(fd)
    os.close(fd)


@pytest.mark.slow
def test_orders_from_another_process_never_tear_and_never_go_back(shared: Shared) -> None:
    argv = [sys.executable, "-c", WRITER, str(shared.fd)]
    writer = subprocess.Popen(argv, pass_fds=(shared.fd,), cwd=Path(__file__).parents[2])
    newest = 0
    while newest < 20_000:
        orders = shared.orders.read()
        if orders is not None:
            assert newest <= orders.token == orders.last_step
            assert orders.run == "r" * (orders.token % 40)
            newest = orders.token
        assert newest or writer.poll() in (None, 0)
    assert writer.wait(30) == 0
