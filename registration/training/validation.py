"""How good the present weights are on pairs that are not trained on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..evaluation.metrics import dice, folding_percent, mean_dice
from ..interpolate import nearest
from ..registrar import Aligner
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .batch import Collate, PairBatch
from .objective import Objective, Seen

MEASURES = ("dice", "tre", "loss", "folding", "seconds")
"""What is measured: Dice over all labels; mean landmark distance in mm; the objective; percent of folded voxels."""


class Judge:
    """Measures an aligner on pairs, one at a time.

    Parameters
    ----------
    objective
        Gives ``loss``.
    collate
        Makes batches of one.
    device
        Where the aligner is.
    """

    def __init__(self, objective: Objective, collate: Collate, device: torch.device) -> None:
        self.objective, self.collate, self.device = objective, collate, device

    @torch.no_grad()
    def __call__(self, aligner: Aligner | None, items: Iterable[dict[str, Any]]) -> Tensor:
        """(M, 2) sums and counts of the :data:`MEASURES` over pairs; None judges the start, without any aligner."""
        totals = torch.zeros(len(MEASURES), 2, dtype=torch.float64)
        for item in items:
            batch = self.collate([item]).to(self.device)
            settled(self.device)
            began = time.perf_counter()
            identity: Transform = Linear.identity(batch.fixed.ndim)
            residual = identity if aligner is None else aligner.residual(batch.fixed, batch.moving, batch.initial)
            seen = Seen(batch, residual)
            grid = seen.grid  # the network and the flow have been run when this is known
            settled(self.device)
            seconds = time.perf_counter() - began
            values = {
                "seconds": seconds,
                "loss": float(self.objective(seen)["loss"].mean()),
                "dice": _dice(batch, grid),
                "tre": _tre(seen),
            }
            values["folding"] = (
                0.0 if aligner is None else folding_percent(seen.transform, batch.fixed.space, device=self.device)
            )
            for row, name in enumerate(MEASURES):
                value = values[name]
                if value is not None and math.isfinite(value):
                    totals[row] += torch.tensor([value, 1.0], dtype=torch.float64)
        return totals

    def over(self, pairs: Dataset[dict[str, Any]], aligner: Aligner | None, fabric: Any) -> dict[str, float]:
        """The mean of every measure over a map-style dataset, each process of a Lightning Fabric taking its share."""
        rank, ranks = fabric.global_rank, fabric.world_size
        totals = self(aligner, (pairs[k] for k in range(rank, len(pairs), ranks)))  # type: ignore[arg-type]
        return means(fabric.all_reduce(totals, reduce_op="sum") if ranks > 1 else totals)


def settled(device: torch.device) -> None:
    """Wait until a device has done what it was told, so that the clock can be read; CUDA answers before it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def means(totals: Tensor) -> dict[str, float]:
    """The mean of every measure that was taken, by name."""
    return {name: s / n for name, (s, n) in zip(MEASURES, totals.tolist(), strict=True) if n > 0}


def merit(figures: dict[str, float]) -> float:
    """One number to choose by, higher is better: Dice where there are labels, else landmark distance, else the loss."""
    if "dice" in figures:
        return figures["dice"]
    return -figures["tre"] if "tre" in figures else -figures.get("loss", math.inf)


def _dice(batch: PairBatch, grid: Tensor) -> float | None:
    if batch.fixed_labels is None or batch.moving_labels is None:
        return None
    there = nearest(batch.moving_labels.to(grid.dtype), grid)
    # As warping does it: nothing is known of what lies outside the moving image.
    there = there * (grid.abs().amax(dim=-1) <= 1)[:, None]
    return mean_dice(dice(batch.fixed_labels.cpu(), there.cpu()))


def _tre(seen: Seen) -> float | None:
    if seen.batch.points is None or not len(seen.batch.points[0][0]):
        return None
    fixed, moving = seen.batch.points[0]
    return float((seen.transform(fixed[None]).reshape(moving.shape) - moving).norm(dim=-1).mean())
