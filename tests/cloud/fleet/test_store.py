"""Numbers that are never given out twice, and transactions that are whole or not there."""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.fleet.store import AcceleratorRecord, CellRecord, Quarantine, Store
from user_rl.errors import StorageCorrupt, StorageError, StorageFull
from user_rl.fleet import AcceleratorCard, Card, Doors, InferencePlace, RunDoors


def card(cell: str) -> Card:
    return Card(
        cell=cell, boot="a" * 32, model="panda", rate_hz=10.0, schema_digest="d", action_dim=4, cameras=("wrist",),
        on_silence="stops",
    )  # fmt: skip


ARM, LEG = CellRecord(card=card("arm"), sequence=1), CellRecord(card=card("leg"), sequence=2)


DOORS = RunDoors(
    doors=Doors(experience="tcp://1"), cells={"leg": Doors(weights="tcp://2", live="tcp://3")},
    inference=(InferencePlace(name="cloud", address="tcp://4"),),
)  # fmt: skip
GPU = AcceleratorRecord(card=AcceleratorCard(id="gpu:n:0", node="n", model="h100"))
OTHER_GPU = AcceleratorRecord(card=AcceleratorCard(id="gpu:n:1", node="n", model="h100"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet" / "fleet.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()


def reopened(store: Store, path: Path) -> Store:
    store.close()
    return Store(path)


def test_everything_is_there_after_a_restart(store: Store, path: Path) -> None:
    store.save(ARM, LEG)
    [granted] = store.grant([ARM], [], "demo", autonomy_s=900.0)
    store.open_run("demo", RunDoors())
    store.open_run("demo", DOORS)
    again = reopened(store, path)
    assert again.cells() == {"arm": granted, "leg": LEG}
    assert again.doors() == {"demo": DOORS}
    again.close()


def test_accelerators_are_kept_granted_and_forgotten(store: Store, path: Path) -> None:
    store.save_accelerators(GPU, OTHER_GPU)
    leased = replace(GPU, run="demo", role="learner", quarantine=Quarantine(cause="person", reason="fan"))
    store.grant([ARM], [leased], "demo", autonomy_s=1.0)
    store.forget_accelerators("gpu:n:1", "nothing")
    again = reopened(store, path)
    assert again.accelerators() == {"gpu:n:0": leased}
    assert again.cells()["arm"].held
    again.close()


@pytest.mark.parametrize("older", [1, 2])
def test_a_store_of_an_older_format_is_taken_over(store: Store, path: Path, older: int) -> None:
    [granted] = store.grant([ARM], [], "demo", autonomy_s=900.0)
    accelerators = "DROP TABLE accelerators;" if older == 1 else ""
    store._db.executescript(
        f"{accelerators} DROP TABLE doors; CREATE TABLE runs (run TEXT, e TEXT, w TEXT); PRAGMA user_version = {older};"
    )
    again = reopened(store, path)
    assert (again.cells(), again.accelerators(), again.doors()) == ({"arm": granted}, {}, {})
    again.save_accelerators(GPU)
    again.open_run("demo", DOORS)
    reopened(again, path).close()


def test_a_grant_is_held_under_a_new_token_with_its_autonomy(store: Store) -> None:
    [granted] = store.grant([ARM], [], "demo", autonomy_s=900.0)
    assert granted == replace(ARM, run="demo", token=1, held=True, autonomy_s=900.0)
    assert granted.in_doubt
    assert not replace(granted, released=1).in_doubt


def test_tokens_only_increase_across_cells_runs_and_restarts(store: Store, path: Path) -> None:
    first = store.grant([ARM, LEG], [], "demo", autonomy_s=1.0)
    again = reopened(store, path)
    second = again.grant(first, [], "other", autonomy_s=1.0)
    assert [r.token for r in first + second] == [1, 2, 3, 4]
    again.close()


def test_a_token_is_not_given_out_again_when_its_grant_is_deleted(store: Store) -> None:
    [first] = store.grant([ARM], [], "demo", autonomy_s=1.0)
    store.boot("arm", "x")
    store._db.executescript("DELETE FROM grants; DELETE FROM boots;")
    assert store.grant([first], [], "demo", autonomy_s=1.0)[0].token == 2
    assert store.boot("arm", "y") == 2


def test_tokens_stay_above_any_that_a_record_names(store: Store) -> None:
    store.save(replace(ARM, token=57))
    assert [r.token for r in store.grant([ARM, LEG], [], "demo", autonomy_s=1.0)] == [58, 59]
    store.save(replace(ARM, token=58))
    assert [r.token for r in store.grant([ARM], [], "demo", autonomy_s=1.0)] == [60]


def test_boots_are_numbered_once_in_the_order_of_their_registration(store: Store, path: Path) -> None:
    assert [store.boot("arm", boot) for boot in ("x", "y", "x")] == [1, 2, 1]
    again = reopened(store, path)
    assert [again.boot(cell, boot) for cell, boot in (("leg", "x"), ("arm", "y"), ("arm", "z"))] == [3, 2, 4]
    again.close()


def test_a_full_disk_undoes_the_whole_transaction(store: Store, path: Path) -> None:
    store.save(ARM)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [CellRecord(card=card(f"cell-{i}"), sequence=i) for i in range(100)]
    message = f"{path}: database or disk is full; nothing was changed, look at the disk"
    with pytest.raises(StorageFull, match=re.escape(message)):
        store.grant(many, [], "demo", autonomy_s=1.0)
    assert store.cells() == {"arm": ARM}
    store._db.execute(f"PRAGMA max_page_count = {pages + 100}")
    assert store.grant(many, [], "demo", autonomy_s=1.0)[0].token == 1


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=re.escape(f"{path}: file is not a database; nothing was changed")):
        Store(path)


def test_another_format_is_refused_by_its_number(store: Store, path: Path) -> None:
    store._db.execute("PRAGMA user_version = 7")
    with pytest.raises(StorageError, match=re.escape(f"{path} has format 7, allowed 3; run the version that wrote it")):
        reopened(store, path)


def test_a_damaged_record_is_named(store: Store, path: Path) -> None:
    store._db.execute("INSERT INTO cells VALUES ('arm', '{}')")
    with pytest.raises(StorageCorrupt, match=rf"{re.escape(str(path))}: .*; restore it from a backup"):
        store.cells()


def test_every_commit_is_synced(store: Store) -> None:
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_closed_store_raises_ours(store: Store) -> None:
    store.close()
    with pytest.raises(StorageError, match="nothing was changed"):
        store.save(ARM)
    assert issubclass(sqlite3.ProgrammingError, sqlite3.Error)
