"""Stages and pipelines on phantoms: what they reach, what they refuse, and that they repeat themselves."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

import registration
from registration import pairwise
from registration.evaluation.metrics import folding_percent
from registration.families import Affine, Rigid
from registration.image import Image
from registration.losses import (
    LocalNormalisedCrossCorrelation,
    MeanSquaredError,
    MutualInformation,
    NormalisedCrossCorrelation,
    NormalisedGradientFields,
    SelfSimilarityContext,
    Similarity,
)
from registration.pairwise import (
    CentresOfMass,
    Descent,
    Header,
    LinearStage,
    Pair,
    Pipeline,
    QuasiNewton,
    Silent,
    SplineLevel,
    SplineStage,
    presets,
)
from registration.phantom import PhantomPair, oblique_space, phantom_pair
from registration.space import Space
from registration.transforms.base import Transform, parts_of
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def phantom(ndim: int, seed: int = 0, deformation: float = 7.0) -> PhantomPair:
    spaces = [
        oblique_space((44, 40, 24)[:ndim], (4.0, 4.4, 7.0)[:ndim], 20, flips=[0]),
        oblique_space((40, 46, 30)[:ndim], (4.2, 4.0, 6.0)[:ndim], -15),
    ]
    return phantom_pair(spaces[0], spaces[1], seed=seed, deformation=deformation, noise=0.01)


def distance(found: PhantomPair, transform: Transform) -> float:
    return float((transform(found.fixed_points) - found.moving_points).norm(dim=-1).mean())


def spline(bending: float = 0.03, iterations: int = 60) -> SplineStage:
    levels, descent = [SplineLevel(2, 8), SplineLevel(1, 12)], QuasiNewton(iterations, tolerance=1e-4)
    return SplineStage("tps", LocalNormalisedCrossCorrelation(2), levels, bending, descent=descent)


@pytest.mark.parametrize("ndim", [2, 3])
def test_each_stage_comes_closer_to_the_truth_on_oblique_grids(ndim: int) -> None:
    found = phantom(ndim)
    affine = LinearStage("affine", Affine(), MutualInformation(), (2, 1))
    result = Pipeline(CentresOfMass(), [affine, spline()])(found.fixed, found.moving)
    linear = Pipeline(CentresOfMass(), [affine])(found.fixed, found.moving)
    distances = [distance(found, t) for t in (result.initial, linear.transform, result.transform)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.6 * distances[1]
    assert folding_percent(result.transform, found.fixed.space) < 0.05
    assert [report.name for report in result.stages] == ["affine", "tps"]
    assert all(report.loss_after < report.loss_before for report in result.stages)


@pytest.mark.parametrize("descent", [QuasiNewton(), Descent(iterations=80)], ids=["quasi-Newton", "Adam"])
def test_the_optimiser_is_replaceable(descent: Descent | QuasiNewton) -> None:
    found = phantom(3, deformation=0.0)
    stage = LinearStage("affine", Affine(), MutualInformation(), (2, 1), descent)
    transform, _ = stage(Pair(found.fixed, found.moving), Linear.identity(3), Silent())
    assert distance(found, transform) < 1.0  # of voxels of 4 mm and more


def test_a_nonlinear_start_is_refined_not_replaced() -> None:
    found = phantom(3)
    corners = found.fixed.space.corners()
    points = torch.cat([corners, corners / 2])
    bent = ThinPlateSpline(points, points + 2 * torch.randn(len(points), 3, dtype=torch.float64))
    start = CentresOfMass()(Pair(found.fixed, found.moving)) @ bent
    for stage in (LinearStage("rigid", Rigid(), MutualInformation(), (2,)), spline(iterations=20)):
        transform, report = stage(Pair(found.fixed, found.moving), start, Silent())
        assert report.loss_after < report.loss_before
        assert any(isinstance(part, ThinPlateSpline) for part in parts_of(transform))
    assert distance(found, transform) < 0.7 * distance(found, start)


def test_the_mask_decides_what_is_aligned() -> None:
    """A bright block that moved the other way draws the images along, unless the mask leaves it out."""
    fixed, moving = torch.zeros(2, 48, 48, 24)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in fixed.shape), indexing="ij")).float()
    for image, shift, block in ((fixed, 0, 30), (moving, 3, 26)):
        centre = torch.tensor([14.0 + shift, 24, 12])[:, None, None, None]
        image += torch.exp(-((grid - centre) ** 2).sum(0) / 50)
        image[block + 4 : block + 14, 6:42, 4:20] += 1
    space = Space.regular(fixed.shape)
    mask = torch.zeros(fixed.shape)
    mask[:28] = 1
    stage = LinearStage("rigid", Rigid(), MeanSquaredError(), (2, 1))
    moves = []
    for chosen in (None, mask):
        pair = Pair(Image.of(fixed, space).with_mask(chosen), Image.of(moving, space).with_mask(chosen))
        transform, _ = stage(pair, Linear.identity(3), Silent())
        moves.append(float(transform(torch.tensor([[-10.0, 0, 0]]))[0, 0]) + 10)
    assert moves[0] < 0 and moves[1] == pytest.approx(3, abs=0.3)


def test_a_stage_that_escapes_is_refused() -> None:
    """Flat against a ramp of another level: mean squares are least where nothing overlaps but one edge."""
    ramp = torch.linspace(0, 1, 40)[:, None, None].expand(40, 32, 32).contiguous()
    low = torch.zeros(40, 32, 32)
    low[-2:] = 1
    notes = Notes()
    pair = Pair(Image.of(low), Image.of(ramp))
    stage = LinearStage("affine", Affine(), MeanSquaredError(), (2, 1))
    transform, report = stage(pair, Linear.identity(3), notes)
    stretch = torch.linalg.svdvals(transform.jacobian(torch.zeros(1, 3))[0])
    assert pair.overlap(transform) >= 0.6
    assert 0.5 <= float(stretch[-1]) <= float(stretch[0]) <= 2
    if notes.told:
        assert "kept" in notes.told[0] and report.loss_after == report.loss_before


def test_images_that_do_not_match_do_not_fold_the_spline() -> None:
    generator = torch.Generator().manual_seed(0)
    fixed, moving = (Image.of(torch.rand(16, 16, 16, generator=generator)) for _ in range(2))
    stage = SplineStage("tps", LocalNormalisedCrossCorrelation(2), [SplineLevel(1, 8)], bending=1e-4)
    torch.set_num_threads(1)  # several on so few voxels only wait for each other
    notes = Notes()
    transform, _ = stage(Pair(fixed, moving), Linear.identity(3), notes)
    assert folding_percent(transform, fixed.space) < 0.1
    assert any("folds" in text for text in notes.told)


def test_no_common_field_of_view_is_refused() -> None:
    here = Image.of(torch.rand(20, 20, 20), name="here")
    far = torch.eye(4, dtype=torch.float64)
    far[0, 3] = 500
    there = Image.of(torch.rand(20, 20, 20), Space((20, 20, 20), far), name="there")
    with pytest.raises(ValueError, match="there does not meet here"):
        Pipeline(Header(), [])(here, there)
    assert Pipeline(CentresOfMass(), [])(here, there).transform is not None


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_voxel_and_a_batch_are_no_images_to_register(ndim: int) -> None:
    image, voxel = Image.of(torch.rand((9,) * ndim)), Image.of(torch.rand((1,) * ndim), name="dot")
    for pair in ((voxel, image), (image, voxel)):
        with pytest.raises(ValueError, match=r"dot has one voxel, \(1, .*: there is nothing in it to align"):
            pairwise.register(*pair)
    several = Image(image.data.repeat(2, 1, *[1] * ndim), image.space, name="both")
    with pytest.raises(ValueError, match="both is a batch of 2 images"):
        pairwise.register(image, several)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_same_again_to_the_bit_and_with_any_threads_nearly(ndim: int) -> None:
    found = phantom(ndim, seed=2)
    stages = [LinearStage("affine", Affine(), MutualInformation(), (4, 2)), spline(iterations=10)]
    points = found.fixed.space.points()

    def run(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        return Pipeline(CentresOfMass(), stages)(found.fixed, found.moving).transform(points)

    first, again, alone = run(2), run(2), run(1)
    assert torch.equal(first, again)
    moves = first - points
    assert float((first - alone).abs().max()) < 1e-6 * float(moves.max() - moves.min())


@pytest.mark.parametrize("shape", [(300, 310), (50, 60, 40)])
@pytest.mark.parametrize(
    "loss",
    [
        MeanSquaredError(),
        NormalisedCrossCorrelation(),
        LocalNormalisedCrossCorrelation(2),
        MutualInformation(),
        SelfSimilarityContext(),
        NormalisedGradientFields(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_losses_are_the_same_to_the_bit_with_any_threads(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = torch.rand(2, 1, 1, *shape)
    warped.requires_grad_()
    # Large enough that torch gives every thread a part, off the multiples of what they are cut by.
    for mask in (None, torch.rand(1, 1, *shape) > 0.2):
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            value = loss(warped, fixed, mask)
            results.append((value.detach(), *torch.autograd.grad(value.sum(), warped)))
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_is_no_image_is_told_with_what_makes_one() -> None:
    image, still = phantom(3).fixed, Linear.identity(3)
    array = np.zeros((4, 4, 4))
    for given, came in (
        ("a.nii.gz", r"str \('a.nii.gz'\)"), (Path("b.nii"), r"PosixPath \('b.nii'\)"), (array, "numpy.ndarray"),
        (nib.Nifti1Image(array, np.eye(4)), "nibabel.nifti1.Nifti1Image"), (None, "NoneType"),
    ):  # fmt: skip
        for role, call in (
            ("fixed", lambda it: registration.register(it, image)),
            ("moving", lambda it: registration.register(image, it)),
            ("moving", lambda it: registration.warp(it, still, image.space)),
            ("image", lambda it: registration.write_image("a.nii.gz", it)),
            ("fixed", lambda it: registration.judge_result(it, image, pairwise.Result(still, still, ()))),
        ):  # fmt: skip
            with pytest.raises(TypeError, match=f"^{role}: expected a registration.Image, got .*{came}; .*read_image"):
                call(given)
    with pytest.raises(TypeError, match=r"^initial: expected a registration.Transform, got str .*read_transform"):
        registration.register(image, image, initial="start.h5")
    with pytest.raises(TypeError, match=r"^transform: .*read_transform"):
        registration.warp(image, "transform.h5", image.space)
    with pytest.raises(TypeError, match=r"^onto: expected a registration.Space, .*image.space"):
        registration.warp(image, still, image)
    with pytest.raises(TypeError, match=r"^fixed: expected a registration.Space, got .*image.Image; .*image.space"):
        registration.write_transform("a.h5", still, image, image)


def test_one_call_from_python_with_an_own_start() -> None:
    found = phantom(3)
    stages = [LinearStage("rigid", Rigid(), MutualInformation(), (2, 1))]
    start = CentresOfMass()(Pair(found.fixed, found.moving))
    result = pairwise.register(found.fixed, found.moving, stages, initial=start)
    assert result.initial is start and distance(found, result.transform) < distance(found, start)


def slab_of_another_contrast(seed: int) -> tuple[PhantomPair, Image]:
    """A whole head, and thick slices through the middle of another view of it, posed and of other contrast."""
    space = oblique_space((64, 72, 60), [200 / 72] * 3, 0)
    thick = oblique_space((50, 56, 16), [3.5, 3.5, 5.0], 12)
    pair = phantom_pair(space, thick, seed, deformation=0.0)
    return pair, pair.moving.with_data(1 - (pair.moving.data - 0.3).abs())


@pytest.mark.parametrize("seed", range(3))
def test_a_slab_is_aligned_as_well_whichever_part_it_takes(seed: int) -> None:
    pair, slab = slab_of_another_contrast(seed)
    there = pairwise.register(pair.fixed, slab, presets.default().affine()).transform
    back = pairwise.register(slab, pair.fixed, presets.default().affine()).transform
    points = pair.fixed_points
    assert torch.allclose(there(points), back.inverse()(points), atol=0.2)
    seen = (pair.moving_points - slab.space.centre).norm(dim=1) < 40
    assert float((there(points) - pair.moving_points)[seen].norm(dim=1).mean()) < 1.0
