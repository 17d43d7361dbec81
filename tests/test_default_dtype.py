"""torch's default dtype is the user's own: whatever it is, the results are the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_network import tiny_checkpoint
from torch import Tensor

from registration.compiled import Region
from registration.evaluation.verdict import judge
from registration.families import Affine
from registration.losses import (
    LocalMutualInformation,
    LocalNormalisedCrossCorrelation,
    MeanSquaredError,
    MutualInformation,
    NormalisedCrossCorrelation,
    NormalisedGradientFields,
    SelfSimilarityContext,
    Similarity,
    WideLocalCorrelation,
)
from registration.pairwise import (
    DiffeomorphicStage,
    FieldLevel,
    LinearStage,
    Moments,
    Pair,
    Pipeline,
    QuasiNewton,
    Silent,
    SplineLevel,
    SplineStage,
    Stage,
)
from registration.phantom import phantom_pair
from registration.sampling import warp
from registration.space import Space
from registration.training import NetworkStage
from registration.training.data.synthetic import Recipe, SyntheticDataset
from registration.training.data.synthetic.anatomy import RandomShapes
from registration.transforms.linear import Linear

LOSSES: list[Similarity] = [
    LocalMutualInformation(),
    LocalNormalisedCrossCorrelation(),
    MeanSquaredError(),
    MutualInformation(),
    NormalisedCrossCorrelation(),
    NormalisedGradientFields(),
    SelfSimilarityContext(),
    WideLocalCorrelation(),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Several threads on images this small only wait for each other."""
    torch.set_num_threads(1)


def stages() -> list[Stage]:
    """Every kind of stage, with few steps each."""
    few = QuasiNewton(iterations=2)
    return [
        LinearStage("affine", Affine(), MutualInformation(), [2], few),
        SplineStage("tps", LocalNormalisedCrossCorrelation(), [SplineLevel(4, 5)], descent=few),
        DiffeomorphicStage("dense", WideLocalCorrelation(), [FieldLevel(2, 2), FieldLevel(1, 1)]),
    ]


def both(made: Callable[[], Any]) -> tuple[Any, Any]:
    """What is made by default, and with doubles for torch's default."""
    usual, default = made(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return usual, made()
    finally:
        torch.set_default_dtype(default)


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("shape", [(28, 24), (20, 18, 16)])
def test_registrations(shape: tuple[int, ...]) -> None:
    space = Space.regular(shape, 2.0)

    def made() -> tuple[Tensor, ...]:
        pair = phantom_pair(space, space, 0)
        found = Pipeline(Moments(), stages(), symmetric=True)(pair.fixed, pair.moving)
        verdict = judge(pair.fixed, pair.moving, found.initial, found.transform, 0.0)
        warped, inside = warp(pair.moving, found.transform, space)
        points = space.points().reshape(-1, len(shape))[::50]
        return found.transform(points), warped.data, inside, torch.tensor(len(verdict.text))

    assert all(same(a, b) for a, b in zip(*both(made), strict=True))


@pytest.mark.parametrize("similarity", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses(similarity: Similarity) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 1, 12, 11, 10, generator=generator, dtype=torch.float32) for _ in range(2)]

    def made() -> tuple[Tensor, ...]:
        warped = images[0].clone().requires_grad_(True)
        loss = similarity(warped, images[1])
        pushed = torch.zeros(3, 12, 11, 10, dtype=torch.float32)
        similarity.push(*images, Region.whole((12, 11, 10)), (1.0, 1.0, 1.0), pushed)
        return loss.detach(), torch.autograd.grad(loss.sum(), warped)[0], pushed

    assert all(same(a, b) for a, b in zip(*both(made), strict=True))


def test_trained_networks(tmp_path: Path) -> None:
    checkpoint, space = tiny_checkpoint(tmp_path), Space.regular((16, 16, 16), 2.0)

    def made() -> Tensor:
        pair = phantom_pair(space, space, 0)
        found, _ = NetworkStage(checkpoint)(Pair(pair.fixed, pair.moving), Linear.identity(3), Silent())
        return found(space.points().reshape(-1, 3)[::50])

    assert same(*both(made))


def test_synthetic_pairs() -> None:
    recipe = Recipe(RandomShapes((12, 10), labels=4))
    usual, doubles = both(lambda: SyntheticDataset(recipe, 1)[0])
    assert all(same(value, doubles[name]) for name, value in usual.items() if isinstance(value, Tensor))
