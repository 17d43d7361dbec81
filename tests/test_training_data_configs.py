"""The settings of data and preprocessing compose and build what they say."""

from __future__ import annotations

import json
from typing import Any

import hydra
import pytest
import torch
from omegaconf import DictConfig

from registration.cli.settings import build, choices, compose, config_dir
from registration.errors import InputError
from registration.image import Image
from registration.preprocessing import Pipeline
from registration.space import Space
from registration.training.data import First, Opposite, Pairing, Source, SubjectPairs
from registration.training.data.caches import Cache


def composed(group: str, option: str, *words: str) -> Any:
    """The settings of one option of a group, as if chosen in the settings of a verb."""
    with hydra.initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        settings: DictConfig = hydra.compose(config_name=f"{group}/{option}", overrides=list(words))
    return settings[group]


@pytest.mark.parametrize("option", choices("data"))
def test_data_builds(option: str) -> None:
    source = build(composed("data", option).source)
    assert isinstance(source, Source)
    if not option.startswith("synthetic") or option == "synthetic_labels":
        with pytest.raises(InputError, match=r"data\.(root|table): is not given"):
            source.datasets(Pipeline())


@pytest.mark.parametrize("option", choices("data/cache"))
def test_caches_build(option: str) -> None:
    source = build(composed("data", "folder", f"data/cache={option}").source)
    assert isinstance(source, SubjectPairs) and isinstance(source.cache, Cache)


@pytest.mark.parametrize("option", choices("data/split"))
def test_splits_build(option: str) -> None:
    assert isinstance(build(composed("data", "folder", f"data/split={option}").source), SubjectPairs)


@pytest.mark.parametrize("option", choices("data/pairing"))
def test_pairings_build(option: str) -> None:
    source = build(composed("data", "folder", f"data/pairing@data.train_pairs={option}").source)
    assert isinstance(source.train_pairs, Pairing) and type(source.train_pairs).__name__.lower() == option
    with pytest.raises(InputError):
        source.train_pairs(["a"])


def test_the_split_of_the_hippocampus() -> None:
    source = build(composed("data", "hippocampus", "data.root=/somewhere").source)
    assert source.split == First(180, 20) and source.validation_pairs == Opposite()
    assert source.files.root == "/somewhere" and source.files.labels == "labels/*"


def test_synthetic_pairs_need_no_files() -> None:
    settings = composed("data", "synthetic", "data.shape=[16,12]", "data.size=3", "data.validation=2")
    parts = build(settings.source).datasets(Pipeline())
    assert len(parts.train) == 3 and parts.train[2]["fixed"].shape == (1, 16, 12) and len(parts.validation) == 2


@pytest.mark.parametrize("option", choices("preprocessing"))
def test_preprocessing_builds_and_goes_through_json(option: str) -> None:
    pipeline = build(compose("preprocess", [f"preprocessing={option}"]).pipeline)
    assert isinstance(pipeline, Pipeline)
    again = Pipeline.from_config(json.loads(json.dumps(pipeline.config())))
    assert again.digest() == pipeline.digest()
    shape = (20, 18) if option == "plane" else (20, 18, 16)
    image = Image.of(torch.rand(shape), Space.regular(shape, 1.3))
    wanted = composed("preprocessing", option).get("shape")
    assert again(image).space.shape == (shape if wanted is None else tuple(wanted))


def test_a_step_is_changed() -> None:
    words = ["preprocessing.shape=[8,8,8]", "preprocessing.pipeline.steps.intensity.high=0.99"]
    steps = build(compose("preprocess", words).pipeline).config()
    assert list(steps) == ["orientation", "spacing", "shape", "intensity"]
    assert steps["shape"]["shape"] == [8, 8, 8] and steps["intensity"]["high"] == 0.99
    with pytest.raises(InputError, match=r"did you mean preprocessing\.shape"):
        compose("preprocess", ["preprocessing.shpe=[8,8,8]"])
    with pytest.raises(InputError, match="did you mean brain"):
        compose("preprocess", ["preprocessing=brian"])
    with pytest.raises(InputError, match="whole numbers of voxels"):
        build(compose("preprocess", ["preprocessing.shape=[8,0,8]"]).pipeline)
