"""The command of training in processes of its own: killed at any moment, and two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from training_phantoms import disc, rows

from registration.cli.main import run as main_run
from registration.cli.progress import Watcher
from registration.cli.sweep import _try
from registration.errors import InputError
from registration.image import Image
from registration.io.images import write_image
from registration.space import Space
from registration.training.checkpoints import Shelf, read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "data=folder", "data.images=images/*", "data.labels=null", "data.split.validation=0.3", "preprocessing=none",
    "start=grids", "similarity=mse", "localisation.model.localiser.network.widths=[8,8]",
    "localisation.model.localiser.network.final=[8]",
    "trainer.max_minutes=null", "trainer.validate_every=20", "trainer.save_every=5", "scheduler=cosine",
]  # fmt: skip


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Eight discs as 2-D NIfTI files."""
    (tmp_path / "images").mkdir()
    for seed in range(8):
        write_image(tmp_path / "images" / f"disc{seed}.nii.gz", Image(disc(seed)[None], Space.regular((24, 24), 2.0)))
    return tmp_path


def command(
    folder: Path, run: str, *words: str, launcher: tuple[str, ...] = (), base: list[str] | None = None
) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = folder / "registration"  # as the installed command is
    script.write_text("from registration.cli.main import main\n\nif __name__ == '__main__':\n    main()\n")
    base = [*SMALL, f"data.root={folder}"] if base is None else base
    line = [sys.executable, *launcher, str(script), "train", *base, *words]
    return subprocess.Popen(
        [*line, "-o", str(folder / run)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    )


def done(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_workers_load_what_is_made_by_kernels(folder: Path) -> None:
    """Synthetic pairs are warped where they are made: in processes that are forked from one with threads."""
    base = ["experiment=synthetic", "localisation=cnn", "family=affine", "data.shape=[16,16]", "data.size=4"]
    words = ["data.validation=2", "trainer.workers=1", "trainer.max_steps=3", "trainer.max_minutes=null"]
    out = done(command(folder, "workers", *words, base=base))
    assert "3 steps" in out


def test_several_devices_in_a_sweep_need_a_launcher_that_starts_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for launcher in ("basic", "joblib", "submitit_local"):
        for word in ("trainer.devices=-1", "trainer.nodes=2"):
            with pytest.raises(InputError, match=r"one device per run, or hydra/launcher=submitit_slurm"):
                _try([word], launcher)
        _try(["trainer.devices=1"], launcher)
    _try(["trainer.devices=4"], "submitit_slurm")
    monkeypatch.setenv("WORLD_SIZE", "4")
    _try(["trainer.devices=4"], "basic")


def test_a_quiet_sweep_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def trained(settings: DictConfig, folder: Path, watcher: Watcher) -> None:
        watcher.note(f"seed {settings.seed}")
        (folder / "metrics.json").write_text('{"best": {"dice": 0.5}}')

    monkeypatch.setattr("registration.cli.training.run_training", trained)
    monkeypatch.setattr("registration.cli.sweep._check", lambda words: None)  # composes once more for every value
    assert main_run(["train", "-m", "-q", "experiment=synthetic", "seed=1", "-o", str(tmp_path / "sweep")]) == 0
    assert (tmp_path / "sweep" / "0" / "metrics.json").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_killed_and_given_again_it_is_the_run_that_was_never_stopped(folder: Path) -> None:
    words = ("trainer.max_steps=60", "train.resume=auto")
    done(command(folder, "whole", *words))
    kills = int(os.environ.get("REGISTRATION_KILLS", "2"))
    for number in range(kills):
        process = command(folder, "parts", *words)
        start, seen = time.monotonic(), len(Shelf(folder / "parts").all())
        while process.poll() is None and time.monotonic() - start < 120:
            there = Shelf(folder / "parts").all()
            if there and (there[-1].name != seen or number == 0):
                break
            time.sleep(0.02)
        time.sleep(0.03 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done(command(folder, "parts", *words))
    assert [r[:-1] for r in rows(folder / "parts" / "train.csv")] == [
        r[:-1] for r in rows(folder / "whole" / "train.csv")
    ]
    one, other = (read_checkpoint(Shelf(folder / run).all()[-1]) for run in ("whole", "parts"))
    assert all(torch.equal(one["model"][k], other["model"][k]) for k in one["model"])
    assert not list((folder / "parts").rglob(".partial*"))


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(folder: Path) -> None:
    words = ("trainer.max_steps=6", "optimiser=sgd", "trainer.average=0")
    done(command(folder, "one", *words, "trainer.batch_size=2"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done(
        command(
            folder,
            "two",
            *words,
            "trainer.batch_size=1",
            "trainer.strategy=ddp",
            "trainer.devices=2",
            launcher=launcher,
        )
    )
    one, two = (read_checkpoint(Shelf(folder / run).all()[-1]) for run in ("one", "two"))
    assert one["step"] == two["step"] == 6
    assert all(torch.allclose(one["model"][k], two["model"][k], atol=1e-5) for k in one["model"])
    assert not all(torch.equal(one["model"][k], torch.zeros_like(one["model"][k])) for k in one["model"])


def test_a_sweep_is_a_run_for_every_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trainer.max_steps=2", "trainer.validate_every=2", "optimiser.lr=1e-3,1e-4", f"data.root={folder}"]
    assert main_run(["train", "-m", "-o", str(folder / "sweep"), *SMALL, *words]) == 0
    rates = []
    for number in ("0", "1"):
        run = folder / "sweep" / number
        assert (run / "best.pt").exists() and (run / "curves.png").exists() and len(rows(run / "train.csv")) == 3
        rates.append(read_checkpoint(run / "best.pt")["config"]["optimiser"]["lr"])
    assert rates == [1e-3, 1e-4]
    for word, told in (
        ("optimiser.rl=1,2", "did you mean optimiser.lr"),
        ("optimiser=adam,adan", "did you mean adam"),
        ("hydra/launcher=nowhere", "pip install hydra-nowhere-launcher"),
        ("trainer.average=0.5,1.5", "trainer.average is a decay"),
        ("trainer.devices=1,2", "trainer.devices=2 trainer.nodes=1: a run of a sweep is one process"),
        ("data.root=nowhere", "0: nowhere/images: there is no such folder"),  # told by the run itself, with its folder
    ):
        capsys.readouterr()
        steps = "trainer.max_steps=2"
        assert main_run(["train", "-m", "-o", str(folder / "other"), *SMALL, steps, word]) == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1
