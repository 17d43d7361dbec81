"""One training from settings to a folder of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from ..evaluation.curves import write_curves
from ..io.files import atomic_path, existing_file
from ..limits import is_whole
from ..preprocessing import Pipeline
from ..registrar import Aligner
from ..space import Space
from ..training.augmentation import Augmentation
from ..training.blueprint import BlueprintError, completed
from ..training.blueprint import build as from_blueprint
from ..training.checkpoints import Shelf, read_checkpoint, resumable
from ..training.data import PairSampler, Source
from ..training.guards import optimiser_for
from ..training.objective import Objective
from ..training.schedules import Schedule
from ..training.trainer import Optimiser, Outcome, Task, Trainer
from .progress import Watcher
from .settings import build, followed


def run_training(settings: DictConfig, folder: Path, watcher: Watcher) -> dict[str, str]:
    """Train, and leave everything in ``folder``; the figures of the best network as text.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    resume, parts = _resumed(settings, folder), parts_of(settings)
    task = task_of(settings, watcher, parts)
    if resume is not None:
        resumable(resume, task.plan, task.config)  # before anything of the run is touched
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(folder, f"cannot be the folder of a run ({why})", "choose another --output") from None
    Shelf(folder).clear_partial()
    _write(folder / "config.yaml", OmegaConf.to_yaml(settings))
    try:
        outcome = parts.trainer.fit(task, folder, parts.optimiser, parts.schedule, resume, watcher)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise InputError(
            f"trainer.batch_size={parts.trainer.batch_size}", "needs more memory than there is",
            "lower it (and raise trainer.accumulate), preprocessing.shape, or the widths of the network",
        ) from error  # fmt: skip
    finally:
        _curves(folder)  # also of a run that was interrupted
    watcher.close()
    _write(folder / "metrics.json", json.dumps(asdict(outcome), indent=2) + "\n")
    _draw(task, folder)
    return _told(outcome)


@dataclass(frozen=True)
class Parts:
    """What of a training is made of settings alone, before an image is read."""

    trainer: Trainer
    optimiser: Optimiser
    schedule: Schedule
    objective: Objective
    augmentation: Augmentation
    pipeline: Pipeline
    source: Source


def parts_of(settings: DictConfig) -> Parts:
    """All that needs no data; a network is made for a trial, as its numbers can be wrong too.

    Raises
    ------
    InputError
        If a setting cannot be used, naming it.
    """
    seed = settings.seed
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise InputError(f"seed={seed}", "a whole number from 0 to 2**63 - 1 was expected")
    parts = Parts(
        build(settings.trainer), build(settings.optimiser), build(settings.scheduler), build(settings.objective),
        build(settings.augmentation), build(settings.preprocessing.pipeline), build(settings.data.source),
    )  # fmt: skip
    if settings.train.weights is not None:
        existing_file(str(settings.train.weights))
    optimiser_for(parts.optimiser, [torch.nn.Parameter(torch.zeros(1))])
    PairSampler(1, per_epoch=OmegaConf.select(settings, "data.per_epoch"))
    build(settings.start)
    try:
        network_of(settings, Space.regular((16, 16, 16)), None, [1])
    except InputError as error:
        with suppress(InputError):  # some are for slices only
            network_of(settings, Space.regular((16, 16)), None, [1])
            return parts
        raise error
    return parts


def network_of(settings: DictConfig, space: Space, channels: int | None, labels: Sequence[int]) -> tuple[Aligner, Any]:
    """The network for images of such a grid, channels and labels, and its blueprint.

    Raises
    ------
    InputError
        If it cannot be made, naming the setting.
    """
    plain: Any = OmegaConf.to_container(settings.localisation.model, resolve=True)
    try:
        plan = completed(plain, space, channels, labels)
        return from_blueprint(plan), plan
    except BlueprintError as error:
        way = ["localisation", "model", *error.way]
        raise InputError(followed(settings, way, error.problem), error.problem) from error


def task_of(settings: DictConfig, watcher: Watcher, given: Parts | None = None) -> Task:
    """Data, network and objective as the settings say; what is given is not made again."""
    given = given or parts_of(settings)
    parts = given.source.datasets(given.pipeline)
    for text in (*given.source.notes(), *(f"left out: {line}" for line in parts.left_out)):
        watcher.note(text)
    first = parts.train[0]
    space, channels = Space(tuple(first["fixed"].shape[1:]), first["fixed_affine"]), int(first["fixed"].shape[0])
    labels = sorted(
        {int(v) for name in ("fixed_labels", "moving_labels") if name in first for v in first[name].unique()} - {0}
    )
    plain: Any = OmegaConf.to_container(settings, resolve=True)
    torch.manual_seed(settings.seed)
    aligner, model = network_of(settings, space, channels, labels)
    plan = {
        "model": model, "start": plain["start"], "preprocessing": given.pipeline.config(), "ndim": space.ndim,
        "channels": channels,
    }  # fmt: skip
    if settings.train.weights is not None:
        _take_up(aligner, str(settings.train.weights))  # a number is a name, too
    start, per_epoch = from_blueprint(plan["start"]), OmegaConf.select(settings, "data.per_epoch")
    return Task(
        aligner, given.objective, parts.train, parts.validation, start, plan, plain, per_epoch, given.augmentation
    )


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
        return existing_file(str(word))
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
