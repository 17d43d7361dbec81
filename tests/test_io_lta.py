"""Linear transforms of FreeSurfer, from the fixed image to the moving one, whatever their matrices count in."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from registration.cli.main import run
from registration.errors import InputError
from registration.io.lta import write_lta
from registration.io.transforms import read_transform
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

# Of the moving image, which FreeSurfer calls source, and of the fixed one.
VOLUMES = """src volume info
valid = 1  # volume info valid
filename = /data/sub 01/moving #2.mgz
volume = 20 24 22
voxelsize = 1.500000000000000e+00 2.000000000000000e+00 2.500000000000000e+00
xras   = -8.000000000000000e-01 6.000000000000000e-01 0.000000000000000e+00
yras   = -4.800000000000000e-01 -6.400000000000000e-01 6.000000000000000e-01
zras   = 3.600000000000000e-01 4.800000000000000e-01 8.000000000000000e-01
cras   = 5.000000000000000e+00 -2.000000000000000e+01 1.100000000000000e+01
dst volume info
valid = 1  # volume info valid
filename = /data/fixed.mgz
volume = 25 30 15
voxelsize = 1.000000000000000e+00 1.100000000000000e+00 3.000000000000000e+00
xras   = -1.000000000000000e+00 0.000000000000000e+00 0.000000000000000e+00
yras   = 0.000000000000000e+00 0.000000000000000e+00 -1.000000000000000e+00
zras   = 0.000000000000000e+00 1.000000000000000e+00 0.000000000000000e+00
cras   = -1.500000000000000e+00 1.880000000000000e+01 2.020000000000000e+01
"""
MATRIX = np.array([[1.1, 0.2, 0.05, 3], [-0.1, 0.9, 0.3, -4], [0.05, -0.25, 1.2, 5], [0, 0, 0, 1]])


def lta(kind: int, matrix: np.ndarray = MATRIX, volumes: str = VOLUMES) -> str:
    """A file as FreeSurfer 7 writes it."""
    rows = "\n".join(" ".join(f"{v:18.15e}" for v in row) + " " for row in matrix)
    return (
        "# transform file /data/reg.lta\n# created by someone on Tue Apr 15 10:23:45 2025\n\n"
        f"type      = {kind} # NAME\nnxforms   = 1\nmean      = 0.0000 0.0000 0.0000\nsigma     = 1.0000\n"
        f"1 4 4\n{rows}\n{volumes}subject bert\nfscale 0.150000\n"
    )


# What nitransforms 25.1 reads in the same file, its FSLinearTransformArray.from_string(text).to_ras()[0].
IN_WORLD = {
    0: [[1.18287695, 0.31176243, 0.49454827, -14.69186517], [-0.6499807, 0.42532458, 1.10202294, -71.73946551],
        [-0.0940995, 0.41599175, -1.50825648, 32.64143138], [0, 0, 0, 1]],
    1: [[0.89085999, -0.19475511, 0.01156961, -3.50944848], [0.1041265, 1.01619748, -0.25838797, 5.0443503],
        [-0.01542615, 0.2198226, 0.77902041, -2.96953321], [0, 0, 0, 1]],
}  # fmt: skip


def header(side: str, text: str = VOLUMES) -> nib.freesurfer.mghformat.MGHHeader:
    """nibabel's header of an image with the grid of one of the two volumes."""
    lines = text.split(f"{side} volume info\n")[1].splitlines()[:8]
    told = {name.strip(): value for name, value in (line.split("=") for line in lines)}
    found = nib.freesurfer.mghformat.MGHHeader()
    found["dims"] = [*map(int, told["volume"].split()), 1]
    found["delta"] = [float(v) for v in told["voxelsize"].split()]
    found["Mdc"] = [[float(v) for v in told[f"{axis}ras"].split()] for axis in "xyz"]
    found["Pxyz_c"] = [float(v) for v in told["cras"].split()]
    return found


def matrix_of(file: Path, text: str) -> np.ndarray:
    file.write_text(text)
    found, _ = read_transform(file)
    assert isinstance(found, Linear)
    return found.matrix.numpy()


def test_lead_from_the_fixed_to_the_moving_image(tmp_path: Path) -> None:
    moving, fixed = header("src"), header("dst")
    from_moving, to_fixed = moving.get_affine(), np.linalg.inv(fixed.get_affine())
    scaled = {side: np.diag([*told["delta"], 1.0]) for side, told in (("moving", moving), ("fixed", fixed))}
    expected = {
        **{kind: np.array(rows) for kind, rows in IN_WORLD.items()},
        2: from_moving @ np.linalg.inv(scaled["moving"]) @ np.linalg.inv(MATRIX) @ scaled["fixed"] @ to_fixed,
        14: from_moving @ np.linalg.inv(moving.get_vox2ras_tkr()) @ MATRIX @ fixed.get_vox2ras_tkr() @ to_fixed,
    }
    for kind, matrix in expected.items():
        np.testing.assert_allclose(matrix_of(tmp_path / "t.lta", lta(kind)), matrix, atol=5e-6, err_msg=str(kind))
    info = read_transform(tmp_path / "t.lta")[1]
    for told, grid in ((moving, info.moving), (fixed, info.fixed)):
        assert grid is not None and grid.shape == tuple(told["dims"][:3])
        np.testing.assert_allclose(grid.affine.numpy(), told.get_affine(), atol=1e-5)


def test_written_they_come_back(tmp_path: Path) -> None:
    """By the command, which takes the grids from the file, and as nibabel describes the images."""
    (tmp_path / "t.lta").write_text(lta(0))
    assert run(["convert", "-t", str(tmp_path / "t.lta"), "-o", str(tmp_path / "u.lta"), "-q"]) == 0
    one, other = (read_transform(tmp_path / name) for name in ("t.lta", "u.lta"))
    assert isinstance(one[0], Linear) and isinstance(other[0], Linear)
    np.testing.assert_allclose(other[0].matrix.numpy(), one[0].matrix.numpy(), atol=1e-9)
    for side, before, after in (("dst", one[1].fixed, other[1].fixed), ("src", one[1].moving, other[1].moving)):
        assert before is not None and after is not None and after.same_as(before, 1e-9)
        again = header(side, (tmp_path / "u.lta").read_text())
        np.testing.assert_allclose(again.get_affine(), before.affine.numpy(), atol=1e-5)
    curved = DisplacementField(torch.zeros(3, *before.shape), before)
    with pytest.raises(InputError, match="linear transforms in 3-D alone"):
        write_lta(tmp_path / "v.lta", curved, before, before)


def test_images_that_are_not_known(tmp_path: Path) -> None:
    file, unknown = tmp_path / "t.lta", VOLUMES.replace("valid = 1  # volume info", "valid = 0  # volume info in")
    for volumes in (unknown, ""):
        np.testing.assert_allclose(matrix_of(file, lta(1, volumes=volumes)), IN_WORLD[1], atol=1e-6)
        info = read_transform(file)[1]
        assert info.fixed is None and info.moving is None
        for kind in (0, 2, 14):
            file.write_text(lta(kind, volumes=volumes))
            with pytest.raises(InputError, match=r"does not know its images \(valid = 0\)"):
                read_transform(file)


REFUSED = {
    "is of type 21": lta(21),
    "holds 2 transforms": lta(1).replace("nxforms   = 1", "nxforms   = 2"),
    "1 numbers were expected as type": lta(1).replace("type ", "kind "),
    "no affine one": lta(1, MATRIX + np.eye(4)[3] * 1e-3),
    "its matrix is singular": lta(1, np.diag([1.0, 0, 1, 1])),
    "not finite": lta(1, MATRIX * np.where(np.eye(4)[0], np.nan, 1)),
    "4 x 4 numbers": lta(1).replace("\n1 4 4", "\n1 3 4"),
    "as voxelsize": lta(1).replace("voxelsize = 1.5", "voxelsize = nan "),
    "an image without voxels": lta(0).replace("volume = 20", "volume = -20"),
    "on no proper grid": lta(1).replace("xras   = -1.0", "xras   = 0.0"),
    "singular": lta(0).replace("xras   = -1.0", "xras   = 0.0"),
    "more than 4,194,304 bytes": lta(0) + "#" * (1 << 22),
    "its last line is not ended": lta(0)[:-1],
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(tmp_path: Path, message: str) -> None:
    (tmp_path / "t.lta").write_text(REFUSED[message])
    with pytest.raises(InputError) as caught:
        read_transform(tmp_path / "t.lta")
    assert message in str(caught.value) and "t.lta" in str(caught.value) and "\n" not in str(caught.value)


def test_cut_anywhere(tmp_path: Path) -> None:
    """Wherever a file is cut, it is refused, or what it leads to is the same."""
    for kind in (1, 14):
        expected, used = matrix_of(tmp_path / "t.lta", lta(kind)), 0
        ends = [n for n, letter in enumerate(lta(kind), 1) if letter == "\n" and n > 100]
        for length in [*range(20, len(lta(kind)), 97), *ends]:
            try:
                found = matrix_of(tmp_path / "t.lta", lta(kind)[:length])
            except InputError:
                continue
            used += 1
            np.testing.assert_array_equal(found, expected, err_msg=lta(kind)[:length][-60:])
        assert used
