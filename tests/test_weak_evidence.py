"""Images that show little of the same: a stage held near its start, and MR onto ultrasound of the prostate."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import registration
from registration.cli.settings import build, compose
from registration.evaluation.metrics import dice, mean_dice
from registration.families import Rigid
from registration.image import Image
from registration.losses import MutualInformation
from registration.pairwise import Header, LinearStage, register
from registration.sampling import nearest, warp


def blobs(shift: int) -> Image:
    grid = torch.stack(torch.meshgrid(*(torch.arange(40.0),) * 2, indexing="ij"))
    centre = torch.tensor([18.0 + shift, 20.0])[:, None, None]
    return Image.of(torch.exp(-(grid - centre).square().sum(dim=0) / torch.tensor(60.0)))


def test_a_restraint_holds_the_images_near_the_start() -> None:
    moved = []
    for restraint in (0.0, 2.0, 1e5):
        stage = LinearStage("near", Rigid(), MutualInformation(16), (2, 1), restraint=restraint)
        transform = register(blobs(0), blobs(4), [stage], initial=Header()).transform
        centre = torch.zeros(1, 2)
        moved.append(float((transform(centre) - centre).norm()))
    assert moved[0] == pytest.approx(4, abs=0.5)
    assert 0.01 < moved[1] < moved[0] and moved[2] < 0.01


def test_a_negative_restraint_is_refused() -> None:
    with pytest.raises(ValueError, match="restraint is a number of 0 or more"):
        LinearStage("near", Rigid(), MutualInformation(), (1,), restraint=-1)


@pytest.mark.real
@pytest.mark.parametrize("case", range(8))
def test_the_dice_of_the_gland_rises_on_every_pair(shared_data: Path, case: int) -> None:
    folder, name = shared_data / "prostate", f"case{case:06d}.nii.gz"
    fixed, moving = (registration.read_image(folder / f"{kind}_images" / name) for kind in ("us", "mr"))
    glands = []
    for kind, image in (("us", fixed), ("mr", moving)):
        labels = np.asarray(nib.load(folder / f"{kind}_labels" / name).dataobj)
        gland = labels[..., 0] if labels.ndim == 4 else labels
        glands.append(image.with_data(torch.from_numpy(gland > 0.5)[None, None].float()))
    pipeline = build(compose("register", ["initial=centre", "transform=near"]).pipeline)
    found = []
    for transform in (registration.Linear.identity(3), pipeline(fixed, moving).transform):
        found.append(mean_dice(dice(glands[0].data, warp(glands[1], transform, fixed.space, nearest)[0].data)) or 0.0)
    assert found[1] > found[0] + 0.03
