"""Training pairs moved and changed at random."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration.image import Image
from registration.randomness import own_generator
from registration.space import Space
from registration.training import Augmentation
from registration.training.augmentation import normal, on_device
from registration.training.batch import PairBatch
from registration.training.data.synthetic import Chain, RandomFlow, RandomLinear
from registration.transforms.base import parts_of
from registration.transforms.linear import Linear
from registration.transforms.velocity import VelocityField

D = pytest.mark.parametrize("d", [2, 3])
MOVED = Chain([RandomLinear(degrees=20.0, shift=0.05), RandomFlow(size=0.03, smooth=0.3)])


def batch(d: int, size: int = 2) -> PairBatch:
    """Blobs about points, with labels and masks of the same places."""
    space = Space.regular((26, 30, 22)[:d], (2.0, 1.5, 1.0)[:d])
    torch.manual_seed(3)
    places = space.points(torch.zeros(0, dtype=torch.float64))
    points = [0.15 * space.radius * (torch.rand(1, d, dtype=torch.float64) - 0.5) for _ in range(2)]
    images, labels = [], []
    for point in points:
        data = torch.exp(-(places - point).square().sum(dim=-1) / 32).float()
        data = data.expand(size, 1, *space.shape)
        images.append(Image(data, space, torch.ones_like(data, dtype=torch.bool)))
        labels.append((data > 0.5).short())
    return PairBatch(
        images[0], images[1], Linear.identity(d), ("a", "b")[:size], labels[0], labels[1], ((points[0], points[1]),) * 2
    )


@D
def test_labels_and_landmarks_move_with_the_images(d: int) -> None:
    before = batch(d)
    torch.manual_seed(0)
    after = Augmentation(MOVED)(before)
    assert after.points is not None and after.fixed_labels is not None and after.fixed.mask is not None
    places = after.fixed.space.points(torch.zeros(0, dtype=torch.float64))
    for number in range(2):
        data = after.fixed.data[number, 0].double()
        middle = (places * data[..., None]).flatten(0, -2).sum(dim=0) / data.sum()
        assert float((middle - after.points[number][0][0]).norm()) < 1.0
        there = after.fixed_labels[number, 0] > 0
        agreed = float((there == (data > 0.5)).double().mean())
        assert agreed > 0.99 and int(there.sum()) > 20
    assert not torch.equal(after.points[0][0], after.points[1][0])  # each image for itself
    assert not torch.equal(after.points[0][1], before.points[0][1])  # type: ignore[index]
    assert not bool(after.fixed.mask.all())  # what came from outside is not known
    assert bool((after.fixed.data[~after.fixed.mask] <= before.fixed.data.max()).all())


def test_it_is_repeatable_and_leaves_the_cache_alone() -> None:
    before = batch(2)
    kept = before.fixed.data.clone()
    change = Augmentation(MOVED, gamma=0.3, brightness=0.1, noise=0.1)
    answers = []
    for _ in range(2):
        torch.manual_seed(7)
        answers.append(change(before))
    assert torch.equal(answers[0].fixed.data, answers[1].fixed.data) and torch.equal(before.fixed.data, kept)
    assert not torch.equal(change(before).fixed.data, answers[0].fixed.data)
    assert bool(answers[0].moving.data.isfinite().all())


def test_noise_is_drawn_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []

    def recorded(like: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(tuple(like.shape))
        return normal(like, generator)

    monkeypatch.setattr("registration.training.augmentation.normal", recorded)
    before = batch(2)
    Augmentation(MOVED, gamma=0.3, brightness=0.1)(before)
    assert not drawn
    after = Augmentation(noise=0.1)(before)
    assert len(drawn) == 2
    off = (after.fixed.data - before.fixed.data).flatten(1).std(dim=1) / before.fixed.data.max()
    assert bool((off < 0.1).all()) and bool((off > 0).all()) and float(off[0]) != float(off[1])


@D
def test_velocities_are_integrated_where_the_images_are(d: int) -> None:
    drawn = MOVED(Space.regular((20,) * d), torch.Generator().manual_seed(0))
    there = [part for part in parts_of(on_device(drawn, torch.device("meta"))) if isinstance(part, VelocityField)]
    assert len(there) == 1 and there[0].displacement.displacement.device.type == "meta"
    points = 5 * torch.randn(6, d)
    assert torch.equal(on_device(drawn, torch.device("cpu"))(points[None]), drawn(points[None]))


def test_nothing_wanted_nothing_done() -> None:
    before = batch(2)
    state = torch.random.get_rng_state()
    assert Augmentation()(before) is before and torch.equal(torch.random.get_rng_state(), state)
    still = Augmentation(brightness=0.2)(before)
    assert torch.equal(still.fixed_labels, before.fixed_labels)  # type: ignore[arg-type]
    flat = Image(torch.full((1, 1, 8, 8), 2.0), Space.regular((8, 8), 1.0))
    changed = Augmentation(gamma=0.5, noise=0.5)(PairBatch(flat, flat, Linear.identity(2), ("flat",)))
    assert torch.allclose(changed.fixed.data, flat.data)
    with pytest.raises(ValueError, match="noise is a number of 0 or more"):
        Augmentation(noise=-1.0)


def test_each_of_several_processes_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for rank in (None, 0, 1, 2):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda rank=rank: rank is not None)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(4)
        seeds.append(own_generator().initial_seed())
        after = torch.rand(1)
    assert seeds[0] == seeds[1] and len(set(seeds)) == 3
    torch.manual_seed(4)
    own_generator()
    assert torch.equal(torch.rand(1), after)  # the common source goes on alike
