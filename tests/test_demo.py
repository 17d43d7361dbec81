"""The demo from the outside, on smaller grids than it has for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registration.cli import demo
from registration.cli import main as command
from registration.phantom import PhantomPair, oblique_space, phantom_pair


@pytest.fixture()
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def pair(seed: int) -> PhantomPair:
        fixed = oblique_space((42, 48, 36), (4.0, 4.0, 5.0), 9)
        return phantom_pair(fixed, oblique_space((48, 40, 38), (3.9, 4.8, 4.6), -14, flips=(0, 2)), seed)

    monkeypatch.setattr(demo, "make_pair", pair)


def test_demo_leaves_pair_and_results(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert command.run(["demo", str(folder), "--transform", "affine"]) == 0
    assert {entry.name for entry in folder.iterdir()} == {*demo.FILES, "result"}
    figures = json.loads((folder / "result" / "metrics.json").read_text())
    assert figures["dice"]["after"]["mean"] > figures["dice"]["before"]["mean"] + 0.15
    assert figures["tre_mm"]["after"]["mean"] < 0.8 * figures["tre_mm"]["before"]["mean"]
    assert figures["inputs"]["fixed"] == str(folder / "fixed.nii.gz")
    told = capsys.readouterr().out
    assert "white matter" in told and "mean TRE" in told and "overview.png" in told
    assert command.run(["demo", str(folder), "--transform", "affine", "-q"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert command.run(["demo", str(folder), "--transform", "rigid", "-q", "--overwrite", "--seed", "1"]) == 0
    assert json.loads((folder / "result" / "metrics.json").read_text())["seed"] == 1


@pytest.mark.slow
def test_demo_nearly_reaches_the_truth(tmp_path: Path) -> None:
    assert command.run(["demo", str(tmp_path / "demo"), "-q"]) == 0
    figures = json.loads((tmp_path / "demo" / "result" / "metrics.json").read_text())
    assert figures["dice"]["after"]["mean"] > 0.88 and figures["tre_mm"]["after"]["mean"] < 2
    assert figures["folding_percent"] < 0.05
