"""``batch --checkpoint``: a trained network on every pair of a table."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_files import AFFINE, volume
from tiny_network import tiny_checkpoint

from registration.cli import main as command


@pytest.fixture()
def table(tmp_path: Path) -> Path:
    moved = AFFINE.copy()
    moved[0, 3] = 2.0
    volume(tmp_path / "f.nii.gz")
    volume(tmp_path / "m.nii.gz", affine=moved)
    path = tmp_path / "pairs.csv"
    path.write_text("id,fixed,moving\na,f.nii.gz,m.nii.gz\nb,m.nii.gz,f.nii.gz\n")
    return path


def test_a_network_registers_every_pair(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model, run = tiny_checkpoint(tmp_path), tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    words = ["batch", str(table), "-o", str(run), "-j", "1", "--checkpoint", model.name]
    assert command.run([*words, "-q"]) in (0, 3)  # a network of random weights may make it worse
    with (run / "batch.csv").open() as stream:
        assert [row["status"] != "failed" for row in csv.DictReader(stream)] == [True, True]
    stages = json.loads((run / "a" / "metrics.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["network"]
    told = json.loads((run / "provenance.json").read_text())
    assert told["inputs"]["checkpoint"]["path"] == os.path.abspath(model)
    capfd.readouterr()
    assert command.run([*words, "--dry-run"]) == 0
    assert "0 of 2 pairs to do" in capfd.readouterr().out
    tiny_checkpoint(tmp_path, seed=2)  # another network under the same name
    assert command.run(words) == 2
    assert "holds results of other inputs or settings: a (settings checkpoint.sha256=" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--refine", "3"], "--refine: needs --checkpoint"),
        (["--checkpoint", "nowhere.pt"], "nowhere.pt: there is no such file"),
        (["--checkpoint", "pairs.csv"], "give a .pt file that registration train has written"),
        (["--checkpoint", "pairs.csv", "--transform", "affine"], "cannot be had from --checkpoint"),
    ],
)
def test_refused_before_anything_starts(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused("batch", str(table), "-o", str(tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()
