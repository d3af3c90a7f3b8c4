"""What a figure was measured on, and how figures are written down."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The machine in words and numbers."""
    cpu = next((x.split(":", 1)[1].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), "unknown")
    memory_kb = next((int(x.split()[1]) for x in _lines("/proc/meminfo") if x.startswith("MemTotal")), 0)
    return {
        "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory_kb / 2**20),
        "kernel": platform.release(), "python": platform.python_version(), "accelerator": "none",
    }  # fmt: skip


def record(name: str, figures: Mapping[str, float], path: str | None) -> None:
    """Prints the figures, and writes them to `path` if one is given."""
    report = {"bench": name, "figures": dict(figures), "machine": machine()}
    for key, value in figures.items():
        print(f"{key:36s} {value:12.4g}")
    if path:
        Path(path).write_text(json.dumps(report, indent=2) + "\n")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
