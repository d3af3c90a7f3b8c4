"""cloud.videos.encoder: what is written can be read again, and what was not finished never was."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cloud.videos import encoder
from cloud.videos.encoder import ENCODERS, Encoder, choose_encoder
from tests.cloud.videos.filmed import decoded
from user_rl.errors import ConfigError

COLOURS = [(200, 40, 40), (30, 160, 60), (40, 60, 200), (128, 128, 128), (250, 250, 250)]


@pytest.mark.parametrize("name", ENCODERS)
def test_frames_size_rate_and_colours_come_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "ENCODERS", {name: ENCODERS[name]})
    path = tmp_path / "deep" / "a.mp4"
    with Encoder(path, size=(96, 64), rate_hz=12.5, title="arm/a/1") as video:
        for colour in COLOURS:
            video.add(np.full((64, 96, 3), colour, np.uint8))
    pictures, rate_hz = decoded(path)
    assert [p.shape for p in pictures] == [(64, 96, 3)] * len(COLOURS)
    assert rate_hz == 12.5
    for picture, colour in zip(pictures, COLOURS, strict=True):
        assert np.abs(picture.mean((0, 1)) - colour).max() < 8
    assert list(path.parent.iterdir()) == [path]


def test_a_video_that_breaks_off_leaves_nothing_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def break_off() -> None:
        with Encoder(path, size=(64, 64), rate_hz=10) as video:
            for _ in range(30):
                video.add(np.zeros((64, 64, 3), np.uint8))
            assert len(list(tmp_path.iterdir())) == 2
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        break_off()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_encoder_under_the_gpl_is_ever_asked_for() -> None:
    assert not [name for name in ENCODERS if "264" in name or "265" in name]
    assert choose_encoder()[0] == "libvpx-vp9"


def test_a_pyav_without_our_encoders_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "ENCODERS", {"no-such-codec": {}})
    with pytest.raises(ConfigError, match=r"^videos: this PyAV has none of no-such-codec; take the one of pip install"):
        choose_encoder()


@pytest.mark.parametrize("module", ["av", "PIL"])
def test_without_the_extra_it_is_named_in_one_line(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ConfigError, match=rf"^videos need {module}, which is not installed; pip install 'user-rl\[video\]'$"
    ):
        Encoder(tmp_path / "a.mp4", size=(64, 64), rate_hz=10)
