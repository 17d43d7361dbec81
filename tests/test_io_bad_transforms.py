"""Transform files that are damaged, hostile, or of another kind: one clear line each, never a wrong transform."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from registration.batch.attempt import is_disk_full
from registration.errors import InputError
from registration.image import Image
from registration.io.exports import write_itk_affine, write_ras_matrix, write_slicer_tps
from registration.io.images import write_image
from registration.io.packing import put_text
from registration.io.transforms import read_transform, write_transform
from registration.space import Space
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline

SPACE = Space.regular((20, 20, 20), 1.5)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A whole file with a spline and a field in it."""
    points = SPACE.resized((3, 3, 3)).points().reshape(-1, 3)
    spline = ThinPlateSpline(points, points + 0.3 * torch.randn_like(points), 0.1)
    field = DisplacementField(torch.randn(3, *SPACE.shape), SPACE)
    write_transform(tmp_path / "good.h5", field @ spline, SPACE, SPACE)
    return tmp_path / "good.h5"


def refused(file: Path, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_transform(file)
    text = str(caught.value)
    assert message in text
    assert file.name in text
    assert "\n" not in text


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_truncated(good: Path, share: float) -> None:
    data = good.read_bytes()
    good.write_bytes(data[: int(len(data) * share)])
    refused(good, "truncated or damaged")


def test_damaged_data(good: Path) -> None:
    with h5py.File(good) as store:
        offset = store["registration/chain/0/displacement"].id.get_chunk_info(0).byte_offset
    data = bytearray(good.read_bytes())
    data[offset + 50 : offset + 90] = b"\xff" * 40
    good.write_bytes(bytes(data))
    refused(good, "damaged")


def test_foreign_hdf5(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as store:
        store["x"] = 1
    refused(tmp_path / "other.h5", "holds no transform")
    for name in ("TransformParameters", "TransformFixedParameters", "TransformType"):
        sitk.WriteTransform(sitk.CompositeTransform([sitk.AffineTransform(3)]), str(tmp_path / "itk.h5"))
        read_transform(tmp_path / "itk.h5")
        with h5py.File(tmp_path / "itk.h5", "r+") as store:
            del store[f"TransformGroup/1/{name}"]
        capfd.readouterr()
        refused(tmp_path / "itk.h5", "is damaged: a transform in it cannot be read")
        assert capfd.readouterr().err == ""


def test_a_refused_file_leaves_others_readable(good: Path, tmp_path: Path) -> None:
    """HDF5 has one lock for all threads: while the error lives, another thread must be able to read."""
    sitk.WriteTransform(sitk.CompositeTransform([sitk.AffineTransform(3)]), str(tmp_path / "itk.h5"))
    with h5py.File(tmp_path / "itk.h5", "r+") as store:
        del store["TransformGroup/1/TransformParameters"]
    with h5py.File(good, "r+") as store:
        store["registration/field_error"].attrs["max_mm"] = "far"
    for file in (tmp_path / "itk.h5", good):
        with pytest.raises(InputError) as caught:
            read_transform(file)
        reader = Thread(target=lambda: h5py.File(good).close(), daemon=True)
        reader.start()
        reader.join(timeout=20)
        assert not reader.is_alive(), caught.value


def replace(store: Any, name: str, value: Any) -> None:
    del store[name]
    store[name] = value


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "future": (lambda s: s["registration"].attrs.modify("format", 99), "is of format 99"),
    "no chain": (lambda s: s.pop("registration/chain"), "damaged"),
    "no grids": (lambda s: s.pop("registration/fixed"), "damaged"),
    "no provenance": (lambda s: s.pop("registration/provenance"), "damaged"),
    "kind": (lambda s: put_text(s["registration/chain/1"], "kind", "magic"), "unknown kind"),
    "one number": (lambda s: s["registration/chain/1/targets"].__setitem__((0, 0), 5.0), "checksum"),
    "text for numbers": (lambda s: replace(s, "registration/chain/1/points", "abc"), "no numbers"),
    "nan": (lambda s: replace(s, "registration/chain/1/targets", np.full((27, 3), np.nan)), "NaN"),
    "shape": (lambda s: replace(s, "registration/chain/1/targets", np.zeros((5, 3))), "damaged"),
    "another grid": (lambda s: replace(s, "registration/fixed/shape", np.array([9, 9, 9])), "digest"),
    "lone part": (lambda s: s.pop("registration/chain/1"), "damaged"),
    "loop": (lambda s: s["registration/chain"].__setitem__("2", s["registration/chain"]), "damaged"),
    "nothing stored": (
        lambda s: (
            s.pop("registration/chain/1/targets"),
            s["registration/chain/1"].create_dataset("targets", shape=(10**9, 3), chunks=(1000, 3), dtype="f8"),
        ),
        "claims",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_files(good: Path, name: str) -> None:
    change, message = CHANGES[name]
    with h5py.File(good, "r+") as store:
        change(store)
    refused(good, message)


def test_other_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contents = {
        "empty.h5": (b"", "empty"),
        "text.h5": (b"hello", "cannot be read as a transform"),
        "noise.tfm": (bytes(range(256)) * 20, "cannot be read as a transform"),
        "cut.tfm": (
            b"#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n",
            "truncated",
        ),
        "flat.txt": (b"1 0 0 0\n0 0 0 0\n0 0 1 0\n0 0 0 1\n", "singular"),
        "row.txt": (b"1 0 0 0\n0 1 0 0\n0 0 1 0\n1 0 0 1\n", "last row"),
        "table.txt": (b"1 2 3\n4 5 6\n", "table of numbers (2 x 3)"),
        "fsl.mat": (b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "FSL"),
        "nan.txt": (b"1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "not finite"),
        "flat.tfm": (
            b"#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_2_2\n"
            b"Parameters: 1 1 1 1 0 0\nFixedParameters: 0 0\n",
            "singular",
        ),
        "nan.tfm": (
            b"#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n"
            b"Parameters: nan 0.2 0.3 1 2 3\nFixedParameters: 0 0 0\n",
            "no finite numbers",
        ),
        "cut.xfm": (
            b"MNI Transform File\n%ITK-XFM writer\nTransform_Type = Linear;\nLinear_Transform =\n1 0 0 0\n0 1 0 0\n",
            "no matrix of 12 numbers",
        ),
        "words.xfm": (
            b"MNI Transform File\n%ITK-XFM writer\nTransform_Type = Linear;\n"
            b"Linear_Transform =\n1 0 0 0\n0 1 0 0\n0 0 1 x;\n",
            "no finite numbers",
        ),
        "grid.xfm": (
            b"MNI Transform File\n%ITK-XFM writer\nTransform_Type = Grid_Transform;\nDisplacement_Volume = gone.mnc;\n",
            "should be in gone.mnc, which is not there",
        ),
        "a.lta": (b"type      = 1 # RAS_TO_RAS\nnxforms   = 1\nmean      = 0 0 0\n", "is truncated: it has no matrix"),
        "TransformParameters.0.txt": (
            b'(Transform "EulerTransform")\n(NumberOfParameters 6)\n',
            "is truncated: FixedImageDimension is missing",
        ),
        "spline.tfm": (
            b"#Insight Transform File V1.0\n#Transform 0\nTransform: ThinPlateSplineKernelTransform_double_3_3\n"
            b"Parameters: 0 0 0\nFixedParameters: 1 1 1\n",
            "a spline of 3D Slicer",
        ),
        "few.tfm": (
            b"#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n"
            b"Parameters: 0.1 0.2\nFixedParameters: 0 0 0\n",
            "is truncated: its Euler3DTransform has 2 parameters",
        ),
    }
    for name, (data, message) in contents.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, message)
    assert capfd.readouterr().err == ""
    refused(tmp_path / "missing.h5", "no such file")
    refused(tmp_path, "folder")
    image = Image.of(torch.rand(5, 5, 5))
    for name, message in (("image.nii.gz", "no displacement field"), ("image.mha", "is an image")):
        write_image(tmp_path / name, image)
        refused(tmp_path / name, message)
    vectors = sitk.GetImageFromArray(np.full((3, 3, 3, 3), np.nan), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "nan.mha"))
    refused(tmp_path / "nan.mha", "NaN")


def test_texts_of_other_systems(tmp_path: Path) -> None:
    matrix = "1 0 0 5\r\n0 1 0 0\r\n0 0 1 0\r\n0 0 0 1\r\n"
    (tmp_path / "ras.txt").write_bytes(matrix.encode("utf-8-sig"))
    shift = sitk.AffineTransform(3)
    shift.SetTranslation((-5.0, 0.0, 0.0))
    sitk.WriteTransform(shift, str(tmp_path / "itk.xfm"))
    for name in ("ras.txt", "itk.xfm"):
        assert read_transform(tmp_path / name)[0](torch.zeros(1, 3)).tolist() == [[5, 0, 0]]
    text = (tmp_path / "itk.xfm").read_text().replace("%ITK-XFM writer", "%minctracc")
    (tmp_path / "mni.xfm").write_text(text)
    refused(tmp_path / "mni.xfm", "is a transform of MINC (RAS mm, source to target), which is not read")


@pytest.mark.parametrize(("name", "program"), [("Mapping", "SPM"), ("NREG_TRANS", "NiftyReg")])
def test_positions_are_no_displacements(tmp_path: Path, name: str, program: str) -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4))
    image.header.set_intent("vector", name=name)
    nib.save(image, tmp_path / "y_t1.nii")
    refused(tmp_path / "y_t1.nii", f"is a deformation of {program}")


def test_transforms_of_itk_that_are_cut_anywhere(tmp_path: Path) -> None:
    affine = sitk.AffineTransform(3)
    affine.Rotate(0, 1, 0.5)
    affine.SetCenter((10, 20, 30))
    affine.SetTranslation((1, 2, 3))
    for ending in (".mat", ".tfm"):
        whole = tmp_path / f"whole{ending}"
        sitk.WriteTransform(affine, str(whole))
        read_transform(whole)
        data = whole.read_bytes().rstrip(b"\n")
        for length in [*range(60, len(data) - 1, 7), len(data) - 1]:
            (tmp_path / f"cut{ending}").write_bytes(data[:length])
            try:
                found = read_transform(tmp_path / f"cut{ending}")[0]
            except InputError:
                continue
            # In text the last number may lose a digit, which nobody can see.
            ours = found(torch.zeros(1, 3))[0].numpy() * (-1, -1, 1)
            assert ending == ".tfm" and np.allclose(ours, affine.TransformPoint((0.0, 0.0, 0.0)), atol=30), length
        data = bytearray(whole.read_bytes())
        if ending == ".mat":
            data[-8:] = np.array([np.nan]).tobytes()
            (tmp_path / "nan.mat").write_bytes(data)
            refused(tmp_path / "nan.mat", "no finite numbers")
    for kind in (
        sitk.Euler2DTransform(), sitk.Similarity2DTransform(), sitk.VersorRigid3DTransform(), sitk.Euler3DTransform(),
        sitk.Similarity3DTransform(), sitk.ScaleVersor3DTransform(), sitk.ScaleSkewVersor3DTransform(),
        sitk.VersorTransform(), sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.AffineTransform(2),
    ):  # fmt: skip
        for ending in (".mat", ".tfm"):
            sitk.WriteTransform(kind, str(tmp_path / f"whole{ending}"))
            read_transform(tmp_path / f"whole{ending}")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"a\.h5: cannot be written \(No space left") as caught:
        write_transform(tmp_path / "a.h5", Linear.identity(3), SPACE, SPACE)
    assert is_disk_full(caught.value) and list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path, good: Path) -> None:
    curved, _ = read_transform(good)
    for write, name in ((write_itk_affine, "a.tfm"), (write_ras_matrix, "a.txt"), (write_slicer_tps, "b.tfm")):
        with pytest.raises(InputError, match="write transform.h5"):  # noqa: RUF043
            write(tmp_path / name, curved)
    with pytest.raises(InputError, match=r"ends in \.h5"):
        write_transform(tmp_path / "a.tfm", curved, SPACE, SPACE)
    with pytest.raises(InputError, match="does not exist"):
        write_transform(tmp_path / "no" / "a.h5", Linear.identity(3), SPACE, SPACE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.h5"]
