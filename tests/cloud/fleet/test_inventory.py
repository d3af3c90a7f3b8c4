"""How the inventory says that things are: checks, quarantine and its end, cameras that break, accelerators."""

import re
from dataclasses import replace

import pytest

from cloud.fleet.accelerators import AcceleratorConfig
from cloud.fleet.checks import CheckConfig
from tests.cloud.fleet.bench import BOOT, CONFIG, LATER_BOOT, Bench
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.errors import WireError
from user_rl.fleet import Part, Status

CHECKS, ACCELERATORS = CheckConfig(), AcceleratorConfig()
HANGS = "registered, but has not said how its parts are for 2 s"


def test_a_cell_is_free_when_its_parts_agree_with_its_card(bench: Bench) -> None:
    bench.join("arm", "wrist", teleop="glove")
    assert bench.state() == ("lost", "not heard yet, 0 s")
    assert not bench.ask("demo").granted
    bench.say("arm", "robot", "wrist", "teleop")
    assert bench.state() == ("free", "")
    assert bench.ask("demo").granted == {"arm": 1}
    assert bench.state() == ("leased", "")


def test_a_cell_whose_robot_still_opens_is_not_granted_and_has_a_minute(bench: Bench) -> None:
    bench.join("arm", "wrist")
    for _ in range(59):
        bench.say("arm", state="starting")
        bench.clock.advance(1.0)
    assert bench.state() == ("degraded", "registered, but has not said how its parts are")
    assert bench.ask("demo").reason.endswith("arm is not checked yet: registered, but has not said how its parts are")
    bench.clock.advance(1.0)
    assert bench.state() == ("quarantined", "registered, but has not said how its parts are for 60 s")


def test_an_edge_that_hangs_after_it_has_registered_is_quarantined(bench: Bench) -> None:
    bench.join("arm", "wrist")
    bench.clock.advance(CHECKS.check_s - 0.1)
    assert bench.state()[0] == "lost"
    bench.clock.advance(0.1)
    assert bench.state() == ("quarantined", HANGS)
    assert bench.ask("demo").reason == f"0 of 1 cell is free: arm is quarantined: {HANGS}"


def test_registering_again_and_again_is_not_a_sign_of_health(bench: Bench) -> None:
    for _ in range(5):
        bench.join("arm", "wrist")
        bench.clock.advance(0.5)
    assert bench.state() == ("quarantined", HANGS)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (("robot", "side"), "claims camera wrist; its parts confirm only the robot, camera side"),
        (("wrist", "side", "teleop"), "claims the robot; its parts confirm only camera wrist, camera side, the teleop"),
        (("robot", "wrist", "side"), "claims the teleop; its parts confirm only the robot, camera wrist, camera side"),
    ],
)
def test_a_cell_that_claims_what_its_parts_do_not_confirm_lies(
    bench: Bench, named: tuple[str, ...], reason: str
) -> None:
    bench.join("arm", "wrist", "side", teleop="glove" if "teleop" in reason else "")
    bench.say("arm", *named)
    assert bench.state()[0] == "degraded"
    bench.clock.advance(CHECKS.check_s)
    bench.say("arm", *named)
    assert bench.state() == ("quarantined", reason)
    assert not bench.ask("demo").granted


def test_a_broken_robot_or_a_fault_is_quarantined_at_once(bench: Bench) -> None:
    bench.join("arm")
    bench.say("arm", robot="joint 3 does not answer")
    assert bench.state() == ("quarantined", "the robot is broken: joint 3 does not answer")
    bench.join("leg")
    bench.leases.heartbeat("leg", BOOT, Status(state="fault", reason="torque"))
    assert bench.state("leg") == ("quarantined", "fault: torque")


def test_one_broken_camera_degrades_the_cell_which_is_leased_to_whoever_does_not_need_it(bench: Bench) -> None:
    bench.join("arm", "wrist", "side")
    bench.say("arm", "robot", "side", wrist="no frames")
    assert bench.state() == ("degraded", "camera wrist is broken: no frames")
    two = Ask(robots=RobotsAsk(cameras=2))
    reason = "0 of 1 cell with 2 cameras is free: arm has 1 of 2 cameras: camera wrist is broken: no frames"
    assert bench.leases.request("two", two).reason == reason
    bench.leases.release("two", ())
    assert bench.leases.request("one", Ask(robots=RobotsAsk(cameras=1))).granted == {"arm": 1}
    assert bench.state()[0] == "degraded"
    bench.say("arm", "robot", "side", "wrist")
    assert bench.state() == ("leased", "")


def test_a_camera_that_is_only_slow_still_counts(bench: Bench) -> None:
    bench.join("arm", "wrist")
    slow = Part(name="wrist", health="degraded", reason="12 of 30 frames/s")
    bench.leases.heartbeat("arm", BOOT, Status(state="idle", parts=(Part(name="robot"), slow)))
    assert bench.state() == ("degraded", "camera wrist is degraded: 12 of 30 frames/s")
    assert bench.leases.request("demo", Ask(robots=RobotsAsk(cameras=1))).granted == {"arm": 1}


def test_the_hot_plug_of_a_camera_is_another_card_that_is_checked_anew(bench: Bench) -> None:
    bench.join("arm", "wrist")
    bench.say("arm", "robot", "wrist")
    bench.join("arm", "wrist", "side")
    assert not bench.ask("demo").granted
    bench.say("arm", "robot", "wrist", "side")
    assert bench.leases.request("demo", Ask(robots=RobotsAsk(cameras=2))).granted == {"arm": 1}


def test_a_passed_check_ends_the_quarantine_when_all_was_well_for_long_enough(bench: Bench) -> None:
    bench.join("arm", "wrist")
    bench.clock.advance(CHECKS.check_s)
    assert bench.state()[0] == "quarantined"
    bench.say("arm", "robot", "wrist")
    bench.clock.advance(CHECKS.readmit_s - 0.1)
    bench.say("arm", "robot", "wrist")
    assert bench.state()[0] == "quarantined"
    assert not bench.ask("demo").granted
    bench.clock.advance(0.1)
    assert bench.state() == ("free", "")
    assert bench.ask("demo").granted == {"arm": 1}


@pytest.mark.parametrize("why", ["trouble", "silence", "another boot"])
def test_what_was_well_must_be_so_without_a_break(bench: Bench, why: str) -> None:
    boot = LATER_BOOT if why == "another boot" else BOOT
    well = Status(state="idle", parts=(Part(name="robot"),))
    speaks = bench.join("arm")
    bench.say("arm", robot="hot")
    assert bench.state()[0] == "quarantined"
    bench.say("arm", "robot")
    bench.clock.advance(CHECKS.readmit_s - 0.1)
    if why == "trouble":
        bench.say("arm", robot="hot")
    elif why == "silence":
        bench.clock.advance(CONFIG.silent_after_s)
    else:
        bench.leases.register(replace(speaks, boot=LATER_BOOT))
    bench.leases.heartbeat("arm", boot, well)
    bench.clock.advance(CHECKS.readmit_s - 0.1)
    bench.leases.heartbeat("arm", boot, well)
    assert bench.state()[0] == "quarantined"
    bench.clock.advance(0.1)
    assert bench.state()[0] == "free"


def test_a_persons_quarantine_ends_the_lease_and_only_a_person_ends_it(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.leases.quarantine("arm", "the gripper is loose")
    assert bench.state() == ("quarantined", "the gripper is loose")
    assert not bench.beat(status=Status(state="running", token=1)).wanted
    assert bench.leases.renew("demo").cells == {}
    for _ in range(10):
        bench.clock.advance(1.0)
        bench.beat(status=Status(state="idle", token=1, released=1))
    assert bench.ask("other").reason == "0 of 1 cell is free: arm is quarantined: the gripper is loose"
    bench.leases.admit("arm")
    assert bench.ask("other").granted == {"arm": 2}


def test_a_person_who_admits_a_cell_that_hangs_gives_it_its_time_once_more(bench: Bench) -> None:
    bench.join("arm", "wrist")
    bench.clock.advance(CHECKS.check_s)
    assert bench.state()[0] == "quarantined"
    bench.leases.admit("arm")
    bench.clock.advance(CHECKS.check_s - 0.1)
    assert bench.state()[0] == "lost"
    bench.clock.advance(0.1)
    assert bench.state() == ("quarantined", HANGS)


def test_no_check_and_no_fault_replaces_a_persons_reason(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.quarantine("arm", "mine")
    bench.beat(status=Status(state="fault", reason="torque"))
    assert bench.state() == ("quarantined", "mine")
    bench.leases.admit("arm")
    assert bench.state() == ("quarantined", "fault: torque")


def test_a_quarantine_and_its_reason_survive_a_restart(bench: Bench) -> None:
    bench.join("arm", "wrist")
    bench.clock.advance(CHECKS.check_s)
    assert bench.state()[0] == "quarantined"
    bench.add("leg")
    bench.leases.quarantine("leg", "mine")
    bench.report("gpu:n:0")
    bench.leases.quarantine("gpu:n:0", "fan")
    bench.restart()
    assert [bench.state(id) for id in ("arm", "leg", "gpu:n:0")] == [
        ("quarantined", HANGS), ("quarantined", "mine"), ("quarantined", "fan"),
    ]  # fmt: skip
    for _ in range(3):
        bench.say("arm", "robot", "wrist")
        bench.beat("leg")
        bench.clock.advance(1.0)
    assert bench.state()[0] == "free"
    assert bench.state("leg")[0] == "quarantined"


def test_a_state_has_an_age_that_begins_with_it(bench: Bench) -> None:
    bench.add("arm")
    bench.clock.advance(4.0)
    bench.beat()
    assert bench.cell().since_s == 4.0
    bench.ask("demo")
    bench.beat()
    bench.clock.advance(3.0)
    bench.beat()
    assert (bench.cell().state, bench.cell().since_s) == ("leased", 3.0)


def test_a_cell_that_is_lost_while_leased_is_quarantined_and_its_lease_waits(bench: Bench) -> None:
    bench.add("arm")
    bench.ask("demo")
    bench.keep("demo", CONFIG.silent_after_s + 1)
    assert bench.state() == ("quarantined", "lost while demo had it, silent for more than 10 s")
    assert bench.leases.renew("demo").cells == {"arm": 1}
    waits = bench.ask("demo")
    assert (waits.granted, waits.position) == ({"arm": 1}, 1)
    assert waits.reason.startswith("0 of 1 cell is free: arm is quarantined: lost while demo had it")
    told = bench.beat(status=Status(state="idle", token=1))
    assert (told.token, told.wanted) == (1, True)
    assert bench.ask("demo").position == 0, "it is back"
    bench.clock.advance(CHECKS.readmit_s)
    bench.beat(status=Status(state="running", token=1))
    assert bench.state()[0] == "leased"


def test_a_cell_that_is_lost_free_is_free_again_with_its_first_word(bench: Bench) -> None:
    bench.add("arm")
    bench.clock.advance(100.0)
    assert bench.state() == ("lost", "silent for 100 s")
    bench.beat()
    assert bench.ask("demo").granted == {"arm": 1}


def test_a_lost_cell_is_replaced_from_the_free_ones_and_the_request_moves(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.ask("demo", 1, "", "arm")
    for _ in range(12):
        bench.clock.advance(1.0)
        bench.beat("leg")
        bench.leases.renew("demo")
    assert bench.ask("demo").granted == {"leg": 2}
    assert bench.cell("arm").lease == "releasing"
    assert not bench.beat("arm", Status(state="running", token=1)).wanted


def test_a_restart_of_the_fleet_does_not_make_a_run_lose_its_cell_to_another(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.ask("demo", 1, "", "arm")
    bench.restart()
    bench.beat("leg")
    assert bench.ask("demo").granted == {"arm": 1}
    bench.report("gpu:n:0", "gpu:n:1")
    held = bench.leases.request("demo", Ask(learner=AcceleratorsAsk(gpus=1))).accelerators
    bench.restart()
    bench.report("gpu:n:1")
    assert bench.leases.request("demo", Ask(learner=AcceleratorsAsk(gpus=1))).accelerators == held


def test_a_run_goes_on_with_fewer_and_gets_the_missing_one_when_there_is_one(bench: Bench) -> None:
    bench.add("arm", "leg")
    ask = Ask(robots=RobotsAsk(count=2, min_count=1))
    bench.leases.request("demo", ask)
    bench.beat("arm", Status(state="stopped", token=1, released=1))
    bench.leases.quarantine("arm", "mine")
    reply = bench.leases.request("demo", ask)
    assert (reply.granted, reply.position) == ({"leg": 2}, 1)
    assert reply.reason == "0 of 1 cell is free: arm is quarantined: mine"
    bench.add("eye")
    assert bench.leases.request("demo", ask).granted == {"eye": 3, "leg": 2}


HIGH, LOW = Ask(priority=1), Ask(priority=-1, preemptible=True)


def test_a_lower_priority_finishes_its_episode_and_the_cell_goes_to_the_higher_one(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.request("low", LOW)
    assert not bench.beat().finish_episode
    reason = "0 of 1 cell is free: arm is held by low, which was asked for it"
    assert bench.leases.request("high", HIGH).reason == reason
    told = bench.beat(status=Status(state="running", token=1))
    assert (told.wanted, told.finish_episode) == (True, True)
    assert bench.leases.renew("low").wanted_back == ("arm",)
    assert bench.state() == ("leased", "finishes its episode, then goes to high")
    bench.beat(status=Status(state="waiting for a lease", token=1, released=1))
    assert bench.leases.request("low", LOW).reason == "0 of 1 cell is free: arm is kept for high"
    assert bench.leases.request("high", HIGH).granted == {"arm": 2}
    told = bench.beat(status=Status(state="waiting for a lease", token=1, released=1))
    assert (told.run, told.token, told.finish_episode) == ("high", 2, False)


def test_a_run_that_no_longer_waits_takes_its_word_back(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.request("low", LOW)
    bench.leases.request("high", HIGH)
    assert bench.beat(status=Status(state="running", token=1)).finish_episode
    bench.clock.advance(CONFIG.queue_ttl_s + 0.1)
    assert not bench.beat(status=Status(state="running", token=1)).finish_episode


def test_an_episode_without_an_end_is_cut_off(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.request("low", LOW)
    for _ in range(int(CONFIG.finish_s)):
        bench.leases.request("high", HIGH)
        bench.leases.renew("low")
        assert bench.beat(status=Status(state="running", token=1)).wanted
        bench.clock.advance(1.0)
    assert not bench.beat(status=Status(state="running", token=1)).wanted


def test_nobody_is_asked_while_a_cell_that_lives_is_about_to_be_free(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.ask("gone", 1, "", "arm")
    bench.leases.request("low", LOW)
    bench.leases.release("gone", ())
    bench.leases.request("high", HIGH)
    assert not bench.beat("leg", Status(state="running", token=2)).finish_episode
    bench.clock.advance(CONFIG.silent_after_s + 0.1)
    bench.leases.renew("low")
    bench.beat("leg", Status(state="running", token=2))
    bench.leases.request("high", HIGH)
    assert bench.beat("leg", Status(state="running", token=2)).finish_episode, "the other is silent: it may take long"


def test_who_does_not_allow_it_is_left_alone(bench: Bench) -> None:
    bench.add("arm")
    bench.leases.request("low", replace(LOW, preemptible=False))
    bench.leases.request("high", HIGH)
    assert not bench.beat(status=Status(state="running", token=1)).finish_episode


def with_gpus(learner: int, inference: int = 0) -> Ask:
    return Ask(learner=AcceleratorsAsk(gpus=learner), inference=AcceleratorsAsk(gpus=inference, near="robots"))


def test_robots_and_accelerators_are_granted_whole_or_not_at_all(bench: Bench) -> None:
    bench.add("arm")
    bench.report("gpu:n:0")
    waits = bench.leases.request("demo", with_gpus(2))
    assert (waits.granted, waits.accelerators) == ({}, {})
    assert waits.reason == "1 of 2 accelerators for the learner are free: no other is registered"
    assert bench.state("gpu:n:0") == ("free", "")
    bench.report("gpu:n:1")
    reply = bench.leases.request("demo", with_gpus(1, 1))
    assert reply.granted == {"arm": 1}
    assert reply.accelerators == {"inference": ("gpu:n:0",), "learner": ("gpu:n:1",)}
    assert bench.leases.renew("demo").accelerators == reply.accelerators
    assert (bench.cell("gpu:n:1").run, bench.cell("gpu:n:1").role) == ("demo", "learner")


def test_an_accelerator_is_leased_once_and_free_as_soon_as_it_is_given_back(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.report("gpu:n:0")
    bench.leases.request("demo", with_gpus(1))
    reason = "0 of 1 accelerator for the learner is free: gpu:n:0 is held by demo"
    assert bench.leases.request("other", with_gpus(1)).reason == reason
    bench.leases.release("demo", ("gpu:n:0",))
    assert bench.leases.request("other", with_gpus(1)).accelerators == {"learner": ("gpu:n:0",)}
    assert bench.leases.renew("demo").cells == {"arm": 1}


def test_a_lease_of_an_accelerator_ends_with_its_run(bench: Bench) -> None:
    bench.add("arm")
    bench.report("gpu:n:0")
    bench.leases.request("demo", with_gpus(1))
    bench.restart()
    assert bench.leases.busy()
    bench.clock.advance(CONFIG.lease_ttl_s)
    bench.report("gpu:n:0")
    assert bench.state("gpu:n:0") == ("free", "")
    assert not bench.leases.busy()


def test_an_accelerator_that_is_not_reported_again_is_lost_and_then_forgotten(bench: Bench) -> None:
    bench.add("arm")
    bench.report("gpu:n:0", "gpu:n:1")
    bench.clock.advance(ACCELERATORS.ttl_s)
    assert bench.state("gpu:n:0") == ("free", "")
    bench.clock.advance(0.1)
    assert bench.state("gpu:n:0") == ("lost", "not reported for 30 s")
    assert bench.leases.request("demo", with_gpus(1)).accelerators == {}
    bench.leases.quarantine("gpu:n:1", "fan")
    bench.clock.advance(ACCELERATORS.forget_s)
    assert [r.id for r in bench.leases.resources() if r.kind == "accelerator"] == ["gpu:n:1"]
    assert list(bench.store.accelerators()) == ["gpu:n:1"]


def test_a_device_with_slices_is_leased_by_its_slices(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.report("gpu:n:0", slices=("mig:n:0/0",))
    bench.report("mig:n:0/0", parent="gpu:n:0", mig_profile="1g.10gb")
    assert bench.leases.request("demo", with_gpus(1)).accelerators == {"learner": ("mig:n:0/0",)}
    bench.report("gpu:n:0")  # the slices were removed on the machine while one is leased
    assert not bench.leases.request("other", with_gpus(1)).accelerators


def test_a_slice_of_a_device_that_is_held_whole_is_not_leased(bench: Bench) -> None:
    bench.add("arm", "leg")
    bench.report("gpu:n:0")
    bench.leases.request("demo", with_gpus(1))
    bench.report("mig:n:0/0", parent="gpu:n:0", mig_profile="1g.10gb")
    reason = bench.leases.request("other", with_gpus(1)).reason
    assert "mig:n:0/0 is part of gpu:n:0, which demo holds" in reason


def test_a_broken_accelerator_is_degraded_and_not_granted(bench: Bench) -> None:
    bench.add("arm")
    bench.report("gpu:n:0", health="broken", reason="fell off the bus")
    assert bench.state("gpu:n:0") == ("degraded", "fell off the bus")
    assert not bench.leases.request("demo", with_gpus(1)).accelerators


def test_looking_at_an_accelerator_writes_only_what_is_new(bench: Bench) -> None:
    bench.report("gpu:n:0", utilisation=0.5)
    seen = bench.cell("gpu:n:0").accelerator
    assert seen is not None
    assert seen.utilisation == 0.5
    changes = bench.store._db.total_changes
    bench.report("gpu:n:0", utilisation=0.7)
    assert bench.store._db.total_changes == changes
    bench.report("gpu:n:0", site="lab")
    assert bench.store._db.total_changes == changes + 1


def test_an_id_is_one_things_only(bench: Bench) -> None:
    bench.add("arm")
    with pytest.raises(WireError, match="an accelerator has the id arm, which is a cell's; give it another"):
        bench.report("arm")


@pytest.mark.parametrize("act", ["quarantine", "admit"])
def test_an_unknown_id_is_refused_with_those_that_are_known(bench: Bench, act: str) -> None:
    bench.add("arm")
    bench.report("gpu:n:0")
    message = "no resource has the id 'leg', known are arm, gpu:n:0; give one of these"
    with pytest.raises(WireError, match=re.escape(message)):
        bench.leases.quarantine("leg", "") if act == "quarantine" else bench.leases.admit("leg")
