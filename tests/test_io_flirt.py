"""Matrices of FSL between grids of either handedness, anisotropic and oblique, alone and in rows with other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from registration.cli.main import run
from registration.errors import InputError
from registration.io.exports import write_itk_affine
from registration.io.flirt import flirt_matrix
from registration.io.links import Link, read_links
from registration.io.transforms import read_transform
from registration.space import Space
from registration.transforms.linear import Linear

TURN = np.array([[0.8, 0.48, 0.36], [0.6, -0.64, -0.48], [0, 0.6, -0.8]])


def affine(axes: np.ndarray, sizes: tuple[float, float, float], origin: tuple[float, float, float]) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = axes * sizes, origin
    return found


GRIDS = {
    "RAS": ((20, 18, 14), affine(np.eye(3), (2.0, 2.5, 3.0), (-19, -25, -17))),
    "LAS": ((24, 21, 16), affine(np.diag([-1.0, 1, 1]), (1.5, 2.0, 2.5), (22, -18, -24))),
    "right": ((16, 22, 19), affine(TURN, (2.5, 1.5, 2.0), (-20, 15, 9))),  # oblique, right-handed
    "left": ((18, 16, 21), affine(TURN[:, [1, 0, 2]], (2.0, 3.0, 1.5), (-21, 12, 5))),
}
# As flirt writes it.
TEXT = "1.05  0.08  -0.03  -4.2  \n-0.06  0.97  0.11  3.1  \n0.02  -0.09  1.03  1.7  \n0  0  0  1  \n"


# What nitransforms 25.1 reads with these as fixed and moving images,
# FSLLinearTransform.from_string(TEXT).to_ras(reference=fixed, moving=moving).
IN_WORLD = {
    ("RAS", "RAS"): [[0.94743, 0.07484, -0.03559, -1.88587], [-0.06009, 1.01607, -0.10676, -2.98742],
                     [0.01315, 0.09024, 0.96085, -0.62775]],
    ("RAS", "LAS"): [[0.94743, 0.07484, -0.03559, 1.11413], [-0.06009, 1.01607, -0.10676, 4.01258],
                     [0.01315, 0.09024, 0.96085, -7.62775]],
    ("RAS", "right"): [[0.73383, 0.58007, 0.26619, 9.75135], [0.60061, -0.64869, -0.41423, 3.02175],
                       [-0.04657, 0.53745, -0.83274, 9.10975]],
    ("RAS", "left"): [[-0.49811, 0.80942, 0.27758, 12.52929], [0.56399, 0.61422, -0.54804, 3.98192],
                      [-0.57897, -0.11709, -0.74733, 4.43372]],
    ("LAS", "RAS"): [[0.94743, 0.07484, -0.03559, -5.50111], [-0.06009, 1.01607, -0.10676, -10.66693],
                     [0.01315, 0.09024, 0.96085, 5.42714]],
    ("LAS", "LAS"): [[0.94743, 0.07484, -0.03559, -2.50111], [-0.06009, 1.01607, -0.10676, -3.66693],
                     [0.01315, 0.09024, 0.96085, -1.57286]],
    ("LAS", "right"): [[0.73383, 0.58007, 0.26619, 5.35276], [0.60061, -0.64869, -0.41423, 2.86114],
                       [-0.04657, 0.53745, -0.83274, -0.34187]],
    ("LAS", "left"): [[-0.49811, 0.80942, 0.27758, 10.30076], [0.56399, 0.61422, -0.54804, -5.8459],
                      [-0.57897, -0.11709, -0.74733, 1.75896]],
    ("right", "RAS"): [[0.78105, 0.53764, 0.07337, -13.78314], [0.4012, -0.63509, 0.69505, -14.16737],
                       [0.39974, -0.51107, -0.71454, 2.63036]],
    ("right", "LAS"): [[0.78105, 0.53764, 0.07337, -10.78314], [0.4012, -0.63509, 0.69505, -7.16737],
                       [0.39974, -0.51107, -0.71454, -4.36964]],
    ("right", "right"): [[0.96132, -0.05872, 0.13509, -3.95992], [0.01999, 0.97436, -0.05783, 1.47466],
                         [-0.07907, 0.0278, 0.98866, -0.20471]],
    ("right", "left"): [[0.08996, -0.95013, 0.26359, 10.46894], [0.54872, 0.20835, 0.80697, -11.90421],
                        [-0.78842, 0.08627, 0.52761, 8.9656]],
    ("left", "RAS"): [[-0.40771, 0.66834, -0.53999, 0.96735], [0.80326, 0.62242, 0.12147, -18.9238],
                      [0.41179, -0.39866, -0.77657, -1.65417]],
    ("left", "LAS"): [[-0.40771, 0.66834, -0.53999, 3.96735], [0.80326, 0.62242, 0.12147, -11.9238],
                      [0.41179, -0.39866, -0.77657, -8.65417]],
    ("left", "right"): [[0.20764, 0.68992, -0.65325, 4.01496], [-0.95637, 0.194, -0.02898, 15.42564],
                        [0.15253, 0.69238, 0.69414, 0.36906]],
    ("left", "left"): [[0.98655, 0.03362, 0.0768, -1.95887], [0.02337, 0.99254, 0.10004, -3.26117],
                       [-0.0848, -0.08208, 0.94525, 3.54292]],
}  # fmt: skip


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """The images, and the matrix as m.mat."""
    for name, (shape, placed) in GRIDS.items():
        values = np.random.default_rng(len(name)).random(shape).astype(np.float32)
        nib.save(nib.Nifti1Image(values, placed), tmp_path / f"{name}.nii.gz")
    (tmp_path / "m.mat").write_text(TEXT)
    return tmp_path


def space(name: str) -> Space:
    return Space(GRIDS[name][0], torch.from_numpy(GRIDS[name][1]))


def matrix_of(*links: str, fixed: str, moving: str) -> np.ndarray:
    found, _ = read_links([Link.of(link) for link in links], (space(fixed), space(moving)))
    assert isinstance(found, Linear)
    return found.matrix.numpy()


def test_lead_where_fsl_leads(folder: Path) -> None:
    assert {np.sign(np.linalg.det(placed[:3, :3])) for _, placed in GRIDS.values()} == {-1, 1}
    for (fixed, moving), rows in IN_WORLD.items():
        found = matrix_of(f"[{folder}/m.mat,fsl]", fixed=fixed, moving=moving)
        np.testing.assert_allclose(found[:3], rows, atol=2e-5, err_msg=f"{fixed} {moving}")
        back = matrix_of(f"[{folder}/m.mat, FSL, 1]", fixed=moving, moving=fixed)
        np.testing.assert_allclose(back @ found, np.eye(4), atol=1e-9)
        flirt = flirt_matrix(Linear(torch.from_numpy(found)), space(fixed), space(moving))
        np.testing.assert_allclose(flirt, np.array(TEXT.split(), float).reshape(4, 4), atol=1e-9)


def test_the_commands_know_the_images(folder: Path) -> None:
    fixed, moving, matrix = folder / "RAS.nii.gz", folder / "left.nii.gz", f"[{folder}/m.mat,fsl]"
    both = ["-f", str(fixed), "-m", str(moving), "-q"]
    assert run(["convert", "-t", matrix, "-o", str(folder / "a.txt"), *both]) == 0
    np.testing.assert_allclose(np.loadtxt(folder / "a.txt")[:3], IN_WORLD["RAS", "left"], atol=2e-5)
    assert run(["invert", "-t", matrix, "-o", str(folder / "b.tfm"), *both]) == 0
    # What was read is written, from either direction.
    swapped = ["-m", str(fixed), "-f", str(moving), "-q"]
    for verb, words in (("convert", ["-t", f"{folder}/a.txt", *both]), ("invert", ["-t", f"{folder}/b.tfm", *swapped])):
        assert run([verb, *words, "--fsl", "-o", str(folder / f"{verb}.mat")]) == 0
        np.testing.assert_allclose(np.loadtxt(folder / f"{verb}.mat").ravel(), np.array(TEXT.split(), float), atol=1e-9)
    back = read_transform(folder / "b.tfm")[0]
    assert isinstance(back, Linear)
    np.testing.assert_allclose(back.matrix.numpy() @ np.loadtxt(folder / "a.txt"), np.eye(4), atol=1e-9)
    for ends, way in (([fixed, moving], []), ([moving, fixed], ["--inverse"])):
        images = []
        for number, transform in enumerate((matrix, str(folder / "a.txt"))):
            output = folder / f"{number}.nii.gz"
            words = [
                "-t",
                transform,
                "-r",
                str(ends[0]),
                "-i",
                str(ends[1]),
                "-o",
                str(output),
                *way,
                "--overwrite",
                "-q",
            ]
            assert run(["apply", *words]) == 0
            images.append(nib.load(output).get_fdata())
        assert images[0].any()
        np.testing.assert_allclose(*images, atol=1e-4)


def test_in_a_row_the_neighbours_know_the_images(folder: Path) -> None:
    other = Linear(torch.from_numpy(affine(np.eye(3), (1.1, 0.9, 1.0), (1, 2, 3))))
    write_itk_affine(folder / "other.tfm", other)
    words = ["-t", str(folder / "other.tfm"), "-f", str(folder / "RAS.nii.gz"), "-m", str(folder / "LAS.nii.gz"), "-q"]
    assert run(["convert", *words, "-o", str(folder / "other.h5")]) == 0
    expected = np.array([*IN_WORLD["LAS", "left"], [0, 0, 0, 1]]) @ other.matrix.numpy()
    found = matrix_of(str(folder / "other.h5"), f"[{folder}/m.mat,fsl]", fixed="RAS", moving="left")
    np.testing.assert_allclose(found, expected, atol=5e-4)
    with pytest.raises(InputError, match=r"m\.mat,fsl\]: counts in .* its fixed image is not known .*convert"):
        matrix_of(str(folder / "other.tfm"), f"[{folder}/m.mat,fsl]", fixed="RAS", moving="left")


def test_refused(folder: Path, refused: Callable[..., str]) -> None:
    matrix, out = f"[{folder}/m.mat,fsl]", ["-o", str(folder / "o.nii.gz"), "-q"]
    assert f"give [{folder}/m.mat,fsl] together" in refused("convert", "-t", str(folder / "m.mat"), *out)
    assert "its fixed image is not known" in refused("convert", "-t", matrix, *out)
    one = ["-r", str(folder / "RAS.nii.gz"), "-i", str(folder / "LAS.nii.gz"), *out]
    told = refused("apply", "-t", matrix, *one, "-i", str(folder / "left.nii.gz"), "-o", str(folder / "p.nii.gz"))
    assert "has another grid than" in told
    assert "changes what a matrix of FSL counts in" in refused("apply", "-t", matrix, *one, "--spacing", "2")
    np.savetxt(folder / "a.txt", np.eye(4))
    assert "give --fixed" in refused("convert", "-t", str(folder / "a.txt"), "--fsl", *out)
    assert "are two formats" in refused("convert", "-t", str(folder / "a.txt"), "--fsl", "--slicer", *out)
    reference = ["-r", str(folder / "RAS.nii.gz")]
    assert "image is not known here; registration convert" in refused("jacobian", "-t", matrix, *reference, *out)
    for text, message in (
        ("1 0 0\n0 1 0\n0 0 1\n", "4 x 4 numbers"), ("#Insight Transform File V1.0\n", "4 x 4 numbers"),
        (TEXT[:-20], "table of numbers"), (TEXT.replace("1.05", "nan"), "singular or not finite"),
        ("1 0 0 0\n" * 4, "singular"),
    ):  # fmt: skip
        (folder / "m.mat").write_text(text)
        assert message in refused("apply", "-t", matrix, *one)
