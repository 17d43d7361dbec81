"""One training from settings to a folder of results."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from ..evaluation.curves import write_curves
from ..io.files import atomic_path
from ..preprocessing import Pipeline
from ..registrar import Aligner
from ..space import Space
from ..training.blueprint import build as from_blueprint
from ..training.blueprint import completed
from ..training.checkpoints import Shelf, read_checkpoint, resumable
from ..training.data import Source
from ..training.trainer import Outcome, Task, Trainer
from .progress import Watcher
from .settings import build


def run_training(settings: DictConfig, folder: Path, watcher: Watcher) -> dict[str, str]:
    """Train, and leave everything in ``folder``; the figures of the best network as text.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    resume = _resumed(settings, folder)
    trainer: Trainer = build(settings.trainer)
    task = task_of(settings, watcher)
    if resume is not None:
        resumable(resume, task.plan, task.config)  # before anything of the run is touched
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(folder, f"cannot be the folder of a run ({why})", "choose another --output") from None
    Shelf(folder).clear_partial()
    _write(folder / "config.yaml", OmegaConf.to_yaml(settings))
    optimiser, schedule = build(settings.optimiser), build(settings.scheduler)
    try:
        outcome = trainer.fit(task, folder, optimiser, schedule, resume, watcher)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise InputError(
            f"trainer.batch_size={trainer.batch_size}", "needs more memory than there is",
            "lower it (and raise trainer.accumulate), preprocessing.shape, or the widths of the network",
        ) from error  # fmt: skip
    finally:
        _curves(folder)  # also of a run that was interrupted
    watcher.close()
    _write(folder / "metrics.json", json.dumps(asdict(outcome), indent=2) + "\n")
    _draw(task, folder)
    return _told(outcome)


def task_of(settings: DictConfig, watcher: Watcher) -> Task:
    """Data, network and objective as the settings say."""
    pipeline: Pipeline = build(settings.preprocessing.pipeline)
    source: Source = build(settings.data.source)
    parts = source.datasets(pipeline)
    for text in (*source.notes(), *(f"left out: {line}" for line in parts.left_out)):
        watcher.note(text)
    first = parts.train[0]
    space, channels = Space(tuple(first["fixed"].shape[1:]), first["fixed_affine"]), int(first["fixed"].shape[0])
    labels = sorted(
        {int(v) for name in ("fixed_labels", "moving_labels") if name in first for v in first[name].unique()} - {0}
    )
    plain: Any = OmegaConf.to_container(settings, resolve=True)
    plan = {
        "model": completed(plain["localisation"]["model"], space, channels, labels), "start": plain["start"],
        "preprocessing": pipeline.config(), "ndim": space.ndim, "channels": channels,
    }  # fmt: skip
    seed = settings.seed
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError("seed", f"a whole number from 0 to 2**63 - 1 was expected, got {seed!r}")
    torch.manual_seed(seed)
    aligner, start = from_blueprint(plan["model"]), from_blueprint(plan["start"])
    if settings.train.weights is not None:
        _take_up(aligner, settings.train.weights)
    objective = build(settings.objective)
    per_epoch = OmegaConf.select(settings, "data.per_epoch")
    augmentation = build(settings.augmentation)
    return Task(aligner, objective, parts.train, parts.validation, start, plan, plain, per_epoch, augmentation)


def _take_up(aligner: Aligner, checkpoint: str) -> None:
    """Begin with the network of a checkpoint instead of a new one.

    Raises
    ------
    InputError
        If it is of another network.
    """
    try:
        aligner.load_state_dict(read_checkpoint(checkpoint)["model"])
    except RuntimeError as error:
        why = " ".join(str(error).split())[:150]
        raise InputError(
            checkpoint, f"holds a network of another shape ({why})", "train.weights takes one of the same localisation"
        ) from None


def figures_of(folder: Path) -> dict[str, float]:
    """The figures of the best network of a finished run."""
    return dict(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["best"])


def _resumed(settings: DictConfig, folder: Path) -> Path | None:
    """The checkpoint to go on from, if any.

    Raises
    ------
    InputError
        If the folder holds a run that nobody asked to go on with.
    """
    word = settings.train.resume
    there = Shelf(folder).all()
    if word == "auto":
        return there[-1] if there else None
    if word is not None:
        return Path(str(word))
    if there or Shelf(folder).best.exists():
        raise InputError(folder, "holds a run already", "train.resume=auto goes on with it, or choose another --output")
    return None


def _curves(folder: Path) -> None:
    """The curves so far, if there are any."""
    tables = folder / "train.csv", folder / "validation.csv"
    if all(table.exists() and table.stat().st_size for table in tables):
        write_curves(folder / "curves.png", *tables)


def _draw(task: Task, folder: Path) -> None:
    """A picture of the first validation pair, by the best network."""
    if task.validation is None:
        return
    from ..evaluation.overview import overview, write_overview
    from ..training.picture import shown

    fixed, moving, transform, name = shown(task, Shelf(folder).best)
    write_overview(folder / "overview.png", overview(fixed, moving, transform, name))


def _told(outcome: Outcome) -> dict[str, str]:
    best, before = outcome.best, outcome.before
    told = {"ended": f"{outcome.reason}, {outcome.steps} steps in {outcome.minutes:.1f} min"}
    for name, unit in (("dice", ""), ("tre", " mm")):
        if name in best:
            told[name] = f"{before.get(name, float('nan')):.3f} -> {best[name]:.3f}{unit} (step {best['step']:.0f})"
    if "folding" in best:
        told["folding"] = f"{best['folding']:.4f} %"
    if "seconds" in best:
        told["per pair"] = f"{best['seconds']:.3f} s"
    busy = sum(outcome.seconds[name] for name in ("step", "update", "data"))
    if busy > 0:
        told["in step"] = f"{outcome.seconds['step'] / busy:.0%} of the time of a step in network and warp"
    return told


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
