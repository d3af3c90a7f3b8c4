"""Discovery: what hardware this machine has or reaches. Every probe has a deadline, and a reason when it fails.

Probes run side by side, each in a process of its own: one that hangs costs its deadline, one that crashes costs itself.
Accelerators that only torch knows are looked for by `cloud.accelerators`; nothing here needs torch.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import msgspec

from hal.isolation import Plain, listen
from hal.probes.network import addresses_in
from hal.resources import Resource
from user_rl.errors import HardwareError

DEADLINE_S = 5.0
_CONNECT_S = 2.0  # of one TCP connection: a controller in the next room answers within milliseconds
_HOST_KEYS = ("host", "ip")  # what drivers call a robot's address in their configuration


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One look: a function that yields resources, and what it is asked."""

    name: str
    function: str  # module:function
    argument: Plain = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one probe found; `reason` says why there may be more that it could not see."""

    probe: str
    resources: tuple[Resource, ...]
    reason: str = ""
    took_s: float


def machine_probes(root: str = "/") -> list[Probe]:
    """What looks at this machine; `root` is where /sys and /dev lie."""
    return [
        Probe(name="nvidia", function="hal.probes.nvidia:probe"),
        Probe(name="realsense", function="hal.probes.realsense:probe"),
        Probe(name="v4l2", function="hal.probes.sysfs:cameras", argument=root),
        Probe(name="serial", function="hal.probes.sysfs:serial_adapters", argument=root),
    ]


def robot_probes(configured: Mapping[str, str], environment: Mapping[str, str]) -> list[Probe]:
    """One probe for each robot with an address: {name: HOST or HOST:PORT}, and ROBOT_IP, ROBOT_IP_<NAME>."""
    addresses = {**addresses_in(environment), **configured}
    return [
        Probe(
            name=name,
            function="hal.probes.network:probe",
            argument={"name": name, "address": address, "timeout_s": _CONNECT_S},
        )
        for name, address in addresses.items()
    ]


def hosts_in(tree: Mapping[str, Plain], name: str = "robot") -> dict[str, str]:
    """{name: HOST or HOST:PORT} of every driver in a robot's configuration, parts of composites included."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= hosts_in(value, f"{name}.{key}")
        elif key in _HOST_KEYS and isinstance(value, str) and value:
            found[name] = f"{value}:{tree['port']}" if isinstance(tree.get("port"), int) else value
    return found


def discover(probes: Sequence[Probe], *, deadline_s: float = DEADLINE_S, site: str = "") -> list[Finding]:
    """What each probe found, in their order; takes `deadline_s` at most and raises nothing."""
    with ThreadPoolExecutor(max(1, len(probes))) as pool:
        return list(pool.map(lambda probe: _look(probe, deadline_s, site), probes))


def _look(probe: Probe, deadline_s: float, site: str) -> Finding:
    start_s, found, reason = time.monotonic(), [], ""
    try:
        for plain in _within(listen(probe.function, probe.argument, within_s=deadline_s), start_s + deadline_s):
            found.append(replace(msgspec.convert(plain, Resource), site=site))
    except HardwareError as error:
        reason = str(error)
    return Finding(probe=probe.name, resources=tuple(found), reason=reason, took_s=time.monotonic() - start_s)


def _within(said: Iterator[Plain], deadline_s: float) -> Iterator[Plain]:
    """`said` until the clock shows `deadline_s`: one that says ever more is cut off too."""
    for plain in said:
        yield plain
        if time.monotonic() > deadline_s:
            raise HardwareError("was still finding things at its deadline; what it found until then is listed")
