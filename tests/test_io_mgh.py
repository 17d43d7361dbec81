"""Volumes of FreeSurfer, .mgz and .mgh: they lie where nibabel puts them, and bad files give one line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from registration.errors import InputError
from registration.image import Image
from registration.io.images import load_image, load_labels, read_image, write_image
from registration.io.volumes import count_volumes
from registration.space import Space

SHAPE = (7, 6, 5)


def oblique() -> np.ndarray:
    """An affine with its axes turned in all planes, one of them mirrored, anisotropic, away from the origin."""
    a, b = 0.5, 0.3
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    turn = turn @ np.array([[1.0, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [-0.8, 1.5, 2.4]
    affine[:3, 3] = [12.0, -20.0, 31.0]
    return affine


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_voxels_and_places_are_those_of_nibabel(tmp_path: Path, name: str, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    nib.save(nib.MGHImage(values, oblique()), tmp_path / name)
    loaded = load_image(tmp_path / name)
    assert np.array_equal(loaded.image.data[0, 0], values) and loaded.source.dtype == np.dtype(dtype)
    assert np.array_equal(loaded.image.space.affine, nib.load(tmp_path / name).affine) and loaded.notices == ()
    assert np.allclose(loaded.image.space.affine, oblique(), atol=1e-4)
    # The same image in another format lies in the same place.
    nib.save(nib.Nifti1Image(values, oblique()), tmp_path / "a.nii.gz")
    assert loaded.image.space.same_as(read_image(tmp_path / "a.nii.gz").space)


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_what_is_written_is_read_by_nibabel(tmp_path: Path, name: str) -> None:
    values = torch.rand(1, 2, *SHAPE) * 200
    image = Image(values, Space(SHAPE, torch.from_numpy(oblique())), name="made")
    write_image(tmp_path / name, image)
    found = nib.load(tmp_path / name)
    assert np.array_equal(np.asarray(found.dataobj), values[0].movedim(0, -1)) and (
        (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b"
    ) == name.endswith("z")
    assert np.allclose(found.affine, oblique(), atol=1e-4)
    assert count_volumes(tmp_path / name) == 2
    assert torch.equal(read_image(tmp_path / name, channel=1).data, values[:, 1:])
    with pytest.raises(InputError, match=r"holds 2 volumes.*--channel 0 \.\.\. 1"):
        read_image(tmp_path / name)
    labels = image.with_data(torch.full((1, 1, *SHAPE), 2035.0))
    for dtype, kept in {"int64": "int32", "uint32": "int32", "int8": "int16", "float64": "float32"}.items():
        write_image(tmp_path / name, labels, dtype=dtype)
        assert load_labels(tmp_path / name).source.dtype == np.dtype(kept)
        assert float(load_labels(tmp_path / name).image.data.min()) == (127 if dtype == "int8" else 2035)


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    large = Image(torch.full((1, 1, 3, 3, 3), 2.0**31, dtype=torch.float64), Space.regular((3, 3, 3)), name="large")
    with pytest.raises(InputError, match=r"no whole numbers beyond 2\^31"):
        write_image(tmp_path / "a.mgz", large, dtype="int64")
    with pytest.raises(InputError, match="hold volumes, this image has 2 axes"):
        write_image(tmp_path / "a.mgz", Image(torch.rand(1, 1, 4, 4), Space.regular((4, 4)), name="flat"))
    assert list(tmp_path.iterdir()) == []


def test_a_header_without_a_place_is_told(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.ones(SHAPE, np.uint8), oblique()), tmp_path / "a.mgh")
    whole = (tmp_path / "a.mgh").read_bytes()
    (tmp_path / "a.mgh").write_bytes(whole[:28] + b"\0\0" + whole[30:])
    loaded = load_image(tmp_path / "a.mgh")
    assert "does not say where its voxels lie" in loaded.notices[0]
    assert np.array_equal(loaded.image.space.affine, nib.load(tmp_path / "a.mgh").affine)


def test_bad_files_give_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 30, (20, 20, 20), np.int32)
    nib.save(nib.MGHImage(values, np.eye(4)), tmp_path / "a.mgh")
    whole = (tmp_path / "a.mgh").read_bytes()
    packed = gzip.compress(whole)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF

    def changed(at: int, form: str, *values: float) -> bytes:
        put = struct.pack(f">{form}", *values)
        return whole[:at] + put + whole[at + len(put) :]

    files = {
        "text.mgz": (gzip.compress(b"hello" * 200), "no volume of FreeSurfer"),
        "short.mgh": (whole[:100], "no volume of FreeSurfer"),
        "version.mgh": (changed(0, "i", 2), "no volume of FreeSurfer"),
        "cut.mgh": (whole[:20000], "is truncated"),
        "cut.mgz": (packed[:-3000], "truncated or damaged"),
        "checksum.mgz": (packed[:-4], "truncated or damaged"),
        "damaged.mgz": (bytes(damaged), "damaged"),
        "inner.mgz": (gzip.compress(whole[:20000]), "is truncated"),
        "nothing.mgh": (changed(4, "i", 0), "sizes from 1"),
        "negative.mgz": (gzip.compress(changed(8, "i", -20)), "sizes from 1"),
        "huge.mgh": (changed(4, "4i", *[2**31 - 1] * 3, 1), "claims"),
        "huge.mgz": (gzip.compress(changed(4, "4i", 10000, 10000, 10000, 1)), "claims"),
        "frames.mgh": (changed(16, "i", 2**31 - 1), "one is needed"),
        "type.mgh": (changed(20, "i", 99), "MGH type 99"),
        "nan.mgh": (changed(30, "f", np.nan), "NaN or infinite"),
        "endless.mgh": (changed(78, "f", np.inf), "NaN or infinite"),
        "flat.mgh": (changed(34, "f", 0.0), "singular"),
        "surface.mgh": (changed(4, "3i", 8000, 1, 1), "8,000 values on a surface"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        for read in (load_image, load_labels):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            text = str(caught.value)
            assert message in text and name in text and "\n" not in text, (name, text)
    assert count_volumes(tmp_path / "text.mgz") is None and capfd.readouterr().err == ""
