"""The script that prepares pairs of crops, beside the protocol in plain NumPy."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from registration.batch.table import read_pairs

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"


@pytest.fixture()
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    monkeypatch.setenv("PYTHONPATH", "")  # which the script extends
    return importlib.import_module("hippocampus_pairs")


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Three crops of odd and even sizes with labels, and an image that has none."""
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name, shape in (("c", (31, 40, 24)), ("a", (36, 51, 33)), ("b", (43, 59, 64)), ("d", (30, 30, 30))):
        image, labels = generator.random(shape, dtype=np.float32), generator.integers(0, 3, shape, dtype=np.uint8)
        nib.save(nib.Nifti1Image(image, np.diag([1, 1, 1, 1])), tmp_path / "images" / f"{name}.nii.gz")
        if name != "d":
            nib.save(nib.Nifti1Image(labels, np.diag([1, 1, 1, 1])), tmp_path / "labels" / f"{name}.nii.gz")
    return tmp_path


def test_crops_are_centred_and_paired(
    script: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    script.main([str(folder), str(out), "--count", "2"])
    assert "2 pairs of 3 crops" in capsys.readouterr().out
    rows = read_pairs(out / "pairs.csv")
    assert [(row.id, row.fixed.name, row.moving.name) for row in rows] == [
        ("pair000", "a.nii.gz", "b.nii.gz"), ("pair001", "b.nii.gz", "c.nii.gz"),
    ]  # fmt: skip
    assert rows[0].fixed_labels == out / "labels" / "a.nii.gz"
    for name in "abc":
        for kind, how in (("images", "edge"), ("labels", "constant")):
            crop = np.asarray(nib.load(folder / kind / f"{name}.nii.gz").dataobj)
            low = [(64 - size) // 2 for size in crop.shape]
            width = [(first, 64 - size - first) for first, size in zip(low, crop.shape, strict=True)]
            written = nib.load(out / kind / f"{name}.nii.gz")
            np.testing.assert_array_equal(np.asarray(written.dataobj), np.pad(crop, width, mode=how))
            np.testing.assert_allclose(written.affine, np.eye(4))
    assert not (out / "images" / "d.nii.gz").exists()


@pytest.mark.parametrize(("count", "told"), [("0", "3 crops make 1 to 2 pairs"), ("3", "3 crops make 1 to 2 pairs")])
def test_too_many_pairs_are_refused(script: ModuleType, folder: Path, tmp_path: Path, count: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        script.main([str(folder), str(tmp_path / "out"), "--count", count])
    with pytest.raises(SystemExit, match="with a file of that name in labels"):
        script.main([str(tmp_path / "nowhere"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
