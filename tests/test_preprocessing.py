"""Steps of preprocessing keep the world in place, in any orientation and spacing, in 2-D and 3-D."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from registration.errors import InputError
from registration.image import Image
from registration.phantom import oblique_space
from registration.preprocessing import (
    ApplyMask,
    BiasCorrection,
    CropOrPad,
    ForegroundMask,
    MatchHistogram,
    Pipeline,
    Reorient,
    Resample,
    RobustScale,
    Shrink,
    Step,
    carry_labels,
)
from registration.preprocessing.intensity import quantiles
from registration.space import Space

SPACES = {
    "2-D": Space.regular((40, 30), (1.0, 1.5)),
    "2-D turned and flipped": oblique_space((36, 44), (1.2, 0.8), 25, flips=(0,)),
    "3-D": Space.regular((24, 26, 28), 1.5),
    "3-D oblique, anisotropic": oblique_space((26, 30, 14), (1.1, 1.0, 2.6), 20, flips=(1,)),
    "3-D on its side": Space(
        (20, 30, 24), torch.tensor([[0, 0, -1.3, 15], [0, 1.0, 0, -15], [-1.6, 0, 0, 14], [0, 0, 0, 1.0]])
    ),
}
STEPS: dict[str, Callable[[int], Step]] = {
    "reorient": lambda d: Reorient("RAS"),
    "reorient to LPI": lambda d: Reorient("LPI"),
    "finer": lambda d: Resample(0.7),
    "coarser": lambda d: Resample(2.0),
    "blocks": lambda d: Shrink(2.0),
    "other spacing per axis": lambda d: Resample((1.0, 1.7, 0.8)[:d]),
    "crop and pad": lambda d: CropOrPad((31, 22, 33)[:d]),
    "scale": lambda d: RobustScale(0.0, 1.0),
    "foreground": lambda d: ForegroundMask(),
    "skull": lambda d: ApplyMask(),
    "bias": lambda d: BiasCorrection(shrink=2, iterations=(10,)),
    "histogram": lambda d: MatchHistogram((0.0, 0.0, 0.1, 1.0)),
}


def landmark_of(space: Space) -> Tensor:
    return space.centre + torch.tensor([3.0, -2.0, 1.5])[: space.ndim].double()


def blob(space: Space, width: float = 3.0) -> Image:
    """A bright spot at the landmark, wide enough for every grid here, with a mask of the field of view."""
    distance = (space.points(torch.zeros(0, dtype=torch.float64)) - landmark_of(space)).square().sum(dim=-1)
    return Image.of(torch.exp(-distance / (2 * width**2)).float(), space, "blob")


def centroid(image: Image, floor: float = 0.3) -> Tensor:
    """(D,) centre of mass of what is well above the background, RAS mm."""
    weights = (image.data[0, 0].double() - floor).clamp(min=0)
    points = image.space.points(weights)
    return (weights[..., None] * points).flatten(0, -2).sum(dim=0) / weights.sum()


@pytest.mark.parametrize("where", SPACES)
@pytest.mark.parametrize("what", STEPS)
def test_a_landmark_stays_where_it_is(where: str, what: str) -> None:
    image = blob(SPACES[where])
    image = image.with_mask(torch.ones(image.space.shape))
    after = STEPS[what](image.ndim)(image)
    scaled = after.with_data(after.data / after.data.max())
    # N4 takes the slope of a lone spot for a bias field, in part, which shifts its weight but not its place.
    allowed = 0.5 if what == "bias" else 0.1
    assert float((centroid(scaled) - landmark_of(image.space)).norm()) < allowed
    assert after.name == image.name and after.mask is not None and after.data.dtype == torch.float32


@pytest.mark.parametrize("where", SPACES)
def test_mask_and_labels_stay_with_the_image(where: str) -> None:
    image = blob(SPACES[where])
    inside = image.data > 0.1
    labels = Image(inside.float() * 3, image.space, name="labels")
    d = image.ndim
    pipeline = Pipeline([Reorient("LAS"), Resample(0.9), CropOrPad((44, 40, 46)[:d])])
    after = pipeline(image.with_mask(inside))
    carried = carry_labels(labels, after.space)
    assert set(carried.data.unique().tolist()) == {0.0, 3.0}
    for found in (after.mask, carried.data > 0):
        assert found is not None
        truth = after.data > 0.1
        dice = 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
        assert dice > 0.85  # a ball of four voxels across, cut at voxels


@pytest.mark.parametrize("where", SPACES)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_reorientation_moves_no_value(where: str, codes: str) -> None:
    import nibabel as nib

    image = blob(SPACES[where])
    after = Reorient(codes)(image)
    assert sorted(after.data.flatten().tolist()) == sorted(image.data.flatten().tolist())
    assert after.space.corners().sum(dim=0).allclose(image.space.corners().sum(dim=0))
    assert torch.equal(Reorient(codes)(after).space.affine, after.space.affine)
    if image.ndim == 3:
        assert "".join(nib.aff2axcodes(after.space.affine.numpy())) == codes
        plain = nib.Nifti1Image(image.data[0, 0].numpy(), image.space.affine.numpy())
        wanted = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(plain.affine), nib.orientations.axcodes2ornt(codes)
        )
        reference = plain.as_reoriented(wanted)
        np.testing.assert_array_equal(reference.get_fdata(dtype=np.float32), after.data[0, 0].numpy())
        np.testing.assert_allclose(reference.affine, after.space.affine.numpy(), atol=1e-9)


@given(size=st.integers(1, 12), wanted=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_crop_or_pad_is_centred_and_repeats_the_border(size: int, wanted: int) -> None:
    line = torch.arange(1.0, size + 1)
    image = Image.of(line[:, None].expand(size, 3).clone(), Space.regular((size, 3)))
    after = CropOrPad((wanted, 3), mask_padding=True)(image)
    row = after.data[0, 0, :, 0]
    if wanted >= size:
        before = (wanted - size) // 2
        expected = np.pad(line.numpy(), (before, wanted - size - before), mode="edge")
        np.testing.assert_array_equal(row.numpy(), expected)
        if wanted > size:
            assert after.mask is not None and int(after.mask.sum()) == 3 * size
    else:
        start = (size - wanted) // 2
        assert torch.equal(row, line[start : start + wanted])
    old, new = image.space, after.space
    first = int(row[0]) - 1 if wanted < size else 0
    at = (wanted - size) // 2 if wanted >= size else 0
    assert torch.allclose(new.points()[at, 0], old.points()[first, 0])


def test_resampling_equals_simpleitk_where_nothing_is_smoothed() -> None:
    import SimpleITK as sitk

    image = blob(SPACES["3-D oblique, anisotropic"])
    after = Resample(0.9)(image)  # finer along every axis
    assert torch.allclose(after.space.spacing, torch.full((3,), 0.9, dtype=torch.float64))
    assert torch.allclose(after.space.centre, image.space.centre)
    flip = np.diag([-1.0, -1.0, 1.0])

    def itk(x: Image) -> sitk.Image:
        result = sitk.GetImageFromArray(x.data[0, 0].numpy().transpose())
        affine, spacing = x.space.affine.numpy(), x.space.spacing.numpy()
        result.SetSpacing(spacing.tolist())
        result.SetOrigin((flip @ affine[:3, 3]).tolist())
        result.SetDirection((flip @ affine[:3, :3] / spacing).ravel().tolist())
        return result

    reference = sitk.GetArrayFromImage(sitk.Resample(itk(image), itk(after))).transpose()
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(after.data[0, 0].numpy()[inside], reference[inside], atol=2e-6)


def test_coarser_is_antialiased() -> None:
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 1.0
    after = Resample(3.0)(Image.of(board, Space.regular((64, 64))))
    assert float((after.data - 0.5).abs().max()) < 0.1


@given(
    shape=st.lists(st.integers(1, 17), min_size=2, max_size=3),
    wanted=st.floats(0.3, 9.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_blocks_are_means_of_whole_voxels(shape: list[int], wanted: float, seed: int) -> None:
    space = oblique_space(tuple(shape), (1.0, 1.4, 2.0)[: len(shape)], 25)
    image = Image.of(torch.rand(shape, generator=torch.Generator().manual_seed(seed)), space)
    after = Shrink(wanted)(image)
    blocks = [min(n, max(1, round(wanted / s))) for n, s in zip(shape, space.spacing.tolist(), strict=True)]
    cut = image.data[0, 0].numpy()
    for axis, (n, k) in enumerate(zip(shape, blocks, strict=True)):
        first = (n % k) // 2
        cut = np.stack(
            [part.mean(axis) for part in np.split(cut.take(range(first, first + n // k * k), axis), n // k, axis)], axis
        )
    np.testing.assert_allclose(after.data[0, 0].numpy(), cut, atol=1e-6)
    assert torch.allclose(after.space.spacing, space.spacing * torch.tensor(blocks))
    # The world stays: what is left out is less than a voxel on one side more than on the other.
    away = torch.linalg.inv(space.affine[:-1, :-1]) @ (after.space.centre - space.centre)
    assert float(away.abs().max()) <= 0.5 + 1e-9


def test_few_quantiles_are_those_of_many() -> None:
    values = torch.rand(1001, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    shares = (0.0, 0.005, 0.5, 1.0)
    assert torch.equal(quantiles(values, shares), quantiles(values, (*shares, 0.1, 0.2))[:4])


def test_scaling_ignores_outliers_and_what_is_outside_the_mask() -> None:
    values = torch.linspace(10, 20, 900).reshape(30, 30).clone()
    mask = torch.ones(30, 30)
    mask[25:] = 0
    values[25:] = 1000
    values[0, 0] = -500
    after = RobustScale()(Image.of(values).with_mask(mask)).data[0, 0]
    assert float(after.min()) >= 0 and float(after.max()) == 1
    assert float(after[12, 15]) == pytest.approx(0.5, abs=0.02)
    loose = RobustScale(clip=False)(Image.of(values).with_mask(mask)).data
    assert float(loose.max()) > 10 and float(loose.min()) < -10
    assert not bool(RobustScale()(Image.of(torch.full((5, 5), 7.0))).data.any())


def test_histogram_matching() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = Image.of(torch.rand(60, 60, generator=generator) ** 2 * 50 + 3)
    image = Image.of(torch.randn(60, 60, generator=generator))
    step = MatchHistogram.like(reference)
    after = step(image)
    shares = torch.linspace(0.02, 0.98, 25)
    difference = after.data.flatten().quantile(shares) - reference.data.flatten().quantile(shares)
    assert float(difference.abs().max()) < 1.0
    order = image.data.flatten().argsort()
    assert bool((after.data.flatten()[order].diff() >= 0).all())  # rank by rank the same
    assert float((step(reference).data - reference.data).abs().max()) < 0.2  # its own histogram
    black = image.with_data(image.data.clamp(min=0))  # half of all quantiles are equal
    assert torch.isfinite(step(black).data).all()


def test_n4_takes_a_bias_field_away() -> None:
    space = Space.regular((48, 40, 12), (2.0, 2.0, 4.0))
    points = space.points()
    object_ = ((points / torch.tensor([40.0, 34.0, 22.0])).square().sum(dim=-1) < 1).float()
    tissue = 100 * object_ * (1 + (points[..., 0] > 5).float())
    field = torch.exp(0.012 * points[..., 1])
    dark = Image.of(tissue * field, space)
    after = BiasCorrection(shrink=2, iterations=(30, 30))(dark)

    def spread(x: Tensor) -> float:
        inside = x[(object_ > 0) & (points[..., 0] < 0)]
        return float(inside.std() / inside.mean())

    assert spread(after.data[0, 0]) < 0.4 * spread(dark.data[0, 0])
    with pytest.raises(InputError, match=r"ct: has negative values.*MR"):
        BiasCorrection()(Image.of(torch.randn(16, 16), name="ct"))


def test_skull_is_taken_off_by_the_mask() -> None:
    image = blob(SPACES["2-D"])
    masked = image.with_mask(image.data > 0.5)
    after = ApplyMask(fill=-1)(masked)
    assert bool((after.data[~(image.data > 0.5)] == -1).all()) and torch.equal(ApplyMask()(image).data, image.data)
    with pytest.raises(InputError, match="blob: has no mask"):
        ApplyMask(needed=True)(image)
    found = ForegroundMask()(image).mask
    assert found is not None and 0.02 < float(found.float().mean()) < 0.5


def test_a_pipeline_survives_json() -> None:
    pipeline = Pipeline(
        {"turn": Reorient("LPS"), "off": None, "grid": Resample([1, 2.0]), "box": CropOrPad((20, 24)),
         "tone": MatchHistogram.like(blob(SPACES["2-D"]), 8), "scale": RobustScale()}
    )  # fmt: skip
    text = json.dumps(pipeline.config())
    again = Pipeline.from_config(json.loads(text))
    image = blob(SPACES["2-D turned and flipped"])
    assert torch.equal(again(image).data, pipeline(image).data)
    assert again(image).space.same_as(pipeline(image).space, 0)
    assert again.digest() == pipeline.digest() != Pipeline([Reorient("LPS")]).digest()
    assert json.dumps(again.config()) == text and "off" not in again.config()
    swapped = Pipeline({"a": RobustScale(), "b": Reorient()})
    assert swapped.digest() != Pipeline({"b": Reorient(), "a": RobustScale()}).digest()


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"a": {"kind": "Resampel", "spacing": 1}}, "did you mean Resample"),
        ({"a": {"kind": "Resample", "spacing": -1}}, "positive length"),
        ({"a": {"kind": "Resample", "spacng": 1}}, "spacng"),
        ({"a": {"kind": "os.system"}}, "there is no step os.system"),
        ({"a": {"kind": "Reorient", "codes": "RRS"}}, "three of the letters"),
        ({"a": {"kind": "CropOrPad", "shape": [3, 0]}}, "whole numbers"),
        ({"a": {"kind": "RobustScale", "low": 0.9, "high": 0.1}}, "low < high"),
        ({"a": 3}, "there is no step 3"),
    ],
)
def test_bad_configurations_are_one_line(config: dict, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        Pipeline.from_config(config)
    assert "preprocessing step a" in str(caught.value)


def test_a_step_that_does_not_fit_names_the_image() -> None:
    image = blob(SPACES["2-D"])
    for step in (CropOrPad((8, 8, 8)), Resample((1, 1, 1))):
        with pytest.raises(InputError, match=r"blob: has 2 axes \(40, 30\)"):
            Pipeline([step])(image)
    with pytest.raises(InputError, match="labels: has 3 axes"):
        carry_labels(Image.of(torch.zeros(4, 4, 4), name="labels"), image.space)


@pytest.mark.real
def test_hippocampus_padding_is_that_of_the_protocol(shared_data: Path) -> None:
    from registration.io.images import read_image, read_labels

    file = sorted((shared_data / "hippocampus" / "images").glob("*.nii.gz"))[0]
    image = read_image(file)
    after = CropOrPad(64)(Reorient()(image))
    start = [(64 - n) // 2 for n in image.space.shape]
    window = tuple(slice(s, s + n) for s, n in zip(start, image.space.shape, strict=True))
    assert torch.equal(after.data[0, 0][window], image.data[0, 0])
    padding = [(s, 64 - n - s) for s, n in zip(start, image.space.shape, strict=True)]
    np.testing.assert_array_equal(after.data[0, 0].numpy(), np.pad(image.data[0, 0].numpy(), padding, mode="edge"))
    labels = read_labels(shared_data / "hippocampus" / "labels" / file.name)
    carried = carry_labels(labels, after.space).data[0, 0]
    np.testing.assert_array_equal(carried.numpy(), np.pad(labels.data[0, 0].numpy(), padding))
