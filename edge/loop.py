"""The control loop: observe, propose, let the operator have a say, command, judge, record.

It talks to the cell and to memory only. A command acts for one period; the pacer waits for its end, then the task
judges what it brought about, and the row of the step is published: reward, done, truncated and success belong to the
step that they follow. An episode of T steps leaves T+1 rows, the last with the final observation. A period in which
nothing was proposed and nobody drives (an operator who has not begun, an actor with nothing to offer), or in which a
watch holds the robot (edge.safety), leaves no row.

How an episode ends. done: the task says so, or the operator by success or failure. truncated: `max_steps`, the
operator's terminate or rerecord, or the desk (control stops, the lease is over). An episode that is cut while it waits
between two steps closes with neither. Whatever happens, the robot is halted before the loop is left.

Demonstrations keep their class when they fail; their rows say `next.success` 0, and the cloud counts successful ones.
"""

import gc
import logging

from edge.desk import Desk, Plan
from edge.pacer import Pacer
from edge.recorder import Recorder, Step
from edge.safety import WatchFired
from edge.timings import COMMAND, JUDGE, OBSERVE, PROPOSE, RECORD, WAIT
from hal.cell import Cell
from hal.task import Judgement
from hal.teleop import TeleopReading
from user_rl.errors import SensorStale
from user_rl.rows import Source

log = logging.getLogger(__name__)

STALE_REST_S = 1.0
COLLECT_S = 1.0  # garbage is collected between episodes, at most so often
HANDS_OFF = TeleopReading(stamp_s=0.0, action=None)


def control(cell: Cell, desk: Desk, recorder: Recorder, pacer: Pacer) -> None:
    """Episodes, one after the other, until the desk has none; the cell is open, and halted when this returns."""
    gc.collect()
    gc.freeze()
    gc.disable()
    collected_s = pacer.clock.now_s()
    try:
        while (plan := desk.next_plan()) is not None:
            try:
                desk.finished(plan, run_episode(cell, plan, desk, recorder, pacer))
            except (SensorStale, WatchFired) as error:
                log.warning("%s; this episode is cut", error)
                desk.recover(error, STALE_REST_S)
            if pacer.clock.now_s() - collected_s > COLLECT_S:
                gc.collect()
                collected_s = pacer.clock.now_s()
    finally:
        gc.enable()
        desk.halt()


def run_episode(cell: Cell, plan: Plan, desk: Desk, recorder: Recorder, pacer: Pacer) -> bool:
    """One episode; returns its success. Raises what the cell raises; complete rows are in the ring by then."""
    cell.task.reset(plan.seed)
    if cell.teleop is not None:
        cell.teleop.begin(demonstrate=plan.demonstrate)
    recorder.begin(plan.heading)
    desk.safeguard.begin()
    if plan.actor is not None:
        plan.actor.begin()
    pacer.restart()
    over = success = False
    watch = desk.watch
    while not over and desk.may_step(plan):
        watch.begin(pacer.due_s)
        seen = cell.observe()
        watch.lap(OBSERVE)
        proposal = None if plan.actor is None else plan.actor.propose(seen, explore=not plan.orders.evaluate)
        hand = HANDS_OFF if cell.teleop is None else desk.safeguard.enabled(cell.teleop.poll())
        executed = desk.allowed(plan, seen, hand, proposal)
        if executed is None:  # nothing acts: the robot holds, nothing is recorded
            over = hand.terminate_episode or hand.rerecord_episode
            pacer.wait()
            continue
        watch.lap(PROPOSE)
        recorder.observe(seen)
        watch.lap(RECORD)
        sent = desk.safeguard.sent(cell.robot.command(executed))
        stamp_s = watch.lap(COMMAND)
        pacer.wait()
        watch.lap(WAIT)
        worth = judged(cell.task.judge(), hand)
        watch.lap(JUDGE)
        stopped = hand.terminate_episode or hand.rerecord_episode or desk.ended(plan)
        truncated = not worth.done and (stopped or worth.truncated or recorder.frame + 1 >= cell.task.max_steps)
        recorder.act(
            Step(
                stamp_s=stamp_s, proposal=proposal, executed=executed, sent=sent,
                source=Source.POLICY if hand.action is None else Source.TELEOP,
                is_intervention=hand.action is not None, reward=worth.reward,
                done=worth.done, truncated=truncated, success=worth.success,
            )
        )  # fmt: skip
        watch.lap(RECORD)
        watch.end(stamp_s - min(seen.stamps_s.values()))
        over, success = worth.done or truncated, worth.success
    recorder.close(cell.observe())
    return success


def judged(worth: Judgement, hand: TeleopReading) -> Judgement:
    """The task's judgement with the operator's word over it: success is worth 1 at least, failure and both are ends."""
    if hand.success:
        return Judgement(reward=max(1.0, worth.reward), done=True, success=True)
    if hand.failure:
        return Judgement(reward=min(0.0, worth.reward), done=True, success=False)
    return worth
