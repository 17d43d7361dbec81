"""Bad input: every unusable file gives one clear line, nothing is half-written, and odd pairs are noticed."""

from __future__ import annotations

import gzip
import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from registration.errors import InputError
from registration.image import Image
from registration.io.files import atomic_path
from registration.io.images import load_image, read_image, write_image
from registration.io.preflight import check_pair, check_registrable, disjoint
from registration.space import Space


def picture(space: Space) -> Image:
    return Image(torch.rand(1, 1, *space.shape) * 200, space, name="made")


def test_non_finite_voxels(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2) - 3
    values[0, 0, 1], values[1, 1, 1] = np.nan, np.inf
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    loaded = load_image(tmp_path / "a.nii.gz")
    assert loaded.image.data[0, 0, 0, 0, 1] == loaded.image.data[0, 0, 1, 1, 1] == -3
    assert "2 NaN or infinite voxels" in loaded.notices[0]
    nib.save(nib.Nifti1Image(np.full_like(values, np.nan), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(InputError, match="no voxel that is finite"):
        read_image(tmp_path / "b.nii.gz")


def test_images_without_contrast() -> None:
    image = picture(Space.regular((4, 4)))
    check_registrable(image)
    with pytest.raises(InputError, match="constant"):
        check_registrable(image.with_data(torch.full_like(image.data, 3.0)))
    with pytest.raises(InputError, match="mask is empty"):
        check_registrable(image.with_mask(torch.zeros(4, 4)))


def bad_files(folder: Path) -> dict[str, str]:
    """File name -> part of the message it must give."""
    good = nib.Nifti1Image(np.random.default_rng(0).random((30, 30, 30), dtype=np.float32), np.eye(4))
    nib.save(good, folder / "good.nii")
    whole = (folder / "good.nii").read_bytes()
    packed = gzip.compress(whole)
    header = nib.load(folder / "good.nii").header
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF

    def with_header(**changes: Any) -> bytes:
        other = header.copy()
        other["vox_offset"] = 352
        for name, value in changes.items():
            other[name] = value
        return other.binaryblock + whole[348:]

    files = {
        "missing.nii.gz": (None, "there is no such file"),
        "empty.nii.gz": (b"", "empty"),
        "empty.mha": (b"", "empty"),
        "text.nii.gz": (b"hello" * 200, "no NIfTI file"),
        "text.mha": (b"hello" * 200, "cannot be read as an image"),
        "brain.mgz": (gzip.compress(b"hello" * 200), "no volume of FreeSurfer"),
        "text.png": (b"hello" * 200, "cannot be read as an image"),
        "cut.nii": (whole[:-5], "truncated"),
        "cut.nii.gz": (packed[:-300], "truncated"),
        "checksum.nii.gz": (packed[:-4], "truncated"),
        "short.nii.gz": (gzip.compress(whole[:-4]), "truncated"),
        "damaged.nii.gz": (bytes(damaged), "damaged"),
        "header_only.nii": (whole[:200], "no NIfTI file"),
        "huge.nii": (with_header(dim=[3, 10000, 10000, 10000, 1, 1, 1, 1]), "claims"),
        "huge.nii.gz": (gzip.compress(with_header(dim=[3, 10000, 10000, 10000, 1, 1, 1, 1])), "claims"),
        "negative.nii": (with_header(dim=[3, 30, -30, 30, 1, 1, 1, 1]), ""),
        "nothing.nii": (with_header(dim=[3, 30, 0, 30, 1, 1, 1, 1]), ""),
        "line.nii": (with_header(dim=[1, 30, 1, 1, 1, 1, 1, 1]), "2 or 3 axes"),
        "colour.nii": (with_header(datatype=128, bitpix=24), "RGB"),
        "complex.nii": (with_header(datatype=32, bitpix=64), "complex"),
        "type.nii": (with_header(datatype=999), "header is damaged"),
        "endless.nii": (
            with_header(pixdim=[1, np.inf, 1, 1, 1, 1, 1, 1], sform_code=0, qform_code=1),
            "NaN or infinite",
        ),
        "transform.h5": (b"\x89HDF\r\n\x1a\n" * 40, "is it a transform?"),
        "nan.nii": (with_header(srow_x=[np.nan, 0, 0, 0], sform_code=1), "NaN"),
        "flat.nii": (with_header(srow_x=[0, 0, 0, 0], sform_code=1), "singular"),
        "oblique.nii": (
            with_header(dim=[2, 30, 30, 1, 1, 1, 1, 1], sform_code=1, srow_y=[0, 0.8, 0, 0], srow_z=[0, 0.6, 1, 0]),
            "x-y plane",
        ),
        "time.nii": (with_header(dim=[4, 30, 30, 3, 10, 1, 1, 1]), "10 volumes"),
    }
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8))
    for name in ("a.png", "a.jpg", "a.mha", "a.nrrd", "a.tif"):
        sitk.WriteImage(image, str(folder / name))
        data = (folder / name).read_bytes()
        files["cut_" + name] = (data[: int(len(data) * 0.7)], "")
    mha = (folder / "a.mha").read_bytes()
    files["huge.mha"] = (mha.replace(b"DimSize = 40 40", b"DimSize = 4000000 400000"), "truncated")
    for name, (old, new, message) in {
        "dims.mha": (b"NDims = 2", b"NDims = 7", "its header gives DimSize = 40 40"),
        "place.mha": (b"Offset = 0 0", b"Offset = nan 0", "its header gives Offset = nan 0"),
        "spacing.mha": (b"ElementSpacing = 1 1", b"ElementSpacing = 1 x", "its header gives ElementSpacing = 1 x"),
        "nothing.mha": (b"ElementDataFile = LOCAL", b"ElementDataFile = ", "does not give ElementDataFile"),
    }.items():
        assert old in mha
        files[name] = (mha.replace(old, new), message)
    files["begin.mha"] = (mha[:60], "its header does not give")
    nrrd = (folder / "a.nrrd").read_bytes()
    files["huge.nrrd"] = (nrrd.replace(b"sizes: 40 40", b"sizes: 4000000 400000"), "claims")
    files["lonely.mhd"] = (mha[: mha.index(b"LOCAL")] + b"lonely.raw\n", "which is not there")
    for name, (data, _) in files.items():
        if data is not None:
            (folder / name).write_bytes(data)
    return {name: message for name, (_, message) in files.items()}


def test_every_bad_file_gives_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, message in bad_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            read_image(tmp_path / name)
        text = str(caught.value)
        assert message in text, name
        assert name in text
        assert "\n" not in text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    file.write_bytes(b"x" * 400)
    file.chmod(0)
    with pytest.raises(InputError, match="permission"):
        read_image(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_pipes_are_neither_waited_for_nor_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.nii.gz"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is a pipe or a device, a file was expected"):
        read_image(pipe)
    with pytest.raises(InputError, match="is not replaced"):
        write_image(pipe, picture(Space.regular((4, 4))))
    assert [file.name for file in tmp_path.iterdir()] == ["pipe.nii.gz"] and pipe.is_fifo()


def test_a_link_that_leads_nowhere_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to("gone.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz: is a link to gone\.nii\.gz, which is not there"):
        read_image(tmp_path / "a.nii.gz")


def test_misspelt_name_is_suggested(tmp_path: Path) -> None:
    write_image(tmp_path / "subject_01.nii.gz", picture(Space.regular((4, 4))))
    with pytest.raises(InputError, match=r"did you mean subject_01\.nii"):
        read_image(tmp_path / "subject_1.nii.gz")


def test_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(InputError, match="is the disk full"), atomic_path(target):
        pass  # as writers do that look at nothing
    with pytest.raises(InputError, match="does not exist"):
        write_image(tmp_path / "no" / "a.nii", picture(Space.regular((4, 4))))
    with pytest.raises(InputError, match="no image is written with this ending"):
        write_image(tmp_path / "a.xyz", picture(Space.regular((4, 4))))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_pairs(tmp_path: Path) -> None:
    fixed = picture(Space.regular((10, 10, 10), 2.0))
    assert check_pair(fixed, fixed) == []
    with pytest.raises(InputError, match=r"2 spatial axes \(4, 4\).*3 \(10, 10, 10\)"):
        check_pair(fixed, picture(Space.regular((4, 4))))
    far = torch.eye(4, dtype=torch.float64)
    far[:3, 3] = 100
    apart = picture(Space((10, 10, 10), far))
    assert "do not overlap" in check_pair(fixed, apart)[0]
    with pytest.raises(InputError, match="do not overlap"):
        check_pair(fixed, apart, must_overlap=True)
    tiny = picture(Space.regular((10, 10, 10), 0.002))
    notices = check_pair(fixed, tiny)
    assert any("microns" in note for note in notices)
    assert any("differ greatly" in note for note in notices)
    mirrored = picture(Space.regular((10, 10, 10), (-2.0, 2.0, 2.0)))
    assert "handedness" in check_pair(fixed, mirrored)[0]


@pytest.mark.parametrize("ending", ["jpg", "bmp"])
def test_no_room_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Its writer would end the program, or leave an empty file."""
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=50))
    with pytest.raises(InputError, match="no space left"):
        write_image(tmp_path / f"a.{ending}", picture(Space.regular((9, 9))))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("d", [2, 3])
def test_disjoint_equals_linear_programming(d: int) -> None:
    from scipy.optimize import linprog

    answers = []
    for _ in range(60):
        affines = torch.eye(d + 1, dtype=torch.float64).repeat(2, 1, 1)
        affines[:, :d, :d] = torch.linalg.qr(torch.randn(2, d, d, dtype=torch.float64))[0]
        affines[1, :d, d] = torch.randn(d) * 4
        one, other = Space((9, 3, 1)[:d], affines[0]), Space((5, 4, 7)[:d], affines[1])
        # A common point: index i in one and j in the other, both within the voxel edges.
        equal = np.concatenate([affines[0, :d, :d].numpy(), -affines[1, :d, :d].numpy()], axis=1)
        offset = (affines[1, :d, d] - affines[0, :d, d]).numpy()
        bounds = [(-0.5, n - 0.5) for n in (*one.shape, *other.shape)]
        answers.append(linprog(np.zeros(2 * d), A_eq=equal, b_eq=offset, bounds=bounds).status == 2)
        assert disjoint(one, other) == disjoint(other, one) == answers[-1]
    assert 5 < sum(answers) < 55
