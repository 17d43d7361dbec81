"""Landmark tables: whatever the coordinates in the file, RAS mm in memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registration.errors import InputError
from registration.io.images import read_image
from registration.io.points import PointSpace, read_pairs, read_points, write_points
from registration.space import Space


def oblique(shape: tuple[int, ...]) -> Space:
    d = len(shape)
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = torch.matrix_exp(torch.tensor([[0, -0.5, 0.2], [0.5, 0, -0.3], [-0.2, 0.3, 0]]).double()[:d, :d])
    affine[:d, :d] *= torch.tensor([0.5, 1.5, 2.5]).double()[:d]
    affine[:d, d] = torch.tensor([10.0, -20.0, 30.0])[:d]
    return Space(shape, affine)


@settings(deadline=None, max_examples=40)
@given(
    d=st.sampled_from([2, 3]),
    space=st.sampled_from(list(PointSpace)),
    ending=st.sampled_from([".csv", ".fcsv", ".mrk.json"]),
    seed=st.integers(0, 1000),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, d: int, space: PointSpace, ending: str, seed: int
) -> None:
    grid = oblique((9, 8, 7)[:d])
    points = torch.randn(5, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 80
    file = tmp_path_factory.mktemp("points") / f"p{ending}"
    write_points(file, points, space=space, grid=grid)
    torch.testing.assert_close(read_points(file, grid=grid), points, atol=1e-9, rtol=0)


def test_meanings_of_a_table(tmp_path: Path) -> None:
    grid, file = oblique((9, 8, 7)), tmp_path / "p.csv"
    file.write_text("name,Y,X,z\na,2,1,3\nb,5,4,6\n")
    values = torch.tensor([[1, 2, 3], [4, 5, 6]]).double()
    assert torch.equal(read_points(file, space="ras"), values)
    assert torch.equal(read_points(file, space="lps"), values * torch.tensor([-1, -1, 1]))
    expected = values @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    torch.testing.assert_close(read_points(file, space="voxel", grid=grid), expected)
    with pytest.raises(InputError, match="does not say"):
        read_points(file)
    with pytest.raises(InputError, match="need the image"):
        read_points(file, space="voxel")
    with pytest.raises(InputError, match="unknown coordinates"):
        read_points(file, space="mni")
    file.write_text("# space: LPS\nx;y;z\n1;2;3\n")
    assert read_points(file).tolist() == [[-1, -2, 3]]
    with pytest.raises(InputError, match="states LPS, but RAS"):
        read_points(file, space="ras")
    file.write_text("x,y,z,t\n1,2,0,0\n")
    assert read_points(file, space="lps", grid=oblique((5, 5))).tolist() == [[-1, -2]]


def test_slicer_files(tmp_path: Path) -> None:
    file = tmp_path / "p.fcsv"
    for stated, sign in (("RAS", 1), ("LPS", -1), ("0", 1), ("1", -1)):
        file.write_text(
            f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {stated}\nF1,1,2,3,0,0,0,1,1,1,0,a,,\n"
        )
        assert read_points(file).tolist() == [[sign * 1, sign * 2, 3]]
    markup = {"markups": [{"coordinateSystem": "RAS", "controlPoints": [{"position": [1, 2, 3]}]}]}
    (tmp_path / "p.mrk.json").write_text(json.dumps(markup))
    assert read_points(tmp_path / "p.mrk.json").tolist() == [[1, 2, 3]]


def test_pixels_of_a_picture(tmp_path: Path) -> None:
    """A bright pixel in column 6, row 2 of a picture lies where the table says X = 6, Y = 2."""
    pixels = np.zeros((5, 9), np.uint8)
    pixels[2, 6] = 255
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "a.png"))
    (tmp_path / "a.csv").write_text(",X,Y\n1,6,2\n")
    image = read_image(tmp_path / "a.png", spacing=[0.5, 0.25])
    (point,) = read_points(tmp_path / "a.csv", space="voxel", grid=image.space)
    bright = image.space.points()[image.data[0, 0] > 200]
    torch.testing.assert_close(bright[0].double(), point)


@pytest.mark.real
def test_histology(shared_data: Path) -> None:
    folder = shared_data / "histology"
    image = read_image(folder / "Rat-Kidney_HE.jpg")
    points = read_points(folder / "Rat-Kidney_HE.csv", space="voxel", grid=image.space)
    assert points.shape == (71, 2)
    spacing = image.space.spacing
    torch.testing.assert_close(points[0], -torch.tensor([63.0, 309.0]).double() * spacing)

    other = read_image(folder / "Rat-Kidney_PanCytokeratin.jpg")
    notices: list[str] = []
    pairs = read_pairs(
        folder / "Rat-Kidney_HE.csv",
        folder / "Rat-Kidney_PanCytokeratin.csv",
        (image.space, other.space),
        space="voxel",
        notices=notices,
    )
    assert pairs[0].shape == pairs[1].shape == (69, 2)
    assert "69 points have a partner, 2 have none" in notices[0]


def test_pairs(tmp_path: Path) -> None:
    grid = Space.regular((9, 9), 1.0)
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("name,x,y\np,1,1\nq,2,2\nr,3,3\n")
    b.write_text("name,x,y\nr,30,30\np,10,10\n")
    one, other = read_pairs(a, b, (grid, grid), space="ras")
    assert one.tolist() == [[1, 1], [3, 3]]
    assert other.tolist() == [[10, 10], [30, 30]]
    b.write_text("x,y\n30,30\n10,10\n")
    with pytest.raises(InputError, match="has 2 points.*has 3"):  # noqa: RUF043
        read_pairs(a, b, (grid, grid), space="ras")
    b.write_text("name,x,y\ns,30,30\nt,10,10\nu,0,0\n")
    said: list[str] = []
    assert read_pairs(a, b, (grid, grid), space="ras", notices=said)[1].tolist() == [[30, 30], [10, 10], [0, 0]]
    assert "no name is in both, points are paired row by row" in said[0]
    b.write_text("name,x,y\nr,30,30\nt,10,10\nu,0,0\n")
    with pytest.raises(InputError, match=r"has 1 of its 3 names in common with .*a\.csv"):
        read_pairs(a, b, (grid, grid), space="ras")
    b.write_text("x,y,name\n1,2,p\n3,4,p\n5,6\n")
    read_pairs(a, b, (grid, grid), space="ras", notices=said)
    assert "names stand there twice" in said[1]


def test_names_of_pandas_and_slicer(tmp_path: Path) -> None:
    grid = Space.regular((9, 9, 9), 1.0)
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text(",name,x,y,z\n0,nose,1,1,1\n1,ear,2,2,2\n")
    b.write_text(",name,x,y,z\n0,ear,20,20,20\n1,nose,10,10,10\n")
    assert read_pairs(a, b, (grid, grid), space="ras")[1].tolist() == [[10] * 3, [20] * 3]
    # A column of classes names no points where another one does.
    b.write_text("label,id,x,y,z\n1,ear,20,20,20\n1,nose,10,10,10\n")
    assert read_pairs(a, b, (grid, grid), space="ras")[1].tolist() == [[10] * 3, [20] * 3]
    slicer = tmp_path / "b.mrk.json"
    points = [{"label": name, "position": [k] * 3} for name, k in (("ear", 20), ("nose", 10), ("chin", 30))]
    slicer.write_text(json.dumps({"markups": [{"coordinateSystem": "RAS", "controlPoints": points}]}))
    said: list[str] = []
    assert read_pairs(a, slicer, (grid, grid), otherwise=PointSpace.RAS, notices=said)[1].tolist() == [
        [10] * 3, [20] * 3
    ]  # fmt: skip
    assert "2 points have a partner, 1 have none" in said[-1]
    old = tmp_path / "b.fcsv"
    rows = [f"vtk_{k},{k},{k},{k},0,0,0,1,1,1,0,{name},," for name, k in (("ear", 20), ("nose", 10))]
    old.write_text("\n".join(["# CoordinateSystem = RAS", *rows]))
    assert read_pairs(a, old, (grid, grid), otherwise=PointSpace.RAS)[1].tolist() == [[10] * 3, [20] * 3]
    for point in points:
        point["label"] = ""
    slicer.write_text(json.dumps({"markups": [{"coordinateSystem": "RAS", "controlPoints": points[:2]}]}))
    assert read_pairs(a, slicer, (grid, grid), otherwise=PointSpace.RAS)[1].tolist() == [[20] * 3, [10] * 3]


BAD = {
    "nothing.csv": ("x,y,z\n", "no points"),
    "blank.csv": ("\n\n", "no points"),
    "header.csv": ("a,b\n1,2\n", "columns named x, y"),
    "text.csv": ("x,y\n1,two\n", "row 1"),
    "short.csv": ("x,y,z\n1,2,3\n4,5\n", "row 2"),
    "nan.csv": ("x,y,z\n1,2,3\nnan,5,6\n", "point 2"),
    "bad.fcsv": ("a,b,c,d\n", "fiducial list"),
    "bad.mrk.json": ("{}", "markup file"),
    "two.fcsv": ("# CoordinateSystem = RAS\nF1,1,2\nF2,4,5\nF3,7,8\n", "fiducial list"),
    "far.mrk.json": (
        '{"markups": [{"coordinateUnits": "um", "controlPoints": [{"position": [0, 0, 0]}]}]}',
        "counts in um; save it in mm",
    ),
    "long.csv": ("x,y\n1," + "2" * 200000 + "\n", "is no table"),
    "cut.mrk.json": ('{"markups": [', "markup file"),
    "none.mrk.json": ('{"markups": [{"controlPoints": []}]}', "holds no points"),
    "two.mrk.json": ('{"markups": [{}, {}]}', "2 lists"),
    "open.mrk.json": (
        '{"markups": [{"controlPoints": [{"position": [0, 0, 0], "positionStatus": "undefined"}]}]}',
        "not placed",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_points(tmp_path / name, space="ras")
    assert name in str(caught.value)


def test_more_bad_input(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="no text file"):
        read_points(tmp_path / "binary.csv")
    with pytest.raises(InputError, match="no such file"):
        read_points(tmp_path / "missing.csv")
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="3-D points, the image has 2 axes"):
        read_points(tmp_path / "p.csv", space="ras", grid=oblique((4, 4)))
    with pytest.raises(InputError, match="written as"):
        write_points(tmp_path / "p.xyz", torch.zeros(1, 3))
    with pytest.raises(InputError, match="need the image's grid"):
        write_points(tmp_path / "p.csv", torch.zeros(1, 3), space="voxel")
