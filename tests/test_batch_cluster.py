"""Batches on a Dask scheduler: two workers on this computer, of which one dies."""

from __future__ import annotations

import csv
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_work import Told, whole, write_table

from registration.batch.cluster import Cluster
from registration.batch.folders import RunFolder
from registration.batch.run import plan, run_batch
from registration.batch.table import read_pairs
from registration.errors import InputError


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    distributed = pytest.importorskip("dask.distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def go(table: Path, run: Path, address: str, pause: float = 0.0) -> list[tuple[str, str]]:
    rows, folder, work = read_pairs(table), RunFolder(run), Told(pause=pause)
    with folder.opened():
        run_batch(folder, rows, plan(folder, rows, work.settings), work, Cluster(address))
    with (run / "batch.csv").open() as stream:
        return [(row["id"], row["status"]) for row in csv.DictReader(stream)]


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, workers: Any) -> None:
    table, run = write_table(tmp_path, [""] * 12), tmp_path / "run"

    def kill_one() -> None:
        while not list(run.glob("p*")):
            time.sleep(0.01)
        os.kill(workers.workers[0].pid, signal.SIGKILL)
        killed.append(True)

    killed: list[bool] = []
    killer = threading.Thread(target=kill_one)
    killer.start()
    told = go(table, run, workers.scheduler_address, pause=0.2)
    killer.join()
    names = [f"p{number}" for number in range(12)]
    assert killed and told == [(name, "done") for name in names]
    assert all(whole(run, name) for name in names)
    assert {entry.name for entry in run.iterdir()} == {*names, "batch.csv", "pairs.csv"}


def test_failures_and_a_pair_that_kills_its_worker(tmp_path: Path, workers: Any) -> None:
    table, run = write_table(tmp_path, ["refuse", "dies once", ""]), tmp_path / "run"
    assert go(table, run, workers.scheduler_address) == [("p0", "failed"), ("p1", "done"), ("p2", "done")]
    assert whole(run, "p1")


def test_no_scheduler_and_no_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask.distributed")
    table, run = write_table(tmp_path, [""]), tmp_path / "run"
    with pytest.raises(InputError, match=r"--scheduler tcp://127\.0\.0\.1:9: does not answer"):
        Cluster("tcp://127.0.0.1:9", seconds=0.5)._connect()
    with pytest.raises(InputError, match="does not answer"):
        Cluster("nonsense", seconds=0.5)._connect()
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(InputError, match=r"Dask is not installed; pip install '\.\[cluster\]' in the checkout"):
        go(table, run, "tcp://127.0.0.1:9")
