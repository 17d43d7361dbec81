"""The network that names the anatomy, and the demons that align what it named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_phantoms import task

from registration.errors import InputError
from registration.families import Velocity
from registration.image import Image
from registration.localisation import AnatomyVelocity, Demons, MatchingPyramid, Named
from registration.localisation.demons import force
from registration.localisation.pyramid import met_halfway
from registration.registrar import Registrar
from registration.space import Space
from registration.training import LabelOverlap, Naming, Objective, Trainer
from registration.training.batch import PairBatch
from registration.training.objective import Box, Learner, Seen
from registration.transforms.linear import Linear

D = pytest.mark.parametrize("d", [2, 3])


def blob(shape: tuple[int, ...], centre: Tensor, width: float = 4.0) -> Tensor:
    """(1, 1, *S) a Gaussian."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    away = sum((axis - c).square() for axis, c in zip(axes, centre, strict=True))
    return torch.exp(-away / (2 * width**2))[None, None]  # type: ignore[operator, arg-type]


def pair(d: int, shift: float = 2.0) -> Tensor:
    """(2, 1, *S) a blob, and the same moved along the first axis."""
    shape = (32, 24, 16)[:d]
    centre = torch.tensor([n / 2 for n in shape])
    return torch.cat([blob(shape, centre), blob(shape, centre + shift * torch.eye(d)[0])])


def network(d: int, shrink: int = 1) -> AnatomyVelocity:
    torch.manual_seed(0)
    made = AnatomyVelocity(d, 2, (1, 3), Demons((2, 0, 2), shrink=shrink), full=4, widths=(4, 6))
    torch.nn.init.normal_(made.network.last.weight, 0.0, 0.5)  # type: ignore[arg-type]
    return made


@D
def test_the_force_points_from_fixed_to_moving_and_turns_with_the_images(d: int) -> None:
    both = pair(d, 1.0)
    found = force(both)
    assert torch.equal(force(both.roll(1, dims=0)), -found)
    weight = both.mean(dim=0)[0]
    along = [float((found[0, axis] * weight).sum() / weight.sum()) for axis in range(d)]
    assert along[0] > 0.1 and all(abs(x) < 1e-3 for x in along[1:])
    assert torch.equal(force(both[:1].repeat(2, *[1] * (d + 1))), torch.zeros_like(found))


@D
def test_demons_bring_a_moved_blob_back(d: int) -> None:
    both = 4 * pair(d, 3.0)
    velocity = Demons((6, 6, 6))(both)
    fixed, moving = met_halfway(both, velocity).chunk(2)
    before = (both[0] - both[1]).abs().mean()
    assert float((fixed - moving).abs().mean()) < 0.1 * float(before)
    middle = tuple(n // 2 for n in both.shape[2:])
    assert float(velocity[(0, 0, *middle)]) == pytest.approx(3.0, abs=0.4)
    assert torch.allclose(Demons((6, 6, 6))(both.roll(1, dims=0)), -velocity, atol=1e-5)


@D
@pytest.mark.parametrize(("shape", "shrink"), [((24, 20, 16), 2), ((13, 21, 10), 2), ((13, 21, 10), 1)])
def test_it_suits_any_size_and_exchanging_the_images_inverts_it(d: int, shape: tuple[int, ...], shrink: int) -> None:
    net = network(d, shrink)
    fixed, moving = torch.rand(2, 1, *shape[:d]), torch.rand(2, 1, *shape[:d])
    there, logits = net.looked(fixed, moving)
    assert there.shape == (2, d, *(-(-n // shrink) for n in shape[:d])) and logits.shape == (4, 3, *shape[:d])
    assert torch.allclose(net(moving, fixed), -there, atol=1e-4) and float(there.detach().abs().max()) > 0.01
    space = Space.regular(shape[:d], 1.5)
    images = (Image(fixed, space), Image(moving, space), Linear.identity(d))
    transform, named = Registrar(net, Velocity(shrink)).told(*images)
    assert named is not None and named.labels == (1, 3) and torch.allclose(named.logits, logits, atol=1e-5)
    points = torch.rand(2, 5, d) * 10
    expected = Registrar(net, Velocity(shrink)).residual(*images)(points)
    assert torch.allclose(transform(points), expected, atol=1e-5)
    told = Registrar(MatchingPyramid(d, 2, (4, 6), 5, (6, 8)), Velocity()).told(*images)
    assert told[1] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ()}, "at least one"),
        ({"labels": (0, 1)}, "other than 0"),
        ({"labels": (2, 2)}, "different whole numbers"),
        ({"labels": (1.5,)}, "different whole numbers"),
        ({"counts": (2.0,)}, "counts are two numbers"),
        ({"full": 0.5}, "full takes whole numbers"),
        ({"inputs": 3}, "even number"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnatomyVelocity(**({"ndim": 2, "inputs": 2, "labels": (1,), "demons": Demons()} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": (1, -1)}, "iterations takes whole numbers from 0"),
        ({"iterations": ()}, "one level at least"),
        ({"sigma": -1.0}, "sigma is a number of 0 or more"),
        ({"squarings": 0.5}, "squarings takes whole numbers from 0"),
        ({"shrink": 3}, "every voxel or at every second"),
    ],
)
def test_demons_refuse(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Demons(**change)


def seen(d: int, initial: Linear | None = None) -> Seen:
    """Two squares as labels of 3, and a certain network that is right."""
    space = Space.regular((12, 12, 12)[:d], 2.0)
    labels = torch.zeros(1, 1, *space.shape, dtype=torch.int16)
    labels[(0, 0, *[slice(3, 8)] * d)] = 3
    moved = labels if initial is None else labels.roll(1, dims=2)
    image = Image(torch.rand(1, 1, *space.shape), space)
    batch = PairBatch(image, image, initial or Linear.identity(d), ("pair",), labels, moved)
    classes = torch.cat([labels != 3, labels == 5, labels == 3], dim=1)
    logits = 20.0 * torch.cat([classes, classes]).float()
    return Seen(batch, Linear.identity(d), Named((5, 3), logits))


@D
def test_naming_is_judged_in_both_images_where_the_start_brings_them(d: int) -> None:
    right = seen(d)
    assert float(Naming()(right)) == pytest.approx(0.0, abs=1e-3)  # 5 is in no image and does not count
    shift = torch.zeros(d, dtype=torch.float64)
    shift[0] = 2.0  # a voxel
    assert float(Naming()(seen(d, Linear.translation(shift)))) == pytest.approx(0.0, abs=1e-3)
    assert right.named is not None
    wrong = Seen(right.batch, right.residual, Named((3, 5), right.named.logits))
    assert float(Naming()(wrong)) > 1.0


def test_naming_needs_labels_and_a_network_that_names() -> None:
    one = seen(2)
    with pytest.raises(InputError, match="localisation=anatomy"):
        Naming()(Seen(one.batch, one.residual))
    with pytest.raises(InputError, match=r"penalty\.naming: needs labels"):
        Naming()(Seen(replace(one.batch, fixed_labels=None), one.residual, one.named))


def test_images_that_are_only_named_are_not_aligned() -> None:
    batch, objective = seen(2).batch, Objective({"naming": Naming()})
    net = AnatomyVelocity(2, 2, (3,), Demons((1,)), full=4, widths=(6,))
    aligner = Registrar(net, Velocity(1.0, 2))
    expected = objective(Seen(batch, *aligner.told(batch.fixed, batch.moving, batch.initial)))["loss"]
    net.demons.forward = None  # whoever asks for a velocity now fails
    assert torch.equal(Learner(aligner, objective)(Box(batch))["loss"], expected)
    with pytest.raises(TypeError, match="not callable"):
        Learner(aligner, Objective({"naming": Naming(), "labels": LabelOverlap()}))(Box(batch))
    assert objective.eval()(Seen(batch, Linear.identity(2)))["loss"].isnan().all()  # naming counts in training only


def test_it_learns_to_name_and_to_align(tmp_path: Path) -> None:
    torch.set_num_threads(1)  # several on a 24 x 24 image only wait for each other
    job = task()
    net = AnatomyVelocity(2, 2, (1,), Demons((3, 3), shrink=2), full=4, widths=(6, 8))
    objective = Objective({"naming": Naming(), "labels": LabelOverlap()})
    job = replace(job, aligner=Registrar(net, Velocity(2.0, 4)), objective=objective)
    trainer = Trainer(max_steps=30, batch_size=2, validate_every=15, save_every=30, average=0.9)
    outcome = trainer.fit(job, tmp_path, lambda parameters: torch.optim.Adam(parameters, lr=2e-2))
    assert outcome.best["dice"] > outcome.before["dice"] + 0.05 and outcome.best["folding"] == 0


@D
def test_it_can_be_exported(d: int, tmp_path: Path) -> None:
    net = network(d).eval().requires_grad_(False)
    images = torch.rand(2, 1, 1, *(16, 24, 16)[:d]).unbind()
    expected = net(*images)
    torch.jit.trace(net, images).save(str(tmp_path / "net.ts"))  # type: ignore[no-untyped-call]
    for program in (torch.jit.load(tmp_path / "net.ts"), torch.export.export(net, images).module()):
        assert torch.allclose(program(*images), expected, atol=1e-4)
