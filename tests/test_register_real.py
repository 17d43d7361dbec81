"""The commands on real images: other grids, other contrasts, photographs, landmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from registration.cli import main as command

pytestmark = pytest.mark.real


def register(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Run ``register`` quietly into tmp_path/out and give its metrics."""
    assert command.run(["register", *words, "-o", str(tmp_path / "out"), "-q"]) == 0
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_another_contrast_on_another_grid(shared_data: Path, tmp_path: Path) -> None:
    head = shared_data / "head"
    fixed, moving = str(head / "chris_PD.nii.gz"), str(head / "chris_t1.nii.gz")
    figures = register(tmp_path, "-f", fixed, "-m", moving, "-t", "rigid", "--loss", "mi")
    # Only the right 9 degrees of tilt bring skull on skull; the centres alone leave 0.71.
    assert figures["similarity"]["after"] > figures["similarity"]["before"] + 0.05
    warped = nib.load(tmp_path / "out" / "warped.nii.gz")
    reference = nib.load(fixed)
    assert warped.shape == reference.shape and np.allclose(warped.affine, reference.affine, atol=1e-5)
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    itk = sitk.Resample(
        sitk.ReadImage(moving, sitk.sitkFloat32), sitk.ReadImage(fixed), transform, sitk.sitkLinear, 0.0
    )
    ours, theirs = np.asarray(warped.dataobj, dtype=float), sitk.GetArrayFromImage(itk).T
    both = (ours > 0) & (theirs > 0)
    # Ours is rounded to the whole numbers of the moving file.
    assert np.abs(ours - theirs)[both].max() <= 0.51


def test_photographs_and_landmarks(shared_data: Path, tmp_path: Path) -> None:
    slides = shared_data / "histology"
    names = [f"Rat-Kidney_{stain}" for stain in ("HE", "PanCytokeratin")]
    words = ["-f", str(slides / f"{names[0]}.jpg"), "-m", str(slides / f"{names[1]}.jpg"), "-t", "affine"]
    words += ["--fixed-points", str(slides / f"{names[0]}.csv"), "--moving-points", str(slides / f"{names[1]}.csv")]
    figures = register(tmp_path, *words, "--points-space", "voxel", "--spacing", "1")
    diagonal = np.hypot(*sitk.ReadImage(str(slides / f"{names[0]}.jpg")).GetSize())
    before, after = (100 * figures["tre_mm"][when]["median"] / diagonal for when in ("before", "after"))
    assert before > 2 and after < 0.6
    assert len(figures["tre_mm"]["after"]["points"]) == 69
    assert any("luminance" in note for note in figures["notices"])


def test_masks_in_two_dimensions(shared_data: Path, tmp_path: Path) -> None:
    words = []
    for role, option in (("fixed", "-f"), ("moving", "-m")):
        words += [option, str(shared_data / "head2d" / f"CT_2D_head_{role}.mha")]
        words += [f"--{role}-mask", str(shared_data / "head2d" / f"CT_2D_head_{role}_mask.mha")]
    figures = register(tmp_path, *words, "-t", "affine")
    assert figures["similarity"]["after"] > figures["similarity"]["before"]
    assert figures["inputs"]["fixed_mask"].endswith("fixed_mask.mha")


def test_labels_of_two_brains(shared_data: Path, tmp_path: Path) -> None:
    brain = shared_data / "brain"
    words = []
    for role in ("fixed", "moving"):
        words += [f"--{role}", str(brain / f"{role}.nii.gz"), f"--{role}-labels", str(brain / f"{role}_labels.nii.gz")]
    figures = register(tmp_path, *words, "-t", "affine")
    assert figures["dice"]["before"]["mean"] == pytest.approx(0.569, abs=0.002)
    assert figures["dice"]["after"]["mean"] > figures["dice"]["before"]["mean"]
    assert len(figures["dice"]["after"]["per_label"]) == 15
    labels = nib.load(tmp_path / "out" / "warped_labels.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    assert set(np.unique(labels.dataobj)) <= set(np.unique(nib.load(brain / "moving_labels.nii.gz").dataobj))
