"""control_wan: rows of `control` over a lab's link: 80 ms, 1 % of loss, 20 Mbit/s. `control` calls it.

`episode_wan_s`: the policy beside the robot, the learner beyond the link. `episode_wan_remote_s`: actions from beyond
the link, in chunks of 10 (see `remote_inference`).
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from edge.telemetry import histograms, read_records
from scripts.benchmarks import remote_inference
from scripts.benchmarks.control import Row, measure_row
from scripts.netlab import Lab, missing
from scripts.netlab.lab import CLOUD, LOSSY_WAN

PATIENT = {"drain_s": 60.0}
KEYS = ("steps_skipped", "actions_held", "obs_age_p99_ms")


def measure(row: Row) -> dict[str, float]:
    """Both rows' figures; none, with a line, where there can be no lab."""
    if missing():
        print(f"no figures over a link: {missing()}")
        return {}
    with Lab() as lab:
        lab.link.shape(LOSSY_WAN)
        name = lab.robot.run("sysctl", "-n", "net.ipv4.tcp_congestion_control").strip()
        print(f"over the link, congestion control is {name}", flush=True)
        return _local(row, lab) | _remote(row, lab)


def _local(row: Row, lab: Lab) -> dict[str, float]:
    found = measure_row(
        replace(
            row, host=CLOUD, edge_prefix=tuple(lab.robot.prefix), cloud_prefix=tuple(lab.cloud.prefix),
            edge={**row.edge, **PATIENT},
        )
    )  # fmt: skip
    print("10 Hz over the link", " ".join(f"{name}={value:.4g}" for name, value in found.items()), flush=True)
    return {"episode_wan_s": found["episode_s"], **{f"{key}_wan": found[key] for key in KEYS}}


def _remote(row: Row, lab: Lab) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-control-") as folder:
        root = Path(folder)
        found = remote_inference.episodes(
            root, count=row.episodes - 1, cloud=lab.cloud.prefix, robot=lab.robot.prefix, host=CLOUD
        )
        records = list(read_records(root / "edge"))
    print("10 Hz, acted over the link", " ".join(f"{name}={value:.4g}" for name, value in found.items()), flush=True)
    return {
        **{name: found[name] for name in ("episode_wan_remote_s", "steps_without_action")},
        "steps_skipped_wan_remote": records[-1].skipped, "actions_held_wan_remote": records[-1].held,
        "obs_age_p99_ms_wan_remote": 1e3 * histograms(records)["age"].percentile(99),
    }  # fmt: skip
