"""Learning from the pairwise engine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration.image import Image
from registration.losses import LocalNormalisedCrossCorrelation
from registration.pairwise import DiffeomorphicStage, FieldLevel, Observer, Pair, Stage, StageReport
from registration.space import Space
from registration.training import Imitation
from registration.training.batch import PairBatch
from registration.training.objective import Seen
from registration.transforms.base import Transform
from registration.transforms.linear import Linear

D = pytest.mark.parametrize("d", [2, 3])


class Shifting(Stage):
    """Answers with the initial transform after a shift in mm, back if the brighter image is the fixed one; counts how
    often it is asked.
    """

    def __init__(self, *shift: float) -> None:
        self.shift, self.asked = torch.tensor(shift, dtype=torch.float64), 0

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        self.asked += 1
        way = 1 if pair.fixed.data.mean() < pair.moving.data.mean() else -1
        return initial @ Linear.translation(way * self.shift), StageReport("shift", 0.0, 1.0, 0.0, 1)


def batch(d: int, size: int = 1, mask: Tensor | None = None, initial: Linear | None = None) -> PairBatch:
    torch.manual_seed(0)
    space = Space.regular((8, 6, 10)[:d], 2.0)
    fixed, moving = (Image(torch.rand(size, 1, *space.shape).pow(power), space, mask) for power in (3, 1))
    return PairBatch(fixed, moving, initial or Linear.identity(d), ("pair",) * size)


def away(shift: list[float], seen: PairBatch, teacher: Stage) -> Tensor:
    return Imitation(teacher)(Seen(seen, Linear.translation(torch.tensor(shift, dtype=torch.float64))))


@D
def test_distance_is_in_voxels_and_zero_where_the_network_agrees(d: int) -> None:
    shift = [3.0, -1.0, 2.0][:d]
    assert torch.allclose(away(shift, batch(d, 2), Shifting(*shift)), torch.zeros(2), atol=1e-5)
    off = [shift[0] + 4.0, *shift[1:]]  # 4 mm are two voxels
    assert torch.allclose(away(off, batch(d, 2), Shifting(*shift)), torch.full((2,), 4.0), atol=1e-2)


@D
def test_what_is_told_lies_behind_the_start_of_each_pair(d: int) -> None:
    matrices = torch.eye(d + 1, dtype=torch.float64).repeat(2, 1, 1)
    matrices[1, 0, d] = 5.0
    shift = [1.0] * d
    assert torch.allclose(
        away(shift, batch(d, 2, initial=Linear(matrices)), Shifting(*shift)), torch.zeros(2), atol=1e-4
    )


@D
def test_every_pair_is_asked_for_once_and_both_ways_at_a_time(d: int) -> None:
    teacher = Shifting(*[1.0] * d)
    term, both = Imitation(teacher), batch(d).both_ways()
    still, there = Linear.identity(d), Linear.translation(torch.ones(d, dtype=torch.float64))
    assert torch.allclose(term(Seen(both, still)), torch.full((2,), d / 4.0), atol=1e-3)
    back = term(Seen(both, there))  # right for the first; the second should go back by as much
    assert torch.allclose(back, torch.tensor([0.0, d / 1.0]), atol=1e-2)
    assert teacher.asked == 1
    term(Seen(batch(d, 2), still))
    assert teacher.asked == 3


@D
def test_the_order_of_asking_does_not_matter(d: int) -> None:
    class Rough(Stage):  # what it finds for exchanged images is no inverse
        def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
            shift = torch.full((d,), float(pair.fixed.data.mean()), dtype=torch.float64)
            return initial @ Linear.translation(shift), StageReport("", 0.0, 1.0, 0.0, 1)

    both, still = batch(d).both_ways(), Linear.identity(d)
    there, back = (
        PairBatch(Image(f[None], both.fixed.space), Image(m[None], both.fixed.space), still, ("pair",))
        for f, m in zip(both.fixed.data, both.moving.data, strict=True)
    )
    first, second = Imitation(Rough()), Imitation(Rough())
    one = [first(Seen(pair, still)) for pair in (there, back)]
    other = [second(Seen(pair, still)) for pair in (back, there)]
    assert torch.equal(one[0], other[1]) and torch.equal(one[1], other[0])


@D
def test_voxels_outside_the_mask_do_not_count(d: int) -> None:
    class Half(Stage):
        def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
            return initial @ Linear.translation(torch.full((d,), 50.0, dtype=torch.float64)), StageReport(
                "", 0.0, 1.0, 0.0, 1
            )

    empty = torch.zeros(1, 1, *(8, 6, 10)[:d], dtype=torch.bool)
    assert float(away([0.0] * d, batch(d, 1, empty), Half())) == 0
    empty[..., :2] = True
    assert float(away([0.0] * d, batch(d, 1, empty), Half())) == pytest.approx(d * 625.0, rel=1e-3)


@D
def test_the_engine_is_asked_with_or_without_its_kernels(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for kernels in (True, False):
        if not kernels:
            monkeypatch.setattr("registration.compiled.fits", lambda *tensors: False)
        engine = DiffeomorphicStage("engine", LocalNormalisedCrossCorrelation(2, 1e-3), (FieldLevel(1, 4, 0.4),))
        answers.append(away([0.0] * d, batch(d), engine))
    assert float(answers[0]) > 1e-4 and torch.allclose(answers[0], answers[1], rtol=0.05)


def test_an_engine_that_takes_gradients_may_be_asked() -> None:
    class Sliding(Stage):
        def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
            shift = torch.ones(2, dtype=torch.float64, requires_grad=True)
            shift.square().sum().backward()
            return initial @ Linear.translation(shift.grad), StageReport("", 0.0, 1.0, 0.0, 1)  # type: ignore[arg-type]

    assert torch.allclose(away([2.0, 2.0], batch(2), Sliding()), torch.zeros(1), atol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_asking_ahead_in_processes_is_asking_here(symmetric: bool) -> None:
    teacher = DiffeomorphicStage("engine", LocalNormalisedCrossCorrelation(2), [FieldLevel(1, 3, 0.4)])
    pairs = batch(2, 2, initial=Linear.translation(torch.tensor([0.5, 0.0], dtype=torch.float64)))
    pairs = pairs.both_ways() if symmetric else pairs
    here, ahead = Imitation(teacher), Imitation(teacher, jobs=2)
    ahead.foresee([pairs])
    seen = Seen(pairs, Linear.identity(2))
    assert len(ahead.known) == 4
    here(seen)
    for key, moves in here.known.items():
        assert torch.equal(ahead.known[key], moves)
    known = dict(ahead.known)
    ahead.foresee([pairs])
    ahead(seen)
    assert ahead.known.keys() == known.keys()
    with pytest.raises(ValueError, match="1 process or more"):
        Imitation(teacher, jobs=0)
