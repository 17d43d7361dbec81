"""Networks, and the modules that turn what they say into transforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration.families import Affine, Lattice, Rigid, ThinPlateSplines, Velocity
from registration.families.landmarks import AffineFit, LandmarkFit, RigidFit, SplineFit
from registration.image import Image
from registration.localisation import DenseVelocity, Keypoints, MatchingPyramid, ParameterNetwork, Posed, UNet
from registration.localisation.posed import _pose, _turned_round, own_frame
from registration.registrar import Cascade, KeypointRegistrar, PoseRegistrar, Registrar
from registration.sampling import warp
from registration.space import Space
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline

D = pytest.mark.parametrize("d", [2, 3])


def image(d: int, shape: tuple[int, ...] = (18, 21, 16), batch: int = 1) -> Image:
    space = Space.regular(shape[:d], (1.0, 1.5, 2.0)[:d])
    return Image(torch.rand(batch, 1, *shape[:d]), space)


def dense(d: int, antisymmetric: bool = True, start: float = 0.0) -> Registrar:
    network = UNet(d, 2, d, (4, 6, 6), (6,), start=start)
    return Registrar(DenseVelocity(network, antisymmetric), Velocity(2, 4))


def small(d: int, family: Affine | ThinPlateSplines) -> Registrar:
    return Registrar(ParameterNetwork(d, 2, family.size(Space.regular((8,) * d)), (4, 6), 2, 8), family)


@D
@pytest.mark.parametrize("shape", [(16, 16, 16), (18, 21, 16), (5, 9, 7)])
def test_untrained_networks_of_any_size_propose_the_identity(d: int, shape: tuple[int, ...]) -> None:
    fixed, moving = image(d, shape, 2), image(d, shape, 2)
    spline = ThinPlateSplines(Lattice(counts=(3,) * d))
    for aligner in (dense(d), small(d, Affine()), small(d, spline), Cascade([small(d, Affine()), None, dense(d)])):
        points = fixed.space.points().flatten(0, -2)[None]
        found = aligner(fixed, moving, Linear.identity(d))(points)
        assert found.shape == (2, *points.shape[1:]) and torch.allclose(found, points.expand_as(found), atol=1e-4)


@D
def test_the_answer_of_a_network_is_velocity_in_voxels(d: int) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = torch.zeros(x.shape[0], d, *[-(-n // 2) for n in x.shape[2:]])
            out[:, 1] = 2.0
            return out

    fixed = image(d)
    affine = fixed.space.affine.clone()
    affine[:, 1] *= -1  # towards P: two voxels along the axis are then -3 mm
    fixed = Image(fixed.data, Space(fixed.space.shape, affine))
    aligner = Registrar(DenseVelocity(Constant(), antisymmetric=False), Velocity(2))
    move = aligner(fixed, fixed, Linear.identity(d))(fixed.space.centre[None].float()) - fixed.space.centre
    assert torch.allclose(move, torch.tensor([0.0, -3.0, 0.0], dtype=move.dtype)[:d], atol=1e-4)


@D
def test_exchanged_images_give_the_inverse(d: int) -> None:
    aligner = dense(d, start=1.0)
    a, b = image(d), image(d)
    there, back = (aligner(x, y, Linear.identity(d)) for x, y in ((a, b), (b, a)))
    assert float(there.velocity.detach().abs().max()) > 0.05
    assert torch.allclose(there.velocity, -back.velocity, atol=1e-5)


@D
def test_batch_items_do_not_mix(d: int) -> None:
    aligner = Cascade([small(d, Affine()), dense(d, start=1.0)])
    fixed, moving = image(d, batch=2), image(d, batch=2)
    together = aligner(fixed, moving, Linear.identity(d)).on_grid(fixed.space)
    second = fixed.with_data(fixed.data[1:]), moving.with_data(moving.data[1:])
    alone = aligner(*second, Linear.identity(d)).on_grid(fixed.space)
    assert torch.allclose(together[1:], alone, atol=1e-3)


@D
def test_cascade_is_the_composition_and_every_part_learns(d: int) -> None:
    aligner = Cascade([small(d, Affine()), small(d, ThinPlateSplines(Lattice(counts=(3,) * d))), dense(d)])
    fixed, moving = image(d), image(d)
    warped, _ = warp(moving, aligner(fixed, moving, Linear.identity(d)), fixed.space)
    (warped.data - fixed.data).square().mean().backward()
    for part in aligner.parts:
        assert any(float(p.grad.abs().sum()) > 0 for p in part.parameters() if p.grad is not None)


@D
def test_mixed_precision_stays_in_the_network(d: int) -> None:
    aligner = Cascade([small(d, Affine()), dense(d, start=0.1)])
    fixed, moving = image(d), image(d)
    exact = aligner(fixed, moving, Linear.identity(d)).on_grid(fixed.space)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = aligner(fixed, moving, Linear.identity(d)).on_grid(fixed.space)
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).detach().abs().max()) < 0.5


@D
def test_a_flow_has_all_digits_under_mixed_precision(d: int) -> None:
    aligner, family, fixed, moving = dense(d, start=1.0), Velocity(2), image(d), image(d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = aligner.residual(fixed, moving, Linear.identity(d))
        velocity = torch.randn(1, d, *family.nodes(fixed.space).shape)
        turned = aligner.localiser.in_radii(velocity, fixed)
    assert found.velocity.dtype == torch.float32 and torch.equal(turned, aligner.localiser.in_radii(velocity, fixed))
    size = family.size(fixed.space)
    for given, kept in (
        (torch.bfloat16, torch.float32), (torch.float16, torch.float32),
        (torch.float32, torch.float32), (torch.float64, torch.float64),
    ):  # fmt: skip
        assert family(torch.zeros(1, size, dtype=given), fixed.space).velocity.dtype == kept


# --- fits -------------------------------------------------------------------------------------------------------------
def points(d: int, n: int = 12) -> Tensor:
    return 40 * torch.randn(3, n, d, dtype=torch.float64) + 100


@D
@pytest.mark.parametrize(
    "fit", [RigidFit(), AffineFit(), SplineFit(0.0), SplineFit(0.5)], ids=lambda f: type(f).__name__
)
def test_fits_find_a_rigid_truth(d: int, fit: LandmarkFit) -> None:
    truth = Rigid()(0.5 * torch.randn(3, Rigid().size(Space.regular((9,) * d))), Space.regular((9,) * d, 10.0))
    p, w = points(d), torch.rand(3, 12) + 0.1
    assert torch.allclose(fit(p, truth(p), w)(p), truth(p), atol=1e-3)


@D
def test_rigid_fit_is_the_best_rotation_also_where_a_reflection_fits_better(d: int) -> None:
    p, w = points(d), torch.rand(3, 12, dtype=torch.float64)
    q = p * torch.tensor([-1.0] + [1.0] * (d - 1), dtype=torch.float64) + torch.randn_like(p)
    share = w / w.sum(dim=1, keepdim=True)

    def cost(turn: Tensor) -> Tensor:
        """Of rotations (R, D, D) with the best translation each: (B, R)."""
        a, b = (x - (share[..., None] * x).sum(dim=1, keepdim=True) for x in (p, q))
        return (share[:, None] * (a[:, None] @ turn.mT - b[:, None]).square().sum(dim=-1)).sum(dim=-1)

    found = RigidFit()(p, q, w).matrix
    assert torch.allclose(torch.linalg.det(found[:, :d, :d]), torch.ones(3, dtype=torch.float64))
    assert torch.allclose((found[:, :d, :d] @ p.mT).mT + found[:, None, :d, d], RigidFit()(p, q, w)(p))
    own = torch.stack([cost(found[b : b + 1, :d, :d])[b, 0] for b in range(3)])
    theta = torch.zeros(20_000, Rigid().size(Space.regular((9,) * d)), dtype=torch.float64)
    theta[:, d:] = torch.pi * (2 * torch.rand_like(theta[:, d:]) - 1)
    others = cost(Rigid()(theta, Space.regular((9,) * d)).matrix[:, :d, :d]).amin(dim=1)
    assert bool((own <= others).all()) and bool((own > 0.9 * others).all())


@D
def test_affine_fit_is_least_squares_and_survives_points_in_one_plane(d: int) -> None:
    import numpy as np

    p, q, w = points(d)[:1], points(d)[:1], torch.rand(1, 12, dtype=torch.float64)
    found = AffineFit()(p, q, w).matrix[0]
    root = w[0].sqrt()[:, None]
    design = torch.cat([p[0], torch.ones(12, 1, dtype=torch.float64)], dim=1)
    truth = np.linalg.lstsq((design * root).numpy(), (q[0] * root).numpy(), rcond=None)[0].T
    assert torch.allclose(found[:d], torch.as_tensor(truth), atol=1e-3)
    flat = p.clone()
    flat[..., 0] = 5.0
    matrix = AffineFit()(flat, flat + 1, w).matrix[0]
    assert torch.allclose(matrix[:d, :d], torch.eye(d, dtype=torch.float64), atol=1e-6)


@D
def test_spline_fit_equals_the_smoothing_spline_and_heeds_weights(d: int) -> None:
    p, q = points(d)[:1], points(d)[:1]
    even = torch.ones(1, 12, dtype=torch.float64)
    where = points(d)[1]
    expected = ThinPlateSpline(p[0], q[0], smoothing=0.3)(where)
    assert torch.allclose(SplineFit(0.3)(p, q, even)(where[None])[0], expected, atol=1e-6)
    heavy = even.clone()
    heavy[0, 0] = 1e5
    misses = (SplineFit(0.3)(p, q, heavy)(p) - q).norm(dim=-1)[0]
    assert float(misses[0]) < 0.1 < float(misses[1:].max())


@D
def test_keypoints_follow_the_image_and_weigh_items_apart(d: int) -> None:
    network = UNet(d, 1, 6, (4, 6), (6,), start=1.0)
    aligner = KeypointRegistrar(Keypoints(network), AffineFit())
    fixed = image(d, (16, 16, 16), 2)
    affine = fixed.space.affine.clone()
    affine[:d, d] += torch.tensor([30.0, -20.0, 10.0])[:d]
    moving = Image(fixed.data, Space(fixed.space.shape, affine))
    found = aligner(fixed, moving, Linear.identity(d))(fixed.space.centre.float()[None, None])
    assert torch.allclose(
        found[:, 0], (fixed.space.centre + affine[:d, d] - fixed.space.affine[:d, d]).float(), atol=1e-2
    )
    _, weights = aligner.keypoints(fixed)
    assert torch.allclose(weights.mean(dim=1), torch.ones(2))
    torch.autograd.grad(found.sum(), list(network.parameters()), allow_unused=True)


def posed(d: int, looks: int = 1) -> Posed:
    return Posed(ParameterNetwork(d, 1, d * d, (4, 6), 2, 8), size=16, looks=looks).eval()


def lopsided(d: int, batch: int = 2) -> Image:
    """Ellipsoids of different axes and tails, on an anisotropic grid."""
    space = Space.regular((24, 26, 22)[:d], (1.0, 1.2, 1.5)[:d])
    places = space.points()
    axes = torch.tensor([[5.0, 8.0, 11.0], [9.0, 6.0, 12.0]])[:batch, :d]
    inside = [(places / a).square().sum(dim=-1) + 0.02 * places[..., 0] for a in axes]
    return Image(torch.stack([(x < 1).float() for x in inside])[:, None], space)


@D
def test_a_pose_is_the_identity_from_zeros_and_always_a_rotation(d: int) -> None:
    assert torch.allclose(_pose(torch.zeros(3, d * d, dtype=torch.float64), d), torch.eye(d + 1).double())
    torch.manual_seed(0)
    turn = _pose(torch.randn(50, d * d, dtype=torch.float64), d)[:, :d, :d]
    assert torch.allclose(turn @ turn.mT, torch.eye(d).double().expand(50, d, d), atol=1e-9)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(50).double())
    assert float(turn[:, 0, 0].min()) < -0.5  # half a turn is within reach
    answer = torch.randn(2, d * d, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: _pose(a, d), (answer,))


@D
@pytest.mark.parametrize("looks", [1, 3])
@pytest.mark.parametrize("fit", [RigidFit(), AffineFit()], ids=["rigid", "affine"])
def test_posed_points_turn_shift_and_grow_with_the_image(d: int, fit: LandmarkFit, looks: int) -> None:
    torch.manual_seed(0)
    finder = posed(d, looks)
    torch.nn.init.normal_(finder.network.last.weight, 0, 0.3)  # any pose, but the same in both images
    fixed = lopsided(d)
    way = torch.eye(d + 1, dtype=torch.float64)
    spin = 0.2 * (torch.ones(d, d).triu(1) - torch.ones(d, d).tril(-1)).double()
    size = 1.3 if isinstance(fit, AffineFit) else 1.0
    way[:d, :d], way[:d, d] = size * torch.linalg.matrix_exp(spin), torch.tensor([50.0, -20.0, 10.0])[:d]
    moving = Image(fixed.data, Space(fixed.space.shape, way @ fixed.space.affine))
    found = KeypointRegistrar(finder, fit)(fixed, moving, Linear.identity(d))
    places = fixed.space.points().flatten(0, -2)[None]
    assert torch.allclose(found(places), Linear(way)(places).expand(2, -1, -1).to(places), atol=1e-3)
    loss = found(places).square().mean()
    gradients = torch.autograd.grad(loss, list(finder.network.parameters()))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


@D
def test_a_second_look_begins_at_the_first_answer(d: int) -> None:
    once, twice = posed(d), posed(d, 2)
    answer = torch.zeros(1, d * d)
    answer[:, -d] = 3.0  # always: the anatomy lies 0.3 radii further along the first axis
    for finder in (once, twice):
        finder.network.answer = lambda x: answer.expand(len(x), -1)  # type: ignore[method-assign]
    image = lopsided(d)
    start = own_frame(image)[:, :d, d]
    moved = [finder(image)[0].mean(dim=1) - start for finder in (once, twice)]
    assert torch.allclose(moved[1], 2 * moved[0]) and bool((moved[0].norm(dim=1) > 1).all())


@D
def test_lessons_turn_frames_round_and_lead_to_the_world(d: int) -> None:
    torch.manual_seed(0)
    finder, image = posed(d, 2), lopsided(d)
    still, _ = finder(image)
    lesson = finder.lesson(image)
    lengths = [(points[:, :1] - points[:, 1:]).norm(dim=-1) for points in (still, lesson)]
    assert torch.allclose(*lengths, rtol=1e-6)  # answers are still zero: turns and shifts, and a box stays a box
    assert float((lesson - still).detach().norm(dim=-1).min()) > 1e-3
    turns = _turned_round(400, d, torch.Generator().manual_seed(0))[:, :d, :d]
    assert torch.allclose(torch.linalg.det(turns), torch.ones(400).double())
    backwards = (turns.diagonal(dim1=1, dim2=2) < 0).sum(dim=1)
    assert bool(((backwards == 0) | (backwards == 2)).all())
    shares = torch.bincount(backwards, minlength=3) / 400
    assert abs(float(shares[2]) - (1 - 0.5 ** (d - 1))) < 0.1  # all ways to point the axes are as frequent
    upright = finder.as_it_lies(image)
    edges = upright[:, -1] - upright[:, 0]
    radius = own_frame(image)[:, :d, 0].norm(dim=1)
    assert torch.allclose(edges, 2 * radius[:, None] * torch.linspace(0.8, 1.2, d).double())


@D
def test_from_half_a_turn_away_a_lesson_leads_back(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    still = torch.eye(d + 1, dtype=torch.float64)
    monkeypatch.setattr(
        "registration.localisation.posed._turned_round", lambda count, d, generator: still.expand(count, -1, -1)
    )
    image, finder = lopsided(d, 1), posed(d)
    answer = torch.zeros(1, d * d, requires_grad=True)
    finder.network.answer = lambda x: answer  # type: ignore[method-assign]
    frame = own_frame(image)
    flip = torch.diag(torch.tensor([-1.0, -1.0, *[1.0] * (d - 1)])).double()
    wanted = Linear(frame @ flip @ torch.linalg.inv(frame))(finder(image)[0]).detach()
    slopes = []
    for corners in (finder(image)[0], finder.lesson(image)):
        loss = (corners - wanted).square().mean()
        slopes.append(float(torch.autograd.grad(loss, answer)[0].norm()))
    assert slopes[0] < 1e-6 < 1.0 < slopes[1]


@D
def test_a_pose_is_learnt_from_the_moving_image_as_it_lies(d: int) -> None:
    torch.manual_seed(0)
    finder = posed(d)
    torch.nn.init.normal_(finder.network.last.weight, 0, 0.3)
    aligner, start = PoseRegistrar(finder, RigidFit()), Linear.translation(torch.tensor([5.0, 3.0, -2.0])[:d].double())
    image = lopsided(d)
    there = finder.as_it_lies(image)
    torch.manual_seed(1)
    here = finder.lesson(image)
    torch.manual_seed(1)
    back = aligner.train()(image, image, start).inverse()
    assert torch.allclose(back(there), here, atol=1e-3)  # whatever the axes are
    aligner.eval()
    points = finder(image)[0]
    assert torch.allclose(aligner(image, image, start)(points), points, atol=1e-3)  # both are looked at


@D
def test_an_empty_image_has_a_frame(d: int) -> None:
    points, weights = posed(d)(Image(torch.zeros(1, 1, *(12,) * d), Space.regular((12,) * d, 1.0)))
    assert bool(torch.isfinite(points).all()) and weights.shape == points.shape[:2] == (1, 2**d)


@D
def test_noise_and_empty_space_do_not_turn_the_frame(d: int) -> None:
    clean = lopsided(d, 1)
    wide = torch.nn.functional.pad(clean.data, (20,) * (2 * d))
    space = Space.regular(tuple(wide.shape[2:]), clean.space.spacing.tolist())
    noisy = Image((wide + 0.08 * torch.rand(wide.shape, generator=torch.Generator().manual_seed(0))), space)
    one, other = own_frame(Image(wide, space))[0], own_frame(noisy)[0]
    assert float((one[:d, :d] - other[:d, :d]).norm() / one[:d, :d].norm()) < 0.05
    assert float((one[:d, d] - other[:d, d]).norm()) < 0.5


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (UNet, {"inputs": 2, "outputs": 2, "widths": [8, 0]}, r"widths takes whole numbers from 1, got \[8, 0\]"),
        (UNet, {"inputs": 2, "outputs": 2, "widths": []}, "at least one level"),
        (UNet, {"inputs": 2, "outputs": 2, "final": [1.5]}, "final takes whole numbers from 1"),
        (UNet, {"inputs": 0, "outputs": 2}, "inputs takes whole numbers from 1, got 0"),
        (UNet, {"inputs": 2, "outputs": None}, "outputs takes whole numbers from 1, got None"),
        (UNet, {"inputs": 2, "outputs": 2, "full": -1}, "full takes whole numbers from 0"),
        (ParameterNetwork, {"inputs": 2, "size": 0}, "size takes whole numbers from 1"),
        (ParameterNetwork, {"inputs": 2, "size": 6, "hidden": 1.5}, "hidden takes whole numbers from 1"),
        (MatchingPyramid, {"inputs": 2, "features": 0}, "features takes whole numbers from 1"),
        (MatchingPyramid, {"inputs": 2, "radius": -1}, "radius takes whole numbers from 0"),
        (MatchingPyramid, {"inputs": 2, "hidden": [24, 0, 48, 48]}, "hidden takes whole numbers from 1"),
    ],
)
def test_sizes_that_no_network_has_are_named(kind: type, given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(ndim=2, **given)


def test_numbers_that_no_pose_and_no_flow_has_are_named() -> None:
    network = ParameterNetwork(2, 1, 4, (4,), 2, 8)
    for given, words in (({"size": 1.5}, "size takes"), ({"reach": -1.0}, "reach is"), ({"looks": 0}, "looks takes")):
        with pytest.raises(ValueError, match=words):
            Posed(network, **given)  # type: ignore[arg-type]
    for steps in (-1, 1.5, None):
        with pytest.raises(ValueError, match="steps is a whole number from 0"):
            Velocity(2, steps)  # type: ignore[arg-type]
