"""What an actor is made of: from a config and a schema, into a version, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.config import ActionMap, PolicyConfig, actor_spec, actor_spec_from_settings
from user_rl.errors import ConfigError
from user_rl.rows import Schema, make_schema
from user_rl.specs import Image, box
from user_rl.versions import PolicySpec


def test_an_actor_of_the_state_does_not_see_cameras(vision: Schema) -> None:
    spec = actor_spec(PolicyConfig(hidden=(7,)), vision)
    assert (spec.state, spec.hidden, spec.images, spec.names) == (5, (7,), {}, ("observation.state",))


def test_an_actor_of_pixels_sees_every_camera(vision: Schema) -> None:
    spec = actor_spec(PolicyConfig(kind="cnn"), vision)
    assert spec.images == {"observation.images.wrist": (64, 64, 3), "observation.images.front": (40, 48, 3)}
    assert spec.names == ("observation.state", "observation.images.front", "observation.images.wrist")


def test_settings_rebuild_the_spec(vision: Schema) -> None:
    spec = actor_spec(PolicyConfig(kind="cnn", log_std_min=-4.0, pixel_features=9), vision)
    assert actor_spec_from_settings(PolicySpec("cnn", vision.action, spec.settings)) == spec


def test_settings_of_another_release_are_refused(schema: Schema) -> None:
    settings = actor_spec(PolicyConfig(), schema).settings | {"gru": 3}
    with pytest.raises(ConfigError, match=r"settings of a mlp policy: .*gru.*; bring both sides to one version"):
        actor_spec_from_settings(PolicySpec("mlp", schema.action, settings))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PolicyConfig(kind="rnn"), r"policy.kind = 'rnn', allowed mlp, cnn; choose one of these"),
        (PolicyConfig(hidden=()), r"policy.hidden = \[\], allowed one width or more, each at least 1"),
        (PolicyConfig(hidden=(8, 0)), r"policy.hidden = \[8, 0\], allowed one width or more, each at least 1"),
        (PolicyConfig(kind="cnn"), r"policy.kind = 'cnn', but the cell has no cameras; set policy.kind=mlp"),
    ],
)
def test_a_config_that_cannot_work_is_named(config: PolicyConfig, message: str, schema: Schema) -> None:
    with pytest.raises(ConfigError, match=message):
        actor_spec(config, schema)


def test_a_camera_too_small_for_the_encoder_is_named(schema: Schema) -> None:
    small = make_schema(
        {**schema.observation, "observation.images.eye": Image(name="e", height=64, width=30)}, schema.action
    )
    with pytest.raises(ConfigError, match=r"observation.images.eye is 64 x 30, allowed 31 pixels or more each way"):
        actor_spec(PolicyConfig(kind="cnn"), small)


def test_rows_without_a_state_vector_are_refused(schema: Schema) -> None:
    with pytest.raises(ConfigError, match=r"observations: nothing, allowed with observation.state"):
        actor_spec(PolicyConfig(), make_schema({}, schema.action))


def test_bounds_map_to_the_ends_of_the_unit_interval(schema: Schema) -> None:
    actions = ActionMap(schema.action)
    both = np.array([schema.action.low, schema.action.high], np.float32)
    np.testing.assert_allclose(actions.to_unit(both), [[-1] * 3, [1] * 3], atol=1e-6)
    np.testing.assert_array_equal(actions.to_units(np.array([[-1.0] * 3, [1.0] * 3], np.float32)), both)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(-1, 1, width=32))
def test_the_map_inverts_and_never_leaves_the_bounds(low: float, span: float, unit: float) -> None:
    spec = box("action", [("a", "m", low, low + span)])
    there = ActionMap(spec).to_units(np.array([unit], np.float32))
    spec.check(there)
    rounding = 4e-7 * max(abs(low), abs(low + span)) / span + 1e-6
    np.testing.assert_allclose(ActionMap(spec).to_unit(there), [unit], atol=4 * rounding)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, 1.0), (0.0, 0.0), (1.0, -1.0)])
def test_an_action_without_a_finite_span_is_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match=r"action has bounds .*, allowed finite ones, low < high"):
        ActionMap(box("action", [("a", "m", low, high)]))
