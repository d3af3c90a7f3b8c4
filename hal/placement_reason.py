"""Why a request waits, in words for the operator: how much of each need was found, what stands in the rest's way."""

from collections.abc import Iterator, Sequence

from hal.placement import LEARNER, ROBOTS, Entry, Need, Plan
from hal.resources import ResourceKind

MOST = 8  # things named


def reason(run: str, entries: Sequence[Entry], made: Plan) -> str:
    """For a run that waits, such as "2 of 3 panda at lab-a are free: arm-3 is quarantined: the camera is black"."""
    waiting = made.waiting[run]
    parts = [f"{waiting.position - 1} ahead of it"] if waiting.position > 1 else []
    for need, found in waiting.needs:
        if found < need.count:
            whys = list(_whys(run, need, entries, made))
            more = ["and more"] if len(whys) > MOST else []
            be = "is" if need.count == 1 else "are"
            head = f"{found} of {need.count} {_name(need)} {be} free"
            parts.append(f"{head}: {'; '.join([*whys[:MOST], *more] or ['no other is registered'])}")
    return "; ".join(parts)


def _name(need: Need) -> str:
    if need.kind is ResourceKind.ACCELERATOR:
        what = "accelerators" if need.count > 1 else "accelerator"
        return f"{what} for the learner" if need.role == LEARNER else f"{what} for inference{_at(need)}"
    what = need.model or ("cells" if need.count > 1 else "cell")
    cameras = f" with {need.cameras} camera{'s' * (need.cameras > 1)}" if need.cameras else ""
    return what + _at(need) + cameras + (f" in {need.control_mode} mode" if need.control_mode else "")


def _at(need: Need) -> str:
    return f" at {need.site}" if need.site else ""


def _whys(run: str, need: Need, entries: Sequence[Entry], made: Plan) -> Iterator[str]:
    known = {entry.resource.id for entry in entries} if need.ids else set()
    yield from (f"{name} is not registered" for name in need.ids if name not in known)
    for entry in entries:
        if why := _why(run, need, entry, made):
            yield f"{entry.resource.id} {why}"


def _why(run: str, need: Need, entry: Entry, made: Plan) -> str:
    it = entry.resource
    if need.role == ROBOTS and entry.degraded and not need.fits(it) and need.blind().means(it):
        return f"has {len(it.capabilities.cameras)} of {need.cameras} cameras: {entry.degraded}"
    if not need.means(it):
        return ""
    if entry.blocked:
        return entry.blocked
    if it.owner and it.owner != run:
        return f"is held by {it.owner}" + (", which was asked for it" if it.id in made.finish else "")
    keeper = made.kept.get(it.id, run)
    return f"is kept for {keeper}" if keeper != run else ""
