"""Transforms of elastix lead where transformix leads, alone and in chains; what cannot be used is told in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from registration.errors import InputError
from registration.io.transforms import read_transform

# Columns of a direction matrix, one after the other, as elastix writes them.
AXES = {2: "0.8 0.6 -0.6 0.8", 3: "0.8 0.6 0 0.48 -0.64 0.6 0.36 -0.48 -0.8"}
SIGNS = np.array([-1.0, -1.0, 1.0])
SMALL = {  # parameters of the linear ones
    ("TranslationTransform", 2): "3 -4", ("TranslationTransform", 3): "3 -4 5",
    ("EulerTransform", 2): "0.3 1 -2", ("EulerTransform", 3): "0.3 -0.2 0.4 1 -2 3",
    ("SimilarityTransform", 2): "1.2 0.3 1 -2", ("SimilarityTransform", 3): "0.1 -0.2 0.3 1 -2 3 1.2",
    ("AffineTransform", 2): "1.1 0.2 -0.1 0.9 1 -2",
    ("AffineTransform", 3): "1.1 0.2 0 -0.1 0.9 0.3 0.05 -0.2 1.2 1 -2 3",
}  # fmt: skip
GRIDS = {2: (5, 6), 3: (4, 5, 6)}
# LPS mm; the last is where the splines do not reach.
POINTS = {
    2: [[-9.1, -8.7], [-17.9, -1.5], [-10.8, -0.4], [-21.9, 1], [40, 40]],
    3: [[15.2, -41.1, -4.5], [27, -61.3, -17.1], [26.1, -49.6, -9.5], [29.4, -67.4, -18.3], [60, 60, 60]],
}


def settings(kind: str, d: int, initial: str = "NoInitialTransform", **others: str) -> str:
    """A file as elastix 5.2 writes it."""
    zeros = " ".join("0" * d)
    said = {
        "Direction": AXES[d], "FixedImageDimension": str(d), "HowToCombineTransforms": '"Compose"', "Index": zeros,
        "InitialTransformParameterFileName": f'"{initial}"', "MovingImageDimension": str(d),
        "Origin": "5 -20 11"[: 5 + 3 * (d - 2)], "Size": " ".join(["20", "24", "22"][:d]),
        "Spacing": "1.5 2 2.5"[: 5 + 4 * (d - 2)], "Transform": f'"{kind}"', "UseDirectionCosines": '"true"',
    }  # fmt: skip
    if "BSpline" in kind:
        count = d * int(np.prod(GRIDS[d]))
        values = " ".join(f"{3 * np.sin(0.7 * n):.6f}" for n in range(count))
        said |= {
            "GridSize": " ".join(map(str, GRIDS[d])), "GridIndex": zeros, "GridSpacing": "9 11 12"[: 3 * d - 1],
            "GridOrigin": "-10 -30 0"[: 7 + 2 * (d - 2)], "GridDirection": AXES[d], "UseCyclicTransform": '"false"',
            "BSplineTransformSplineOrder": "3",
        }  # fmt: skip
    else:
        values = SMALL.get((kind, d), "0")
        said["CenterOfRotationPoint"] = "10 -5 7"[: 5 + 2 * (d - 2)]
    said |= {"NumberOfParameters": str(len(values.split())), "TransformParameters": values} | others
    lines = [f"({name} {value})" for name, value in sorted(said.items()) if value]
    return "\n".join([*lines, "", "// ResampleInterpolator specific (and so on)", '(Resampler "DefaultResampler")', ""])


# What transformix makes of POINTS: for every file below, itk-elastix 0.23 (elastix 5.2),
#   parameters = itk.ParameterObject.New(); parameters.AddParameterFile("TransformParameters.0.txt")
#   itk.transformix_pointset(moving, parameters, fixed_point_set_file_name="points.txt", output_directory=".")
LED = {
    ("TranslationTransform", 2): [[-6.1, -12.7], [-14.9, -5.5], [-7.8, -4.4], [-18.9, -3], [43, 36]],
    ("TranslationTransform", 3): [[18.2, -45.1, 0.5], [30, -65.3, -12.1], [29.1, -53.6, -4.5], [32.4, -71.4, -13.3],
                                  [63, 56, 65]],
    ("EulerTransform", 2): [[-6.154, -16.179], [-16.688, -11.901], [-10.23, -8.752], [-21.248, -10.695],
                            [26.362, 44.856]],
    ("EulerTransform", 3): [[30.05, -33.104, -10.449], [49.371, -42.677, -25.976], [43.652, -35.292, -15.573],
                            [53.946, -46.846, -28.447], [29.376, 48.335, 88.322]],
    ("SimilarityTransform", 2): [[-9.584, -18.015], [-22.226, -12.882], [-14.476, -9.103], [-27.698, -11.434],
                                 [29.434, 55.227]],
    ("SimilarityTransform", 3): [[45.745, -34.218, -2.567], [75.382, -41.679, -11.66], [63.374, -33.79, -2.998],
                                 [82.327, -45.608, -12.194], [-10.897, 66.957, 98.204]],
    ("AffineTransform", 2): [[-10.75, -8.42], [-18.99, -1.06], [-10.96, -0.78], [-22.89, 1.59], [53, 30.5]],
    ("AffineTransform", 3): [[9.5, -43.46, 3.68], [18.44, -66.6, -6.81], [19.79, -53.7, -0.075], [19.86, -72.69, -6.91],
                             [79, 62.4, 63.1]],
    ("BSplineTransform", 2): [[-9.107, -9.042], [-17.843, -1.189], [-10.004, -1.005], [-22.793, 1.729], [40, 40]],
    ("BSplineTransform", 3): [[15.448, -41.18, -4.639], [27.086, -61.166, -17.368], [25.551, -49.333, -9.314],
                              [29.99, -68.015, -18.053], [60, 60, 60]],
}  # fmt: skip
TURNED_OTHERWISE = [[31.763, -31.975, -10.19], [51.775, -40.423, -25.493], [45.523, -33.37, -15.168],
                    [56.612, -44.32, -27.907], [25.273, 49.448, 88.383]]  # fmt: skip
IN_A_ROW = [[27.742, -39.54, -4.441], [46.874, -54.589, -20.346], [41.274, -44.302, -9.198],
            [51.719, -60.107, -21.652], [42.981, 63.461, 97.888]]  # fmt: skip


def leads(file: Path, expected: list[list[float]], near: float = 1e-3) -> None:
    d = len(expected[0])
    points = torch.tensor(POINTS[d]).double() * torch.from_numpy(SIGNS[:d])
    moved = read_transform(file)[0](points).numpy() * SIGNS[:d]
    np.testing.assert_allclose(moved, expected, atol=near, rtol=0)


@pytest.mark.parametrize(("kind", "d"), sorted(LED))
def test_leads_where_transformix_leads(tmp_path: Path, kind: str, d: int) -> None:
    file = tmp_path / "TransformParameters.0.txt"
    near = 0.02 if kind == "BSplineTransform" else 1e-3  # sampled
    file.write_text(settings(kind, d))
    leads(file, LED[kind, d], near)
    fixed = read_transform(file)[1].fixed
    assert fixed is not None and fixed.shape == (20, 24, 22)[:d]
    affine = fixed.affine.numpy()
    np.testing.assert_allclose(affine[:d, d] * SIGNS[:d], [5, -20, 11][:d])
    np.testing.assert_allclose(affine[:d, 0] * SIGNS[:d], [1.2, 0.9, 0][:d])
    np.testing.assert_allclose(affine[:d, 1] * SIGNS[:d], {2: [-1.2, 1.6], 3: [0.96, -1.28, 1.2]}[d])
    # Before elastix 5.1 the names stood in another order, and one was another.
    lines = settings(kind, d).replace("ParameterFileName", "ParametersFileName").splitlines()
    file.write_bytes("\r\n".join(["// old", *reversed(lines)]).encode())
    leads(file, LED[kind, d], near)


def test_other_spellings(tmp_path: Path) -> None:
    file = tmp_path / "TransformParameters.0.txt"
    file.write_text(settings("EulerTransform", 3, ComputeZYX='"true"'))
    leads(file, TURNED_OTHERWISE)
    file.write_text(settings("RecursiveBSplineTransform", 2, GridIndex="1 -1", GridOrigin="-23.8 -26.6"))
    leads(file, LED["BSplineTransform", 2], 0.02)
    file.write_text(settings("TranslationTransform", 2, Index="2 -1", Direction="") + "\n(Added 1) // (by hand)\n")
    assert read_transform(file)[1].fixed is None
    file.write_text(settings("TranslationTransform", 2, Index="2 -1"))
    fixed = read_transform(file)[1].fixed
    assert fixed is not None
    np.testing.assert_allclose(fixed.affine.numpy()[:2, 2], [-(5 + 2.4 + 1.2), -(-20 + 1.8 - 1.6)])


def test_initial_transforms_act_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    first, second, last = (tmp_path / "out" / f"TransformParameters.{n}.txt" for n in range(3))
    first.write_text(settings("BSplineTransform", 3))
    last.write_text(settings("AffineTransform", 3, second.name))
    # Absolute, beside the file, and as elastix leaves it where its output was named from another folder.
    for name, told in ((str(first), 1), (first.name, 1), ("out/" + first.name, 2), ("C:\\x\\" + first.name, 2)):
        second.write_text(settings("EulerTransform", 3, name))
        leads(last, IN_A_ROW, 0.02)
        assert len(read_transform(last)[1].notices) == told, name


def test_refused_chains(tmp_path: Path) -> None:
    def refused(message: str, **files: str) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError) as caught:
            read_transform(tmp_path / "a")
        assert message in str(caught.value) and "\n" not in str(caught.value)

    refused("there is no such file", a=settings("AffineTransform", 3, "none.txt"))
    refused("lead in a circle", a=settings("AffineTransform", 3, "a"))
    refused("lead in a circle", a=settings("AffineTransform", 3, "./b"), b=settings("EulerTransform", 3, "../gone/a"))
    refused("is a 2-D transform", a=settings("AffineTransform", 3, "b"), b=settings("EulerTransform", 2))
    refused("line 1 is none of elastix", a=settings("AffineTransform", 3, "b"), b="1 0 0\n0 1 0\n0 0 1\n")
    refused("is added to its initial", a=settings("AffineTransform", 3, "b", HowToCombineTransforms='"Add"'))
    refused("starts from transform 0 of a list", a=settings("AffineTransform", 3, "0"))


REFUSED = {
    "holds a AffineLogTransform": settings("AffineLogTransform", 3),
    "transformix -def all": settings("SplineKernelTransform", 3),
    "without the directions": settings("AffineTransform", 3, UseDirectionCosines='"false"'),
    "in a binary file": settings("AffineTransform", 3, UseBinaryFormatForTransformationParameters='"true"'),
    "leads from 4 axes to 4": settings("EulerTransform", 3, FixedImageDimension="4", MovingImageDimension="4"),
    "has no TransformParameters": settings("AffineTransform", 3, TransformParameters=""),
    "TransformParameters has 11 numbers, 12": settings(
        "AffineTransform", 3, TransformParameters="1 0 0 0 1 0 0 0 1 2 3"
    ),
    "make no AffineTransform": settings("AffineTransform", 3, TransformParameters="1 2", NumberOfParameters="2"),
    "what is no number": settings("TranslationTransform", 2, TransformParameters="1 x"),
    "holds NaN": settings("TranslationTransform", 2, TransformParameters="nan 1"),
    "singular": settings("AffineTransform", 2, TransformParameters="1 1 1 1 0 0"),
    "CenterOfRotationPoint is missing": settings("AffineTransform", 3, CenterOfRotationPoint=""),
    "InitialTransformParameterFileName is missing": settings(
        "AffineTransform", 3, InitialTransformParameterFileName=""
    ),
    "names Size twice": settings("AffineTransform", 3) + "(Size 1 2 3)\n",
    "is not closed": settings("AffineTransform", 3)[:-6],
    "another order than 3": settings("BSplineTransform", 2, BSplineTransformSplineOrder="2"),
    "cyclic": settings("BSplineTransform", 2, UseCyclicTransform='"true"'),
    "GridDirection holds directions": settings("BSplineTransform", 2, GridDirection="1 1 1 1"),
    "60 parameters for 5 x 7 control points": settings("BSplineTransform", 2, GridSize="5 7"),
    "60 parameters for 1e+300": settings("BSplineTransform", 2, GridSize="1e300 7"),
    "on no proper grid": settings("AffineTransform", 3, Spacing="0 1 1"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(tmp_path: Path, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.txt").write_text(REFUSED[message])
    with pytest.raises(InputError) as caught:
        read_transform(tmp_path / "t.txt")
    assert message in str(caught.value) and "t.txt" in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_cut_anywhere(tmp_path: Path) -> None:
    """Wherever a file is cut, it is refused, or what it leads to is the same."""
    used = 0
    for d, kind in ((2, "BSplineTransform"), (3, "EulerTransform")):
        text = "\n".join(reversed(settings(kind, d, "first.txt").splitlines())) + "\n"
        for whole in (text, settings(kind, d, "first.txt")):
            (tmp_path / "first.txt").write_text(settings("TranslationTransform", d))
            (tmp_path / "t.txt").write_text(whole)
            points = torch.tensor(POINTS[d]).double() * torch.from_numpy(SIGNS[:d])
            expected = read_transform(tmp_path / "t.txt")[0](points)
            for length in [*range(40, len(whole), 97), len(whole) - 30]:
                (tmp_path / "t.txt").write_text(whole[:length])
                try:
                    found = read_transform(tmp_path / "t.txt")[0]
                except InputError:
                    continue
                used += 1
                assert torch.equal(found(points), expected), whole[:length]
    assert used


def test_the_command_takes_them(tmp_path: Path, refused: Callable[..., str]) -> None:
    from registration.cli.main import run

    file = tmp_path / "TransformParameters.0.txt"
    file.write_text(settings("EulerTransform", 3))
    assert run(["convert", "-t", str(file), "-o", str(tmp_path / "a.txt"), "-q"]) == 0
    leads(tmp_path / "a.txt", LED["EulerTransform", 3])
    assert run(["invert", "-t", str(file), "-o", str(tmp_path / "b.tfm"), "-q"]) == 0
    assert run(["invert", "-t", str(tmp_path / "b.tfm"), "-o", str(tmp_path / "c.txt"), "-q"]) == 0
    leads(tmp_path / "c.txt", LED["EulerTransform", 3])
    assert "give --moving" in refused("convert", "-t", str(file), "-o", str(tmp_path / "a.h5"), "-q")
