"""user-rl-edge discover: what this controller has and reaches, as a table or as JSON."""

import json
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from edge.table import table
from hal.discovery import Finding, discover, hosts_in, machine_probes, robot_probes
from hal.resources import Resource
from user_rl.config import Tree

_GIB = 2**30


def look(tree: Tree, *, deadline_s: float) -> list[Finding]:
    """Every finding on this machine, and of the robots with an address in the configuration or the environment."""
    robots = robot_probes(hosts_in(tree.get("robot") or {}), os.environ)
    return discover([*machine_probes(), *robots], deadline_s=deadline_s)


def as_json(findings: Sequence[Finding]) -> str:
    """One object: the resources, and each probe with its reason."""
    probes = [
        {"name": f.probe, "found": len(f.resources), "reason": f.reason, "took_s": round(f.took_s, 3)} for f in findings
    ]
    resources: list[Any] = [msgspec.to_builtins(r) for f in findings for r in f.resources]
    return json.dumps({"resources": resources, "probes": probes})


def as_text(findings: Sequence[Finding], *, width: int) -> str:
    """The table, and under it what was looked for in vain."""
    rows = [_row(resource) for finding in findings for resource in finding.resources]
    parts = []
    if rows:
        parts.append(table(("KIND", "ID", "MODEL", "AT", "HAS", "HEALTH"), rows, width=width, wrapped=(1, 2, 5)))
    looked = [(f.probe, f.reason or "nothing is connected") for f in findings if f.reason or not f.resources]
    if looked:
        parts.append(table(("LOOKED FOR", "FOUND NOTHING BECAUSE"), looked, width=width, wrapped=(1,)))
    return "\n\n".join(parts)


def _row(resource: Resource) -> tuple[str, ...]:
    health = resource.health
    state = f"{health.condition}: {health.reason}" if health.reason else str(health.condition)
    return (str(resource.kind), resource.id, resource.model or "-", resource.address or "-", _has(resource), state)


def _has(resource: Resource) -> str:
    accelerator = resource.capabilities.accelerator
    if accelerator is None:
        return "-"
    parts = [f"{accelerator.memory_bytes / _GIB:.0f} GiB"]
    if accelerator.free_bytes is not None:
        parts[0] = f"{accelerator.free_bytes / _GIB:.0f} of {parts[0]} free"
    if accelerator.multiprocessors is not None:
        parts.append(f"{accelerator.multiprocessors} SMs")
    if accelerator.utilisation is not None:
        parts.append(f"{accelerator.utilisation:.0%} busy")
    if accelerator.slices:
        parts.append(f"{len(accelerator.slices)} slices")
    return ", ".join(parts)
