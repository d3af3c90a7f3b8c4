"""What a robot is held against: what stops it, what it measures, how it answers."""

from collections.abc import Sequence
from dataclasses import fields
from shutil import which

from edge.doctor.diagnosis import Result, Row, judged
from edge.doctor.measure import Series
from edge.doctor.motion import Answer
from edge.doctor.streams import call_row, jitter_row, ms, rate_row, stamps_row
from hal.guard import GuardConfig
from hal.robot import OnSilence, Robot, RobotSpec, tells_emergency_stop
from user_rl.errors import SpecError
from user_rl.specs import Array

ROBOT = "robot"
_JITTER, _READ = 1.5, 0.5  # of a period: between two readings, in a call
_BACK = 0.5  # of the way there: what may be left after the way back


def silence_row(spec: RobotSpec, *, allowed: bool) -> Row:
    """What stops it when commands stop coming."""
    check, wanted = "on silence", "stops, or a halt command"
    if spec.on_silence is OnSilence.NONE:
        fix = "give it a halt command, or allow_no_silence_stop=true beside an emergency stop within reach"
        result = Result.WARN if allowed else Result.FAIL
        return Row(about=ROBOT, check=check, result=result, value="goes on moving", allowed=wanted, fix=fix)
    if spec.on_silence is OnSilence.STOPS:
        return Row(about=ROBOT, check=check, result=Result.OK, value="stops by itself", allowed=wanted)
    program = spec.halt_command[0] if spec.halt_command else "no command"
    value = f"halted by {' '.join(spec.halt_command) or program}"
    fix = f"{program} is not there to be run; install it, or mend the driver's halt_command"
    return judged(ROBOT, check, holds=which(program) is not None, value=value, allowed=wanted, fix=fix)


def emergency_stop_row(robot: Robot) -> Row:
    """How the emergency stop stands, where some layer of the robot can say."""
    pendant = tells_emergency_stop(robot)
    if pendant is not None:
        value = "pressed" if pendant.emergency_stop_pressed() else "released"
        fix = "see why it was pressed, release it, then again"
        return judged(ROBOT, "emergency stop", holds=value == "released", value=value, allowed="released", fix=fix)
    fix = "press it once by hand: the robot must stand still, and answer again when it is released"
    value = "not readable on this robot"
    return Row(about=ROBOT, check="emergency stop", result=Result.SKIP, value=value, allowed="released", fix=fix)


def guard_row(config: GuardConfig) -> Row:
    """Whether somebody has said what this robot may do."""
    plain = GuardConfig()
    chosen = [f.name for f in fields(config) if getattr(config, f.name) != getattr(plain, f.name)]
    value = f"sets {', '.join(chosen)}" if chosen else "no limit but the defaults"
    fix = "say in guard.* where the robot may be and how fast"
    return judged(
        ROBOT, "guard", holds=bool(chosen), value=value, allowed="limits of this cell", fix=fix, otherwise=Result.WARN
    )


def state_rows(spec: RobotSpec, series: Series, values: Sequence[Array]) -> list[Row]:
    """Rate, regularity, stamps, time of a call, and the values of the state."""
    period_s = 1.0 / spec.rate_hz
    fix = "look at the network and at the controller's own rate, or lower robot.rate_hz"
    rows = [rate_row(ROBOT, series, spec.rate_hz, fix=fix)]
    if series.news > 1:
        fix = "FIFO scheduling for this user, a cable in place of Wi-Fi, nothing else on this machine"
        rows.append(jitter_row(ROBOT, series, _JITTER * period_s, fix=fix))
    rows += [stamps_row(ROBOT, series, period_s), call_row(ROBOT, series, _READ * period_s)]
    return [*rows, _values_row(spec, values), velocity_row(spec)]


def velocity_row(spec: RobotSpec) -> Row:
    """Whether speeds are measured at all."""
    state = spec.state
    speeds = [n for n, unit in zip(state.names, state.units, strict=True) if "velocity" in n or unit.endswith("/s")]
    value = f"{len(speeds)} of {len(state.names)} elements" if speeds else "absent"
    fix = "policies see places only; if the robot measures speed, its driver should say it"
    return judged(
        ROBOT, "velocity", holds=bool(speeds), value=value, allowed="measured", fix=fix, otherwise=Result.WARN
    )


def holding_row(took_s: Sequence[float] | None, period_s: float) -> Row:
    """What a command costs. None: there is no command that surely changes nothing."""
    allowed = f"≤ {ms(period_s)}"
    if took_s is None:
        value, fix = "none sent: none surely leaves it where it is", "see motion with --move, standing clear"
        return Row(about=ROBOT, check="command", result=Result.SKIP, value=value, allowed=allowed, fix=fix)
    value = f"{len(took_s)} to stay where it is: worst {ms(max(took_s))}"
    fix = "the driver's command waits for the robot: it must hand over and return"
    return judged(ROBOT, "command", holds=max(took_s) <= period_s, value=value, allowed=allowed, fix=fix)


def moving_rows(answer: Answer) -> list[Row]:
    """Whether it moved, came back, and measured its speed meanwhile."""
    axis, unit = answer.axis.name, f" {answer.unit}".rstrip()
    value = f"{axis} goes {answer.furthest:.2g} of {answer.asked:.2g}{unit}"
    fix = "see brakes, remote control, enabling switch, and the direction of this axis"
    if answer.after_s is None:
        allowed = "moves as told within 1 s"
        return [Row(about=ROBOT, check="motion", result=Result.FAIL, value=value, allowed=allowed, fix=fix)]
    value += f", seen after {ms(answer.after_s)}"
    moves = Row(about=ROBOT, check="motion", result=Result.OK, value=value, allowed="moves as told within 1 s")
    most = _BACK * abs(answer.furthest)
    value, fix = f"{answer.left:.2g}{unit} from its start", "it does not follow its targets: see load and gains"
    back = judged(ROBOT, "way back", holds=answer.left <= most, value=value, allowed=f"≤ {most:.2g}{unit}", fix=fix)
    return [moves, back, *_speed_rows(answer)]


def observation_row(series: Series, period_s: float) -> Row:
    """What reading everything takes of a period: the policy needs the rest."""
    worst_s = series.call_s[1]
    return judged(
        "together",
        "observation",
        holds=worst_s <= _READ * period_s,
        value=f"{series.call_s[0] * 1e3:.3g} ms, p99 {ms(worst_s)}",
        allowed=f"p99 ≤ {ms(_READ * period_s)}",
        fix="a lower robot.rate_hz, smaller pictures, or a faster machine",
        otherwise=Result.WARN if worst_s <= period_s else Result.FAIL,
    )


def _values_row(spec: RobotSpec, values: Sequence[Array]) -> Row:
    said, fix = f"{len(spec.state.names)} elements in {len(values)} readings", ""
    try:
        for reading in values:
            spec.state.check(reading)
    except SpecError as error:
        said, _, fix = str(error).rpartition("; ")
    return judged(ROBOT, "values", holds=not fix, value=said, allowed="finite, within the spec", fix=fix)


def _speed_rows(answer: Answer) -> list[Row]:
    if answer.axis.speed is None:
        return []
    value, fix = f"{answer.axis.name} up to {max(map(abs, answer.speeds)):.2g} {answer.unit}/s", ""
    if not any(answer.speeds):
        value, fix = "exactly 0 while it moves", "it is not measured: the driver must leave it out of its spec"
    elif answer.speeds == answer.places[1:]:
        value, fix = "equal to the position", "the driver returns positions for velocities"
    return [judged(ROBOT, "speed", holds=not fix, value=value, allowed="follows the motion", fix=fix)]
