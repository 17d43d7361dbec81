"""Advice below a verdict: what mends it, as far as it was not what was run."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from registration.cli.advice import Ran, advised
from registration.cli.run import Outcome
from registration.cli.settings import choices, compose
from registration.evaluation.verdict import Check, Verdict, judge
from registration.image import Image
from registration.transforms.linear import Linear

STAGES = {
    "rigid": ("rigid",),
    "similarity": ("rigid", "similarity"),
    "affine": ("rigid", "affine"),
    "tps": ("rigid", "affine", "tps"),
    "diffeomorphic": ("rigid", "affine", "tps", "diffeomorphic"),
    "near": ("near",),
    "network": ("network", "diffeomorphic"),
}
SEEN = "a look at overview.png, whether both show the same"
NEAR = "--transform near --initial centre if they show little of the same"


def ran(last: str = "diffeomorphic", start: str = "auto", similarity: str = "WideLocalCorrelation") -> Ran:
    return Ran(STAGES[last], start, similarity, 0.03)


def doubtful(*names: str) -> Verdict:
    return Verdict(tuple(Check(name, "doubtful", name, 0, "") for name in names), "")


@pytest.mark.parametrize(
    ("names", "run", "expected"),
    [
        (["shear"], ran(start="header"), ["--initial search if one is turned", "--transform rigid"]),
        (["common_view", "match"], ran("affine", "header"), ["--initial mass", SEEN, "registration check"]),
        (["sampled_outside"], ran(), ["--initial header", "registration check", "--fixed-mask"]),
        (["volume", "bend"], ran(), ["--loss mind", NEAR, "--transform affine"]),
        (["shear", "volume", "bend"], ran(), ["--loss mind", "--transform rigid", NEAR]),
        (["volume"], ran(similarity="SelfSimilarityContext"), [NEAR, "--transform affine"]),
        (["match"], ran("affine"), [SEEN, NEAR, "--initial search"]),
        (["match"], ran("rigid"), [SEEN, "--transform affine if the sizes differ", NEAR]),
        (["match"], ran("near", "centre"), [SEEN, "--initial search"]),
        (["similarity"], ran("affine", "auto", "MeanSquaredError"), ["--loss mi if the contrasts differ", NEAR]),
        (["folding", "inverse"], ran("tps"), ["--transform diffeomorphic", "preset.tps.bending=0.3 to bend less"]),
        (["scale"], ran("affine"), ["registration check", "--transform rigid"]),
        (["volume", "match"], ran("network"), ["the usual stages, without --checkpoint"]),
        (["displacement"], ran(), []),
    ],
)
def test_the_likeliest_comes_first(names: list[str], run: Ran, expected: list[str]) -> None:
    told = advised(doubtful(*names), run)
    assert len(told["advice"]) <= 3 and len(told["advice"]) >= len(expected)
    for words, start in zip(told["advice"], expected, strict=False):
        assert words.startswith(start), told["advice"]
    assert all(told["checks"][name]["advice"] for name in names if expected)


def test_what_was_run_is_not_advised_and_all_that_is_exists() -> None:
    image = Image.of(torch.rand((9, 9, 9), generator=torch.Generator().manual_seed(0)))
    checks = judge(image, image, Linear.identity(3), Linear.identity(3)).checks
    groups = {group: choices(group) for group in ("transform", "initial", "loss")}
    starts = [*groups["initial"], "file"]
    losses = ("WideLocalCorrelation", "MutualInformation", "SelfSimilarityContext", "MeanSquaredError")
    for last, start, loss in itertools.product(STAGES, starts, losses):
        told = advised(doubtful(*(check.name for check in checks)), ran(last, start, loss))["checks"]
        assert all(told[name]["advice"] for name in told if name != "displacement")
        words = " ".join(text for check in told.values() for text in check["advice"])
        for group, word in re.findall(r"--(transform|initial|loss) (\w+)", words):
            assert word in groups[group] and word not in (last, start)
        assert "--loss mind" not in words or loss != "SelfSimilarityContext"
    assert "file" not in groups["initial"]


def test_what_was_run_is_read_from_settings() -> None:
    settings = compose("register", ["transform=tps", "loss=ncc", "initial=mass"])
    run = Ran.of(STAGES["tps"], settings, from_file=False, masked=True)
    assert run == Ran(STAGES["tps"], "mass", "NormalisedCrossCorrelation", 0.03, masked=True)
    assert Ran.of(STAGES["affine"], settings, from_file=True, masked=False).start == "file"


def test_a_file_to_start_from_and_masks_stay() -> None:
    told = advised(doubtful("sampled_outside", "match"), Ran(STAGES["affine"], "file", masked=True))
    assert "--fixed-mask" not in str(told) and "--transform near if they show" in str(told["checks"]["match"])
    assert told["advice"][0].startswith("--initial mass")


def test_it_stands_below_the_verdict_unless_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    for verdict, lines in ((doubtful("volume", "bend"), 2), (Verdict((Check("bend", "passed", "", 0, ""),), ""), 1)):
        figures = {"verdict": advised(verdict, ran())}
        outcome = Outcome(Linear.identity(3), figures, {}, verdict)
        assert outcome.report(quiet=True) == 0 and not capsys.readouterr().out
        assert outcome.report(quiet=False) == 0
        told = capsys.readouterr().out.splitlines()
        assert len(told) == lines and told[0].startswith(f"verdict    {verdict.status}: ")
        assert lines == 1 or told[1] == "try        " + "; ".join(figures["verdict"]["advice"])
