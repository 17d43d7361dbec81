"""The commands from the outside: what they write, what they say, and what is left behind when they refuse."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cli_files import AFFINE, volume

from registration.cli import main as command
from registration.io.flirt import flirt_matrix
from registration.io.images import read_image
from registration.transforms.linear import Linear


def test_register_writes_what_it_promises(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, affine in (("fl", AFFINE), ("ml", nib.load(tmp_path / "m.nii.gz").affine)):
        data = np.zeros((12, 10, 8), np.uint8)
        data[3:7, 2:6, 2:5], data[8:10, 7:9, 5:7] = 1, 4
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "fp.csv").write_text("name,x,y,z\na,4,6,8\nb,10,9,12\n")
    (tmp_path / "mp.csv").write_text("name,x,y,z\nc,70,70,70\na,6,6,8\nb,12,9,12\n")
    extra = ["--fixed-labels", "fl.nii.gz", "--moving-labels", "ml.nii.gz", "--fixed-mask", "fl.nii.gz"]
    extra = [word if word.startswith("--") else str(tmp_path / word) for word in extra]
    extra += [
        "--fixed-points",
        str(tmp_path / "fp.csv"),
        "--moving-points",
        str(tmp_path / "mp.csv"),
        "--points-space",
        "RAS",
    ]
    assert command.run(["register", *pair, *extra, "--transform", "affine", "--seed", "5", "pipeline.offset=2"]) == 0
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        "warped.nii.gz", "warped_labels.nii.gz", "transform.h5", "metrics.json", "overview.png", "config.yaml",
        "provenance.json",
    }  # fmt: skip
    warped = nib.load(out / "warped.nii.gz")
    assert warped.shape == (12, 10, 8) and np.allclose(warped.affine, AFFINE) and warped.get_data_dtype() == np.uint8
    moving = np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    assert np.array_equal(np.asarray(warped.dataobj), moving)
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["dice"]["after"] == {
        "mean": 1.0,
        "per_label": {"1": 1.0, "4": 1.0},
        "missing_in_one": [],
        "lost": [],
    }
    assert figures["dice"]["before"]["mean"] < 1
    assert figures["tre_mm"]["before"]["mean"] == pytest.approx(2) and figures["tre_mm"]["after"][
        "max"
    ] == pytest.approx(0)
    assert figures["similarity"]["after"] > 0.999 > figures["similarity"]["before"]
    assert figures["folding_percent"] == 0 and figures["overlap"]["after"] == 1
    assert figures["seed"] == 5 and set(figures["seconds"]) == {"read", "register", "judge", "write"}
    assert figures["stages"][0]["loss_after"] is None and len(figures["sha256"]["fixed"]) == 64
    settings = (out / "config.yaml").read_text()
    assert "affine" in settings and "offset: 2" in settings and "f.nii.gz" in settings
    assert any("2 points have a partner" in note for note in figures["notices"])
    seen = capsys.readouterr()
    assert "mean Dice" in seen.out and str(out) in seen.out
    assert "shift: 2 steps" in seen.err and "\r" not in seen.err and "\x1b" not in seen.err
    assert oct(out.stat().st_mode & 0o777) == oct(0o777 & ~_umask())


def test_what_labels_and_landmarks_lack_is_said(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8), np.uint8), AFFINE), tmp_path / "l.nii.gz")
    (tmp_path / "p.csv").write_text("# space: RAS\nx,y,z\n4,6,8\n400,6,8\n")
    words = [f"--{role}-{what}" for what in ("labels", "points") for role in ("fixed", "moving")]
    files = [str(tmp_path / name) for name in ("l.nii.gz", "l.nii.gz", "p.csv", "p.csv")]
    given = [word for both in zip(words, files, strict=True) for word in both]
    assert command.run(["register", *pair, *given]) == 0
    told = capsys.readouterr().err
    assert told.count("l.nii.gz holds no label, only 0") == 2
    assert all(f"1 of 2 landmarks lie outside of {file}" in told for file in (pair[1], pair[3]))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_quiet_says_nothing_and_overwrite_replaces(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    assert command.run(["register", *pair, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    first = (tmp_path / "out" / "config.yaml").read_text()
    assert "--overwrite" in refused("register", *pair, "--quiet")
    assert command.run(["register", *pair, "--quiet", "--overwrite", "pipeline.offset=1"]) == 0
    assert (tmp_path / "out" / "config.yaml").read_text() != first
    (tmp_path / "out" / "thesis.doc").write_text("precious")
    assert "thesis.doc" in refused("register", *pair, "--overwrite")
    assert (tmp_path / "out" / "thesis.doc").read_text() == "precious"


def test_initial_files_are_where_the_run_starts(
    stub: Path, pair: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    matrix = np.eye(4)
    matrix[0, 3] = 2.0
    np.savetxt(tmp_path / "start.txt", matrix)
    assert command.run(["register", *pair, "--quiet", "--initial", str(tmp_path / "start.txt")]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["similarity"]["after"] > 0.999
    grids = [read_image(file).space for file in (pair[1], pair[3])]
    np.savetxt(tmp_path / "start.mat", flirt_matrix(Linear(torch.from_numpy(matrix)), *grids))
    words = ["register", *pair, "--quiet", "--overwrite", "--initial", f"[{tmp_path}/start.mat,fsl]"]
    assert command.run(words) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["similarity"]["after"] > 0.999
    assert "its fixed image is not known" in refused(*words, "--spacing", "2")
    for name, shift in (("far.txt", 5.0), ("back.txt", 3.0)):
        matrix[0, 3] = shift
        np.savetxt(tmp_path / name, matrix)
    start = ["--initial", str(tmp_path / "far.txt"), "--initial", f"[{tmp_path}/back.txt,1]", "--overwrite"]
    assert command.run(["register", *pair, "--quiet", *start]) == 0
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert told["similarity"]["after"] > 0.999
    assert told["inputs"]["initial_2"] == f"[{tmp_path}/back.txt,1]" and len(told["sha256"]["initial_2"]) == 64
    assert "goes with no other --initial" in refused("register", *pair, *start, "--initial", "mass")


def test_apply_and_its_inverse(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    assert command.run(["register", *pair, "--quiet", "pipeline.offset=2"]) == 0
    transform, fixed, moving = str(tmp_path / "out" / "transform.h5"), pair[1], pair[3]
    labels = tmp_path / "l.nii.gz"
    data = np.zeros((12, 10, 8), np.int16)
    data[3:7, 2:6, 2:5] = 2035
    nib.save(nib.Nifti1Image(data, nib.load(moving).affine), labels)
    results = [str(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    words = ["apply", "-t", transform, "-r", fixed, "-i", moving, "-o", results[0], "-i", str(labels), "-o", results[1]]
    assert command.run(words) == 0
    seen = capsys.readouterr()
    assert "taken for a label map" in seen.err and results[1] in seen.out
    assert np.array_equal(nib.load(results[0]).get_fdata(), nib.load(moving).get_fdata())
    assert np.array_equal(nib.load(results[1]).get_fdata(), data)
    assert nib.load(results[1]).get_data_dtype() == np.int16
    assert "--overwrite" in refused(*words)
    back = str(tmp_path / "back.nii.gz")
    assert command.run(["apply", "-t", transform, "-r", moving, "-i", results[0], "-o", back, "--inverse", "-q"]) == 0
    assert np.array_equal(nib.load(back).get_fdata(), nib.load(moving).get_fdata())
    for name in ("linear", "nearest", "bspline"):
        words = ["apply", "-t", transform, "-r", fixed, "-i", moving, "-o", back, "--overwrite", "-n", name, "-q"]
        assert command.run(words) == 0
        assert np.allclose(nib.load(back).get_fdata(), nib.load(moving).get_fdata(), atol=1)


def test_apply_takes_one_volume_of_many(stub: Path, pair: list[str], tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).random((12, 10, 8, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(volumes, AFFINE), tmp_path / "four.nii")
    np.savetxt(tmp_path / "one.txt", np.eye(4))
    words = ["-t", str(tmp_path / "one.txt"), "-r", pair[1], "-i", str(tmp_path / "four.nii"), "--channel", "2", "-q"]
    assert command.run(["apply", *words, "-o", str(tmp_path / "a.nii")]) == 0
    assert np.allclose(nib.load(tmp_path / "a.nii").get_fdata(), volumes[..., 2], atol=1e-6)


def test_landmarks_on_photographs_are_pixels(
    stub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    import SimpleITK as sitk

    picture = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    for name, x in (("f", 3), ("m", 7)):
        sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / f"{name}.png"))
        (tmp_path / f"{name}.csv").write_text(f",X,Y\n1,{x},5\n2,{x + 1},9\n")
    volume(tmp_path / "f.nii", (20, 30))
    words = ["-m", str(tmp_path / "m.png"), "-o", str(tmp_path / "out")]
    words += ["--fixed-points", str(tmp_path / "f.csv"), "--moving-points", str(tmp_path / "m.csv")]
    assert command.run(["register", "-f", str(tmp_path / "f.png"), *words]) == 0
    assert "taken as voxel coordinates" in capsys.readouterr().err
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert figures["tre_mm"]["before"]["mean"] == pytest.approx(4)
    assert "--points-space" in refused("register", "-f", str(tmp_path / "f.nii"), *words, "--overwrite", "-q")


def test_labels_are_never_mixed(stub: Path, pair: list[str], tmp_path: Path) -> None:
    data = np.zeros((12, 10, 8), np.int16)
    data[3:7, 2:6, 2:5], data[6:9, 5:8, 4:7] = 2035, 17
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "l.nii.gz")
    (tmp_path / "half.txt").write_text("1 0 0 0.9\n0 1 0 1.3\n0 0 1 -1.7\n0 0 0 1\n")
    words = ["apply", "-t", str(tmp_path / "half.txt"), "-r", pair[1], "-i", str(tmp_path / "l.nii.gz"), "-q", "-o"]
    values = {}
    for name, more in (("default", []), ("linear", ["-n", "linear"])):
        assert command.run([*words, str(tmp_path / f"{name}.nii.gz"), *more]) == 0
        values[name] = set(np.unique(nib.load(tmp_path / f"{name}.nii.gz").dataobj).tolist())
    assert values["default"] == {0, 17, 2035}
    assert len(values["linear"]) > 3
