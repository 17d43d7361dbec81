"""Batches: every pair once, whatever happens to the processes that do them."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from batch_work import Told, whole, write_table

from registration.batch.attempt import Attempt, Report
from registration.batch.folders import RunFolder
from registration.batch.record import Record, Settings
from registration.batch.run import DiskFull, Runner, plan, run_batch
from registration.batch.table import PairRow, read_pairs
from registration.batch.workers import Processes
from registration.errors import InputError


class Here:
    """Does the pairs one after another in this process."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def __call__(self, task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
        for row in rows:
            self.did.append(row.id)
            yield row, task(row)


def go(table: Path, run: Path, workers: Runner, work: Told | None = None, overwrite: bool = False) -> dict[str, Record]:
    work = work or Told()
    rows, folder = read_pairs(table), RunFolder(run)
    folder.check(rows)
    planned = plan(folder, rows, work.settings, overwrite)
    planned.refuse_outdated(folder)
    with folder.opened():
        return run_batch(folder, rows, planned, work, workers)


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "batch.csv").open() as stream:
        return list(csv.DictReader(stream))


def stands(run: Path, names: Sequence[str]) -> None:
    """Every pair stands once, its results are whole, and nothing else is left."""
    assert [(row["id"], row["status"]) for row in rows_of(run)] == [(name, "done") for name in names]
    assert all(whole(run, name) for name in names)
    assert {entry.name for entry in run.iterdir()} == {*names, "batch.csv", "pairs.csv"}
    for name in names:
        assert {entry.name for entry in (run / name).iterdir()} == {"result.txt", "status.json"}


def test_failures_stand_in_the_table_and_stop_nobody(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["", "refuse", "fault", "keep", ""])
    records = go(table, tmp_path / "run", Here())
    told = rows_of(tmp_path / "run")
    assert [row["status"] for row in told] == ["done", "failed", "failed", "kept-initial", "done"]
    assert told[1]["error"] == "image.nii: cannot be used" and told[2]["error"] == "KeyError: 'unforeseen'"
    assert all(float(row["seconds"]) >= 0 for row in told)
    assert [entry.name for entry in (tmp_path / "run" / "p1").iterdir()] == ["status.json"]
    assert Record.read(tmp_path / "run" / "p3") == records["p3"]


def test_again_does_what_is_missing_or_failed(tmp_path: Path) -> None:
    table, run = write_table(tmp_path, ["", "refuse", "keep"]), tmp_path / "run"
    go(table, run, Here())
    (tmp_path / "f1.nii").write_text("\n")
    (tmp_path / "f3.nii").write_text("\n")
    table.write_text(table.read_text() + "p3,f3.nii,moving.nii\n")
    second, third = Here(), Here()
    go(table, run, second)
    go(table, run, third)
    assert second.did == ["p1", "p3"] and third.did == []
    assert [row["status"] for row in rows_of(run)] == ["done", "done", "kept-initial", "done"]


def test_other_inputs_and_settings_are_not_mixed(tmp_path: Path) -> None:
    table, run = write_table(tmp_path, ["", ""]), tmp_path / "run"
    go(table, run, Here())
    os.utime(tmp_path / "f0.nii")  # the same bytes at another time are the same
    go(table, run, again := Here())
    assert again.did == []
    (tmp_path / "f1.nii").write_text("keep")
    with pytest.raises(InputError, match=r"p1 \(fixed f1.nii has changed\); give --overwrite"):
        go(table, run, Here())
    go(table, run, only := Here(), overwrite=True)
    assert only.did == ["p1"] and rows_of(run)[1]["status"] == "kept-initial"
    other = Told(Settings(("transform=tps",), "b"))
    with pytest.raises(InputError, match=r"settings transform=affine, now transform=tps\), p1"):
        go(table, run, Here(), other)
    go(table, run, both := Here(), other, overwrite=True)
    assert both.did == ["p0", "p1"]


def test_what_is_compared() -> None:
    first = Settings(("a=1", "b=2"), "x", "1.0")
    assert first.difference(replace(first, words=())) is None
    assert first.difference(Settings(("a=1",), "y", "1.0")) == "settings b=2, now the defaults"
    assert first.difference(Settings(first.words, "y", "1.0")) == "other defaults"
    assert first.difference(replace(first, version="1.1")) == "version 1.0, now 1.1"


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    table, run = write_table(tmp_path, [""]), tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"holds thesis\.txt, which no batch wrote"):
        go(table, run, Here())
    (run / "thesis.txt").rename(run / "pairs.csv")
    (run / "p0").mkdir()
    with pytest.raises(InputError, match=r"without a status.json"):
        go(table, run, Here())
    with pytest.raises(InputError, match="no folder"):
        go(table, table, Here())


def test_one_run_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with (
        folder.opened(),
        pytest.raises(InputError, match="another batch is writing"),
        RunFolder(tmp_path / "run").opened(),
    ):
        pass


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    table, run = write_table(tmp_path, ["", "full", ""]), tmp_path / "run"
    with pytest.raises(DiskFull, match="the disk is full, 1 of 3 pairs are finished; make room"):
        go(table, run, Here())
    assert [row["id"] for row in rows_of(run)] == ["p0"] and not (run / ".unfinished").exists()
    (tmp_path / "f1.nii").write_text("\n")
    go(table, run, Here())
    stands(run, ["p0", "p1", "p2"])


def test_a_process_that_dies_takes_only_its_pair(tmp_path: Path) -> None:
    table, run = write_table(tmp_path, ["", "crash", "killed", "", ""]), tmp_path / "run"
    go(table, run, Processes(2))
    told = rows_of(run)
    assert [row["status"] for row in told] == ["done", "failed", "failed", "done", "done"]
    assert told[1]["error"] == "its process died of SIGSEGV" and "memory ran out" in told[2]["error"]
    assert whole(run, "p4")


def test_an_interruption_leaves_whole_pairs(tmp_path: Path) -> None:
    table, run = write_table(tmp_path, [""] * 4), tmp_path / "run"

    @dataclass
    class Interrupted(Here):
        def __call__(self, task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
            yield rows[0], task(rows[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(table, run, Interrupted())
    stands(run, ["p0"])
    go(table, run, Here())
    stands(run, ["p0", "p1", "p2", "p3"])


def test_killed_at_any_moment_and_run_again(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(40)]
    table, run = write_table(tmp_path, [""] * 40), tmp_path / "run"
    command = [sys.executable, str(Path(__file__).with_name("batch_process.py")), str(table), str(run), "2"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    }
    chance = random.Random(1)
    killed, seen = 0, []
    for _ in range(10):
        left = set(run.glob(".unfinished/*"))
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while not set(run.glob(".unfinished/*")) - left:  # until the workers are at it
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        there = [name for name in names if (run / name).exists()]
        assert all(whole(run, name) for name in there)
        seen.append(len(there))
    subprocess.run(command, env=environment, check=True)
    assert killed == 10 and len(set(seen)) > 3, seen
    stands(run, names)
