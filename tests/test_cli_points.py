"""The verb points: tables of points through a transform, and what else stands in them."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cli_files import AFFINE, volume
from test_cli_jacobian import bumps

from registration import Space, write_transform
from registration.cli import main as command
from registration.io.points import read_points
from registration.transforms.linear import Linear

GRID = Space((12, 10, 8), torch.from_numpy(AFFINE))
SHIFT = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)  # RAS mm, fixed -> moving
PLACES = torch.tensor([[4.0, 5.0, 6.0], [10.0, 12.5, 20.0]], dtype=torch.float64)
FCSV = """# Markups fiducial file version = 4.11
# CoordinateSystem = LPS
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
vtkMRML_1,-4,-5,6,0,0,0,1,1,0,1,nose,its tip,vtk1
vtkMRML_2,-10,-12.5,20,0,0,0,1,1,1,0,ear,,
"""
TABLE = "# space: RAS\n# seen by: A\nname;y;x;z;weight\nnose;5;4;6;0.25\near;12.5;10;20;\n"
MARKUPS: dict[str, Any] = {"markups": [{
    "coordinateSystem": "LPS", "display": {"color": [1, 0, 0]},
    "controlPoints": [
        {"id": "7", "label": "nose", "description": "its tip", "orientation": [1, 0], "position": [-4, -5, 6]},
        {"id": "9", "label": "ear", "position": [-10, -12.5, 20], "locked": True},
    ],
}]}  # fmt: skip
FILES = {"p.fcsv": FCSV, "p.csv": TABLE, "p.mrk.json": json.dumps(MARKUPS)}


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A folder with a shift, and the same two points in all formats."""
    write_transform(tmp_path / "t.h5", Linear.translation(SHIFT), GRID, GRID)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(*words: object) -> int:
    return command.run(["points", *(str(word) for word in words)])


def moved(folder: Path, source: str, result: str, *words: object) -> str:
    assert run("-t", folder / "t.h5", "-i", folder / source, "-o", folder / result, *words) == 0
    return (folder / result).read_text()


@pytest.mark.parametrize("result", ["q.fcsv", "q.csv", "q.mrk.json"])
@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize("inverse", [False, True])
def test_points_go_as_the_transform_says(
    folder: Path, capsys: pytest.CaptureFixture[str], source: str, result: str, inverse: bool
) -> None:
    text = moved(folder, source, result, *["--inverse"] * inverse)
    expected = PLACES - SHIFT if inverse else PLACES + SHIFT
    torch.testing.assert_close(read_points(folder / result), expected, atol=1e-12, rtol=0)
    way = "moving -> fixed" if inverse else "fixed -> moving"
    assert capsys.readouterr().out == f"wrote {folder / result}: 2 points, {way}\n"
    assert "nose" in text and "ear" in text and (f"# carried {way} by registration points, t.h5" in text) == (
        not result.endswith("json")
    )  # fmt: skip


def test_transforms_in_a_row(folder: Path) -> None:
    (folder / "m.txt").write_text("2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1\n")
    text = moved(folder, "p.csv", "q.csv", "-t", f"[{folder / 'm.txt'},1]")
    torch.testing.assert_close(read_points(folder / "q.csv"), (PLACES + SHIFT) / 2)
    assert "# carried fixed -> moving by registration points, t.h5 then [m.txt,1]\n" in text
    moved(folder, "q.csv", "r.csv", "-t", f"[{folder / 'm.txt'},1]", "--inverse")
    torch.testing.assert_close(read_points(folder / "r.csv"), PLACES)


def test_what_else_is_in_a_file_stays(folder: Path) -> None:
    lines = moved(folder, "p.csv", "q.csv").splitlines()
    assert lines == [
        "# space: RAS", "# seen by: A", "# carried fixed -> moving by registration points, t.h5", "name;y;x;z;weight",
        "nose;7.0;5.0;9.0;0.25", "ear;14.5;11.0;23.0;",
    ]  # fmt: skip
    lines = moved(folder, "p.fcsv", "q.fcsv").splitlines()
    assert lines[:3] == FCSV.splitlines()[:3]
    assert lines[4:] == [
        "vtkMRML_1,-5.0,-7.0,9.0,0,0,0,1,1,0,1,nose,its tip,vtk1",
        "vtkMRML_2,-11.0,-14.5,23.0,0,0,0,1,1,1,0,ear,,",
    ]
    document = json.loads(moved(folder, "p.mrk.json", "q.mrk.json"))
    for one, other in zip(MARKUPS["markups"][0]["controlPoints"], document["markups"][0]["controlPoints"], strict=True):
        assert {**other, "position": one["position"]} == one
    assert document["markups"][0]["display"] == MARKUPS["markups"][0]["display"]


def test_columns_in_another_format(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_titles = moved(folder, "p.fcsv", "q.csv").splitlines()
    rows = list(csv.DictReader(line for line in with_titles if not line.startswith("#")))
    assert (rows[0]["label"], rows[0]["desc"], rows[0]["associatedNodeID"]) == ("nose", "its tip", "vtk1")
    assert capsys.readouterr().err == ""
    moved(folder, "p.mrk.json", "r.csv")
    assert "no place for the column orientation" in capsys.readouterr().err
    (folder / "p.csv").write_text('# space: LPS\nname,x,y,z,desc,kind\n"a, b",-4,-5,6,tip,soft\n')
    assert "\n1,-5.0,-7.0,9.0,0,0,0,1,1,1,0,a; b,tip,\n" in moved(folder, "p.csv", "r.fcsv")
    told = capsys.readouterr().err
    assert "no place for the column kind" in told and "commas in names have become semicolons" in told
    (point,) = json.loads(moved(folder, "p.csv", "r.mrk.json"))["markups"][0]["controlPoints"]
    assert (point["label"], point["description"], point["position"]) == ("a, b", "tip", [-5, -7, 9])


def test_voxels_of_both_images(tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]) -> None:
    """Pixels in two slides: they count in the image that the points are of, and come out in that of the other."""
    one, other = Space.regular((20, 16), 0.5), Space.regular((30, 30), 0.25)
    write_transform(tmp_path / "t.h5", Linear.translation(torch.tensor([1.0, -1.0])), one, other)
    (tmp_path / "p.csv").write_text("id,X,Y\na,3,4\nb,10,2\n")
    text = moved(tmp_path, "p.csv", "q.csv", "--points-space", "voxel")
    assert text.startswith("# space: VOXEL\n")
    before = one.points(torch.zeros(0, dtype=torch.float64))[[3, 10], [4, 2]]
    after = read_points(tmp_path / "q.csv", grid=other)
    torch.testing.assert_close(after, before + torch.tensor([1.0, -1.0]).double())
    moved(tmp_path, "q.csv", "r.csv", "--inverse")
    torch.testing.assert_close(read_points(tmp_path / "r.csv", grid=one), before)
    (tmp_path / "matrix.txt").write_text("1 0 1\n0 1 -1\n0 0 1\n")
    capsys.readouterr()
    words = ["points", "-t", str(tmp_path / "matrix.txt"), "-i", str(tmp_path / "q.csv"), "-o", str(tmp_path / "s.csv")]
    assert "need the image they count in" in refused(*words)
    volume(tmp_path / "f.nii.gz", (20, 16))
    assert "give --moving" in refused(*words, "-f", str(tmp_path / "f.nii.gz"))
    volume(tmp_path / "f.nii.gz")
    assert "has 3 axes" in refused(*words, "-f", str(tmp_path / "f.nii.gz"))


def test_a_plane_in_a_format_of_volumes(tmp_path: Path) -> None:
    grid = Space.regular((20, 16), 0.5)
    write_transform(tmp_path / "t.h5", Linear.translation(torch.tensor([1.0, -1.0])), grid, grid)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("20", "0").replace("6,0", "0,0").replace(" 6]", " 0]"))
    (tmp_path / "p.csv").write_text("# space: RAS\nx,y,z\n4,5,0\n10,12.5,0\n")
    for source in FILES:
        for result in ("q.csv", "q.fcsv", "q.mrk.json"):
            moved(tmp_path, source, result, "--overwrite", "-q")
            assert read_points(tmp_path / result, grid=grid).tolist() == [[5, 4], [11, 11.5]]


def test_it_is_what_itk_does(tmp_path: Path) -> None:
    field = bumps(GRID, 3.0)
    write_transform(tmp_path / "t.h5", field, GRID, GRID)
    (tmp_path / "p.csv").write_text("# space: LPS\nx,y,z\n-4,-5,6\n-10.5,-12.5,20\n-9,-17,13\n")
    moved(tmp_path, "p.csv", "q.csv")
    itk = sitk.ReadTransform(str(tmp_path / "t.h5"))
    rows = np.loadtxt(tmp_path / "q.csv", delimiter=",", skiprows=3)
    before = [(-4.0, -5.0, 6.0), (-10.5, -12.5, 20.0), (-9.0, -17.0, 13.0)]
    assert np.abs(rows - [itk.TransformPoint(point) for point in before]).max() < 1e-3
    moved(tmp_path, "q.csv", "r.csv", "--inverse")
    assert np.abs(np.loadtxt(tmp_path / "r.csv", delimiter=",", skiprows=4) - before).max() < 1e-3


def test_points_of_the_other_image_are_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = Space(GRID.shape, Linear.translation(torch.tensor([50.0, 0, 0]).double()).matrix @ GRID.affine)
    write_transform(folder / "t.h5", Linear.translation(torch.tensor([50.0, 0, 0])), GRID, far)
    moved(folder, "p.csv", "q.csv", "--inverse")
    note = "2 of 2 points lie outside the moving image, and 2 inside the fixed one: should --inverse be left out?"
    assert note in capsys.readouterr().err
    (folder / "p.csv").write_text("# space: RAS\nx,y,z\n54,5,6\n")
    moved(folder, "p.csv", "r.csv")
    assert "outside the fixed image, and 1 inside the moving one: is --inverse needed?" in capsys.readouterr().err
    # A field of another program, which knows no images.
    volume(folder / "f.nii.gz")
    write_transform(folder / "t.h5", bumps(GRID), GRID, GRID)
    assert command.run(["convert", "-t", str(folder / "t.h5"), "-o", str(folder / "w.nii.gz"), "-q"]) == 0
    assert run("-t", folder / "w.nii.gz", "-i", folder / "p.csv", "-o", folder / "s.csv") == 0
    told = capsys.readouterr().err
    assert "1 of 1 points lie outside the grid of the transform's displacement field, which does not move them" in told
    assert read_points(folder / "s.csv").tolist() == [[54, 5, 6]]
    # Where it folds, the points that come nearest stand for its inverse, and that is told in one line.
    write_transform(folder / "t.h5", bumps(GRID, -60.0), GRID, GRID)
    assert command.run(["convert", "-t", str(folder / "t.h5"), "-o", str(folder / "v.nii.gz"), "-q"]) == 0
    rows = "\n".join(f"{x},13,14" for x in range(0, 23, 2))
    (folder / "p.csv").write_text(f"# space: RAS\nx,y,z\n{rows}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("-t", folder / "v.nii.gz", "-i", folder / "p.csv", "-o", folder / "u.csv", "--inverse") == 0
    assert capsys.readouterr().err.count("could not be mapped back within") == 1


def surface(path: Path, **about: float) -> nib.GiftiImage:
    """A triangle as a GIFTI file, with names of its own."""
    arrays = [
        nib.gifti.GiftiDataArray(
            np.array([[4, 5, 6], [10, 12.5, 20], [7, 8, 9]], np.float32), "NIFTI_INTENT_POINTSET",
            meta={"AnatomicalStructurePrimary": "CortexLeft", **{key: str(value) for key, value in about.items()}},
        ),
        nib.gifti.GiftiDataArray(np.array([[0, 1, 2]], np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]  # fmt: skip
    image = nib.GiftiImage(darrays=arrays)
    nib.save(image, path)
    return image


@pytest.mark.parametrize("inverse", [False, True])
def test_surfaces(folder: Path, capsys: pytest.CaptureFixture[str], inverse: bool) -> None:
    before = surface(folder / "s.surf.gii", VolGeomC_R=0, VolGeomC_A=0, VolGeomC_S=0)
    words = ["-t", folder / "t.h5", "-i", folder / "s.surf.gii", "-o", folder / "o.surf.gii"]
    assert run(*words, *["--inverse"] * inverse) == 0
    way = "moving -> fixed" if inverse else "fixed -> moving"
    assert capsys.readouterr() == (f"wrote {folder / 'o.surf.gii'}: 3 vertices, {way}\n", "")
    after: nib.GiftiImage = nib.load(folder / "o.surf.gii")
    (one, triangles), (other, same) = before.darrays, after.darrays
    assert np.allclose(other.data - one.data, (-1 if inverse else 1) * SHIFT.numpy()) and other.data.dtype == np.float32
    assert np.array_equal(triangles.data, same.data) and dict(one.meta) == dict(other.meta)
    assert f"carried {way}" in after.meta["Moved"]
    surface(folder / "s.surf.gii", VolGeomC_R=1, VolGeomC_A=-2.5, VolGeomC_S=3)
    assert run(*words, "--overwrite") == 0
    assert "mris_convert --to-scanner made them; without it they are off by (1, -2.5, 3) mm" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["trk", "tck"])
def test_streamlines(folder: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    """They lie where nibabel says, and the header of a .trk gets the grid of the other image."""
    turned = np.array([[0, -3.0, 0, 40], [2, 0, 0, -10], [0, 0, 4, 5], [0, 0, 0, 1]])
    other = Space((9, 8, 7), torch.tensor([[-2.0, 0, 0, 30], [0, 0, 2, 1], [0, 3, 0, 2], [0, 0, 0, 1]]).double())
    write_transform(folder / "t.h5", Linear.translation(SHIFT), GRID, other)
    lines = [np.array([[4, 5, 6], [10, 12.5, 20]], np.float32), np.array([[7, 8, 9]] * 3, np.float32)]
    weights = {"weight": [[1.0], [2.0]]} if ending == "trk" else None
    tracts = nib.streamlines.Tractogram(lines, data_per_streamline=weights, affine_to_rasmm=np.eye(4))
    header = {"voxel_to_rasmm": turned.astype(np.float32), "dimensions": np.array([12, 10, 8], np.int16)}
    nib.streamlines.save(tracts, str(folder / f"s.{ending}"), header=header if ending == "trk" else None)
    words = ["-t", folder / "t.h5", "-i", folder / f"s.{ending}", "-o", folder / f"o.{ending}"]
    assert run(*words) == 0
    assert capsys.readouterr() == (f"wrote {folder / f'o.{ending}'}: 5 points, fixed -> moving\n", "")
    after = nib.streamlines.load(folder / f"o.{ending}")
    for one, line in zip(lines, after.tractogram.streamlines, strict=True):
        assert np.allclose(line - one, SHIFT.numpy(), atol=1e-5)
    if ending == "tck":
        assert "carried fixed -> moving" in after.header["moved"]
        return
    assert np.allclose(after.header["voxel_to_rasmm"], other.affine) and tuple(after.header["dimensions"]) == (9, 8, 7)
    assert np.allclose(after.tractogram.data_per_streamline["weight"], [[1.0], [2.0]])
    (folder / "m.txt").write_text("1 0 0 1\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    assert run("-t", folder / "m.txt", *words[2:], "--overwrite") == 0
    assert "its header still has the grid of the image that the streamlines come from" in capsys.readouterr().err
    assert np.allclose(nib.streamlines.load(folder / "o.trk").header["voxel_to_rasmm"], turned)


def test_refusals_of_geometry(folder: Path, refused: Callable[..., str]) -> None:
    words = ["points", "-t", str(folder / "t.h5"), "-o", str(folder / "o.surf.gii"), "-i"]
    surface(folder / "s.surf.gii")
    whole = (folder / "s.surf.gii").read_bytes()
    (folder / "cut.surf.gii").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as a GIFTI surface" in refused(*words, str(folder / "cut.surf.gii"))
    nib.save(nib.GiftiImage(), folder / "none.gii")
    assert "holds 0 sets of vertices" in refused(*words, str(folder / "none.gii"))
    assert "--points-space: is for tables" in refused(*words, str(folder / "s.surf.gii"), "--points-space", "lps")
    assert "give a name that ends in .trk" in refused(*words, str(folder / "x.trk"))
    nib.streamlines.save(nib.streamlines.Tractogram([], affine_to_rasmm=np.eye(4)), str(folder / "none.tck"))
    (folder / "cut.trk").write_bytes(b"TRACK" + bytes(50))
    words[4] = str(folder / "o.trk")
    assert "cannot be read as a file of streamlines" in refused(*words, str(folder / "cut.trk"))
    words[4] = str(folder / "o.tck")
    assert "holds no points" in refused(*words, str(folder / "none.tck"))
    flat = Space.regular((5, 5))
    write_transform(folder / "t.h5", Linear.translation(torch.tensor([1.0, 0])), flat, flat)
    assert "lies in 3-D, the transform is 2-D" in refused(*words, str(folder / "none.tck"))
    assert not list(folder.glob("o.*")) and not list(folder.glob(".partial*"))


@pytest.mark.parametrize(("text", "message"), [
    ("# space: RAS\nx,y,z\n", "holds no points"),
    ("# space: RAS\nx,y,z\n1,nan,3\n", "point 1 has a coordinate that is missing or not finite"),
    ("# space: RAS\nx,y\n1,2\n", "holds 2-D points"),
    ("x,y,z\n1,2,3\n", "does not say whether its numbers are"),
])  # fmt: skip
def test_refusals(folder: Path, refused: Callable[..., str], text: str, message: str) -> None:
    (folder / "p.csv").write_text(text)
    words = ["points", "-t", str(folder / "t.h5"), "-i", str(folder / "p.csv")]
    assert message in refused(*words, "-o", str(folder / "q.csv"))
    assert not (folder / "q.csv").exists()
    assert "is there already" in refused(*words, "-o", str(folder / "p.csv"))
    assert "written as .csv, .fcsv or .mrk.json" in refused(*words, "-o", str(folder / "q.xyz"))
