"""Presets: the settings files and the library say the same, and every transform goes with every preset."""

from __future__ import annotations

import typing

import pytest
import torch

from registration.cli.settings import build, choices, compose
from registration.pairwise import Pipeline, presets

PRESETS: dict[str, typing.Callable[[], presets.Preset]] = {
    "fast": presets.fast,
    "default": presets.default,
    "accurate": presets.accurate,
}


def told(value: object) -> object:
    """Everything an object was made of, as plain values."""
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    if isinstance(value, torch.nn.Module):
        return type(value).__name__, repr(value), told([v for v in vars(value).values() if isinstance(v, (int, float))])
    if hasattr(value, "__dict__"):
        return type(value).__name__, {name: told(item) for name, item in vars(value).items()}
    return float(value) if isinstance(value, int) else value


def test_these_are_all() -> None:
    assert set(choices("preset")) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine", "tps", "diffeomorphic"])
def test_files_and_library_agree(preset: str, transform: str) -> None:
    pipeline = build(compose("register", [f"preset={preset}", f"transform={transform}"]).pipeline)
    assert told(pipeline.stages) == told(getattr(PRESETS[preset](), transform)())


def test_the_default_is_one_command() -> None:
    from registration.pairwise.api import default_stages

    pipeline = build(compose("register").pipeline)
    assert isinstance(pipeline, Pipeline)
    assert [stage.name for stage in pipeline.stages] == ["rigid", "affine", "tps", "diffeomorphic"]
    assert told(pipeline.stages) == told(default_stages())


def test_a_stage_may_be_left_out() -> None:
    words = ["preset=fast", "transform=diffeomorphic"]
    assert [stage.name for stage in build(compose("register", words).pipeline).stages][-2:] == [
        "affine",
        "diffeomorphic",
    ]


def test_numbers_of_a_preset_can_be_changed() -> None:
    pipeline = build(compose("register", ["preset.diffeomorphic.levels.1.iterations=7"]).pipeline)
    assert pipeline.stages[-1].levels[1].iterations == 7
