"""``registration batch`` as a person meets it, with a pipeline that only shifts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest
from cli_files import AFFINE, volume

from registration.batch.attempt import Attempt, Report
from registration.batch.table import PairRow
from registration.cli import batch_progress
from registration.cli import main as command

FILES = {
    "warped.nii.gz",
    "transform.h5",
    "metrics.json",
    "overview.png",
    "config.yaml",
    "provenance.json",
    "status.json",
}


@pytest.fixture()
def table(tmp_path: Path) -> Path:
    """Two pairs, of which the second cannot be registered: its moving image is 2-D."""
    volume(tmp_path / "fixed.nii.gz")
    moved = AFFINE.copy()
    moved[0, 3] = 2.0
    volume(tmp_path / "moving.nii.gz", affine=moved)
    volume(tmp_path / "flat.nii.gz", shape=(12, 10), affine=np.diag([2.0, 3.0, 1.0, 1.0]))
    path = tmp_path / "pairs.csv"
    path.write_text("id,fixed,moving\ngood,fixed.nii.gz,moving.nii.gz\nbad,fixed.nii.gz,flat.nii.gz\n")
    return path


def rows(run: Path) -> dict[str, str]:
    with (run / "batch.csv").open() as stream:
        return {row["id"]: row["status"] for row in csv.DictReader(stream)}


def _here(task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
    for row in rows:
        yield row, task(row)


def test_a_batch_and_the_same_again(
    stub: Path, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = ["batch", str(table), "-o", str(run), "--jobs", "1", "--bids-derivatives", "pipeline.offset=2.0"]
    assert command.run(words) == 4
    seen = capfd.readouterr()
    assert "2 pairs: 1 done, 1 failed" in seen.out and str(run) in seen.out
    assert "1 of 2 pairs failed: bad: " in seen.err and "Traceback" not in seen.err
    assert rows(run) == {"good": "done", "bad": "failed"}
    assert {entry.name for entry in (run / "good").iterdir()} >= FILES
    assert not list(run.glob(".unfinished*"))
    told = json.loads((run / "provenance.json").read_text())
    assert told["arguments"] == words and told["pairs"] == {"done": 1, "failed": 1} and told["finished"]
    assert told["settings"]["pipeline"]["offset"] == 2.0 and len(told["inputs"]["pairs"]["sha256"]) == 64
    assert (run / "bids-derivatives" / "dataset_description.json").is_file()

    (tmp_path / "flat.nii.gz").write_bytes((tmp_path / "moving.nii.gz").read_bytes())
    before = (run / "good" / "status.json").stat().st_mtime_ns
    assert command.run([*words, "--dry-run"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "good: is there already", "bad: flat.nii.gz onto fixed.nii.gz", "1 of 2 pairs to do",
    ]  # fmt: skip
    monkeypatch.setattr("registration.cli.batch._workers", lambda jobs, scheduler: _here)  # without starting a process
    assert command.run([*words, "--quiet"]) == 0
    assert capfd.readouterr().out == ""
    assert rows(run) == {"good": "done", "bad": "done"} and (run / "good" / "status.json").stat().st_mtime_ns == before

    assert command.run([*words[:-1], "pipeline.offset=3.0"]) == 2
    refusal = capfd.readouterr().err
    assert "good (settings pipeline.offset=2.0, now pipeline.offset=3.0)" in refusal and "--overwrite" in refusal


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--transform", "rigit"], "did you mean rigid?"),
        (["pipeline.offse=1"], "did you mean pipeline.offset?"),
        (["--jobs", "2", "--scheduler", "tcp://h:1"], "exclude each other"),
        (["--initial", "nowhere.h5"], "nowhere.h5"),
        (["--points-space", "rsa"], "did you mean ras?"),
        (["--spacing", "0,1"], "positive numbers in mm"),
    ],
)
def test_refused_before_anything_starts(
    stub: Path, table: Path, tmp_path: Path, refused: Callable[..., str], words: list[str], told: str
) -> None:
    assert told in refused("batch", str(table), "-o", str(tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_a_number_that_no_pair_can_use_is_told_once(table: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused("batch", str(table), "-o", str(tmp_path / "run"), "loss.linear.bins=4")
    assert "loss.linear.bins: bins is a whole number from 8, got 4" in line
    assert not (tmp_path / "run").exists()


def test_missing_files_are_all_told(stub: Path, table: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    table.write_text("id,fixed,moving\na,x.nii,fixed.nii.gz\nb,y.nii,fixed.nii.gz\n")
    line = refused("batch", str(table), "-o", str(tmp_path / "run"))
    assert "x.nii (fixed of a)" in line and "y.nii (fixed of b)" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("seconds", "told"), [(40.4, "40 s"), (200, "3 min"), (9000, "2.5 h")])
def test_times_as_people_say_them(seconds: float, told: str) -> None:
    assert batch_progress.duration(seconds) == told


def test_the_time_left_counts_from_the_start_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 110.0, 140.0])
    monkeypatch.setattr(batch_progress.time, "monotonic", lambda: next(clock))
    pace = batch_progress._Pace(total=6, finished=3)  # three of an earlier run say nothing about the speed
    assert [pace.next() for _ in range(3)] == ["about 20 s left", "about 5 s left", ""]
