"""What numbers stages take: refused when they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from registration.errors import InputError
from registration.families import Lattice, Rigid, ThinPlateSplines, Velocity
from registration.limits import check_above, check_counts, check_finite, check_shares, check_sizes
from registration.losses import (
    LocalMutualInformation,
    LocalNormalisedCrossCorrelation,
    MutualInformation,
    NormalisedGradientFields,
    Part,
    SelfSimilarityContext,
    WideLocalCorrelation,
)
from registration.pairwise import (
    Descent,
    DiffeomorphicStage,
    FieldLevel,
    LinearStage,
    Moments,
    Pipeline,
    QuasiNewton,
    Search,
    SplineLevel,
    SplineStage,
    Steps,
)
from registration.pairwise.initialise import Auto
from registration.pairwise.initialise.histogram import JointHistogram
from registration.preprocessing import ApplyMask, BiasCorrection
from registration.training import Augmentation, Folding, Likeness, Trainer
from registration.training.data.synthetic import RandomFlow
from registration.training.guards import optimiser_for
from registration.training.pose import NetworkPose


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e300, None, "2", True])
def test_what_is_no_number_of_the_kind_is_named(value: Any) -> None:
    for check in (check_sizes, check_above, lambda **values: check_counts(0, **values)):
        with pytest.raises(ValueError, match=r"^size is a .*number"):
            check(size=value)
    with pytest.raises(ValueError, match="above 0"):
        check_above(size=0)
    with pytest.raises(ValueError, match=r"whole number from 2, got 2\.5"):
        check_counts(2, size=2.5)
    with pytest.raises(ValueError, match="whole number from 2 and up to 9, got 10"):
        check_counts(2, 9, size=10)
    check_sizes(size=0)
    check_above(size=np.float32(0.5))
    check_counts(2, size=np.int64(2))
    check_finite(size=-1)
    check_shares(size=1)
    for check, value in ((check_finite, math.nan), (check_shares, 1.5), (check_shares, math.nan)):
        with pytest.raises(ValueError, match=r"^size is a"):
            check(size=value)


CORRELATION = LocalNormalisedCrossCorrelation()
LEVEL = FieldLevel(2, 3)


@pytest.mark.parametrize(
    "name, made",
    [
        ("shrink", lambda: FieldLevel(-1, 3)),
        ("iterations", lambda: FieldLevel(2, -1)),
        ("total", lambda: FieldLevel(2, 3, math.nan)),
        ("sigma", lambda: FieldLevel(2, 3, sigma=-1.0)),
        ("sigma", lambda: Steps(sigma=math.inf)),
        ("first", lambda: Steps(first=0)),
        ("edges", lambda: DiffeomorphicStage("x", CORRELATION, [LEVEL], edges=-1)),
        ("across", lambda: SplineLevel(2, 1)),
        ("closest", lambda: SplineLevel(2, 8, -1.0)),
        ("bending", lambda: SplineStage("x", CORRELATION, [SplineLevel(2, 8)], bending=math.nan)),
        ("margin", lambda: Auto(margin=math.nan)),
        ("edges", lambda: Likeness(CORRELATION, edges=-1)),
        ("gamma", lambda: Augmentation(gamma=math.inf)),
        ("bins", lambda: MutualInformation(math.nan)),
        ("bins", lambda: MutualInformation(10**12)),
        ("tail", lambda: MutualInformation(tail=math.nan)),
        ("bins", lambda: JointHistogram(math.nan)),
        ("bins", lambda: LocalMutualInformation(1000)),
        ("share", lambda: LocalMutualInformation(share=0)),
        ("spread", lambda: LocalMutualInformation(spread=2)),
        ("prior", lambda: LocalMutualInformation(prior=0)),
        ("radius", lambda: LocalNormalisedCrossCorrelation((2, 1.5))),
        ("radius", lambda: LocalNormalisedCrossCorrelation(10**12)),
        ("variance_floor", lambda: LocalNormalisedCrossCorrelation(2, math.inf)),
        ("radius", lambda: WideLocalCorrelation(radius=1.5)),
        ("share", lambda: WideLocalCorrelation(share=0)),
        ("radius", lambda: SelfSimilarityContext(math.nan)),
        ("dilation", lambda: SelfSimilarityContext(1, 1.5)),
        ("noise", lambda: NormalisedGradientFields(math.inf)),
        ("weight", lambda: Part(CORRELATION, math.inf)),
        ("restraint", lambda: LinearStage("x", Rigid(), CORRELATION, [2], restraint=math.inf)),
        ("most", lambda: SplineStage("x", CORRELATION, [SplineLevel(2, 8)], most=math.nan)),
        ("tolerance", lambda: QuasiNewton(tolerance=math.nan)),
        ("iterations", lambda: QuasiNewton(iterations=2.5)),
        ("step", lambda: Descent(step=math.inf)),
        ("rotations", lambda: Search(rotations=math.nan)),
        ("settled", lambda: Search(settled=1.5)),
        ("across", lambda: Moments(across=math.nan)),
        ("rounds", lambda: NetworkPose("x.pt", math.nan)),
        ("fill", lambda: ApplyMask(math.nan)),
        ("shrink", lambda: BiasCorrection(1.5)),
        ("steps", lambda: Velocity(steps=10**12)),
        ("smoothing", lambda: ThinPlateSplines(Lattice(counts=[4, 4]), math.nan)),
        ("counts", lambda: Lattice(counts=[4, 2.5])),
        ("shrink", lambda: RandomFlow(shrink=math.nan)),
        ("margin", lambda: Folding(margin=math.nan)),
        ("weight", lambda: Folding(math.nan)),
        ("trainer.devices", lambda: Trainer(1, devices=0)),
        ("trainer.workers", lambda: Trainer(1, workers=10**9)),
    ],
)
def test_what_cannot_be_worked_with_is_refused(name: str, made: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name} is a"):
        made()


@pytest.mark.parametrize("shrinks", [[], [8, math.nan], [8, math.inf], [-1]])
def test_levels_are_numbers_above_0(shrinks: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^shrinks are numbers above 0"):
        LinearStage("x", Rigid(), CORRELATION, shrinks)


def test_what_is_no_part_of_a_whole_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^stages are what aligns, or null for none, got 3"):
        Pipeline(Auto(), [None, 3])
    with pytest.raises(ValueError, match=r"max_minutes says when training ends"):
        Trainer(max_minutes=math.inf)
    with pytest.raises(ValueError, match=r"^deformation draws maps"):
        Augmentation(deformation=3)


@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0, 0, None])
def test_rates_at_which_nothing_is_learnt_are_refused(rate: Any) -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    with pytest.raises(InputError, match=r"^optimiser\.lr="):
        optimiser_for(partial(torch.optim.Adam, lr=rate), weights)
    with pytest.raises(InputError, match=r"^optimiser\.momentum=nan: a finite number"):
        optimiser_for(partial(torch.optim.SGD, lr=0.1, momentum=math.nan), weights)
    with pytest.raises(InputError, match=r"^optimiser\.weight_decay=inf"):
        optimiser_for(lambda given: torch.optim.AdamW(given, weight_decay=math.inf), weights)
    assert optimiser_for(partial(torch.optim.Adam, lr=1e-3), weights).defaults["lr"] == 1e-3
