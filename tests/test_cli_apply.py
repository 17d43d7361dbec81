"""The grid, the type and the interpolation that ``apply`` is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from cli_files import volume

from registration.cli import main as command

TURN = np.array([[0.9, -0.3, 0.2], [0.3, 0.95, -0.1], [-0.2, 0.1, 0.97]])


def affine(d: int, steps: tuple[float, ...], flip: int = 0) -> np.ndarray:
    """An oblique grid, in 3-D of orthogonal axes, one of them turned round."""
    result = np.eye(4)
    turn = np.linalg.qr(TURN)[0] if d == 3 else np.eye(3)
    result[:3, :3] = turn * np.array([*steps[:d], *[1.0] * (3 - d)])
    result[:, flip] *= -1
    result[:3, 3] = [3, 20, -4][:d] + [0] * (3 - d)
    return result


@pytest.fixture()
def apply(tmp_path: Path) -> Callable[..., Any]:
    """Through a small shift from ``m`` onto the grid of ``f``."""

    def made(d: int, *words: object) -> Any:
        np.savetxt(tmp_path / "t.txt", np.eye(d + 1) + 0.7 * np.eye(d + 1, k=d))
        volume(tmp_path / "f.nii", (11, 9, 8)[:d], affine(d, (2.0, 2.4, 3.0), flip=1))
        names = ["-t", tmp_path / "t.txt", "-r", tmp_path / "f.nii", "-o", tmp_path / "o.nii", "--overwrite"]
        named = words if "-i" in words else ("-i", volume(tmp_path / "m.nii", (16, 15, 14)[:d], moved(d)), *words)
        assert command.run([str(word) for word in ["apply", *names, *named]]) == 0
        return nib.load(tmp_path / "o.nii")

    return made


def moved(d: int) -> np.ndarray:
    return affine(d, (1.7, 1.5, 2.1), flip=1)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("steps", ["1.2", "0.5,4.8,3"])
def test_another_grid_in_the_same_field_of_view(
    tmp_path: Path, apply: Callable[..., Any], capsys: pytest.CaptureFixture[str], d: int, steps: str
) -> None:
    steps = ",".join(steps.split(",")[:d])
    found = apply(d, "--grid-spacing", steps)
    reference = nib.load(tmp_path / "f.nii")
    for side in (-0.5, 1):  # both outer corners stay
        ends = [
            np.array([*([n * (side == 1) - 0.5 for n in image.shape[:d]]), *[0] * (3 - d), 1])
            for image in (found, reference)
        ]
        assert np.allclose((found.affine @ ends[0])[:d], (reference.affine @ ends[1])[:d], atol=1e-4)
    wanted = np.array([float(step) for step in steps.split(",")] * (d if steps == "1.2" else 1))
    told = capsys.readouterr().err
    assert np.allclose(found.header.get_zooms()[:d], wanted, rtol=0.11)
    assert ("the field of view of the reference makes" in told) != np.allclose(found.header.get_zooms()[:d], wanted)
    onto, moving = (sitk.ReadImage(str(tmp_path / f"{name}.nii"), sitk.sitkFloat32) for name in "om")
    shift = sitk.TranslationTransform(d, [-0.7, 0, 0][:d])
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, onto, shift, sitk.sitkLinear, 0.0)).T
    assert np.abs(theirs - np.asarray(found.dataobj)).max() < 1e-3 and theirs.max() > 50


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32"])
def test_the_type_that_is_asked_for(apply: Callable[..., Any], capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    plain = np.asarray(apply(3).dataobj)
    found = apply(3, "--dtype", dtype)
    assert found.get_data_dtype() == dtype and "note" not in capsys.readouterr().err
    assert np.array_equal(found.dataobj, plain if dtype == "float32" else np.rint(plain))


def test_values_that_do_not_fit(
    tmp_path: Path, apply: Callable[..., Any], capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    values = np.random.default_rng(0).normal(size=(16, 15, 14, 2)).astype("float32")
    for name, data in (("small", values / 3), ("large", values * 200), ("one", values[..., 0] * 200)):
        nib.save(nib.Nifti1Image(data, moved(3)), tmp_path / f"{name}.nii")
    apply(3, "--dtype", "int8", "-i", tmp_path / "small.nii")
    assert "int8 keeps whole numbers only" in capsys.readouterr().err
    for name in ("large", "one"):
        whole = np.asarray(apply(3, "-i", tmp_path / f"{name}.nii").dataobj)
        capsys.readouterr()
        found = np.asarray(apply(3, "--dtype", "uint8", "-i", tmp_path / f"{name}.nii").dataobj)
        beyond = np.count_nonzero((np.rint(whole) < 0) | (np.rint(whole) > 255))
        assert f"{beyond:,} of the values from" in (told := capsys.readouterr().err) and "uint8 (0 to 255)" in told
        assert np.array_equal(found, np.clip(np.rint(whole), 0, 255))
    labels = np.zeros((16, 15, 14), "int32")
    labels[4:10, 4:10, 4:10] = 300
    nib.save(nib.Nifti1Image(labels, moved(3), dtype="int32"), tmp_path / "l.nii")
    words = ["apply", "-t", tmp_path / "t.txt", "-r", tmp_path / "f.nii", "-i", tmp_path / "l.nii", "-q", "-o"]
    assert "holds the label 300, which uint8" in refused(*map(str, [*words, tmp_path / "x.nii", "--dtype", "uint8"]))
    assert set(np.unique(np.asarray(apply(3, "--dtype", "uint16", "-i", tmp_path / "l.nii").dataobj))) == {0, 300}


@pytest.mark.parametrize(("words", "says"), [
    (["--grid-spacing", "0"], "--grid-spacing 0: positive numbers"), (["--grid-spacing", "1,2"], "one number or 3"),
    (["--grid-spacing", "0.001"], "voxels; choose larger"), (["--dtype", "int"], "did you mean int"),
    (["--dtype", "float64"], "no such choice"), (["-n", "multiLabel"], "votes without"), (["-n", "sinc"], "no such"),
])  # fmt: skip
def test_refusals(
    tmp_path: Path, apply: Callable[..., Any], refused: Callable[..., str], words: list[str], says: str
) -> None:
    apply(3, "-q")
    names = ["-t", tmp_path / "t.txt", "-r", tmp_path / "f.nii", "-i", tmp_path / "m.nii", "-o", tmp_path / "x.nii"]
    assert says in refused("apply", *map(str, names), *words)
    assert not (tmp_path / "x.nii").exists()


def shift_of(folder: Path) -> np.ndarray:
    """From voxels of the fixed image to voxels of the moving one."""
    fixed, moving = (nib.load(folder / name).affine for name in ("f.nii", "m.nii"))
    return np.linalg.inv(moving) @ (np.eye(4) + 0.7 * np.eye(4, k=3)) @ fixed


@pytest.mark.parametrize("d", [2, 3])
def test_names_of_ants_mean_the_same(tmp_path: Path, apply: Callable[..., Any], d: int) -> None:
    ants = pytest.importorskip("ants")
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 5, [5] * d)
    for axis in range(d):
        blocks = blocks.repeat(3, axis)
    apply(d, "-q")
    pictures = {"l": blocks.astype("float32"), "i": rng.random([15] * d).astype("float32")}
    for name, data in pictures.items():
        nib.save(nib.Nifti1Image(data, moved(d)), tmp_path / f"{name}.nii")
    for kind, name in (("l", "genericLabel"), ("l", "nearestNeighbor"), ("i", "bSpline"), ("i", "Linear")):
        ours = np.asarray(apply(d, "-q", "-n", name, "-i", tmp_path / f"{kind}.nii").dataobj)
        shift = ants.create_ants_transform(
            transform_type="Euler2DTransform" if d == 2 else "Euler3DTransform", dimension=d,
            translation=[-0.7, 0, 0][:d],
        )  # fmt: skip
        ants.write_transform(shift, str(tmp_path / "t.mat"))
        images = [ants.image_read(str(tmp_path / f"{name}.nii")) for name in ("f", kind)]
        theirs = ants.apply_transforms(*images, [str(tmp_path / "t.mat")], interpolator=name[0].lower() + name[1:])
        # Beyond the outermost centres of voxels ITK's spline goes on as in a mirror, ours stays as it is at the border.
        places = np.argwhere(np.ones(ours.shape)) @ shift_of(tmp_path)[:d, :d].T + shift_of(tmp_path)[:d, 3]
        inside = ((places >= 0) & (places <= 14)).all(axis=1).reshape(ours.shape)
        assert np.abs(ours - theirs.numpy())[inside].max() < 1e-3 and inside.mean() > 0.5, name
