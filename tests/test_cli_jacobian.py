"""The verb jacobian: maps of determinants and volumes of structures."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cli_files import AFFINE, volume

from registration import Space, Transform, write_transform
from registration.cli import main as command
from registration.evaluation.volumes import linear_determinant
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

GRID = Space((12, 10, 8), torch.from_numpy(AFFINE))
LARGER = Linear(torch.diag(torch.tensor([1.1, 1.2, 0.9, 1.0], dtype=torch.float64)))


def bumps(space: Space, mm: float = 2.0, still: bool = False) -> DisplacementField:
    """A field that pushes away from the middle, along the first axis of the world alone."""
    place = space.points(torch.zeros(0, dtype=torch.float64)) - space.centre
    move = mm * place[..., 0] * torch.exp(-place.square().sum(dim=-1) / 100) / 6
    return DisplacementField(torch.stack([move, *[0 * move] * (space.ndim - 1)]).float(), space, still)


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


def mapped(folder: Path, transform: Transform, *words: object, space: Space = GRID) -> np.ndarray:
    """The map that the verb writes of a transform."""
    affine = np.eye(4)
    affine[np.ix_([*range(space.ndim), 3], [*range(space.ndim), 3])] = space.affine.numpy()
    volume(folder / "f.nii.gz", space.shape, affine)
    write_transform(folder / "t.h5", transform, space, space)
    words = ("-t", folder / "t.h5", "-r", folder / "f.nii.gz", "-o", folder / "j.nii.gz", "--overwrite", *words)
    assert run("jacobian", *words) == 0
    written: nib.Nifti1Image = nib.load(folder / "j.nii.gz")
    assert written.get_data_dtype() == np.float32 and np.allclose(written.affine, affine)
    return np.asanyarray(written.dataobj)


@pytest.mark.parametrize("space", [GRID, Space.regular((9, 7), 1.5)], ids=["3-D", "2-D"])
def test_of_an_affine_map_it_is_exact(tmp_path: Path, space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    scale = Linear(torch.diag(torch.tensor([1.1, 1.2, 0.9, 1.0], dtype=torch.float64)[-1 - space.ndim :]))
    expected = float(torch.linalg.det(scale.matrix))
    values = mapped(tmp_path, scale, space=space)
    assert values.shape == space.shape and np.abs(values - expected).max() < 1e-6
    assert capsys.readouterr().out == f"wrote {tmp_path / 'j.nii.gz'}\n"
    assert np.abs(mapped(tmp_path, scale, "--log", space=space) - np.log(expected)).max() < 1e-6
    assert np.abs(mapped(tmp_path, scale, "--without-linear", space=space) - 1).max() < 1e-6


def test_it_is_that_of_itk_inside_a_grid_along_the_axes_of_the_world(tmp_path: Path) -> None:
    field = bumps(GRID)
    lps = field.displacement.double().movedim(0, -1) * torch.tensor([-1.0, -1.0, 1.0])
    # ITK reads no directions there, so the grid must have ITK's own axes: L, P, S.
    flipped = sitk.GetImageFromArray(lps.flip(0, 1).numpy().transpose(2, 1, 0, 3), isVector=True)
    flipped.SetSpacing((2.0, 3.0, 4.0))
    itk = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(flipped)).transpose(2, 1, 0)[::-1, ::-1]
    values = mapped(tmp_path, field)
    assert values.std() > 0.05
    inner = (slice(1, -1),) * 3
    assert np.abs(values - itk)[inner].max() < 1e-4
    assert np.abs(values - itk).max() > 1e-3  # at the border ITK halves the difference


def test_without_linear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone, chain = bumps(GRID), LARGER @ bumps(GRID)
    whole = mapped(tmp_path, chain)
    capsys.readouterr()
    rest = mapped(tmp_path, chain, "--without-linear")
    assert "without the linear maps of its chain, of determinant 1.188" in capsys.readouterr().err
    assert np.abs(rest - mapped(tmp_path, alone)).max() < 1e-5 and np.abs(rest * 1.188 - whole).max() < 1e-5
    # A chain without a linear map: the nearest one by least squares, here the affine map itself.
    space = Space((12, 10, 8), torch.tensor([[0, 3.0, 0, 7], [2, 0, 0, -9], [0, 1, -4, 0], [0, 0, 0, 1]]).double())
    places = space.points(torch.zeros(0, dtype=torch.float64))
    field = DisplacementField((LARGER(places) - places).movedim(-1, 0), space)
    scale, fitted = linear_determinant(field, space)
    assert fitted and scale == pytest.approx(1.188, abs=1e-6)
    capsys.readouterr()
    rest = mapped(tmp_path, field, "--without-linear", space=space)
    assert np.abs(rest - 1).max() < 1e-4
    assert "without the affine map that fits it best on the grid, of determinant 1.188" in capsys.readouterr().err


def test_what_folds_has_no_logarithm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    field = bumps(GRID, -20.0)
    folded = mapped(tmp_path, field) <= 0
    count = int(folded.sum())
    assert 0 < count < 200 and f"folds at {count} of 960 voxels" in capsys.readouterr().err
    logs = mapped(tmp_path, field, "--log")
    assert np.array_equal(np.isnan(logs), folded) and "NaN there" in capsys.readouterr().err


def table(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]


def test_volumes_of_structures(tmp_path: Path) -> None:
    labels = np.zeros(GRID.shape, np.int16)
    labels[2:6, 3:7, 2:5], labels[8:, 8:, 6:] = 7, -300
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    chain = LARGER @ bumps(GRID, -20.0)
    words = ("--labels", tmp_path / "labels.nii.gz", "--table", tmp_path / "volumes.csv")
    values = mapped(tmp_path, chain, *words).astype(float)
    rows = table(tmp_path / "volumes.csv")
    assert list(rows[0]) == [
        "label", "voxels", "fixed_mm3", "moving_mm3", "ratio", "folded", "mean", "p01", "p05", "p50", "p95", "p99",
    ]  # fmt: skip
    assert [row["label"] for row in rows] == [-300, 7]
    for row in rows:
        inside = values[labels == row["label"]]
        assert (row["voxels"], row["fixed_mm3"]) == (inside.size, inside.size * 24)
        assert row["moving_mm3"] == pytest.approx(inside.sum() * 24, rel=1e-6)
        assert row["ratio"] == pytest.approx(row["mean"], rel=1e-6)
        assert row["folded"] == (inside <= 0).sum()
        assert row["p05"] == pytest.approx(np.percentile(inside, 5), rel=1e-6)
    assert rows[1]["folded"] > 0
    # Volumes stay those of the whole transform; mean and percentiles are of what the map holds.
    logs = mapped(tmp_path, chain, *words, "--log", "--without-linear")
    for before, row in zip(rows, table(tmp_path / "volumes.csv"), strict=True):
        assert (row["moving_mm3"], row["folded"]) == (before["moving_mm3"], before["folded"])
        assert row["mean"] == pytest.approx(np.nanmean(logs[labels == row["label"]].astype(float)), abs=1e-6)


def test_a_sphere_has_the_volume_that_it_is_stretched_to(tmp_path: Path) -> None:
    """The sum of the determinants is the volume of the moved shape: that of the map's own integral."""
    space = Space.regular((24, 24, 24), 1.0)
    field = bumps(space, 1.5)
    place = space.points()
    inside = place.norm(dim=-1) < 8
    nib.save(nib.Nifti1Image(inside.numpy().astype(np.uint8), space.affine.numpy()), tmp_path / "ball.nii.gz")
    mapped(tmp_path, field, "--labels", tmp_path / "ball.nii.gz", "--table", tmp_path / "v.csv", space=space)
    fine = space.resized((48,) * 3)
    count = (field.inverse().on_grid(fine).norm(dim=-1) < 8).sum()  # places of the moving image that come from it
    (row,) = table(tmp_path / "v.csv")
    assert row["moving_mm3"] == pytest.approx(int(count) / 8, rel=0.02) and row["ratio"] > 1.05


def test_transforms_in_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume(tmp_path / "f.nii.gz")
    write_transform(tmp_path / "one.h5", bumps(GRID), GRID, GRID)
    write_transform(tmp_path / "two.h5", LARGER, GRID, GRID)
    words = ("-r", tmp_path / "f.nii.gz", "-o", tmp_path / "j.nii.gz", "--overwrite")
    assert run("jacobian", "-t", tmp_path / "one.h5", "-t", tmp_path / "two.h5", *words) == 0
    row = nib.load(tmp_path / "j.nii.gz").get_fdata()
    assert np.abs(row - mapped(tmp_path, LARGER @ bumps(GRID))).max() < 1e-5
    assert run("jacobian", "-t", f"[{tmp_path / 'two.h5'},1]", *words) == 0
    assert np.allclose(nib.load(tmp_path / "j.nii.gz").get_fdata(), 1 / 1.188)
    # Where a transform folds, its inverse is what comes nearest, and that is told in one line.
    write_transform(tmp_path / "one.h5", bumps(GRID, -20.0), GRID, GRID)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("jacobian", "-t", f"[{tmp_path / 'one.h5'},1]", *words) == 0
    assert capsys.readouterr().err.count("could not be mapped back within") == 1


def test_places_that_the_field_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = GRID.cropped((-6, 0, 0), (24, 10, 8))
    volume(tmp_path / "f.nii.gz", wide.shape, wide.affine.numpy())
    write_transform(tmp_path / "t.h5", bumps(GRID), GRID, GRID)
    words = ("-t", tmp_path / "t.h5", "-r", tmp_path / "f.nii.gz", "-o", tmp_path / "j.nii.gz")
    assert run("jacobian", *words) == 0
    told = capsys.readouterr().err
    assert "about 50 % of the voxels lie outside the grid" in told and "goes on as at its border there" in told


def test_refusals(tmp_path: Path, refused: Callable[..., str]) -> None:
    volume(tmp_path / "f.nii.gz")
    volume(tmp_path / "flat.nii.gz", (12, 10))
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(GRID.shape, np.uint8), AFFINE), tmp_path / "none.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((*GRID.shape, 2), np.uint8), AFFINE), tmp_path / "two.nii.gz")
    mirror = Linear(torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)))
    write_transform(tmp_path / "t.h5", bumps(GRID), GRID, GRID)
    write_transform(tmp_path / "mirror.h5", mirror, GRID, GRID)

    def words(transform: str = "t.h5", reference: str = "f.nii.gz", output: str = "j.nii.gz") -> list[str]:
        t, r, o = (str(tmp_path / name) for name in (transform, reference, output))
        return ["jacobian", "-t", t, "-r", r, "-o", o]

    def labelled(name: str) -> list[str]:
        return [*words(), "--labels", str(tmp_path / name), "--table", str(tmp_path / "v.csv")]

    assert "is a 3-D transform" in refused(*words(reference="flat.nii.gz"))
    assert "is there already" in refused(*words(output="t.h5"))
    assert "go together" in refused(*words(), "--labels", str(tmp_path / "none.nii.gz"))
    assert "name one file" in refused(*labelled("none.nii.gz")[:-1], str(tmp_path / "j.nii.gz"))
    assert "is on a grid of 4 x 4 x 4" in refused(*labelled("other.nii.gz"))
    assert "holds no label but 0" in refused(*labelled("none.nii.gz"))
    assert "choose with --label-channel 0 ... 1" in refused(*labelled("two.nii.gz"))
    assert "turns the inside out" in refused(*words("mirror.h5"), "--log", "-q")
    assert "write .nii.gz, .mha or .nrrd" in refused(*words(output="j.png"))
    thin = Space((12, 10, 1), GRID.affine)
    volume(tmp_path / "thin.nii.gz", thin.shape)
    write_transform(tmp_path / "thin.h5", bumps(thin), thin, thin)
    assert "has no affine part" in refused(*words("thin.h5", "thin.nii.gz"), "--without-linear", "-q")
    assert not list(tmp_path.glob("*.csv")) and not list(tmp_path.glob("j*"))
