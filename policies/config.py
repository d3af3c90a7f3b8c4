"""What an actor looks like, without torch: the key that a person sets, and the spec that travels inside each version.

`PolicyConfig` is set in an algorithm's config; `actor_spec` joins it to a row schema. The result is
`PolicySpec.settings`, from which the edge rebuilds the policy.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from user_rl.embodiment import flags_of, mask_of
from user_rl.errors import ConfigError
from user_rl.rows import Schema
from user_rl.specs import Array, Box, Image
from user_rl.versions import PolicySpec

STATE = "observation.state"
SMALLEST_IMAGE = 31  # what four convolutions of stride 2 leave one pixel of
CLIP = 10.0  # a normalised feature stays within ±CLIP: what was not seen when fitting must not blow up a network


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The actor's network."""

    kind: str = "mlp"  # "mlp": observation.state alone; "cnn": every camera beside it
    hidden: tuple[int, ...] = (256, 256)
    log_std_min: float = -10.0
    log_std_max: float = 2.0
    pixel_features: int = 64  # per camera; cnn only

    @property
    def sees(self) -> bool:
        """Whether it looks at pictures."""
        return self.kind == "cnn"


class ActorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything but the weights that a squashed-Gaussian actor is made of."""

    state: int  # length of observation.state
    hidden: tuple[int, ...]
    log_std_min: float
    log_std_max: float
    pixel_features: int
    images: dict[str, tuple[int, int, int]] = {}  # observation.images.<camera> → height, width, channels
    mask: tuple[int, ...] = ()  # by element of the action: where in the state it is said to be there; (): all are
    flags: tuple[int, ...] = ()  # where in the state the 0s and 1s are that no normaliser touches

    @property
    def names(self) -> tuple[str, ...]:
        """The observations that the actor looks at."""
        return (STATE, *sorted(self.images))

    @property
    def settings(self) -> dict[str, Any]:
        """What `actor_spec_from_settings` reads back: plain, equal to what a manifest gives back."""
        settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return settings


def actor_spec(config: PolicyConfig, schema: Schema) -> ActorSpec:
    """The actor for rows of `schema`; raises ConfigError when that does not go together."""
    if config.kind not in ("mlp", "cnn"):
        raise ConfigError(f"policy.kind = {config.kind!r}, allowed mlp, cnn; choose one of these")
    if not config.hidden or min(config.hidden) < 1:
        raise ConfigError(f"policy.hidden = {list(config.hidden)}, allowed one width or more, each at least 1")
    state = schema.observation.get(STATE)
    if not isinstance(state, Box):
        found = ", ".join(schema.observation) or "nothing"
        raise ConfigError(f"observations: {found}, allowed with {STATE}; give the robot a state vector")
    images = {n: s for n, s in schema.observation.items() if isinstance(s, Image)} if config.kind == "cnn" else {}
    if config.kind == "cnn" and not images:
        raise ConfigError("policy.kind = 'cnn', but the cell has no cameras; set policy.kind=mlp or give it cameras")
    for name, s in images.items():
        if min(s.height, s.width) < SMALLEST_IMAGE:
            allowed = f"allowed {SMALLEST_IMAGE} pixels or more each way"
            raise ConfigError(f"{name} is {s.height} x {s.width}, {allowed}; change the camera's size")
    return ActorSpec(
        state=len(state.names),
        hidden=config.hidden,
        log_std_min=config.log_std_min,
        log_std_max=config.log_std_max,
        pixel_features=config.pixel_features,
        images={name: (s.height, s.width, s.channels) for name, s in images.items()},
        mask=mask_of(state, schema.action),
        flags=flags_of(state),
    )


def actor_spec_from_settings(policy: PolicySpec) -> ActorSpec:
    """The spec inside a version; raises ConfigError for settings that another release wrote."""
    try:
        return msgspec.convert(policy.settings, ActorSpec)
    except msgspec.ValidationError as error:
        raise ConfigError(f"settings of a {policy.kind} policy: {error}; bring both sides to one version") from error


class ActionMap:
    """The affine map between an action in its units and [-1, 1], in which networks think."""

    def __init__(self, action: Box) -> None:
        self.low, self.high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)
        if not (np.isfinite(self.low) & np.isfinite(self.high) & (self.low < self.high)).all():
            raise ConfigError(f"{action.name} has bounds {action.low} … {action.high}, allowed finite ones, low < high")
        self.centre = np.asarray((np.float64(self.low) + self.high) / 2, np.float32)
        self.half = np.asarray((np.float64(self.high) - self.low) / 2, np.float32)

    def to_unit(self, action: Array) -> Array:
        """From units to [-1, 1]: [..., A] float32."""
        unit: Array = (action - self.centre) / self.half
        return unit

    def to_units(self, unit: Array) -> Array:
        """From [-1, 1] to units, inside the bounds: [..., A] float32."""
        units: Array = np.minimum(np.maximum(unit * self.half + self.centre, self.low), self.high)
        return units
