"""cloud.videos.picture: the cameras as they are, side by side; who acts is a colour; the caption says the rest."""

from dataclasses import replace

import numpy as np
import pytest

from cloud.videos.picture import BAR, GAP, GOOD, POLICY, TELEOP, Caption, Layout
from tests.cloud.videos.filmed import FRONT, GREEN, RED, WRIST
from user_rl.specs import Array, Image

CAPTION = Caption(
    title="episode 3  arm", step=2, steps=9, by_person=False, source="POLICY", version=7, reward_sum=0.5
)  # fmt: skip
IMAGES = {"front": np.full((32, 48, 3), RED, np.uint8), "wrist": np.full((32, 32, 3), GREEN, np.uint8)}


def drawn(caption: Caption = CAPTION) -> Array:
    return Layout({"front": FRONT, "wrist": WRIST}).draw(IMAGES, caption)


def test_small_cameras_are_enlarged_by_a_whole_factor_and_stand_side_by_side() -> None:
    picture = drawn()
    assert picture.shape[:2] == (Layout({"front": FRONT, "wrist": WRIST}).size[1], 48 * 8 + 32 * 8 + GAP)
    assert (picture[200, : 48 * 8] == RED).all()
    assert (picture[200, 48 * 8 + GAP : 48 * 8 + GAP + 32 * 8] == GREEN).all()


def test_each_pixel_of_a_camera_becomes_a_square_without_smoothing() -> None:
    front = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    picture = Layout({"front": FRONT}).draw({"front": front}, CAPTION)
    assert (picture[100:256, :384] == front.repeat(8, 0).repeat(8, 1)[100:]).all()


def test_large_cameras_of_different_heights_are_as_high_as_the_tallest() -> None:
    sizes = {"a": Image(name="a", height=480, width=640), "b": Image(name="b", height=240, width=321)}
    layout = Layout(sizes)
    picture = layout.draw({name: np.full(spec.shape, 99, np.uint8) for name, spec in sizes.items()}, CAPTION)
    assert layout.size == (picture.shape[1], picture.shape[0]) == (640 + GAP + 642, layout.size[1])
    assert (picture[470, 640 + GAP :] == 99).all()


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(33, 31, 3), (7, 5, 1), (481, 641, 3), (64, 64, 4), (9, 400, 3)]
)
def test_every_size_and_number_of_channels_gives_an_even_picture(height: int, width: int, channels: int) -> None:
    spec = Image(name="c", height=height, width=width, channels=channels)
    layout = Layout({"c": spec})
    picture = layout.draw({"c": np.full(spec.shape, 77, np.uint8)}, CAPTION)
    assert layout.size == (picture.shape[1], picture.shape[0])
    assert not any(side % 2 for side in layout.size)
    assert (picture[picture.shape[0] // 2, width // 2, :3] == 77).all()


@pytest.mark.parametrize(("by_person", "colour"), [(False, POLICY), (True, TELEOP)])
def test_the_bar_says_who_acts(by_person: bool, colour: tuple[int, int, int]) -> None:
    picture = drawn(replace(CAPTION, by_person=by_person))
    assert (picture[256 : 256 + BAR] == colour).all()


@pytest.mark.parametrize(
    "other",
    [
        {"title": "episode 4  arm"}, {"step": 3}, {"steps": 8}, {"source": "TELEOP"}, {"version": 8}, {"version": 0},
        {"reward_sum": 0.51}, {"outcome": "no success"},
    ],
)  # fmt: skip
def test_everything_in_the_caption_is_seen(other: dict[str, object]) -> None:
    assert (drawn()[:262] == drawn(replace(CAPTION, **other))[:262]).all()  # type: ignore[arg-type]
    assert (drawn() != drawn(replace(CAPTION, **other))).any()  # type: ignore[arg-type]


def test_success_is_green() -> None:
    def green(picture: Array) -> bool:
        return bool((picture == GOOD).all(-1).any())

    assert green(drawn(replace(CAPTION, outcome="SUCCESS", success=True)))
    assert not green(drawn(replace(CAPTION, outcome="no success")))
