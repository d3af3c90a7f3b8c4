"""Who may act, and when a cell may be given to another run: each rule by itself."""

import re
from dataclasses import replace

import pytest

from cloud.fleet.leases import FleetConfig
from tests.cloud.fleet.bench import BOOT, CONFIG, LATER_BOOT, Bench, card
from user_rl.errors import LeaseLost, StorageFull, Unreachable, WireError
from user_rl.fleet import Assignment, Doors, LeaseReply, Resource, RunDoors, Status


def test_the_defaults_are_those_of_the_design() -> None:
    assert (CONFIG.command_ttl_s, CONFIG.autonomy_s) == (5.0, 900.0)
    assert CONFIG.margin_s > 0


def test_a_cell_that_lives_is_granted_and_told_everything(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.open_run("demo", RunDoors(doors=Doors(experience="tcp://experience", weights="tcp://weights")))
    assert bench.ask("demo") == LeaseReply(granted={"arm": 1})
    assert bench.beat() == Assignment(
        run="demo", token=1, command_ttl_s=5.0, autonomy_s=900.0, experience_address="tcp://experience",
        weights_address="tcp://weights", wanted=True,
    )  # fmt: skip


def test_a_cell_without_a_lease_is_not_wanted(bench: Bench) -> None:
    bench.add("arm")
    told = bench.beat()
    assert (told.run, told.token, told.wanted) == ("", 0, False)


def test_a_registration_without_a_heartbeat_is_not_enough(bench: Bench) -> None:
    bench.leases.register(card())
    assert bench.ask("demo").granted == {}
    bench.beat()
    assert bench.ask("demo").granted == {"arm": 1}


def test_a_new_boot_must_be_heard_before_it_is_granted(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.register(card(boot=LATER_BOOT))
    assert bench.ask("demo").granted == {}


def test_a_silent_cell_is_not_granted(bench: Bench) -> None:
    bench.add("arm")
    bench.clock.advance(CONFIG.silent_after_s)
    assert bench.cell().alive
    bench.clock.advance(0.1)
    assert not bench.cell().alive
    assert bench.ask("demo") == LeaseReply(granted={}, position=1, reason="0 of 1 cell is free: arm is silent for 10 s")


def test_a_cell_with_a_fault_is_not_granted(bench: Bench) -> None:
    bench.add("arm")
    bench.beat(status=Status(state="fault", reason="joint 3"))
    assert bench.ask("demo").reason == "0 of 1 cell is free: arm is quarantined: fault: joint 3"


def test_a_held_cell_is_not_granted_to_another_run(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    assert bench.ask("other") == LeaseReply(granted={}, position=1, reason="0 of 1 cell is free: arm is held by demo")


def test_asking_again_returns_the_same_tokens(bench: Bench) -> None:
    bench.add("arm", "leg")
    assert bench.ask("demo", 2).granted == bench.ask("demo", 2).granted == {"arm": 1, "leg": 2}
    assert bench.ask("demo", 1, "", "leg").granted == {"leg": 2}


def test_a_gang_is_granted_whole_or_not_at_all(bench: Bench) -> None:
    bench.add("arm")
    assert bench.ask("demo", 2) == LeaseReply(
        granted={}, position=1, reason="1 of 2 cells are free: no other is registered"
    )
    assert bench.cell().lease == "free"


def test_the_reason_names_cells_that_nobody_knows_and_stays_short(bench: Bench) -> None:
    names = [f"cell-{i}" for i in range(10)]
    reason = bench.ask("demo", 1, "", *names).reason
    assert reason.startswith("0 of 1 cell is free: cell-0 is not registered; ")
    assert reason.endswith("cell-7 is not registered; and more")


def test_who_waits_behind_others_is_told_so(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("first", 2)
    assert bench.ask("second") == LeaseReply(
        granted={}, position=2, reason="1 ahead of it; 0 of 1 cell is free: arm is kept for first"
    )


def test_a_lease_lives_while_it_is_renewed_and_no_longer(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.keep("demo", 300)
    bench.clock.advance(CONFIG.lease_ttl_s - 0.1)
    assert bench.leases.renew("demo").cells == {"arm": 1}
    bench.clock.advance(CONFIG.lease_ttl_s)
    assert bench.leases.renew("demo").cells == {}
    assert not bench.beat().wanted
    assert bench.cell().lease == "releasing"


def test_asking_renews_too(bench: Bench) -> None:
    bench.add("arm")
    for _ in range(5):
        assert bench.ask("demo").granted == {"arm": 1}
        bench.clock.advance(CONFIG.lease_ttl_s - 0.1)


def test_a_run_that_holds_nothing_renews_nothing(bench: Bench) -> None:
    assert bench.leases.renew("demo").cells == {}


def test_a_release_that_the_edge_confirms_frees_the_cell_at_once(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.leases.release("demo", ())
    told = bench.beat(status=Status(state="running", token=1))
    assert (told.run, told.token, told.wanted) == ("demo", 1, False)
    assert bench.ask("other").granted == {}
    bench.beat(status=Status(state="idle", token=1, released=1))
    assert bench.ask("other").granted == {"arm": 2}


def test_an_edge_that_lives_but_does_not_confirm_is_never_granted_again(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.leases.release("demo", ())
    for _ in range(400):
        bench.clock.advance(5.0)
        bench.beat(status=Status(state="running", token=1))
    assert bench.ask("other").granted == {}
    assert bench.cell().lease == "releasing"


def test_a_silent_edge_is_waited_for_through_its_autonomy_and_a_margin(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.clock.advance(100.0)
    bench.leases.release("demo", ())
    reason = "0 of 1 cell is free: arm has not confirmed its release, waits 830 s at most"
    assert bench.ask("other").reason == reason
    bench.clock.advance(829.9)
    assert bench.cell().lease == "releasing"
    bench.clock.advance(0.2)
    assert bench.cell().lease == "free"
    assert bench.ask("other").granted == {}  # silent
    bench.beat(status=Status(state="idle", token=1))
    assert bench.ask("other").granted == {"arm": 2}


def test_a_lost_cell_stays_with_a_run_that_renews(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.keep("demo", 2000)
    assert bench.cell().lease == "held"
    told = bench.beat(status=Status(state="idle", token=1))
    assert (told.token, told.wanted) == (1, True)


def test_the_confirmation_of_an_older_token_frees_nothing(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.leases.release("demo", ())
    bench.beat(status=Status(state="idle", token=1, released=1))
    bench.ask("other")
    assert bench.beat(status=Status(state="idle", token=1, released=1)).token == 2
    bench.leases.release("other", ())
    bench.beat(status=Status(state="running", token=2, released=1))
    assert bench.cell().lease == "releasing"


def test_an_edge_may_give_up_a_lease_by_itself(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    assert not bench.beat(status=Status(state="stopped", token=1, released=1)).wanted
    assert bench.leases.renew("demo").cells == {}
    assert bench.cell().lease == "free"


def test_releasing_names_cells_or_means_all_and_never_anothers(bench: Bench) -> None:
    bench.add("arm", "leg", "eye")
    held = bench.ask("demo", 2).granted
    [others] = bench.ask("other", 1).granted
    bench.leases.release("demo", (min(held), others, "nobody"))
    assert {r.id: r.lease for r in bench.leases.resources()} == {
        min(held): "releasing", max(held): "held", others: "held",
    }  # fmt: skip
    bench.leases.release("demo", ())
    assert bench.cell(max(held)).lease == "releasing"
    assert bench.cell(others).lease == "held"


def test_an_older_boot_is_refused_everywhere(bench: Bench) -> None:
    assert bench.leases.register(card(boot=BOOT)) == 1
    assert bench.leases.register(card(boot=LATER_BOOT)) == 2
    assert bench.leases.register(card(boot=LATER_BOOT)) == 2
    message = (
        "boot aaaaaaaa of arm is superseded by boot bbbbbbbb (number 2), "
        "allowed the newest; halt, and start again if this is the right machine"
    )
    with pytest.raises(LeaseLost, match=re.escape(message)):
        bench.beat(boot=BOOT)
    with pytest.raises(LeaseLost, match=re.escape(message)):
        bench.leases.register(card(boot=BOOT))
    bench.restart()
    with pytest.raises(LeaseLost, match=re.escape(message)):
        bench.leases.register(card(boot=BOOT))


def test_a_new_boot_keeps_the_lease_and_its_token(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.leases.register(card(boot=LATER_BOOT, model="other"))
    told = bench.beat(boot=LATER_BOOT)
    assert (told.token, told.wanted) == (1, True)
    assert bench.cell().model == "other"


def test_an_unknown_cell_must_register(bench: Bench) -> None:
    with pytest.raises(Unreachable, match="the fleet does not know the cell arm; register it again"):
        bench.beat()


def test_a_restart_forgets_nothing_and_lets_every_wait_begin_anew(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.leases.open_run(
        "demo", RunDoors(doors=Doors(experience="tcp://1"), cells={"leg": Doors(experience="tcp://2")})
    )
    bench.ask("demo", 2)
    bench.leases.release("demo", ("leg",))
    bench.clock.advance(59.0)
    bench.restart()
    assert not bench.cell().alive
    bench.clock.advance(CONFIG.lease_ttl_s - 0.1)
    told = bench.beat()
    assert (told.token, told.wanted, told.experience_address) == (1, True, "tcp://1")
    assert bench.leases.renew("demo").cells == {"arm": 1}
    bench.clock.advance(CONFIG.autonomy_s + CONFIG.margin_s - CONFIG.lease_ttl_s)
    assert bench.cell("leg").lease == "releasing"
    bench.clock.advance(0.2)
    assert bench.cell("leg").lease == "free"


def test_a_lease_ends_after_a_restart_too_when_nobody_renews(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.restart()
    assert bench.leases.busy()
    bench.clock.advance(CONFIG.lease_ttl_s)
    assert not bench.leases.busy()
    assert not bench.beat().wanted


def test_a_shorter_autonomy_does_not_shorten_the_wait_for_an_older_grant(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.leases.release("demo", ())
    bench.restart(FleetConfig(autonomy_s=10.0))
    bench.clock.advance(900.0)
    assert bench.cell().lease == "releasing"
    assert bench.beat().autonomy_s == 900.0


def test_a_fleet_that_lost_its_store_learns_the_tokens_from_the_edges(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.ask("demo", 1, "", "arm")
    told = bench.beat(status=Status(state="running", token=57, released=56))
    assert (told.run, told.token, told.wanted) == ("", 57, False)
    assert bench.leases.renew("demo").cells == {}
    assert bench.ask("demo", 1, "", "arm").granted == {}
    bench.beat(status=Status(state="idle", token=57, released=57))
    assert bench.ask("demo", 2).granted == {"arm": 58, "leg": 59}


@pytest.mark.parametrize("status", [Status(state="idle", token=2**53 + 1), Status(state="idle", released=2**60)])
def test_a_token_that_would_exhaust_the_counter_is_refused(bench: Bench, status: Status) -> None:
    bench.add("arm")
    with pytest.raises(WireError, match=r"arm has heard of token \d+, allowed 9007199254740992; mend its lease file"):
        bench.beat(status=status)
    assert bench.ask("demo").granted == {"arm": 1}


def test_a_resource_says_what_the_cell_said(bench: Bench) -> None:
    bench.leases.register(card())
    assert bench.cell().status.state == "unknown"
    said = Status(state="running", reason="", episode=3, version=4, rows=5, spool_bytes=6)
    bench.beat(status=said)
    bench.clock.advance(2.0)
    assert bench.cell() == Resource(
        id="arm", kind="cell", model="panda", site="", state="free", since_s=2.0, reason="", lease="free", run="",
        role="", token=0, alive=True, silent_s=2.0, sequence=1, card=card(), status=said,
    )  # fmt: skip


def test_a_full_disk_changes_nothing(bench: Bench) -> None:
    bench.add("arm")
    pages = bench.store._db.execute("PRAGMA page_count").fetchone()[0]
    bench.store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull):
        bench.leases.register(replace(card("leg"), schema_digest="x" * 100_000))
    assert [r.id for r in bench.leases.resources()] == list(bench.store.cells()) == ["arm"]
    assert bench.beat().token == 0
    bench.store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert bench.ask("demo").granted == {"arm": 1}


def test_a_fleet_is_busy_while_a_run_holds_a_cell(bench: Bench) -> None:
    bench.add("arm")
    assert not bench.leases.busy()
    bench.ask("demo")
    assert bench.leases.busy()
    bench.leases.release("demo", ())
    assert not bench.leases.busy()
