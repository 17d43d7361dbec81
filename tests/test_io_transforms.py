"""The transform file: exact for us, and the same map for SimpleITK and ANTsPy."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.interpolate import RBFInterpolator

from registration.image import Image
from registration.io.exports import write_ants_warp, write_itk_affine, write_ras_matrix, write_slicer_tps
from registration.io.images import write_image
from registration.io.itk_images import set_geometry
from registration.io.transforms import read_transform, split_linear, write_transform
from registration.sampling import warp
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline

ORIENTATIONS = ["RAS", "LAS", "LIA", "LPS", "oblique"]
SHAPES = [(28, 24), (22, 18, 16), (22, 18, 1)]
SIGNS = {2: torch.tensor([-1.0, -1.0]).double(), 3: torch.tensor([-1.0, -1.0, 1.0]).double()}


def grid(orientation: str, shape: tuple[int, ...], spacing: tuple[float, ...] = (1.0, 1.4, 2.1)) -> Space:
    """An anisotropic grid with its centre near (12, -20, 31) mm."""
    d = len(shape)
    if orientation == "oblique":
        turn = torch.matrix_exp(torch.tensor([[0, -0.5, 0.2], [0.5, 0, -0.3], [-0.2, 0.3, 0]]).double()[:d, :d])
    else:
        letters = orientation if d == 3 else orientation.replace("I", "").replace("S", "")
        turn = torch.zeros(d, d, dtype=torch.float64)
        for axis, letter in enumerate(letters):
            turn[next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair), axis] = (
                1 if letter in "RAS" else -1
            )
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = turn * torch.tensor(spacing[:d]).double()
    middle = (torch.tensor(shape).double() - 1) / 2
    affine[:d, d] = torch.tensor([12.0, -20.0, 31.0]).double()[:d] - affine[:d, :d] @ middle
    return Space(shape, affine)


def linear(space: Space) -> Linear:
    """A small affine map about the centre of a grid."""
    d = space.ndim
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] += 0.08 * torch.randn(d, d, dtype=torch.float64)
    matrix[:d, d] = space.centre - matrix[:d, :d] @ space.centre + 0.7
    return Linear(matrix)


def spline(space: Space) -> ThinPlateSpline:
    points = space.centre + (torch.rand(20, space.ndim).double() - 0.5) * space.extent.clamp(min=20)
    return ThinPlateSpline(points, points + 0.8 * torch.randn_like(points), smoothing=0.05)


def gentle(space: Space) -> ThinPlateSpline:
    """So smooth that a coarse field would serve a tolerance of a few hundredths of a millimetre, not ours."""
    points = space.centre + 1.5 * (space.corners() - space.centre)
    return ThinPlateSpline(points, points + 1.5 * torch.randn_like(points))


def chains(space: Space) -> dict[str, Transform]:
    field = 0.5 * torch.randn(space.ndim, *space.shape)
    return {
        "affine": linear(space),
        "affine after spline": linear(space) @ spline(space),
        "spline after affine": spline(space) @ linear(space),
        "field": linear(space) @ DisplacementField(field, space),
        "inverse": linear(space) @ spline(space).inverse(),
        "gentle": gentle(space),
        "long": spline(space) @ linear(space) @ spline(space),
    }


def picture(space: Space) -> Image:
    return Image(torch.rand(1, 1, *space.shape), space)


def as_itk(image: Image) -> sitk.Image:
    result = sitk.GetImageFromArray(np.ascontiguousarray(image.data[0, 0].numpy().T))
    set_geometry(result, image.space.affine.numpy())
    return result


def random_points(space: Space, n: int = 50) -> torch.Tensor:
    """Points within the field of view."""
    index = torch.rand(n, space.ndim).double() * (torch.tensor(space.shape).double() - 1)
    return index @ space.affine[:-1, :-1].T + space.affine[:-1, -1]


@pytest.mark.parametrize("kind", ["affine", "affine after spline", "gentle", "long"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_simpleitk_resamples_as_we_do(tmp_path: Path, orientation: str, shape: tuple[int, ...], kind: str) -> None:
    """White noise, the hardest image: it changes by its whole range between neighbouring voxels."""
    fixed = grid(orientation, shape)
    moving = picture(
        grid(ORIENTATIONS[ORIENTATIONS.index(orientation) - 1], (26, 20, 17)[: len(shape)], (1.2, 0.9, 1.6))
    )
    transform = chains(fixed)[kind]
    write_transform(tmp_path / "transform.h5", transform, fixed, moving.space)
    ours, valid = warp(moving, transform, fixed)
    itk = sitk.Resample(
        as_itk(moving),
        as_itk(picture(fixed)),
        sitk.ReadTransform(str(tmp_path / "transform.h5")),
        sitk.sitkLinear,
        -1.0,
    )
    theirs = torch.from_numpy(sitk.GetArrayFromImage(itk).T.copy())
    common = valid[0, 0] & (theirs >= 0)
    # Only points within rounding of the edge may count as inside for one and outside for the other.
    assert (valid[0, 0] != (theirs >= 0)).sum() <= 2
    assert common.sum() > 0.2 * common.numel()
    assert (ours.data[0, 0] - theirs)[common].abs().max() < 1e-3


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("orientation", ["LIA", "oblique"])
def test_antspy_applies_the_same_file(tmp_path: Path, orientation: str, shape: tuple[int, ...]) -> None:
    ants = pytest.importorskip("ants")
    fixed, moving = picture(grid(orientation, shape)), picture(grid("RAS", (26, 20, 17)[: len(shape)]))
    transform = linear(fixed.space) @ spline(fixed.space)
    write_transform(tmp_path / "transform.h5", transform, fixed.space, moving.space)
    write_image(tmp_path / "fixed.nii.gz", fixed)
    write_image(tmp_path / "moving.nii.gz", moving)
    ours, valid = warp(moving, transform, fixed.space)
    theirs = ants.apply_transforms(
        ants.image_read(str(tmp_path / "fixed.nii.gz")),
        ants.image_read(str(tmp_path / "moving.nii.gz")),
        [str(tmp_path / "transform.h5")],
        interpolator="linear",
        defaultvalue=-1,
    )
    array = torch.from_numpy(theirs.numpy())
    common = valid[0, 0] & (array >= 0)
    assert common.sum() > 0.2 * common.numel()
    assert (ours.data[0, 0] - array)[common].abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["affine", "affine after spline", "spline after affine", "field", "inverse", "long"])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_the_chain_comes_back_exactly(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    fixed, moving = grid("oblique", shape), grid("LAS", (9, 8, 7)[: len(shape)])
    transform = chains(fixed)[kind]
    error = write_transform(tmp_path / "t.h5", transform, fixed, moving, {"seed": 3, "arguments": ["a", "b"]})
    back, info = read_transform(tmp_path / "t.h5")
    points = random_points(fixed)
    assert torch.equal(back(points), transform(points))
    assert info.exact
    assert info.provenance == {"seed": 3, "arguments": ["a", "b"]}
    assert info.field_error == error
    assert info.fixed is not None and info.fixed.digest() == fixed.digest()
    assert info.moving is not None and info.moving.digest() == moving.digest()
    with h5py.File(tmp_path / "t.h5") as store:
        assert b"fixed image" in store["registration"].attrs["direction"]


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_stated_error_holds_between_voxels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """SimpleITK moves points inside the field as the chain does, to the error the file states."""
    fixed = grid("LIA", shape)
    transform = linear(fixed) @ spline(fixed)
    inner = split_linear(transform)[1]
    assert inner is not None
    error = write_transform(tmp_path / "t.h5", transform, fixed, fixed)
    theirs = sitk.ReadTransform(str(tmp_path / "t.h5"))
    points, flip = random_points(fixed, 300), SIGNS[len(shape)]
    moved = torch.tensor([theirs.TransformPoint(p.tolist()) for p in points * flip]) * flip
    gap = (moved - transform(points)).norm(dim=1)
    # The outer affine stretches by a few percent, and the stated error was measured at other random points.
    assert gap.max() < 1.5 * error["between_max_mm"] + 1e-6
    assert 0.5 * error["between_mean_mm"] < gap.mean() < 2 * error["between_mean_mm"]
    assert error["max_mm"] < 1e-2


def test_a_smooth_map_gets_a_small_field(tmp_path: Path) -> None:
    fixed = Space.regular((48, 40, 36), 1.0)
    points = fixed.resized((3, 3, 3)).points().reshape(-1, 3)
    transform = ThinPlateSpline(points, points + 0.4 * torch.randn_like(points), 0.1)
    sizes = {}
    for tolerance in (None, 0.1):
        error = write_transform(tmp_path / "t.h5", transform, fixed, fixed, tolerance=tolerance)
        sizes[tolerance] = (tmp_path / "t.h5").stat().st_size
        assert error["max_mm"] <= (tolerance or 0.003)
        if tolerance is not None:
            # The coarse field reaches beyond the border voxels, to the edges of the field of view.
            corners, theirs = 0.99 * fixed.corners(), sitk.ReadTransform(str(tmp_path / "t.h5"))
            there = torch.tensor([theirs.TransformPoint(p.tolist()) for p in corners * SIGNS[3]]) * SIGNS[3]
            torch.testing.assert_close(there, transform(corners), atol=0.003, rtol=0)
    assert sizes[0.1] < sizes[None] / 4


def itk_samples() -> dict[str, sitk.Transform]:
    affine = sitk.AffineTransform(3)
    affine.SetCenter((1, 2, 3))
    affine.SetMatrix((1.1, 0.1, 0, 0, 0.9, 0.2, 0.1, 0, 1))
    affine.SetTranslation((4, 5, 6))
    euler = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    flat = sitk.Euler2DTransform((1, 2), 0.4, (3, 4))
    similarity = sitk.Similarity3DTransform(1.2, (0, 0, 1), 0.3, (1, 2, 3), (4, 5, 6))
    versor = sitk.VersorRigid3DTransform((0.1, 0.2, 0.3, 0.9), (1, 2, 3))
    moved = sitk.TranslationTransform(3, (1, 2, 3))
    field = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(6, 7, 8, 3)), isVector=True)
    field.SetSpacing((3, 4, 5))
    field.SetOrigin((-10, -12, -9))
    displaced = sitk.DisplacementFieldTransform(field)
    bspline = sitk.BSplineTransformInitializer(sitk.Image(30, 30, 30, sitk.sitkFloat32), (4, 4, 4))
    bspline.SetParameters(np.random.default_rng(0).normal(size=len(bspline.GetParameters())).tolist())
    return {
        "affine": affine,
        "euler": euler,
        "flat": flat,
        "similarity": similarity,
        "versor": versor,
        "translation": moved,
        "displaced": displaced,
        "bspline": bspline,
        "composite": sitk.CompositeTransform([affine, displaced, euler]),
    }


@pytest.mark.parametrize("ending", ["tfm", "txt", "h5", "mat"])
@pytest.mark.parametrize("name", sorted(itk_samples()))
def test_reads_what_itk_writes(tmp_path: Path, name: str, ending: str) -> None:
    if ending == "mat" and name == "composite":
        pytest.skip("ITK writes no composite into .mat")
    theirs = itk_samples()[name]
    file = tmp_path / f"t.{ending}"
    sitk.WriteTransform(theirs, str(file))
    ours, info = read_transform(file)
    assert not info.exact
    d = theirs.GetDimension()
    inside = torch.rand(30, d).double() * 20 + (torch.tensor([1.0] * d) if name == "bspline" else -8)
    expected = torch.tensor([theirs.TransformPoint(p.tolist()) for p in inside * SIGNS[d]]) * SIGNS[d]
    if name == "bspline":
        inside = inside * SIGNS[d]  # its domain is positive in LPS
        expected = torch.tensor([theirs.TransformPoint(p.tolist()) for p in inside * SIGNS[d]]) * SIGNS[d]
        assert "B-spline" in info.notices[0]
    torch.testing.assert_close(ours(inside), expected, atol=2e-2 if name == "bspline" else 1e-5, rtol=0)


def test_reads_ants_results(tmp_path: Path) -> None:
    """A forward affine and warp, as the list ANTs returns, lead where ANTs leads."""
    ants = pytest.importorskip("ants")
    fixed = grid("LIA", (22, 18, 14))
    warped = linear(fixed) @ spline(fixed)
    write_ants_warp(tmp_path / "1Warp.nii.gz", warped, fixed)
    write_itk_affine(tmp_path / "0Affine.mat", linear(fixed))
    points = random_points(fixed, 20)
    flip = SIGNS[3]
    for name in ("1Warp.nii.gz", "0Affine.mat"):
        ours, _ = read_transform(tmp_path / name)
        theirs = (
            ants.read_transform(str(tmp_path / name))
            if name.endswith("mat")
            else ants.transform_from_displacement_field(ants.image_read(str(tmp_path / name)))
        )
        expected = torch.tensor([list(theirs.apply_to_point(p.tolist())) for p in points * flip]) * flip
        torch.testing.assert_close(ours(points), expected, atol=1e-3, rtol=0)
    node = fixed.points().reshape(-1, 3)[::97].double()
    torch.testing.assert_close(read_transform(tmp_path / "1Warp.nii.gz")[0](node), warped(node), atol=1e-2, rtol=0)


@pytest.mark.parametrize("shape", SHAPES[:2])  # of one slice, ITK makes a 2-D image of 3-D vectors
def test_warp_image_is_read_by_simpleitk(tmp_path: Path, shape: tuple[int, ...]) -> None:
    fixed = grid("LAS", shape)
    transform = linear(fixed) @ spline(fixed)
    write_ants_warp(tmp_path / "Warp.nii.gz", transform, fixed)
    image = sitk.ReadImage(str(tmp_path / "Warp.nii.gz"), sitk.sitkVectorFloat64)
    theirs, flip = sitk.DisplacementFieldTransform(image), SIGNS[len(shape)]
    node = fixed.points().reshape(-1, len(shape))[5::31].double()
    moved = torch.tensor([theirs.TransformPoint(p.tolist()) for p in node * flip]) * flip
    torch.testing.assert_close(moved, transform(node), atol=1e-2, rtol=0)
    torch.testing.assert_close(read_transform(tmp_path / "Warp.nii.gz")[0](node), transform(node), atol=1e-2, rtol=0)
    vectors = sitk.ReadImage(str(tmp_path / "Warp.nii.gz"))
    sitk.WriteImage(vectors, str(tmp_path / "Warp.mha"))
    torch.testing.assert_close(read_transform(tmp_path / "Warp.mha")[0](node), transform(node), atol=1e-2, rtol=0)


@pytest.mark.parametrize("d", [2, 3])
def test_matrices(tmp_path: Path, d: int) -> None:
    transform = linear(grid("LPS", (8, 7, 6)[:d]))
    write_ras_matrix(tmp_path / "ras.txt", transform)
    back, _ = read_transform(tmp_path / "ras.txt")
    assert isinstance(back, Linear) and torch.equal(back.matrix, transform.matrix)
    for name in ("itk.tfm", "itk.mat", "itk.txt"):
        write_itk_affine(tmp_path / name, transform)
        back, _ = read_transform(tmp_path / name)
        points = torch.randn(10, d).double() * 50
        torch.testing.assert_close(back(points), transform(points), atol=1e-9, rtol=0)


def test_slicer_spline_is_the_same_map(tmp_path: Path) -> None:
    """The text is evaluated here by SciPy with ITK's definition: parameters are sources, fixed parameters targets."""
    fixed = grid("oblique", (20, 20, 20))
    transform = linear(fixed) @ spline(fixed)
    write_slicer_tps(tmp_path / "t.tfm", transform)
    lines = dict(line.split(": ", 1) for line in (tmp_path / "t.tfm").read_text().splitlines() if ": " in line)
    assert lines["Transform"] == "ThinPlateSplineKernelTransform_double_3_3"
    sources, targets = (np.array(lines[k].split(), float).reshape(-1, 3) for k in ("Parameters", "FixedParameters"))
    theirs = RBFInterpolator(sources, targets, kernel="linear", degree=1)
    points = random_points(fixed)
    expected = theirs((points * SIGNS[3]).numpy()) * SIGNS[3].numpy()
    np.testing.assert_allclose(transform(points), expected, atol=1e-8)


def test_batches_are_refused_but_a_batch_of_one_is_not(tmp_path: Path) -> None:
    space = grid("RAS", (8, 8, 8))
    one = Linear(linear(space).matrix[None])
    write_transform(tmp_path / "t.h5", one, space, space)
    back, _ = read_transform(tmp_path / "t.h5")
    assert isinstance(back, Linear) and torch.equal(back.matrix, one.matrix[0])
    with pytest.raises(ValueError, match="batch of 2"):
        write_transform(tmp_path / "t.h5", Linear(one.matrix.repeat(2, 1, 1)), space, space)


def test_provenance_is_plain_json(tmp_path: Path) -> None:
    space = grid("RAS", (8, 8))
    write_transform(tmp_path / "t.h5", linear(space), space, space, {"path": Path("a"), "n": 1})
    with h5py.File(tmp_path / "t.h5") as store:
        assert json.loads(store["registration/provenance"][()]) == {"path": "a", "n": 1}
