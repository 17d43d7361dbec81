"""check, invert and convert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cli_files import AFFINE, volume

from registration import Space, Transform, read_transform, write_transform
from registration.cli import main as command
from registration.transforms.base import parts_of
from registration.transforms.lattice_spline import LatticeSpline
from registration.transforms.linear import Linear, linear_part
from registration.transforms.tps import ThinPlateSpline

GRID = Space((12, 10, 8), torch.from_numpy(AFFINE))
OTHER = Space((14, 12, 9), torch.diag(torch.tensor([2.0, 2.5, 4.0, 1.0], dtype=torch.float64)))


def linear() -> Linear:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] += 0.1 * torch.randn(3, 4, dtype=torch.float64)
    return Linear(matrix)


def spline() -> Transform:
    points = GRID.points(torch.zeros(0, dtype=torch.float64))[1::4, 1::4, 1::3].reshape(-1, 3)
    return linear() @ ThinPlateSpline(points, points + 0.5 * torch.randn_like(points))


@pytest.fixture()
def files(tmp_path: Path) -> dict[str, Transform]:
    made = {"linear": linear(), "spline": spline()}
    for name, transform in made.items():
        write_transform(tmp_path / f"{name}.h5", transform, GRID, OTHER, provenance={"seed": 5})
    return made


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


@pytest.mark.parametrize(("name", "ending"), [
    ("linear", "h5"), ("linear", "tfm"), ("linear", "mat"), ("linear", "txt"), ("linear", "nii.gz"), ("spline", "h5"),
    ("spline", "nii.gz"),
])  # fmt: skip
def test_convert_keeps_the_map(
    files: dict[str, Transform], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, ending: str
) -> None:
    output = tmp_path / f"new.{ending}"
    assert run("convert", "-t", tmp_path / f"{name}.h5", "-o", output) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    points = GRID.points(torch.zeros(0, dtype=torch.float64)).reshape(-1, 3)
    converted, info = read_transform(output)
    assert torch.allclose(converted(points), files[name](points), atol=1e-4)
    assert ending != "h5" or info.provenance == {"seed": 5}


@pytest.mark.parametrize("ending", ["txt", "tfm", "mat"])
def test_convert_takes_the_linear_part(
    files: dict[str, Transform], tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    output, words = tmp_path / f"new.{ending}", ["convert", "--linear-part", "-t", tmp_path / "spline.h5", "-o"]
    assert run(*words, output) == 0
    assert "note: what is not linear is left out" in capsys.readouterr().err
    affine = parts_of(files["spline"])[0]
    points = GRID.points(torch.zeros(0, dtype=torch.float64)).reshape(-1, 3)
    assert torch.allclose(read_transform(output)[0](points), affine(points), atol=1e-6)
    # The linear maps on both sides of what is not linear are one, and those alone are kept as they are.
    whole = files["linear"] @ parts_of(files["spline"])[1] @ files["linear"]
    found = linear_part(whole)
    assert found is not None and torch.allclose(found(points), files["linear"](files["linear"](points)))
    assert run("convert", "--linear-part", "-t", tmp_path / "linear.h5", "-o", tmp_path / "same.txt") == 0
    assert "note" not in capsys.readouterr().err


def test_convert_refuses_a_linear_part_that_is_not_there(
    files: dict[str, Transform], tmp_path: Path, refused: Callable[..., str]
) -> None:
    write_transform(tmp_path / "alone.h5", parts_of(files["spline"])[1], GRID, OTHER)
    line = refused("convert", "--linear-part", "-t", str(tmp_path / "alone.h5"), "-o", str(tmp_path / "a.txt"))
    assert "alone.h5: has no linear part: its chain is ThinPlateSpline" in line
    assert not (tmp_path / "a.txt").exists()


def test_convert_to_slicer(files: dict[str, Transform], tmp_path: Path, refused: Callable[..., str]) -> None:
    assert run("convert", "-t", tmp_path / "spline.h5", "-o", tmp_path / "new.tfm", "--slicer", "-q") == 0
    assert "ThinPlateSplineKernelTransform_double_3_3" in (tmp_path / "new.tfm").read_text()
    words = ["convert", "-o", str(tmp_path / "linear.tfm"), "--slicer", "-q"]
    assert "thin-plate spline" in refused(*words, "-t", str(tmp_path / "linear.h5"))


@pytest.mark.parametrize("name", ["linear", "spline"])
def test_invert_undoes_and_swaps_the_grids(files: dict[str, Transform], tmp_path: Path, name: str) -> None:
    output = tmp_path / "back.h5"
    assert run("invert", "-t", tmp_path / f"{name}.h5", "-o", output, "-q") == 0
    back, info = read_transform(output)
    assert info.provenance == {"inverse of": {"seed": 5}}
    assert info.fixed is not None and info.fixed.same_as(OTHER)
    assert info.moving is not None and info.moving.same_as(GRID)
    points = GRID.points(torch.zeros(0, dtype=torch.float64)).reshape(-1, 3)
    assert (back(files[name](points)) - points).norm(dim=-1).max() < 0.01


@pytest.mark.parametrize("ending", ["h5", "nii.gz"])
def test_a_fold_has_no_inverse_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    moves = torch.zeros(3, 5, 5, 5)
    moves[0, 2, 2, 2] = -20.0  # points of its left come to lie on its right
    lattice = GRID.resized((5, 5, 5))
    write_transform(tmp_path / "folded.h5", linear() @ LatticeSpline(moves, lattice), GRID, OTHER)
    back, image = tmp_path / f"back.{ending}", tmp_path / "i.nii.gz"
    assert run("invert", "-t", tmp_path / "folded.h5", "-o", back) == 0
    note = capsys.readouterr().err
    assert note.count("\n") == 1 and "could not be mapped back within" in note and "the nearest points found" in note
    volume(image)
    for words in (["-t", back], ["-t", tmp_path / "folded.h5", "--inverse"]):
        assert run("apply", *words, "-r", image, "-i", image, "-o", tmp_path / "o.nii.gz", "--overwrite") == 0
        told = capsys.readouterr().err
        # A file that is but a field does not know what it was the inverse of.
        assert ("could not be mapped back within" in told) == (ending == "h5" or "--inverse" in words)
        assert "Warning" not in told and told.count("mapped back") <= 1


def test_itk_reads_the_inverse(files: dict[str, Transform], tmp_path: Path) -> None:
    assert run("invert", "-t", tmp_path / "linear.h5", "-o", tmp_path / "back.tfm", "-q") == 0
    place = torch.tensor([5.0, 7.0, 9.0], dtype=torch.float64)
    mapped = files["linear"](place) * torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    back = np.array(sitk.ReadTransform(str(tmp_path / "back.tfm")).TransformPoint(mapped.tolist()))
    assert np.allclose(back * [-1, -1, 1], place)


def test_convert_tells_what_a_header_cannot_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savetxt(tmp_path / "shift.txt", linear().matrix.numpy())
    sheared = AFFINE.copy()
    sheared[0, 1] += 1
    volume(tmp_path / "f.nii", affine=sheared)
    words = ["convert", "-t", tmp_path / "shift.txt", "-f", tmp_path / "f.nii", "-o", tmp_path / "a.nii.gz"]
    assert run(*words) == 0
    assert "the affine is sheared" in capsys.readouterr().err


def test_grids_come_from_images_where_the_file_has_none(tmp_path: Path, refused: Callable[..., str]) -> None:
    np.savetxt(tmp_path / "shift.txt", linear().matrix.numpy())
    volume(tmp_path / "f.nii")
    words = ["convert", "-t", str(tmp_path / "shift.txt"), "-q", "-o"]
    assert "give --fixed" in refused(*words, str(tmp_path / "a.h5"))
    assert "give --moving" in refused(*words, str(tmp_path / "a.h5"), "-f", str(tmp_path / "f.nii"))
    assert run(*words, tmp_path / "a.nii.gz", "-f", tmp_path / "f.nii") == 0
    assert nib.load(tmp_path / "a.nii.gz").shape == (12, 10, 8, 1, 3)
    volume(tmp_path / "flat.nii", (12, 10))
    assert "2 axes" in refused(*words, str(tmp_path / "b.nii.gz"), "-f", str(tmp_path / "flat.nii"))


@pytest.mark.parametrize("verb", ["invert", "convert"])
def test_refusals(files: dict[str, Transform], tmp_path: Path, refused: Callable[..., str], verb: str) -> None:
    source = str(tmp_path / "spline.h5")
    before = sorted(tmp_path.rglob("*"))
    for name, word in (("a.tfm", "not linear"), ("a.txt", "not linear"), ("a.xyz", "ending"), ("no/a.h5", "no")):
        assert word in refused(verb, "-t", source, "-o", str(tmp_path / name), "-q")
    assert "--overwrite" in refused(verb, "-t", source, "-o", source, "-q")
    assert "none.h5" in refused(verb, "-t", str(tmp_path / "none.h5"), "-o", str(tmp_path / "a.h5"), "-q")
    assert sorted(tmp_path.rglob("*")) == before


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]) -> None:
    away = AFFINE.copy()
    away[0, 3] = 4000
    pair = str(volume(tmp_path / "f.nii")), str(volume(tmp_path / "m.nii", affine=away))
    assert run("check", *pair) == 0
    told = capsys.readouterr().out
    assert "12 x 10 x 8 voxels" in told and "do not overlap" in told and told.endswith("can be registered\n")
    assert "overlap" in refused("check", *pair, "--header")
    assert "2 spatial axes" in refused("check", pair[0], str(volume(tmp_path / "flat.nii", (12, 10))))


# --- apply --------------------------------------------------------------------------------------------------------


def labels(path: Path, values: list[int], dtype: str) -> Path:
    """Blocks of labels on the usual grid."""
    data = np.zeros((12, 10, 8), dtype)
    for place, value in enumerate(values):
        data[2 + 2 * place : 4 + 2 * place, 2:8, 2:6] = value
    nib.save(nib.Nifti1Image(data, AFFINE, dtype=dtype), path)
    return path


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([997, 614454277], "int32"), ([5, 2_000_000], "int32"), ([1, 2, 3], "float32"), ([3, 2**40 + 1], "int64")],
)
@pytest.mark.parametrize("named", [False, True])
def test_labels_stay_what_they_are(tmp_path: Path, values: list[int], dtype: str, named: bool) -> None:
    given = labels(tmp_path / "labels.nii.gz", values, dtype)
    np.savetxt(tmp_path / "move.txt", np.array([[1, 0, 0, 1.3], [0, 1, 0, 0.7], [0, 0, 1, 0], [0, 0, 0, 1]]))
    words = ["apply", "-t", tmp_path / "move.txt", "-r", given, "-i", given, "-o", tmp_path / "moved.nii.gz", "-q"]
    assert run(*words, *(["-n", "nearest"] if named else [])) == 0
    moved = np.asanyarray(nib.load(tmp_path / "moved.nii.gz").dataobj)
    assert set(np.unique(moved).astype(np.int64).tolist()) == {0, *values}


@pytest.mark.parametrize("linked", [False, True])
def test_files_that_are_read_are_not_replaced(tmp_path: Path, refused: Callable[..., str], linked: bool) -> None:
    """With a second input, the first result would be read in place of what it replaced."""
    one, two = volume(tmp_path / "one.nii.gz"), volume(tmp_path / "two.nii.gz")
    np.savetxt(tmp_path / "id.txt", np.eye(4))
    place = tmp_path / "link.nii.gz" if linked else two
    if linked:
        place.symlink_to(two)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    words = ["apply", "-t", tmp_path / "id.txt", "-r", one, "-i", one, "-o", place, "-i", two, "-o", tmp_path / "c.nii"]
    assert f"{place}: is one of the files that are read" in refused(*map(str, words), "--overwrite")
    for verb in ("convert", "invert"):
        words = [verb, "-t", tmp_path / "id.txt", "-o", tmp_path / "id.txt", "--overwrite"]
        assert "is one of the files that are read" in refused(*map(str, words))
    assert "this is a folder" in refused("convert", "-t", str(tmp_path / "id.txt"), "-o", str(tmp_path))
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_whole_numbers_of_an_image_are_no_labels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 50, (12, 10, 8)).astype("float32")
    nib.save(nib.Nifti1Image(noise, AFFINE), tmp_path / "noise.nii.gz")
    np.savetxt(tmp_path / "move.txt", np.array([[1, 0, 0, 1.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    image, out = tmp_path / "noise.nii.gz", tmp_path / "out.nii.gz"
    assert run("apply", "-t", tmp_path / "move.txt", "-r", image, "-i", image, "-o", out, "-q") == 0
    moved = nib.load(out).get_fdata()
    assert np.abs(moved - np.rint(moved)).max() > 0.1


@pytest.mark.parametrize("ending", [".hdr", ".img", ".vtk", ".gipl", ".nia", ".dat", ".tif"])
def test_formats_that_lose_something_are_not_written(tmp_path: Path, refused: Callable[..., str], ending: str) -> None:
    image = volume(tmp_path / "image.nii.gz")
    np.savetxt(tmp_path / "id.txt", np.eye(4))
    words = ["apply", "-t", tmp_path / "id.txt", "-r", image, "-i", image, "-o", tmp_path / f"out{ending}"]
    assert "write .nii.gz, .mha" in refused(*map(str, words))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["id.txt", "image.nii.gz"]


def test_paths_that_no_file_system_takes(tmp_path: Path, refused: Callable[..., str]) -> None:
    image = str(volume(tmp_path / "image.nii.gz"))
    np.savetxt(tmp_path / "id.txt", np.eye(4))
    (tmp_path / "loop.nii.gz").symlink_to(tmp_path / "loop.nii.gz")
    long = str(tmp_path / ("n" * 300 + ".nii.gz"))
    base = ["apply", "-t", str(tmp_path / "id.txt"), "-r", image]
    refused(*base, "-i", long, "-o", str(tmp_path / "o.nii.gz"))
    refused(*base, "-i", image, "-o", long)
    refused(*base, "-i", image, "-o", str(tmp_path / "loop.nii.gz"))
    (tmp_path / "pairs.csv").write_text("id,fixed,moving\na,~nobody77/f.nii.gz,m.nii.gz\n")
    refused("batch", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "out"))
    (tmp_path / "pairs.csv").write_text(f"id,fixed,moving\na,{long},{long}\n")
    refused("batch", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "out"))


def test_what_a_mask_does_not_know_is_outside(tmp_path: Path, refused: Callable[..., str]) -> None:
    image, empty = volume(tmp_path / "image.nii.gz"), tmp_path / "mask.nii.gz"
    values = np.full((12, 10, 8), np.nan, "float32")
    values[0, 0, 0] = 0
    nib.save(nib.Nifti1Image(values, AFFINE), empty)
    words = ["register", "-f", image, "-m", image, "-o", tmp_path / "out", "--fixed-mask", empty, "--dry-run"]
    assert "this mask is empty" in refused(*map(str, words))
