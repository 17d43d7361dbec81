"""Tiny 2-D discs of differing size and place: a dataset for tests of training, with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from registration.losses import MeanSquaredError
from registration.training import Diffusion, Grids, LabelOverlap, Likeness, Objective, Task, Trainer
from registration.training.blueprint import build

SIZE = 24
PLAN: dict[str, Any] = {
    "model": {
        "_target_": "registration.registrar.Registrar",
        "localiser": {
            "_target_": "registration.localisation.DenseVelocity",
            "network": {
                "_target_": "registration.localisation.UNet",
                "ndim": 2, "inputs": 2, "outputs": 2, "widths": [8, 8], "final": [8],
            },
        },
        "family": {"_target_": "registration.families.Velocity", "shrink": 2, "steps": 4},
    },
    "start": {"_target_": "registration.training.Grids"},
    "preprocessing": {},
}  # fmt: skip


def disc(seed: int) -> Tensor:
    """(1, S, S) a soft disc."""
    generator = torch.Generator().manual_seed(seed)
    middle = SIZE / 2 + 4 * (torch.rand(2, generator=generator) - 0.5)
    radius = 5 + 2 * torch.rand(1, generator=generator)
    index = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"), dim=-1)
    return torch.sigmoid(radius - (index - middle).norm(dim=-1))[None]


class Discs(Dataset[dict[str, Any]]):
    """Ordered pairs of discs."""

    def __init__(self, count: int = 5, first: int = 0, labels: bool = True, poison: int | None = None) -> None:
        self.images = [disc(first + k) for k in range(count)]
        self.pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        self.labels, self.poison = labels, poison

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        a, b = self.pairs[index]
        affine = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))
        fixed, moving = self.images[a], self.images[b]
        item: dict[str, Any] = {
            "id": f"{b}-to-{a}", "fixed": fixed, "moving": moving, "fixed_affine": affine, "moving_affine": affine,
        }  # fmt: skip
        if self.labels:
            item["fixed_labels"], item["moving_labels"] = ((x > 0.5).short() for x in (fixed, moving))
        if index == self.poison:
            item["moving"] = torch.full_like(moving, torch.nan)
        return item


def task(seed: int = 0, labels: float = 0.0, **data: Any) -> Task:
    """A small network and discs to train it on."""
    torch.manual_seed(seed)
    terms = {
        "image": Likeness(MeanSquaredError(), weight=10.0),
        "smooth": Diffusion(0.05),
        "labels": LabelOverlap(labels),
    }
    return Task(
        build(PLAN["model"]), Objective(terms), Discs(**data), Discs(2, first=100), Grids(), PLAN, {"seed": seed}
    )


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Adam would enlarge the rounding of gradients that are nearly zero."""
    return torch.optim.SGD(parameters, lr=0.1)


def trainer(**changes: Any) -> Trainer:
    values = {"max_steps": 14, "batch_size": 2, "validate_every": 6, "save_every": 5, "average": 0.9}
    return Trainer(**(values | changes))


def rows(file: Path) -> list[list[str]]:
    """The rows of a log without their last column, the time."""
    return [line.split(",")[:-1] for line in file.read_text().splitlines()]
