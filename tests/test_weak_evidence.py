"""Images that show little of the same: what they share by chance, and MR onto ultrasound of the prostate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import registration
from registration.cli.main import run
from registration.cli.settings import build, compose
from registration.evaluation.metrics import dice, mean_dice
from registration.families import Rigid
from registration.filters import gaussian
from registration.image import Image
from registration.losses import MutualInformation
from registration.pairwise import Auto, Header, LinearStage, Pipeline, Silent, presets, register
from registration.pairwise.chance import independent_samples, shared
from registration.sampling import nearest, warp
from registration.space import Space


def blobs(shift: int) -> Image:
    grid = torch.stack(torch.meshgrid(*(torch.arange(40.0),) * 2, indexing="ij"))
    centre = torch.tensor([18.0 + shift, 20.0])[:, None, None]
    return Image.of(torch.exp(-(grid - centre).square().sum(dim=0) / torch.tensor(60.0)))


def test_a_restraint_holds_the_images_near_the_start() -> None:
    moved = []
    for restraint in (0.0, 20.0, 1e5):
        stage = LinearStage("near", Rigid(), MutualInformation(16), (2, 1), restraint=restraint)
        transform = register(blobs(0), blobs(4), [stage], initial=Header()).transform
        centre = torch.zeros(1, 2)
        moved.append(float((transform(centre) - centre).norm()))
    assert moved[0] == pytest.approx(4, abs=0.5)
    assert 0.01 < moved[1] < moved[0] and moved[2] < 0.01


def test_a_negative_restraint_is_refused() -> None:
    with pytest.raises(ValueError, match="restraint is a number of 0 or more"):
        LinearStage("near", Rigid(), MutualInformation(), (1,), restraint=-1)


def smooth(seed: int, sigma: float, shape: tuple[int, ...] = (48, 48, 48), spacing: float = 1.0) -> Image:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, *shape, generator=generator)
    values = gaussian(noise, [sigma] * len(shape)) if sigma else noise
    return Image(values, Space(shape, torch.diag(torch.tensor([spacing] * len(shape) + [1.0], dtype=torch.float64))))


@pytest.mark.parametrize(("shape", "sigma"), [((48, 48, 48), 2.0), ((48, 48, 48), 4.0), ((128, 128), 4.0)])
def test_smooth_noise_holds_as_many_places_as_its_correlations_say(shape: tuple[int, ...], sigma: float) -> None:
    # Unrelated fields of autocorrelation r correlate with a variance of sum(r²) / V: measured over many pairs.
    fields = torch.stack([smooth(seed, sigma, shape).data.flatten() for seed in range(40)])
    fields = (fields - fields.mean(dim=1, keepdim=True)) / fields.std(dim=1, keepdim=True)
    products = (fields @ fields.T / fields.shape[1])[*torch.triu_indices(40, 40, 1)]
    measured = 1 / float(products.square().mean())
    told = independent_samples(smooth(0, sigma, shape), smooth(1, sigma, shape))
    assert 0.5 * measured < told < 2 * measured


@given(st.floats(1.0, 5.0), st.floats(1.0, 5.0), st.floats(0.2, 3.0), st.booleans())
@settings(max_examples=20, deadline=None)
def test_places_do_not_depend_on_order_unit_or_flips(one: float, other: float, spacing: float, flip: bool) -> None:
    first, second = smooth(0, one, (24, 30)), smooth(1, other, (28, 24))
    told = independent_samples(first, second)
    assert independent_samples(second, first) == pytest.approx(told)
    larger = [smooth(0, one, (24, 30), spacing), smooth(1, other, (28, 24), spacing)]
    turned = [image.with_data(image.data.flip(2) if flip else image.data * 7 - 3) for image in larger]
    assert independent_samples(*turned) == pytest.approx(told, rel=1e-3)


def test_places_of_masks_of_slices_and_of_constants() -> None:
    image = smooth(0, 2.0)
    half = torch.zeros_like(image.data, dtype=torch.bool)
    half[:, :, :24] = True
    ratio = independent_samples(image.with_mask(half), image) / independent_samples(image, image)
    assert ratio == pytest.approx(0.5, rel=0.3)
    plane = Image(image.data[:, :, :1], image.space.cropped((0, 0, 0), (1, 48, 48)))
    assert 20 < independent_samples(plane, image) < independent_samples(image, image)
    assert independent_samples(plane, image) == pytest.approx(independent_samples(image, plane))
    assert independent_samples(image, image.with_data(torch.ones_like(image.data))) == math.inf


def test_what_is_shared_is_counted_inside_both_masks() -> None:
    image, still = smooth(0, 2.0), registration.Linear.identity(3)
    other = image.with_data(torch.cat([image.data[:, :, :24], smooth(1, 2.0).data[:, :, 24:]], dim=2))
    half = torch.zeros_like(image.data, dtype=torch.bool)
    half[:, :, :24] = True
    everywhere = shared(image, other, still)
    for fixed, moving in ((image.with_mask(half), other), (image, other.with_mask(half))):
        assert shared(fixed, moving, still) > 1.5 * everywhere
    assert shared(image.with_mask(half), other.with_mask(~half), still) == pytest.approx(0, abs=1e-6)


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def carried(fixed: Image, moving: Image, wary: bool) -> tuple[float, str]:
    """How far a fast run carries points from the start, in mm, and what it says."""
    notes = Notes()
    result = Pipeline(Auto(), presets.fast().diffeomorphic(), wary=wary)(fixed, moving, observer=notes)
    assert result.notes == tuple(notes.told)
    points = fixed.space.points().reshape(-1, fixed.ndim)
    return float((result.transform(points) - result.initial(points)).norm(dim=-1).mean()), " ".join(notes.told)


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_smooth_images_stay_near_their_start(seed: int) -> None:
    fixed, moving = smooth(2 * seed, 7.0), smooth(2 * seed + 1, 7.0)
    kept, told = carried(fixed, moving, wary=True)
    free, silent = carried(fixed, moving, wary=False)
    assert kept < 3 and free > 1.5 * kept
    assert "diffeomorphic left out: the images share" in told and "by chance" in told
    assert "by chance" not in silent


def test_the_command_keeps_what_was_left_out_with_the_figures(tmp_path: Path) -> None:
    for role, seed in (("fixed", 0), ("moving", 1)):
        registration.write_image(tmp_path / f"{role}.nii.gz", smooth(seed, 7.0))
    words = ["-f", tmp_path / "fixed.nii.gz", "-m", tmp_path / "moving.nii.gz", "-o", tmp_path / "out", "-q"]
    assert run(["register", *map(str, words), "--preset", "fast"]) in (0, 3)
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [stage["name"] for stage in told["stages"]] == ["rigid", "affine"]
    assert any(text.startswith("diffeomorphic left out") for text in told["notices"])


@pytest.mark.parametrize("contrast", [1.0, -1.0])
def test_related_smooth_images_are_brought_together(contrast: float) -> None:
    fixed = smooth(0, 7.0)
    shift = torch.tensor([4.0, -3.0, 2.0], dtype=torch.float64)
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, 3] = shift
    moving = Image(contrast * fixed.data, Space(fixed.space.shape, moved @ fixed.space.affine))
    notes = Notes()
    result = Pipeline(Header(), presets.fast().diffeomorphic())(fixed, moving, observer=notes)
    points = fixed.space.cropped((8, 8, 8), (32, 32, 32)).points().reshape(-1, 3)
    assert float((result.transform(points) - points - shift).norm(dim=-1).mean()) < 0.3
    assert not any("by chance" in text for text in notes.told)


@pytest.mark.real
@pytest.mark.parametrize("options", [[], ["preset=fast"], ["initial=centre", "transform=near"]], ids=str)
@pytest.mark.parametrize("case", range(8))
def test_the_dice_of_the_gland_rises_on_every_pair(shared_data: Path, case: int, options: list[str]) -> None:
    folder, name = shared_data / "prostate", f"case{case:06d}.nii.gz"
    fixed, moving = (registration.read_image(folder / f"{kind}_images" / name) for kind in ("us", "mr"))
    glands = []
    for kind, image in (("us", fixed), ("mr", moving)):
        labels = np.asarray(nib.load(folder / f"{kind}_labels" / name).dataobj)
        gland = labels[..., 0] if labels.ndim == 4 else labels
        glands.append(image.with_data(torch.from_numpy(gland > 0.5)[None, None].float()))
    pipeline = build(compose("register", options).pipeline)
    found = []
    for transform in (registration.Linear.identity(3), pipeline(fixed, moving).transform):
        found.append(mean_dice(dice(glands[0].data, warp(glands[1], transform, fixed.space, nearest)[0].data)) or 0.0)
    assert found[1] > found[0] + (0.03 if options[-1:] == ["transform=near"] else 0.0)
