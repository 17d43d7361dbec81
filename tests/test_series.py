"""Files of several volumes through ``apply``: the same as volume by volume, and what their headers say is kept."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cli_files import AFFINE, volume

import registration
from registration.cli import main as command
from registration.io.images import load_image, write_image

MOVE = np.array([[1, 0.1, 0, 1.3], [-0.1, 1, 0, 0.7], [0, 0.05, 1, -2], [0, 0, 0, 1]])
SHAPE = (12, 10, 8)


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


def series(path: Path, data: np.ndarray, *, slope: float | None = None, step: float = 2.4, unit: int = 8) -> Path:
    """A file of several volumes with all that a scanner says of them."""
    image: Any = nib.Nifti1Image(data, AFFINE, dtype=data.dtype)
    header = image.header
    header["pixdim"][4], header["toffset"], header["xyzt_units"] = step, 7.5, 2 | unit
    header["intent_code"], header["intent_name"], header["intent_p1"] = 2001, b"time series", 3.0
    if slope is not None:
        header.set_slope_inter(slope, 1)
    nib.save(image, path)
    return path


@pytest.fixture()
def apply(tmp_path: Path) -> Callable[..., Any]:
    """Through an affine map onto a grid of another shape, as an image of nibabel."""
    np.savetxt(tmp_path / "move.txt", MOVE)
    onto = AFFINE @ np.diag([1.2, -0.8, 1.1, 1])
    onto[:3, 3] = 1, 28, 2
    volume(tmp_path / "onto.nii.gz", (9, 11, 7), onto)

    def made(source: Path, *words: object, name: str = "o.nii.gz") -> Any:
        at = ["-t", tmp_path / "move.txt", "-r", tmp_path / "onto.nii.gz", "-i", source, "-o", tmp_path / name]
        assert run("apply", *at, "--overwrite", *words) == 0
        return nib.load(tmp_path / name)

    return made


@pytest.mark.parametrize(("dtype", "slope"), [("int16", None), ("float32", None), ("int16", 0.25), ("uint8", None)])
@pytest.mark.parametrize("packed", [True, False])
def test_every_volume_goes_through(
    tmp_path: Path, apply: Callable[..., Any], dtype: str, slope: float | None, packed: bool
) -> None:
    data = (np.random.default_rng(0).random((*SHAPE, 5)) * 200).astype(dtype)
    source = series(tmp_path / ("bold.nii.gz" if packed else "bold.nii"), data, slope=slope)
    whole = apply(source, "-q", name="w.nii.gz" if packed else "w.nii")
    assert whole.shape == (9, 11, 7, 5)
    assert whole.get_data_dtype() == ("float32" if slope else dtype) and np.asarray(whole.dataobj).any()
    for number in (0, 3, 4):
        one = apply(source, "-q", "--channel", number)
        assert np.array_equal(one.dataobj, whole.dataobj[..., number])
    assert np.array_equal(one.affine, whole.affine)
    header = whole.header
    assert header["pixdim"][4] == np.float32(2.4) and header["toffset"] == 7.5
    assert header.get_xyzt_units() == ("mm", "sec") and header["intent_code"] == 2001
    assert header["intent_name"] == b"time series" and header["intent_p1"] == 3


def test_places_are_found_once_and_volumes_are_in_turn(
    tmp_path: Path, apply: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from registration.cli import resampling
    from registration.io import series as volumes

    data = np.random.default_rng(0).random((*SHAPE, 1, 4)).astype("float32")
    data[..., 1:] *= -1
    done: list[str] = []
    grid, take = resampling.unit_grid, volumes.take
    monkeypatch.setattr(resampling, "unit_grid", lambda *a: (done.append("places"), grid(*a))[1])
    monkeypatch.setattr(volumes, "take", lambda *a: (done.append("read"), take(*a))[1])
    write = resampling.warp_at
    monkeypatch.setattr(resampling, "warp_at", lambda *a: (done.append("warp"), write(*a))[1])
    whole = apply(series(tmp_path / "b.nii.gz", data, unit=16), "-n", "linear")
    assert whole.shape == (9, 11, 7, 1, 4) and whole.header.get_xyzt_units() == ("mm", "msec")
    assert done[-9:] == ["read", "places", "warp", "read", "warp", "read", "warp", "read", "warp"]


def test_label_volumes(tmp_path: Path, apply: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    data = np.zeros((*SHAPE, 4), "int32")  # one structure each, one of them empty
    for number, label in ((0, 7), (2, 2**24 + 5), (3, 1)):
        data[2 + number : 7 + number, 2:8, 2:6, number] = label
    source = series(tmp_path / "tpm.nii.gz", data)
    found = np.asarray(apply(source).dataobj)
    assert "is taken for label maps: nearest voxel" in capsys.readouterr().err
    assert [set(np.unique(found[..., n]).tolist()) for n in range(4)] == [{0, 7}, {0}, {0, 2**24 + 5}, {0, 1}]
    voted = np.asarray(apply(source, "-n", "label", "-q").dataobj)
    assert np.array_equal(voted[..., 2], apply(source, "-n", "label", "-q", "--channel", 2).dataobj)
    assert set(np.unique(voted).tolist()) == {0, 1, 7, 2**24 + 5}
    mixed = data.astype("float32")
    mixed[..., 3] = np.random.default_rng(0).random(SHAPE)
    assert len(np.unique(np.asarray(apply(series(tmp_path / "mixed.nii.gz", mixed), "-q").dataobj)[..., 0])) > 3


def test_notes(tmp_path: Path, apply: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    data = np.random.default_rng(0).normal(size=(*SHAPE, 6)).astype("float32")
    for number in (1, 2, 4):
        data[0, 0, number, number] = np.nan
    source = series(tmp_path / "dwi.nii.gz", data)
    apply(source)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and "1 NaN or infinite voxels" in told[0] and "likewise 2 more of its volumes" in told[1]
    assert "each of its 6 volumes is resampled by itself; vectors are not turned" in told[2]
    (tmp_path / "dwi.bvec").write_text("0 0 1")
    apply(source)
    assert f"the gradient directions in {tmp_path / 'dwi.bvec'} are not turned" in capsys.readouterr().err


def test_refusals(tmp_path: Path, apply: Callable[..., Any], refused: Callable[..., str]) -> None:
    apply(volume(tmp_path / "image.nii.gz"), "-q")
    data = np.random.default_rng(0).random((*SHAPE, 6)).astype("float32")
    source = series(tmp_path / "b.nii.gz", data)
    words = ["apply", "-t", str(tmp_path / "move.txt"), "-r", str(tmp_path / "onto.nii.gz"), "-q", "-i"]
    assert "only .nii and .nii.gz take 6 volumes" in refused(*words, str(source), "-o", str(tmp_path / "x.mha"))
    whole = gzip.decompress(source.read_bytes())
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(whole[:-50]))
    assert "truncated" in refused(*words, str(tmp_path / "cut.nii.gz"), "-o", str(tmp_path / "x.nii"))
    tensor: Any = nib.Nifti1Image(data[..., None, :], AFFINE)
    tensor.header["intent_code"] = 1005
    nib.save(tensor, tmp_path / "dti.nii.gz")
    said = refused(*words, str(tmp_path / "dti.nii.gz"), "-o", str(tmp_path / "x.nii"))
    assert "holds tensors (intent 1005)" in said and "--channel 0 ... 5" in said
    np.savetxt(tmp_path / "move.txt", np.eye(3))
    assert "3 axes" in refused(*words, str(source), "-o", str(tmp_path / "x.nii"))
    assert not list(tmp_path.glob("x.*")) and not list(tmp_path.glob(".partial*"))


def test_all_volumes_in_python(tmp_path: Path) -> None:
    data = (np.random.default_rng(0).random((*SHAPE, 3)) * 200).astype("int16")
    loaded = load_image(series(tmp_path / "b.nii.gz", data), channel="all")
    assert loaded.image.data.shape == (1, 3, *SHAPE) and not loaded.source.labels
    assert np.array_equal(loaded.image.data[0].movedim(0, -1).numpy(), data)
    moved = registration.warp(loaded.image, registration.Linear.identity(3), loaded.image.space)[0]
    write_image(tmp_path / "o.nii.gz", moved, like=loaded.source, dtype=loaded.source.dtype)
    back: Any = nib.load(tmp_path / "o.nii.gz")
    assert np.array_equal(back.dataobj, data) and back.header["pixdim"][4] == np.float32(2.4)
    assert registration.read_image(volume(tmp_path / "one.nii"), channel="all").data.shape == (1, 1, *SHAPE)
