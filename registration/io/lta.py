"""Linear transforms of FreeSurfer, .lta: a matrix, what it counts in, and the grids of both images.

What FreeSurfer calls source is the moving image, and its destination the fixed one: its matrix leads from the moving
image to the fixed one, except for that of ``register.dat``, which leads from the fixed to the moving one (LTAcreate and
TransformLTA2RegDat in its transform.cpp).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..space import Space, SpaceError
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .chain import one_linear
from .files import atomic_path
from .own import TransformInfo

_LARGEST = 1 << 22  # bytes
_VOXELS, _WORLD, _SCALED, _REGISTER = 0, 1, 2, 14
_SIDES = ("src volume info", "dst volume info")
_PARTS = {"volume": 3, "voxelsize": 3, "xras": 3, "yras": 3, "zras": 3, "cras": 3}


@dataclass(frozen=True)
class _Volume:
    """A grid as FreeSurfer describes it, with the coordinates it counts in; all (4, 4), from voxel indices."""

    shape: tuple[int, ...]
    world: np.ndarray
    scaled: np.ndarray

    @property
    def surface(self) -> np.ndarray:
        """What tkregister shows and ``register.dat`` counts in: as if the slices were coronal, about the centre."""
        x, y, z = np.diag(self.scaled)[:3]
        turned = np.array([[-x, 0, 0, 0], [0, 0, z, 0], [0, -y, 0, 0], [0, 0, 0, 1.0]])
        turned[:3, 3] = -turned[:3, :3] @ np.array(self.shape) / 2
        return turned


def read_lta(file: Path) -> tuple[Linear, TransformInfo]:
    """Read an .lta of one matrix, fixed RAS mm -> moving RAS mm, with the grids of both images where it knows them.

    Raises
    ------
    InputError
        If it is truncated or damaged, of a kind that is not known here, or of voxels of images that it does not know.
    """
    if file.stat().st_size > _LARGEST:
        raise InputError(file, f"is no transform of FreeSurfer: it has more than {_LARGEST:,} bytes")
    text = file.read_bytes().decode("latin-1")
    if not text.endswith(("\n", "\r")):  # a cut number would be another one
        raise InputError(file, "is truncated: its last line is not ended", "copy it again, or end that line")
    lines = [line for line in (re.sub("#.*", "", line).strip() for line in text.splitlines()) if line]
    ends = [lines.index(side) for side in _SIDES if side in lines] or [len(lines)]
    head = lines[: ends[0]]
    kind, matrix = _numbers(file, _fields(head), "type", 1)[0], _matrix(file, head)
    moving, fixed = (_volume(file, lines, side) for side in _SIDES)
    if (moving is None or fixed is None) and kind != _WORLD:
        raise InputError(
            file, "does not know its images (valid = 0), and its matrix is not in RAS mm",
            "make it again in FreeSurfer with both images",
        )  # fmt: skip
    try:
        found = np.linalg.inv(matrix) if kind == _WORLD else _in_world(file, int(kind), matrix, moving, fixed)
        grids = [None if side is None else Space(side.shape, torch.from_numpy(side.world)) for side in (fixed, moving)]
    except np.linalg.LinAlgError:
        raise InputError(file, "its matrix is singular", "write it again") from None
    except SpaceError as error:
        raise InputError(file, f"describes an image on no proper grid ({error})") from None
    return Linear(torch.from_numpy(found)), TransformInfo(file, False, grids[0], grids[1])


def write_lta(path: str | os.PathLike[str], transform: Transform, fixed: Space, moving: Space) -> None:
    """Write a linear 3-D transform with the grids of both images, in RAS mm (type 1).

    Raises
    ------
    InputError
        If the transform is of another kind or the file cannot be written.
    """
    file = Path(path)
    backward = one_linear(file, transform, "holds linear transforms in 3-D alone", 3).inverse().matrix.double().numpy()
    lines = ["type      = 1 # LINEAR_RAS_TO_RAS", "nxforms   = 1", "mean      = 0.0000 0.0000 0.0000"]
    lines += ["sigma     = 1.0000", "1 4 4", *(" ".join(f"{v:.17e}" for v in row) for row in backward)]
    for side, grid in zip(_SIDES, (moving, fixed), strict=True):
        affine, shape, size = grid.affine.numpy(), np.array(grid.shape), grid.spacing.numpy()
        columns = [*(affine[:3, :3] / size).T, affine[:3, :3] @ shape / 2 + affine[:3, 3]]
        lines += [side, "valid = 1  # volume info valid", "filename = unknown", f"volume = {' '.join(map(str, shape))}"]
        for name, values in zip(list(_PARTS)[1:], [size, *columns], strict=True):
            lines.append(f"{name} = {' '.join(f'{v:.15e}' for v in values)}")
    with atomic_path(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def _in_world(file: Path, kind: int, matrix: np.ndarray, moving: _Volume | None, fixed: _Volume | None) -> np.ndarray:
    """(4, 4) fixed RAS mm -> moving RAS mm of a matrix between other coordinates of the two grids."""
    assert moving is not None and fixed is not None
    if kind == _REGISTER:
        backward = moving.world @ np.linalg.inv(moving.surface) @ matrix @ fixed.surface
        return backward @ np.linalg.inv(fixed.world)
    if kind == _SCALED:
        matrix = np.linalg.inv(fixed.scaled) @ matrix @ moving.scaled
    elif kind != _VOXELS:
        raise InputError(file, f"is of type {kind}, which is not read", "lta_convert --outlta writes it in RAS mm")
    return np.linalg.inv(fixed.world @ matrix @ np.linalg.inv(moving.world))


def _matrix(file: Path, head: list[str]) -> np.ndarray:
    """The one (4, 4) matrix of the file."""
    count = int(_numbers(file, _fields(head), "nxforms", 1)[0])
    if count != 1:
        raise InputError(file, f"holds {count} transforms", "a file of one was expected")
    sizes = [number for number, line in enumerate(head) if line.split() == ["1", "4", "4"]]
    rows = [line.split() for line in head[sizes[0] + 1 : sizes[0] + 5]] if sizes else []
    try:
        matrix = np.array([[float(word) for word in row] for row in rows])
    except ValueError:
        matrix = np.zeros(0)
    if matrix.shape != (4, 4):
        raise InputError(file, "is truncated: it has no matrix of 4 x 4 numbers", "copy it again")
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12 or (matrix[3] != (0, 0, 0, 1)).any():
        raise InputError(file, "its matrix is singular, not finite or no affine one", "write it again")
    return matrix


def _volume(file: Path, lines: list[str], side: str) -> _Volume | None:
    """One of the two grids; None where the file says that it does not know it."""
    if side not in lines:
        return None
    fields = _fields(lines[lines.index(side) + 1 :][:8])
    if _numbers(file, fields, "valid", 1)[0] == 0:
        return None
    shape, size, x, y, z, centre = (_numbers(file, fields, name, count) for name, count in _PARTS.items())
    if (shape < 1).any() or (shape != np.floor(shape)).any() or (size <= 0).any():
        raise InputError(file, "describes an image without voxels", "write it again")
    world, scaled = np.eye(4), np.diag([*size, 1.0])
    world[:3, :3] = np.stack([x, y, z], axis=1) * size
    world[:3, 3] = centre - world[:3, :3] @ shape / 2
    return _Volume(tuple(int(n) for n in shape), world, scaled)


def _fields(lines: list[str]) -> dict[str, str]:
    """What stands behind the first ``name =`` of each name."""
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name.strip(), value.strip())
    return found


def _numbers(file: Path, fields: Mapping[str, str], name: str, count: int) -> np.ndarray:
    try:
        values = np.array([float(word) for word in fields.get(name, "").split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(file, f"is truncated or damaged: {count} numbers were expected as {name}", "copy it again")
    return values
