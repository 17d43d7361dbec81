"""What people type, on every folder of real images, judged by labels, landmarks and a transform found elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

import registration
from registration.cli import main as command
from registration.evaluation.metrics import correlation

pytestmark = pytest.mark.real

FILES = {"warped.nii.gz", "transform.h5", "metrics.json", "overview.png", "config.yaml", "provenance.json"}

# chris_PD onto chris_t1, RAS mm, by ANTsPy 0.6.3: ants.registration(t1, pd, type_of_transform="Rigid", random_seed=1).
PD_ONTO_T1 = [
    [0.999735, 0.021949, 0.006906, 1.022895],
    [-0.022754, 0.987663, 0.154931, 1.446575],
    [-0.003420, -0.155047, 0.987901, 7.926010],
    [0.0, 0.0, 0.0, 1.0],
]
# Correlation inside ch2's foreground after ants.registration(ch2, t1, type_of_transform="Affine", mask=ch2 > 0).
CH2_BY_ANTS = 0.4393


class Done:
    """The results of one command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        self.transform = registration.read_transform(folder / "transform.h5")[0]


@pytest.fixture()
def register(tmp_path: Path) -> Callable[..., Done]:
    """Runs ``registration register -q`` with the given words and checks that all files are there."""

    def run(*words: str | Path) -> Done:
        output = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        assert command.run(["register", "-q", "-o", str(output), *map(str, words)]) == 0
        assert {file.name for file in output.iterdir()} >= FILES
        return Done(output)

    return run


def apart(one: registration.Transform, other: registration.Transform, image: registration.Image) -> Tensor:
    """(N,) distances in mm of two transforms at the voxels of an image brighter than its mean."""
    bright = image.data[0, 0] > image.data.mean()
    points = image.space.points(torch.zeros(0, dtype=torch.float64))[bright]
    return (one(points) - other(points)).norm(dim=-1)


def with_labels(folder: Path) -> list[str]:
    roles = ("fixed", "moving")
    files = [(f"--{role}{kind}", f"{role}{kind.replace('-', '_')}") for role in roles for kind in ("", "-labels")]
    return [word for option, name in files for word in (option, str(folder / f"{name}.nii.gz"))]


def test_two_brains_by_a_spline(shared_data: Path, register: Callable[..., Done]) -> None:
    brain = shared_data / "brain"
    coarse = [f"preset.tps.levels.{level}.{text}" for level, text in ((1, "across=12"), (2, "across=12"))]
    done = register(*with_labels(brain), "-t", "tps", *coarse, "preset.tps.levels.2.shrink=4")
    dice = done.metrics["dice"]
    # An affine reaches 0.59; voxels at twice the size and few control points cost much of the 0.77.
    assert len(dice["after"]["per_label"]) == 15 and dice["after"]["mean"] > 0.64
    assert min(dice["after"]["per_label"].values()) > 0.3
    assert dice["before"]["mean"] == pytest.approx(0.569, abs=0.002)
    assert done.metrics["folding_percent"] < 0.05
    itk = sitk.Resample(
        sitk.ReadImage(str(brain / "moving.nii.gz"), sitk.sitkFloat32), sitk.ReadImage(str(brain / "fixed.nii.gz")),
        sitk.ReadTransform(str(done.folder / "transform.h5")), sitk.sitkLinear, 0.0,
    )  # fmt: skip
    ours = np.asarray(nib.load(done.folder / "warped.nii.gz").dataobj, dtype=float)
    # ITK sees the field on a grid coarser than the image, and ours is rounded to whole numbers of 0 ... 255.
    off = np.abs(ours - sitk.GetArrayFromImage(itk).T)[ours > 0]
    assert off.mean() < 0.5 and np.quantile(off, 0.999) < 4
    labels, given = nib.load(done.folder / "warped_labels.nii.gz"), nib.load(brain / "moving_labels.nii.gz")
    assert labels.get_data_dtype() == np.uint8 and set(np.unique(labels.dataobj)) <= set(np.unique(given.dataobj))


def test_a_head_onto_a_brain_inside_its_mask(shared_data: Path, tmp_path: Path, register: Callable[..., Done]) -> None:
    fixed, moving = shared_data / "head" / "ch2.nii.gz", shared_data / "head" / "chris_t1.nii.gz"
    image = registration.read_image(fixed)
    inside = image.data > 0
    registration.write_image(tmp_path / "mask.nii.gz", image.with_data(inside.float()), dtype="uint8")
    done = register("-f", fixed, "-m", moving, "--fixed-mask", tmp_path / "mask.nii.gz", "-t", "affine")
    warped = registration.warp(registration.read_image(moving), done.transform, image.space)[0]
    found = correlation(image, warped, inside)
    assert found is not None and found > CH2_BY_ANTS - 0.01


@pytest.mark.parametrize("initial", ["mass", "header"])
def test_another_contrast_with_thick_slices(shared_data: Path, register: Callable[..., Done], initial: str) -> None:
    fixed, moving = shared_data / "head" / "chris_t1.nii.gz", shared_data / "head" / "chris_PD.nii.gz"
    done = register("-f", fixed, "-m", moving, "-t", "rigid", "--loss", "mi", "--initial", initial)
    truth = registration.Linear(torch.tensor(PD_ONTO_T1, dtype=torch.float64))
    image = registration.read_image(fixed)
    assert apart(truth, registration.Linear.identity(3), image).mean() > 10
    assert apart(done.transform, truth, image).max() < 1


def test_both_directions_are_inverse(shared_data: Path, register: Callable[..., Done]) -> None:
    one, other = shared_data / "head" / "chris_t1.nii.gz", shared_data / "head" / "chris_PD.nii.gz"
    done = register("-f", other, "-m", one, "-t", "rigid", "--loss", "mi")
    truth = registration.Linear(torch.tensor(PD_ONTO_T1, dtype=torch.float64))
    assert apart(done.transform, truth.inverse(), registration.read_image(other)).max() < 1
    warped, reference = nib.load(done.folder / "warped.nii.gz"), nib.load(other)
    assert warped.shape == reference.shape and np.allclose(warped.affine, reference.affine, atol=1e-5)


def test_one_slice_onto_the_volume_it_comes_from(
    shared_data: Path, tmp_path: Path, register: Callable[..., Done]
) -> None:
    volume = nib.load(shared_data / "head" / "chris_t1.nii.gz")
    # The centres are 8.4 mm apart.
    nib.save(volume.slicer[:, :, 104:105], tmp_path / "slice.nii.gz")
    words = ["-f", tmp_path / "slice.nii.gz", "-m", shared_data / "head" / "chris_t1.nii.gz", "--initial", "centre"]
    done = register(*words, "-t", "rigid")
    image = registration.read_image(tmp_path / "slice.nii.gz")
    assert apart(done.transform, registration.Linear.identity(3), image).max() < 0.5
    assert nib.load(done.folder / "warped.nii.gz").shape == (*volume.shape[:2], 1)


def test_two_slices_need_no_mask(shared_data: Path, register: Callable[..., Done]) -> None:
    words: list[str | Path] = ["-t", "affine"]
    masks: list[str | Path] = []
    for role in ("fixed", "moving"):
        words += [f"--{role}", shared_data / "head2d" / f"CT_2D_head_{role}.mha"]
        masks += [f"--{role}-mask", shared_data / "head2d" / f"CT_2D_head_{role}_mask.mha"]
    free, masked = register(*words), register(*words, *masks)
    image = registration.read_image(shared_data / "head2d" / "CT_2D_head_fixed.mha")
    # The masks leave out the skull, of which one slice shows more than the other.
    assert apart(free.transform, masked.transform, image).mean() < 1.5
    # The centres of mass alone give 0.843, and 0.257 inside the masks: bright in one slice is dark in the other.
    assert free.metrics["similarity"]["after"] > 0.846
    assert masked.metrics["similarity"]["after"] > 0.27


def test_two_stains_by_a_spline(shared_data: Path, register: Callable[..., Done]) -> None:
    words: list[str | Path] = ["-t", "tps"]
    for role, stain in (("fixed", "HE"), ("moving", "PanCytokeratin")):
        file = shared_data / "histology" / f"Rat-Kidney_{stain}"
        words += [f"--{role}", f"{file}.jpg", f"--{role}-points", f"{file}.csv"]
    done = register(*words)
    image = registration.read_image(shared_data / "histology" / "Rat-Kidney_HE.jpg")
    share = 100 / float(image.space.extent.norm())
    before, after = (share * done.metrics["tre_mm"][when]["median"] for when in ("before", "after"))
    assert before == pytest.approx(2.07, abs=0.02) and after < 0.35
    assert len(done.metrics["tre_mm"]["after"]["points"]) == 69
    for word in ("luminance", "69 points have a partner", "taken as voxel coordinates"):
        assert any(word in note for note in done.metrics["notices"])
    assert done.metrics["folding_percent"] == 0


def test_ultrasound_and_magnetic_resonance(
    shared_data: Path, register: Callable[..., Done], tmp_path: Path, refused: Callable[..., str]
) -> None:
    names = [shared_data / "prostate" / f"{kind}_images" / "case000001.nii.gz" for kind in ("us", "mr")]
    done = register("-f", names[0], "-m", names[1], "-t", "rigid")
    assert nib.load(done.folder / "warped.nii.gz").shape == nib.load(names[0]).shape
    assert done.metrics["overlap"]["after"] > 0.8
    labels = [str(name).replace("_images", "_labels") for name in names]
    words = ["-f", str(names[0]), "-m", str(names[1]), "--fixed-labels", labels[0], "--moving-labels", labels[1]]
    told = refused("register", *words, "-o", str(tmp_path / "refused"))
    assert "us_labels" in told and "volumes" in told
    assert not (tmp_path / "refused").exists()


def test_crops_that_headers_do_not_align(shared_data: Path, register: Callable[..., Done]) -> None:
    words: list[str | Path] = ["-t", "affine", "--initial", "centre"]
    for role, number in (("fixed", "004"), ("moving", "006")):
        for kind, folder in (("", "images"), ("-labels", "labels")):
            words += [f"--{role}{kind}", shared_data / "hippocampus" / folder / f"hippocampus_{number}.nii.gz"]
    done = register(*words)
    dice = done.metrics["dice"]
    # The centres alone give 0.716.
    assert set(dice["after"]["per_label"]) == {"1", "2"} and dice["after"]["mean"] > 0.76
