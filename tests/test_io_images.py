"""Images in and out: positions agree with nibabel and SimpleITK, and every bad file gives one clear line."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from registration.errors import InputError
from registration.image import Image
from registration.io.files import sha256
from registration.io.images import (
    load_image,
    load_labels,
    read_image,
    read_labels,
    write_image,
)
from registration.io.label_maps import looks_like_labels
from registration.io.nifti_write import write_vectors
from registration.io.transforms import read_transform
from registration.io.volumes import count_volumes
from registration.space import Space

ORIENTATIONS = ["RAS", "LAS", "LIA", "LPS", "oblique"]
SHAPES = [(7, 6), (7, 6, 5), (7, 6, 1)]


def grid(orientation: str, shape: tuple[int, ...]) -> Space:
    """An anisotropic grid away from the origin with its axes along the letters, or turned in all planes it has."""
    d = len(shape)
    spacing = np.array([0.8, 1.5, 2.4][:d])
    if orientation == "oblique":
        a, b = 0.5, 0.3
        turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])[:d, :d]
        if d == 3:
            turn = turn @ np.array([[1.0, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    else:
        letters = orientation if d == 3 else orientation.replace("I", "").replace("S", "")
        turn = np.zeros((d, d))
        for axis, letter in enumerate(letters):
            pair = next(i for i, names in enumerate(("LR", "PA", "IS")) if letter in names)
            turn[pair, axis] = 1 if letter in "RAS" else -1
    affine = np.eye(d + 1)
    affine[:d, :d] = turn * spacing
    affine[:d, d] = [12.0, -20.0, 31.0][:d]
    return Space(shape, torch.from_numpy(affine))


def picture(space: Space) -> Image:
    return Image(torch.rand(1, 1, *space.shape) * 200, space, name="made")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_round_trip_and_agreement_with_simpleitk(
    tmp_path: Path, orientation: str, shape: tuple[int, ...], ending: str
) -> None:
    image = picture(grid(orientation, shape))
    file = tmp_path / f"image{ending}"
    write_image(file, image)
    back = read_image(file)
    assert back.space.same_as(image.space)
    assert torch.equal(back.data, image.data)
    other = sitk.ReadImage(str(file))
    assert other.GetSize() == shape
    d = len(shape)
    flip = np.array([-1, -1, 1])[:d]
    for index in itertools.product(*[(0, n - 1) for n in shape]):
        there = np.array(other.TransformIndexToPhysicalPoint(index)) * flip
        np.testing.assert_allclose(there, back.space.points(torch.zeros(0).double())[index], atol=1e-4)
        assert other.GetPixel(index) == pytest.approx(float(image.data[(0, 0, *index)]))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_written_nifti_has_both_forms_and_millimetres(tmp_path: Path, orientation: str) -> None:
    image = picture(grid(orientation, (5, 4, 3)))
    file = tmp_path / "image.nii.gz"
    write_image(file, image)
    header = nib.load(file).header
    assert header["sform_code"] == header["qform_code"] == 1
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), image.space.affine, atol=1e-4)
    np.testing.assert_allclose(header.get_sform(), image.space.affine, atol=1e-4)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_2(tmp_path: Path, ending: str) -> None:
    """Also what is written here for axes beyond those of NIfTI-1."""
    values = np.random.default_rng(0).random((4, 3, 2), dtype=np.float32)
    nib.save(nib.Nifti2Image(values, np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / f"theirs{ending}")
    theirs = read_image(tmp_path / f"theirs{ending}")
    assert theirs.space.spacing.tolist() == [2, 3, 4] and np.array_equal(theirs.data[0, 0], values)
    long = picture(grid("LPS", (33_000, 2)))
    write_image(tmp_path / f"long{ending}", long)
    assert torch.equal(read_image(tmp_path / f"long{ending}").data, long.data)
    assert count_volumes(tmp_path / f"theirs{ending}") == 1


def test_same_image_same_bytes(tmp_path: Path) -> None:
    image = picture(grid("LAS", (5, 4, 3)))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(tmp_path / name, image)
    assert sha256(tmp_path / "a.nii.gz") == sha256(tmp_path / "b.nii.gz")


def test_sheared_affine_gets_no_qform(tmp_path: Path) -> None:
    affine = torch.eye(4, dtype=torch.float64)
    affine[0, 1] = 0.3
    image, notices = picture(Space((5, 4, 3), affine)), list[str]()
    write_image(tmp_path / "a.nii", image, notices=notices)
    header = nib.load(tmp_path / "a.nii").header
    assert (header["sform_code"], header["qform_code"]) == (1, 0)
    assert "sheared" in notices[0]
    assert read_image(tmp_path / "a.nii").space.same_as(image.space)


def test_integers_are_rounded_and_clipped(tmp_path: Path) -> None:
    values = torch.tensor([[-3.0, 0.4], [0.6, 300.0]])
    image = Image.of(values)
    for dtype, expected in ((np.uint8, [0, 0, 1, 255]), (np.int16, [-3, 0, 1, 300]), (np.float64, values.ravel())):
        for name in ("a.nii.gz", "a.mha", "a.tif"):
            write_image(tmp_path / name, image, dtype=dtype)
            stored = load_image(tmp_path / name)
            assert stored.source.dtype == (np.float32 if dtype is np.float64 else dtype)
            np.testing.assert_allclose(stored.image.data.ravel(), expected)
    for dtype in (np.int32, np.uint32, np.int64, np.uint64):
        big = Image.of(torch.tensor([[1e30, -1e30], [5.0, 0.0]]))
        write_image(tmp_path / "big.nii", big, dtype=dtype)
        stored_values = np.asarray(nib.load(tmp_path / "big.nii").dataobj)
        assert stored_values.dtype == dtype
        assert stored_values[0, 0] >= 2**31 - 1
        assert stored_values[0, 1] == (0 if np.iinfo(dtype).min == 0 else max(np.iinfo(dtype).min, -(2**53)))


def test_likeness_keeps_code_and_height_of_a_slice(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [1, 2, 30]
    original = nib.Nifti1Image(np.arange(12, dtype=np.uint8).reshape(4, 3), None)
    original.header.set_sform(affine, 4)
    original.header.set_qform(affine, 1)
    nib.save(original, tmp_path / "slice.nii")
    loaded = load_image(tmp_path / "slice.nii")
    assert loaded.image.space.shape == (4, 3)
    np.testing.assert_allclose(loaded.image.space.affine, affine[np.ix_([0, 1, 3], [0, 1, 3])])
    write_image(tmp_path / "out.nii.gz", loaded.image, like=loaded.source, dtype=loaded.source.dtype)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert header.get_data_shape() == (4, 3)
    assert header.get_data_dtype() == np.uint8
    assert header["sform_code"] == 4
    np.testing.assert_allclose(header.get_sform(), affine)


def test_scaled_integers_and_big_integers(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(0.5, 10.0)
    file = tmp_path / "a.nii.gz"
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw) as out:
        # nibabel would divide the data by the slope on the way out.
        header = image.header.copy()
        header.set_data_dtype(np.int16)
        header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, 0.5, 10.0
        out.write(header.binaryblock + b"\0\0\0\0" + np.arange(8, dtype="<i2").tobytes())
    loaded = load_image(file)
    assert loaded.source.dtype == np.float32
    np.testing.assert_allclose(loaded.image.data[0, 0], 10 + 0.5 * np.arange(8).reshape(2, 2, 2, order="F"))
    big = np.array([[[0, 2**24 + 1]]], dtype=np.int32)
    nib.save(nib.Nifti1Image(big, np.eye(4)), tmp_path / "big.nii")
    assert "2^24" in load_image(tmp_path / "big.nii").notices[0]
    labels = load_labels(tmp_path / "big.nii")
    assert labels.image.data.dtype == torch.float64
    assert labels.image.data.max() == 2**24 + 1


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.array([[[0, 1.5]]], dtype=np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="no whole numbers"):
        read_labels(tmp_path / "a.nii")


def test_what_looks_like_labels() -> None:
    blobs = np.zeros((20, 20, 20), np.int16)
    blobs[3:9, 3:9, 3:9], blobs[10:18, 3:9, 3:12] = 7, 1000
    grey = np.random.default_rng(0).integers(0, 20, (20, 20, 20)).astype(np.uint8)
    assert looks_like_labels(blobs)
    assert looks_like_labels(blobs.astype(np.float32)) and looks_like_labels(blobs.astype(np.float64) * 1e6)
    assert not looks_like_labels(blobs + np.float32(0.5)) and not looks_like_labels(np.full((4, 4), np.nan))
    assert looks_like_labels(blobs.astype(np.int64) * 10**9)
    assert not looks_like_labels(grey)


@pytest.mark.real
def test_real_images(shared_data: Path) -> None:
    for name, labels in {
        "brain/fixed.nii.gz": False,
        "brain/fixed_labels.nii.gz": True,
        "head/chris_PD.nii.gz": False,
        "head2d/CT_2D_head_fixed.mha": False,
        "head2d/CT_2D_head_fixed_mask.mha": True,
    }.items():
        loaded = load_image(shared_data / name)
        assert loaded.source.labels is labels, name
        other = sitk.ReadImage(str(shared_data / name))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, loaded.image.data[0, 0])
        d = loaded.image.ndim
        corner = np.array(other.TransformIndexToPhysicalPoint([n - 1 for n in other.GetSize()])) * [-1, -1, 1][:d]
        np.testing.assert_allclose(loaded.image.space.points().reshape(-1, d)[-1], corner, atol=1e-3)
    colour = load_image(shared_data / "histology/Rat-Kidney_HE.jpg")
    assert colour.image.data.shape == (1, 1, 1164, 787)
    assert "luminance" in colour.notices[0]


def test_channels(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "four.nii.gz")
    with pytest.raises(InputError, match=r"holds 2 volumes.*--channel"):
        read_image(tmp_path / "four.nii.gz")
    with pytest.raises(InputError, match="no channel 2"):
        read_image(tmp_path / "four.nii.gz", channel=2)
    assert np.array_equal(read_image(tmp_path / "four.nii.gz", channel=1).data[0, 0], values[..., 1])
    sitk.WriteImage(sitk.GetImageFromArray(values.T, isVector=False), str(tmp_path / "four.nrrd"))
    assert np.array_equal(read_image(tmp_path / "four.nrrd", channel=1).data[0, 0], values[..., 1])
    nib.save(nib.Nifti1Image(values[..., :1], np.eye(4)), tmp_path / "one.nii")
    assert read_image(tmp_path / "one.nii").space.shape == (2, 3, 2)
    vectors = sitk.GetImageFromArray(values, isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "vectors.mha"))
    with pytest.raises(InputError, match="--channel"):
        read_image(tmp_path / "vectors.mha")


def test_pictures(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)  # rows, columns
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "a.png"))
    loaded = load_image(tmp_path / "a.png", spacing=[0.5, 0.25])
    assert loaded.image.data.shape == (1, 1, 7, 5)
    np.testing.assert_allclose(loaded.image.data[0, 0].T, colours @ [0.299, 0.587, 0.114], rtol=1e-5)
    assert loaded.image.space.spacing.tolist() == [0.5, 0.25]
    np.testing.assert_allclose(loaded.image.space.points()[2, 3], [-1.0, -0.75])
    assert np.array_equal(read_image(tmp_path / "a.png", channel=2).data[0, 0].T, colours[..., 2])
    for name in ("b.png", "b.nii.gz", "b.mha", "b.tif"):
        write_image(tmp_path / name, loaded.image, like=loaded.source, dtype=loaded.source.dtype)
        np.testing.assert_allclose(read_image(tmp_path / name).data, loaded.image.data.round())
    notices: list[str] = []
    write_image(tmp_path / "c.png", loaded.image.with_data(loaded.image.data / 1000), notices=notices)
    assert "scaled" in notices[0]
    with pytest.raises(InputError, match="2-D"):
        write_image(tmp_path / "d.png", picture(grid("RAS", (4, 4, 4))))
    with pytest.raises(InputError, match="2 positive spacings"):
        read_image(tmp_path / "a.png", spacing=[1.0, 0.0])


def test_pictures_have_no_place(tmp_path: Path) -> None:
    """A volume that has one is refused, a slice loses it with a word, and what has none loses nothing."""
    for place in ("RAS", "oblique"):
        with pytest.raises(InputError, match=r"volume\.tif: a tiff file holds no place or orientation"):
            write_image(tmp_path / "volume.tif", picture(grid(place, (5, 4, 3))))
        for ending in ("png", "tif"):
            notices: list[str] = []
            write_image(tmp_path / f"slice.{ending}", picture(grid(place, (5, 4))), notices=notices)
            assert "hold no place in the world" in notices[0]
    stack = Space((5, 4, 3), torch.diag(torch.tensor([-0.5, -0.25, 1.0, 1.0], dtype=torch.float64)))
    for image in (picture(stack), picture(Space((5, 4), stack.affine[[0, 1, 3]][:, [0, 1, 3]]))):
        notices = []
        write_image(tmp_path / "kept.tif", image, notices=notices)
        assert notices == [] and read_image(tmp_path / "kept.tif").space.same_as(image.space)
    coarse = Space((5, 4, 3), stack.affine @ torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0], dtype=torch.float64)))
    write_image(tmp_path / "kept.tif", picture(coarse), notices=notices)
    assert "distance of slices, 2 mm" in notices[0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept.tif", "slice.png", "slice.tif"]


def dicom_series(folder: Path, heights: list[float], uid: str = "1.2.3") -> None:
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, z in enumerate(heights):
        slice_ = sitk.GetImageFromArray(np.full((1, 5, 4), 10 * number, np.int16))
        slice_.SetSpacing((0.75, 0.5, 2.0))
        for tag, value in {
            "0008|0060": "MR",
            "0020|000e": uid,
            "0020|0032": f"-3\\7\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number),
            "0008|0018": f"{uid}.{number}",
            "0018|0050": "2",
        }.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid}.{number}.dcm"))
        writer.Execute(slice_)


def test_dicom_folder(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    dicom_series(folder, [10.0, 12.0, 14.0])
    loaded = load_image(folder)
    assert loaded.image.space.shape == (4, 5, 3)
    assert loaded.notices == ()
    np.testing.assert_allclose(loaded.image.space.affine[:3, 3], [3, -7, 10])
    np.testing.assert_allclose(loaded.image.space.spacing, [0.75, 0.5, 2.0])
    assert loaded.image.data[0, 0, 0, 0].tolist() == [0, 10, 20]
    dicom_series(tmp_path / "gap", [10.0, 12.0, 18.0])
    assert "unevenly" in load_image(tmp_path / "gap").notices[0]
    dicom_series(tmp_path / "alone", [5.0])
    for path in (tmp_path / "alone", tmp_path / "alone" / "1.2.3.0.dcm"):
        slice_ = load_image(path)
        np.testing.assert_allclose(slice_.image.space.spacing, [0.75, 0.5, 2.0])
        assert "one slice of DICOM, 2 mm thick" in slice_.notices[0]
        assert ("folder of its slices" in slice_.notices[0]) == path.is_file()
    dicom_series(folder, [0.0, 1.0], "4.5.6")
    with pytest.raises(InputError, match="2 DICOM series"):
        read_image(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM series"):
        read_image(tmp_path / "empty")


@pytest.mark.parametrize(
    ("thickness", "taken", "said"),
    [("", 1, "taken as 1 mm thick"), ("4.5", 4.5, "4.5 mm thick by its SliceThickness"), ("0", 1, "taken as 1 mm")],
)
def test_a_slice_of_dicom_without_a_distance_of_slices(tmp_path: Path, thickness: str, taken: float, said: str) -> None:
    slice_ = sitk.GetImageFromArray(np.zeros((1, 5, 4), np.int16))
    slice_.SetMetaData("0018|0050", thickness)
    sitk.WriteImage(slice_, str(tmp_path / "one.dcm"))
    loaded = load_image(tmp_path / "one.dcm")
    assert loaded.image.space.spacing.tolist() == [1, 1, taken] and said in loaded.notices[0]


def test_analyze_is_read_with_one_word_of_ours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.AnalyzeImage(np.ones((4, 5, 6), np.float32), np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "a.img")
    nib.save(nib.Nifti1Pair(np.ones((4, 5, 6), np.float32), np.eye(4)), tmp_path / "n.img")
    for name, said in (("a.hdr", 1), ("a.img", 1), ("n.hdr", 0)):
        loaded = load_image(tmp_path / name)
        assert len(loaded.notices) == said and all("which side is left" in text for text in loaded.notices)
    assert "".join(capfd.readouterr()) == ""


def conflicting(path: Path, sform: Any, qform: Any, unit: str = "mm") -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), None)
    image.header.set_qform(np.eye(4) if qform is None else qform, 0 if qform is None else 1)
    image.header.set_sform(sform, 0 if sform is None else 1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)


def test_which_affine_counts(tmp_path: Path) -> None:
    file, shifted = tmp_path / "a.nii", np.diag([2.0, 2.0, 2.0, 1.0])
    shifted[0, 3] = 5
    conflicting(file, shifted, np.eye(4))
    loaded = load_image(file)
    np.testing.assert_allclose(loaded.image.space.affine, shifted)
    assert "sform is used" in loaded.notices[0]
    conflicting(file, None, shifted)
    assert load_image(file).notices == ()
    np.testing.assert_allclose(read_image(file).space.affine, shifted)
    conflicting(file, None, None)
    loaded = load_image(file)
    assert "neither sform nor qform" in loaded.notices[0]
    np.testing.assert_allclose(loaded.image.space.affine, nib.load(file).affine)
    metre = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    conflicting(file, metre, metre, "meter")
    loaded = load_image(file)
    np.testing.assert_allclose(loaded.image.space.spacing, [1, 1, 1], rtol=1e-6)
    assert "metres" in loaded.notices[0]
    np.testing.assert_allclose(sitk.ReadImage(str(file)).GetSpacing(), [1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("stored", "taken"), [((0, 2, 3), "(1, 2, 3)"), ((-2, 2, 3), "(2, 2, 3)"), ((2, 2, 3), "")])
def test_sizes_of_voxels_that_are_none_are_said(tmp_path: Path, stored: tuple[float, ...], taken: str) -> None:
    """nibabel and ITK take 0 as 1 mm; with an sform these numbers stand for nothing."""
    for sform in (None, np.diag([2.0, 2.0, 3.0, 1.0])):
        file = tmp_path / f"{sform is None}.nii"
        conflicting(file, sform, np.diag([2.0, 2.0, 3.0, 1.0]))
        data = bytearray(file.read_bytes())
        data[80:92] = np.array(stored, "<f4").tobytes()
        file.write_bytes(data)
        loaded = load_image(file)
        theirs = (2, 2, 3) if sform is not None else sitk.ReadImage(str(file)).GetSpacing()
        np.testing.assert_allclose(loaded.image.space.spacing, theirs)
        said = [text for text in loaded.notices if "voxel sizes" in text]
        assert len(said) == (sform is None and bool(taken))
        assert not said or f"taken as {taken} (--spacing sets them)" in said[0]


def test_a_field_tells_how_it_was_read(tmp_path: Path) -> None:
    write_vectors(tmp_path / "Warp.nii", np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    data = bytearray((tmp_path / "Warp.nii").read_bytes())
    data[80:84], data[254:256] = np.float32(0).tobytes(), np.int16(0).tobytes()  # no size, no sform
    (tmp_path / "Warp.nii").write_bytes(data)
    assert "voxel sizes" in read_transform(tmp_path / "Warp.nii")[1].notices[0]
