"""The pairs of a training in batches: which come in an epoch and in what order, and how they are loaded."""

from __future__ import annotations

from typing import Any

import torch

from .batch import Collate
from .data.sampler import PairLoader, PairSampler
from .trainer import Task, Trainer


class Feed:
    """The training pairs of one process; its ``sampler`` says which come next.

    Parameters
    ----------
    trainer, task
        How many at a time, and which.
    fabric
        The Lightning Fabric of the training, which knows its device and its processes.
    """

    def __init__(self, trainer: Trainer, task: Task, fabric: Any) -> None:
        self.trainer, self.task, self.fabric = trainer, task, fabric
        self.sampler = PairSampler(
            len(task.train), seed=int(task.config.get("seed", 0)), per_epoch=task.per_epoch,  # type: ignore[arg-type]
            rank=fabric.global_rank, ranks=fabric.world_size,
        )  # fmt: skip

    def begin_epoch(self) -> None:
        """Go to the next epoch if this one is used up, perhaps by an earlier part of the run."""
        if not len(self.sampler):
            self.sampler.next_epoch()

    def loader(self) -> PairLoader:
        """The batches that are left of an epoch; it is gone through once for every epoch."""
        return PairLoader(
            self.task.train, batch_size=self.trainer.batch_size, sampler=self.sampler,
            collate_fn=Collate(self.task.start), num_workers=self.trainer.workers,
            persistent_workers=self.trainer.workers > 0, pin_memory=self.fabric.device.type == "cuda",
            # Every look through the loader draws a number, also that of a resumed run: not from what networks draw.
            generator=torch.Generator(),
        )  # fmt: skip
