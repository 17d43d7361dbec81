"""Every configuration that ships composes and builds; settings that do not exist are refused by name."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from registration.cli.settings import build, choices, compose, config_dir, nearest
from registration.errors import InputError
from registration.training.guards import optimiser_for

CONFIGS = config_dir()
ENTRIES = sorted(file.stem for file in CONFIGS.glob("*.yaml") if file.stem != "train")
# Groups of `register`; those of training are tested beside what they build.
TRAINING = {
    "data", "preprocessing", "start", "localisation", "family", "similarity", "penalty", "optimiser", "scheduler",
    "trainer", "experiment", "augmentation",
}  # fmt: skip
OPTIONS = sorted(
    (group.name, option)
    for group in CONFIGS.iterdir()
    if group.is_dir() and group.name not in TRAINING
    for option in choices(group.name)
)


def test_the_verbs_have_settings() -> None:
    assert "register" in ENTRIES
    assert {"rigid", "similarity", "affine", "tps"} <= set(choices("transform"))


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_builds(name: str) -> None:
    assert callable(build(compose(name).pipeline))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda word: str(word))
def test_option_builds(group: str, option: str) -> None:
    assert callable(build(compose("register", [f"{group}={option}"]).pipeline))


@pytest.fixture()
def small(tmp_path: Path) -> Path:
    """A little folder of configurations, so that these tests do not hang on the real ones."""
    (tmp_path / "transform").mkdir()
    (tmp_path / "transform" / "rigid.yaml").write_text("kind: rigid\nsteps: 10\nlevels: [4, 2]\nfast: true\n")
    (tmp_path / "transform" / "affine.yaml").write_text("kind: affine\nsteps: 20\nlevels: [4]\nfast: true\nextra: 1\n")
    (tmp_path / "entry.yaml").write_text(
        "defaults: [{transform: rigid}, _self_]\nseed: 0\nrate: 0.1\nword: cpu\nnothing: null\n"
    )
    return tmp_path


def test_overrides_reach_their_place(small: Path) -> None:
    words = ["transform=affine", "transform.steps=7", "rate=1", "transform.extra=2", "nothing=5", "+new=1", "seed=3"]
    settings = compose("entry", words, small)
    assert settings.transform.kind == "affine" and settings.transform.steps == 7 and settings.transform.extra == 2
    assert settings.rate == 1 and settings.nothing == 5 and settings.new == 1 and settings.seed == 3


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("transform=afine", "transform=afine: there is no such choice; did you mean affine"),
        ("transform=zzz", "affine, rigid"),
        ("sed=1", "did you mean seed"),
        ("transform.step=1", "did you mean transform.steps"),
        ("steps=1", "did you mean transform.steps"),
        ("transform.extra=1", "no such setting"),
        ("transform.steps=many", "a number was expected"),
        ("transform.steps=true", "a number was expected"),
        ("transform.levels=3", "a list was expected"),
        ("transform.fast=2", "true or false was expected"),
        ("transform.fast=null", "true or false was expected"),
        ("stray", "key=value"),
        ("=3", "key=value"),
        ("seed=[1", "key=value"),
        ("seed=null", "seed=null: a number was expected, such as 0"),
        ("word=3", "a word was expected, such as cpu"),
        ("transform.levels=null", "a list was expected, such as [4, 2]"),
        ("transform=null", "transform=null: there is no such choice"),
        ("transform=[rigid,affine]", "there is no such choice"),
        ("~seed", "not taken away"),
        ("seed=${nowhere}", "nowhere"),
        ("other.steps=1", "did you mean transform.steps"),
    ],
)
def test_wrong_settings_are_one_line(small: Path, word: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("entry", [word], small)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_term_is_left_out_by_its_weight() -> None:
    with pytest.raises(InputError, match=r"group of settings was expected; penalty\.engine\.weight=0 leaves it out"):
        compose("train", ["experiment=hippocampus", "penalty.engine=null"])
    objective = build(compose("train", ["experiment=hippocampus", "penalty.engine.weight=0"]).objective)
    assert "engine" not in objective.terms


def test_nearest() -> None:
    assert "affine" in nearest("afine", ["affine", "rigid"])
    assert "known are a, b" in nearest("zzzz", ["a", "b"])
    assert "config.yaml" in nearest("zzzz", [f"key{i}" for i in range(20)])


def test_a_refused_value_names_the_cause(small: Path) -> None:
    with pytest.raises(InputError, match="2 or 3 spatial axes") as caught:
        build(OmegaConf.create({"_target_": "registration.space.Space.regular", "shape": [4]}))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="nowhere"):
        build(OmegaConf.create({"_target_": "registration.nowhere.Thing"}))


@pytest.mark.parametrize(
    ("word", "part", "expected"),
    [
        ("data.split.seed=x", "data.source", "data.split.seed=x: a number was expected"),
        ("data.cache.workers=0", "data.source", "data.cache.workers: workers is a whole number from 1, got 0"),
        ("penalty.smooth.weight=null", "objective", "penalty.smooth.weight: weight is a number of 0"),
        ("similarity.similarity.radius=-1", "objective", "similarity.similarity.radius: radius is a whole number"),
        (
            "preprocessing.spacing=[0,1,1]",
            "preprocessing.pipeline",
            "preprocessing.spacing: spacing is a positive length",
        ),
        ("scheduler.fall=2", "scheduler", "scheduler: warmup and fall"),
    ],
)
def test_the_setting_that_is_refused_is_named(word: str, part: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        build(OmegaConf.select(compose("train", [word]), part))
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)


def numbers(node: Any, key: str = "", part: str = "") -> Iterator[tuple[str, str]]:
    """The keys of the numbers of settings, each with that of the part that is made with it."""
    if isinstance(node, DictConfig) and node.get("_target_"):
        part = key
    names = range(len(node)) if isinstance(node, ListConfig) else node
    for name in names:
        inner = node._get_node(name)
        if isinstance(inner, (DictConfig, ListConfig)) and not (inner._is_interpolation() or inner._is_none()):
            yield from numbers(inner, f"{key}.{name}".removeprefix("."), part)
        elif type(inner._value()) in (int, float):
            yield f"{key}.{name}".removeprefix("."), part


@pytest.mark.parametrize("words", [["register"], ["train", "experiment=hippocampus", "augmentation=moved"]])
def test_no_part_is_made_with_what_is_no_number(words: list[str]) -> None:
    settings = compose(words[0], words[1:])
    # Networks are made when the data are known, and subjects parted when there are some.
    found = [(key, part) for key, part in numbers(settings) if part and not part.startswith(("local", "data.split"))]
    assert len(found) > 30
    for key, part in found:
        owner, inside = copy.deepcopy(OmegaConf.select(settings, part)), key.removeprefix(f"{part}.")
        OmegaConf.update(owner, inside, math.nan)
        with pytest.raises(InputError, match=rf"\b{inside.partition('.')[0]}\b"):
            optimiser_for(build(owner), [torch.nn.Parameter(torch.zeros(1))])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["transform=affine", "preset.linear.second=[-1]"], "preset.linear.second: shrinks are numbers above 0"),
        (["loss=mi", "loss.linear.bins=-1"], "loss.linear.bins: bins is a whole number from 8, got -1"),
        (["loss=mi_mind", "loss.linear.parts.1.weight=-1"], "loss.linear.parts.1.weight: weight is a number above 0"),
    ],
)
def test_what_is_refused_within_lists_is_named(words: list[str], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        build(compose("register", words).pipeline)
    assert str(caught.value).startswith(expected)


def test_a_part_that_names_what_it_refuses_is_heard() -> None:
    with pytest.raises(InputError) as caught:
        build(compose("train", ["data=synthetic", "data.size=0"]).data.source)
    assert str(caught.value) == "data.size: a whole number from 1 was expected, got 0"
