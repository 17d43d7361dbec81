"""Training a registration network: settings, the task, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..limits import is_number, is_whole
from ..pairwise.observe import Observer, Silent
from ..registrar import Aligner
from .augmentation import Augmentation
from .guards import optimiser_for
from .objective import Objective
from .precision import PRECISIONS
from .schedules import Constant, Schedule
from .starts import Start

_WHOLE = {
    "max_steps": 1, "batch_size": 1, "accumulate": 1, "validate_every": 1, "save_every": 1, "keep": 1, "patience": 1,
    "workers": 0, "nodes": 1,
}  # fmt: skip
_OPTIONAL = ("max_steps", "patience")
_PROCESSES = 1024  # are more than any computer has cores

Optimiser = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Task:
    """What is to be learnt from what.

    Parameters
    ----------
    aligner
        The network.
    objective
        What is minimised.
    train
        Map-style dataset of training pairs.
    validation
        Pairs to choose by; None leaves choosing to the training loss.
    start
        How pairs lie before.
    plan
        Plain values from which inference makes everything again: ``model``, ``start``, ``preprocessing``.
    config
        All settings, as plain values, for the record; ``seed`` decides the order of pairs.
    per_epoch
        Pairs drawn for one epoch; None for all.
    augmentation
        Changes training pairs at random; None leaves them as they are.
    """

    aligner: Aligner
    objective: Objective
    train: Dataset[dict[str, Any]]
    validation: Dataset[dict[str, Any]] | None
    start: Start
    plan: dict[str, Any]
    config: dict[str, Any]
    per_epoch: int | None = None
    augmentation: Augmentation | None = None


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Parameters
    ----------
    best
        Figures of the best validation, ``step`` among them.
    before
        The same without any transform.
    steps
        Steps taken in all.
    minutes
        Of training, over all resumed parts.
    reason
        Why it ended, in words.
    seconds
        Where the time of this part went: ``data``, ``engine`` (what terms prepare for a rehearsal), ``step`` (network,
        warp and objective, there and back), ``update``, ``validation``, ``files``.
    """

    best: dict[str, float]
    before: dict[str, float]
    steps: int
    minutes: float
    reason: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class Trainer:
    """How training is done.

    Parameters
    ----------
    max_steps, max_minutes
        The end, whichever comes first; None for no such end. The learning rate falls towards it. With ``max_minutes``
        it depends on the clock, so that two runs differ; with ``max_steps`` alone they are equal to the bit.
    batch_size, accumulate
        Pairs per process and pass, and passes per step.
    symmetric
        See every pair both ways.
    clip
        Longest gradient; None for any length.
    average
        Decay of the mean weights that are validated and kept as the model; 0 for the weights themselves.
    validate_every, save_every
        Steps between validations and between checkpoints.
    keep
        Checkpoints that are kept besides the best.
    patience
        Validations without improvement after which training ends; None for no such end.
    rehearse
        Share of the training after which the pairs of one epoch (``data.per_epoch`` of them) come again and again, and
        what is learnt from such pairs counts (:class:`~registration.training.Imitation`), for which the optimiser
        begins anew; None for never.
    workers
        Processes that load data; 0 loads in the training process, which is fastest when everything is cached.
    accelerator, devices, nodes, strategy, precision
        Of Lightning Fabric: for instance cuda, 4, 1, ddp, bf16-mixed; precision also auto
        (:func:`~registration.training.precision.resolved`).
    """

    max_steps: int | None = None
    max_minutes: float | None = None
    batch_size: int = 1
    accumulate: int = 1
    symmetric: bool = False
    clip: float | None = 1.0
    average: float = 0.99
    validate_every: int = 500
    save_every: int = 500
    keep: int = 2
    patience: int | None = None
    rehearse: float | None = None
    workers: int = 0
    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_minutes in (None, math.inf):
            raise ValueError("trainer.max_steps or trainer.max_minutes says when training ends; give one of them")
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if not (value is None and name in _OPTIONAL) and not (is_whole(value) and value >= least):
                raise ValueError(f"trainer.{name} is a whole number from {least}, got {value!r}")
        if self.workers > _PROCESSES:
            raise ValueError(f"trainer.workers is a whole number up to {_PROCESSES}, got {self.workers}")
        many = is_whole(self.devices) and (1 <= self.devices <= _PROCESSES or self.devices == -1)
        if not (many or isinstance(self.devices, (str, list))):  # Fabric knows more ways to say which
            raise ValueError(f"trainer.devices is a whole number from 1, or -1 for all, got {self.devices!r}")
        for name in ("max_minutes", "clip"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                raise ValueError(f"trainer.{name} is a number above 0, or null, got {value!r}")
        if self.rehearse is not None and not (is_number(self.rehearse) and 0 <= self.rehearse <= 1):
            raise ValueError(f"trainer.rehearse is a share of the training from 0 to 1, got {self.rehearse!r}")
        if not (is_number(self.average) and 0 <= self.average < 1):
            raise ValueError(f"trainer.average is a decay from 0 to below 1, got {self.average!r}")
        if str(self.precision) not in PRECISIONS:
            raise ValueError(f"trainer.precision is one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def fit(
        self,
        task: Task,
        folder: Path,
        optimiser: Optimiser,
        schedule: Schedule | None = None,
        resume: Path | None = None,
        observer: Observer | None = None,
    ) -> Outcome:
        """Train in a run folder, which receives ``best.pt``, ``checkpoints/``, ``train.csv`` and ``validation.csv``.

        Parameters
        ----------
        optimiser
            Makes one for the parameters it is given.
        schedule
            Of the learning rate.
        resume
            A checkpoint to go on from.
        observer
            Watches the progress.

        Raises
        ------
        InputError
            If Lightning Fabric is missing, a loss or gradient is not finite (naming the pair), or the checkpoint is of
            another training.
        """
        from .loop import Loop

        made = optimiser_for(optimiser, task.aligner.parameters())
        loop = Loop(self, task, folder, made, schedule or Constant())
        return loop.run(resume, observer or Silent())
