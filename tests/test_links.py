"""Transforms in a row: what ANTs and SimpleITK do with the same files, and neighbours that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from registration.cli import main as command
from registration.image import Image
from registration.io.exports import write_ants_warp, write_itk_affine
from registration.io.images import write_image
from registration.io.links import Link
from registration.io.transforms import read_transform, write_transform
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline

TURNS = {2: [[0, -0.4], [0.4, 0]], 3: [[0, -0.5, 0.2], [0.5, 0, -0.3], [-0.2, 0.3, 0]]}


def grid(shape: tuple[int, ...], spacing: tuple[float, ...], oblique: bool = False) -> Space:
    """Centred on the same place; the first axis runs to the left where it is not oblique."""
    d = len(shape)
    turn = torch.matrix_exp(torch.tensor(TURNS[d])) if oblique else torch.diag(torch.tensor([-1.0, 1.0, 1.0][:d]))
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = turn.double() * torch.tensor(spacing[:d]).double()
    affine[:d, d] = -affine[:d, :d] @ ((torch.tensor(shape).double() - 1) / 2) + 5
    return Space(shape, affine)


def linear(d: int) -> Linear:
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d] += 0.1 * torch.randn(d, d + 1, dtype=torch.float64)
    matrix[0, d] += 2
    return Linear(matrix)


def bent(space: Space) -> ThinPlateSpline:
    points = space.centre + (torch.rand(12, space.ndim).double() - 0.5) * space.extent
    return ThinPlateSpline(points, points + torch.randn_like(points), smoothing=0.05)


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


class Files:
    """A warp and an affine map as ANTs leaves them, and two images."""

    def __init__(self, folder: Path, d: int) -> None:
        self.folder = folder
        self.fixed = grid((17, 14, 11)[:d], (1.3, 1.8, 2.8), oblique=True)
        self.moving = grid((20, 18, 13)[:d], (1.3, 1.3, 2.0))
        self.affine, warp = linear(d), bent(self.fixed)
        self.back = warp.inverse()
        write_ants_warp(folder / "1Warp.nii.gz", warp, self.fixed)
        write_ants_warp(folder / "1InverseWarp.nii.gz", self.back, self.fixed)
        write_itk_affine(folder / "0GenericAffine.mat", self.affine)
        for name, space in (("f", self.fixed), ("m", self.moving)):
            write_image(folder / f"{name}.nii.gz", Image(torch.rand(1, 1, *space.shape) * 90 + 10, space))

    def __call__(self, *transforms: str, onto: str = "f", of: str = "m") -> np.ndarray:
        """What ``apply`` makes of one image."""
        words = [word for name in transforms for word in ("-t", self.at(name))]
        images = ["-r", self.folder / f"{onto}.nii.gz", "-i", self.folder / f"{of}.nii.gz"]
        assert run("apply", *images, *words, "-o", self.folder / "w.nii.gz", "--overwrite", "-q") == 0
        return np.asarray(nib.load(self.folder / "w.nii.gz").dataobj)

    def at(self, name: str) -> str:
        return f"[{self.folder}/{name[1:]}" if name.startswith("[") else str(self.folder / name)


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    common = (ours > 0) & (theirs > 0)
    assert common.mean() > 0.2 and ((ours > 0) != (theirs > 0)).mean() < 0.01
    assert np.abs(ours - theirs)[common].max() < 0.05


@pytest.mark.parametrize("d", [2, 3])
def test_the_order_is_that_of_ants(tmp_path: Path, d: int) -> None:
    ants = pytest.importorskip("ants")
    files = Files(tmp_path, d)
    images = {name: ants.image_read(str(tmp_path / f"{name}.nii.gz")) for name in "fm"}
    forward, backward = ["1Warp.nii.gz", "0GenericAffine.mat"], ["0GenericAffine.mat", "1InverseWarp.nii.gz"]
    theirs = ants.apply_transforms(images["f"], images["m"], [files.at(name) for name in forward])
    agree(files(*forward), theirs.numpy())
    assert np.abs(files(*forward[::-1]) - theirs.numpy()).max() > 5
    theirs = ants.apply_transforms(
        images["m"], images["f"], [files.at(name) for name in backward], whichtoinvert=[True, False]
    )
    agree(files(f"[{backward[0]},1]", backward[1], onto="m", of="f"), theirs.numpy())


@pytest.mark.parametrize("d", [2, 3])
def test_simpleitk_goes_through_the_same_row(tmp_path: Path, d: int) -> None:
    files = Files(tmp_path, d)
    field = sitk.Cast(sitk.ReadImage(files.at("1Warp.nii.gz")), sitk.sitkVectorFloat64)
    whole = sitk.CompositeTransform([sitk.ReadTransform(files.at("0GenericAffine.mat")),
                                     sitk.DisplacementFieldTransform(field)])  # fmt: skip
    fixed, moving = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkFloat32) for name in "fm")
    agree(files("1Warp.nii.gz", "0GenericAffine.mat"), sitk.GetArrayFromImage(sitk.Resample(moving, fixed, whole)).T)
    # Written as one field, or as one file of ours, it is the same map.
    words = ["-t", files.at("1Warp.nii.gz"), "-t", files.at("0GenericAffine.mat"), "-f", tmp_path / "f.nii.gz"]
    points = files.fixed.points(torch.zeros(0).double())
    for name in ("one.nii.gz", "one.h5"):
        assert run("convert", *words, "-m", tmp_path / "m.nii.gz", "-o", tmp_path / name, "-q") == 0
        agree(files(name), files("1Warp.nii.gz", "0GenericAffine.mat"))
    assert run("invert", *words, "-m", tmp_path / "m.nii.gz", "-o", tmp_path / "back.h5", "-q") == 0
    there, info = read_transform(tmp_path / "one.h5")
    back = read_transform(tmp_path / "back.h5")[0](there(points))
    assert (back - points).norm(dim=-1).median() < 0.02
    assert list(info.provenance["transforms in a row"]) == [files.at("1Warp.nii.gz"), files.at("0GenericAffine.mat")]


@pytest.fixture()
def row(tmp_path: Path) -> dict[str, Transform]:
    """A template, a T1 and a BOLD image, the transforms between neighbours, and ``f`` and ``m`` at the ends."""
    grids = {"mni": grid((14, 15, 12), (2.0, 2.0, 2.0)), "t1": grid((20, 16, 18), (1.3, 1.3, 1.3), oblique=True),
             "bold": grid((9, 9, 7), (3.1, 3.1, 4.0))}  # fmt: skip
    steps = {"t1_to_mni": linear(3) @ bent(grids["mni"]), "bold_to_t1": linear(3)}
    for name, step in steps.items():
        moving, fixed = name.split("_to_")
        write_transform(tmp_path / f"{name}.h5", step, grids[fixed], grids[moving])
    for name, space in grids.items():
        write_image(tmp_path / f"{name}.nii.gz", Image(torch.rand(1, 1, *space.shape), space))
    return steps


def test_our_files_in_a_row(row: dict[str, Transform], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "t1_to_mni.h5", tmp_path / "bold_to_t1.h5"
    images = ["-r", tmp_path / "mni.nii.gz", "-i", tmp_path / "bold.nii.gz", "-o", tmp_path / "o.nii.gz", "--overwrite"]
    assert run("apply", "-t", first, "-t", second, *images) == 0
    assert capsys.readouterr().err == ""
    assert run("convert", "-t", first, "-t", second, "-o", tmp_path / "both.h5") == 0
    both, info = read_transform(tmp_path / "both.h5")
    points = 10 * torch.randn(20, 3, dtype=torch.float64)
    assert torch.allclose(both(points), (row["bold_to_t1"] @ row["t1_to_mni"])(points))
    assert info.fixed is not None and info.fixed.shape == (14, 15, 12)
    assert info.moving is not None and info.moving.shape == (9, 9, 7)
    # The way back, once by the option and once by what stands in the brackets.
    for words in (["-t", first, "-t", second, "--inverse"], ["-t", f"[{second},1]", "-t", f"[{first}, 1]"]):
        capsys.readouterr()
        ends = ["-r", tmp_path / "bold.nii.gz", "-i", tmp_path / "mni.nii.gz", "-o", tmp_path / f"{len(words)}.nii"]
        assert run("apply", *words, *ends, "--overwrite") == 0
        assert "fit" not in capsys.readouterr().err
    ways = [np.asarray(nib.load(tmp_path / f"{n}.nii").dataobj) for n in (4, 5)]
    assert ways[0].any() and np.allclose(*ways, atol=1e-4)


def test_neighbours_that_do_not_fit(
    row: dict[str, Transform], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "t1_to_mni.h5", tmp_path / "bold_to_t1.h5"
    words = ["convert", "-o", tmp_path / "both.h5", "--overwrite"]
    for given, right in (
        ([second, first], [first, second]),
        ([first, f"[{second},1]"], [first, second]),
        ([f"[{first},1]", second], [first, second]),
        ([f"[{first},1]", f"[{second},1]"], [f"[{second},1]", f"[{first},1]"]),
    ):
        assert run(*words, "-t", given[0], "-t", given[1]) == 0
        note = capsys.readouterr().err
        assert note.count("\n") == 1 and f"{given[0]} leads to an image of" in note and f"but {given[1]} after" in note
        assert f"in the order --transform {right[0]} --transform {right[1]}, from the fixed side" in note
    assert run(*words, "-t", first, "-t", first) == 0
    assert "14 x 15 x 12 voxels" in (note := capsys.readouterr().err) and "belong together?" in note


def test_refusals(row: dict[str, Transform], tmp_path: Path, refused: Callable[..., str]) -> None:
    first = str(tmp_path / "t1_to_mni.h5")
    np.savetxt(tmp_path / "flat.txt", np.eye(3))
    end = ["-o", str(tmp_path / "o.h5"), "-q"]
    assert "is a 2-D transform" in refused("convert", "-t", first, "-t", str(tmp_path / "flat.txt"), *end)
    assert "none.h5: there is no such file" in refused("convert", "-t", first, "-t", f"[{tmp_path}/none.h5,1]", *end)
    own = ["-o", first, "--overwrite", "-q"]
    assert "one of the files that are read" in refused("convert", "-t", str(tmp_path / "flat.txt"), "-t", first, *own)
    assert "one of the files that are read" in refused("invert", "-t", f"[{first},1]", *own)


def test_names_of_links(tmp_path: Path) -> None:
    assert Link.of("[a b.mat, 1]") == Link(Path("a b.mat"), True) and Link.of("[a.mat,0]") == Link(Path("a.mat"))
    assert Link.of("[a.mat]") == Link(Path("[a.mat]")) and str(Link.of("[a.mat,1]")) == "[a.mat,1]"
    assert Link.of("[a,b.mat , FSL]") == Link(Path("a,b.mat"), fsl=True)
    assert str(Link.of("[a.mat,fsl,1]")) == "[a.mat,fsl,1]" and Link.of("[fsl,0]") == Link(Path("fsl"))
    odd = tmp_path / "[a.mat,1]"
    odd.write_text("a file of that name")
    assert Link.of(odd) == Link(odd)
