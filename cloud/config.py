"""The launcher's configuration: what one experiment is. Hydra's nodes are made from the dataclasses here and below.

The cell's keys (robot, task, cameras, teleop, guard) stand at the root, as they do in the edge's own configuration.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from cloud.algorithms import ALGORITHMS
from cloud.cells import trial_cells
from cloud.disk import DiskConfig
from cloud.filming import VideosConfig
from cloud.gateway import GatewayConfig
from cloud.inference.config import ServingConfig
from cloud.learner import LearnerConfig
from cloud.store.replay import ReplayConfig
from cloud.tracker import check_tracker
from hal.guard import GuardConfig
from hal.make import STORE as CELL_STORE
from hal.make import cell_store
from user_rl.config import Tree, build, compose, defaults
from user_rl.errors import ConfigError
from user_rl.fleet import InferencePlace
from user_rl.log import LogConfig
from user_rl.log.codec import codecs_of
from user_rl.rows import make_schema


@dataclass(frozen=True, kw_only=True)
class RobotsConfig:
    """Which robots a run asks the fleet for."""

    count: int = 1  # of each cell, where the run names several
    min_count: int = 0  # a run that has begun goes on with so many in all when one is lost; 0: with any
    model: str = ""  # any
    site: str = ""  # any
    cameras: int | None = None  # that work, at least; None: as many as the run's own `cameras` names
    control_mode: str = ""  # any; joint_target, joint_delta, tip_delta, ...
    simulated: bool = True  # the launcher starts `count` simulated cells itself and asks for exactly these

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count = {self.count}, allowed 1 or more; a run without a robot learns nothing")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Who answers observations with actions, and the accelerators that are held for that beside the learner's."""

    gpus: int = 0
    near: str = ""  # robots: on the site of the granted robots; empty: anywhere
    serve: bool = False  # a server beside the gateway
    port: int = 0  # it listens there; 0: any free one
    server: ServingConfig = field(default_factory=ServingConfig)
    places: tuple[InferencePlace, ...] = ()  # servers on sites of their own: {name, site, address, curve_public}


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """How the run stands among the others of its fleet."""

    priority: int = 0  # a higher one goes first
    preemptible: bool = False  # it may be told to finish its episode, or its update, for a higher priority


@dataclass(frozen=True, kw_only=True)
class DemonstrationsConfig:
    """Where demonstrations come from: the operator records `count` successful ones, after those read from `path`.

    Cells that differ record equal shares of them.
    """

    count: int = 0
    path: str | None = None  # the folder of another run, whose successful demonstrations are copied


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured after the clock has stopped: fresh, seeded, deterministic episodes."""

    episodes: int = 50
    seed: int = 10_000
    baseline_updates: int = 3000  # of behaviour cloning on the same demonstrations; 0 leaves the baseline out


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Where the cloud's actors run."""

    address: str = "local"  # "auto": the cluster that this machine belongs to
    site: str = ""  # network neighbourhood of its machines, as requests name it


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """One experiment."""

    run: str = ""  # the run's name; empty: made from the task, the algorithm and the time
    runs: str = "runs"  # the folder that holds the runs' folders
    home: str = "~/.user-rl"  # keys, enrolments and the local fleet
    seed: int = 0
    robot: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    teleop: dict[str, Any] | None = None
    guard: GuardConfig = field(default_factory=GuardConfig)
    cells: dict[str, Any] = field(default_factory=dict)  # {name: what differs from the keys above}; see cloud.cells
    edge: dict[str, Any] = field(default_factory=dict)  # what simulated edges change of their own defaults
    robots: RobotsConfig = RobotsConfig()
    inference: InferenceConfig = InferenceConfig()
    placement: PlacementConfig = PlacementConfig()
    demonstrations: DemonstrationsConfig = DemonstrationsConfig()
    algorithm: dict[str, Any] = field(default_factory=dict)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    log: LogConfig = field(default_factory=LogConfig)  # of the run's experience log
    evaluation: EvaluationConfig = EvaluationConfig()
    videos: VideosConfig = field(default_factory=VideosConfig)
    disk: DiskConfig = field(default_factory=DiskConfig)
    ray: RayConfig = RayConfig()
    tracker: str = "none"  # none, wandb, tensorboard

    def __post_init__(self) -> None:
        if self.log.commit == "nosync":
            raise ValueError("log.commit = nosync, allowed each, group; only rows on the disk may be acknowledged")
        if self.gateway.shards > 1 and self.ray.address != "local":
            raise ValueError(
                f"gateway.shards = {self.gateway.shards} with ray.address={self.ray.address}, allowed 1: one learner "
                "reads all shards from its own disk; leave one of the two out"
            )
        if self.cells and not self.robots.simulated:
            raise ValueError(
                f"cells = {', '.join(self.cells)}, allowed with robots.simulated=true; configure real ones"
            )

    @property
    def demonstrations_each(self) -> int | None:
        """How many of the demonstrations one cell records; None: whoever comes first."""
        cells = len(self.cells) * self.robots.count
        return math.ceil(self.demonstrations.count / cells) if cells else None


GROUPS = (
    {"robot": "panda_sim"},
    {"task": "peg_insertion"},
    {"cameras": "none"},
    {"teleop": "none"},
    {"algorithm": "rlpd"},
)

STORE: dict[str, dict[str, Tree]] = {
    **CELL_STORE,
    "": {"launch": {**defaults(LaunchConfig), "defaults": ["_self_", *GROUPS, {"experiment": None}]}},
    "algorithm": {name: {"name": name, **defaults(config)} for name, (_, config) in ALGORITHMS.items()},
    "experiment": {},
}


def compose_launch(overrides: list[str]) -> Tree:
    """The whole tree of one experiment; raises ConfigError."""
    return compose("launch", overrides, store={**STORE, **cell_store(overrides)}, package="configs")


def build_launch(tree: Tree) -> LaunchConfig:
    """The typed form of `tree`, every part of it checked, the cell by building it once; raises ConfigError."""
    config = build(LaunchConfig, tree)
    algorithm_config(config.algorithm)
    check_tracker(config.tracker)
    if config.robots.simulated:
        for cell in trial_cells(tree):
            codecs_of(make_schema(cell.observation, cell.action), config.log.codecs)
    return config


def algorithm_config(tree: Tree) -> Any:  # noqa: ANN401  # one of the algorithms' own config dataclasses
    """The config of the algorithm that `tree` names."""
    name = tree.get("name")
    if name not in ALGORITHMS:
        raise ConfigError(f"algorithm.name = {name!r}, allowed {', '.join(ALGORITHMS)}; choose one of these")
    return build(ALGORITHMS[name][1], {k: v for k, v in tree.items() if k != "name"}, "algorithm.")
