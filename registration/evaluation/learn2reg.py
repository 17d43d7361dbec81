"""The figures of the Learn2Reg challenge (Hering et al. 2023, doi:10.1109/TMI.2022.3213983), to read beside its tables.

They follow the definitions of the challenge's evaluation, which differ from those of this package: displacements count
voxels, axes have no spacing (but the last step of the landmark error does), labels are pulled by nearest neighbour with
0 outside the voxel centres, the 95th percentile is weighted by surface area, and the Jacobian is shifted by 3 before
the logarithm. Three dimensions only, as there.

Letters in shapes: S spatial shape, N points.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ..space import Space
from ..transforms.base import Transform
from .metrics import dice

# What is added to the determinant, the range it is clipped to, and the voxels left out along every face.
OFFSET, LIMITS, CROP = 3.0, (1e-9, 1e9), 2
_SLAB = 1 << 21
# Area of the marching-cubes surface in a cube of eight voxel centres, by which of them are inside: entry n is for the
# cube whose voxel (i, j, k) is inside where n has the bit 128 >> (4 i + 2 j + k). Unit voxels; Nikolov et al. 2018,
# arXiv:1809.04430.
_AREAS = (
    "011414281248488714282839266c6ca81248266c23896ac848876ca86ac8b664"
    "1226486c236a89c8486c87a86ab6c864236a6ab635a3a36289c8c864a3626221"
    "1226263a468c8c98263a3a536ba6a632468c6ba68a78c6848c98a632c6846221"
    "466b8ca68ac678848ca69832c66284218ac6c662938282417884842182414110"
)
_TRIANGLE, _HALF = 3**0.5 / 8, 0.5**0.5
_SIZES = (
    0.0, _TRIANGLE, 2 * _TRIANGLE, 3 * _TRIANGLE, _HALF, 4 * _TRIANGLE, _HALF + _TRIANGLE, 1.0, 3 * _TRIANGLE + 0.5,
    6 * _TRIANGLE, 4 * _TRIANGLE + 0.5, 2 * _HALF, _HALF + 4 * _TRIANGLE,
)  # fmt: skip


def surface_areas() -> np.ndarray:
    """(256,) area of the surface in a cube of eight voxel centres, by code; unit voxels."""
    return np.array([_SIZES[int(digit, 16)] for digit in _AREAS])


def voxel_displacement(transform: Transform, fixed: Space, moving: Space) -> np.ndarray:
    """(3, *S) displacements in voxels: fixed voxel index plus displacement is moving voxel index.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    fixed, moving
        The two grids; the challenge has them equal in shape.
    """
    from ..transforms.linear import Linear

    mapped = transform.on_grid(fixed, torch.zeros(0, dtype=torch.float32)).reshape(-1, 3)
    index = Linear(torch.linalg.inv(moving.affine))(mapped).reshape(*fixed.shape, 3).movedim(-1, 0).numpy()
    for axis, n in enumerate(fixed.shape):
        index[axis] -= np.arange(n, dtype=index.dtype).reshape([-1 if k == axis else 1 for k in range(3)])
    return index


def warp_labels(moving: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """(*S) labels of the nearest voxel, 0 beyond the outermost voxel centres."""
    from scipy.ndimage import map_coordinates

    grid = [
        np.arange(n).reshape([-1 if k == axis else 1 for k in range(3)]) for axis, n in enumerate(grid_of(displacement))
    ]
    return map_coordinates(moving, [u + g for u, g in zip(displacement, grid, strict=True)], order=0)


def grid_of(displacement: np.ndarray) -> tuple[int, ...]:
    """*S of (3, *S) displacements."""
    return displacement.shape[1:]


def mean_overlap(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Iterable[int]) -> float | None:
    """``l2r_dice``: mean Dice of the labels that both images have before warping; a label lost by warping counts 0."""
    wanted = _in_both(fixed, moving, labels)
    scores = dice(torch.from_numpy(fixed), torch.from_numpy(warped), wanted)
    return _mean([scores.get(label) or 0.0 for label in wanted])


def mean_hd95(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Iterable[int]) -> float | None:
    """``l2r_hd95``: mean over the labels that both images have, in voxels; infinite where warping has lost one."""
    return _mean([hausdorff95(fixed == label, warped == label) for label in _in_both(fixed, moving, labels)])


def hausdorff95(a: np.ndarray, b: np.ndarray) -> float:
    """The larger of the two directed 95th percentiles of surface distances, weighted by surface area, in voxels.

    Parameters
    ----------
    a, b
        (*S) masks, True inside.
    """
    from scipy.spatial import KDTree

    either = np.nonzero(a | b)
    if not len(either[0]):
        return float("inf")
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in either)
    (first, first_areas), (second, second_areas) = (_surface(mask[box]) for mask in (a, b))
    if not len(first) or not len(second):
        return float("inf")
    there = KDTree(second, leafsize=32).query(first)[0]
    back = KDTree(first, leafsize=32).query(second)[0]
    return max(_percentile(there, first_areas), _percentile(back, second_areas))


def mean_landmark_error(displacement: np.ndarray, fixed: np.ndarray, moving: np.ndarray, spacing: np.ndarray) -> float:
    """``l2r_tre``: mean distance of landmarks, mm; the displacement is interpolated by cubic splines.

    Parameters
    ----------
    fixed, moving
        (N, 3) landmarks in voxels of their images.
    spacing
        (3,) of the moving image, mm.
    """
    from scipy.ndimage import map_coordinates

    moves = np.stack([map_coordinates(part, fixed.T) for part in displacement], axis=1)
    return float(np.linalg.norm((fixed + moves - moving) * spacing, axis=1).mean())


def sd_log_jacobian(displacement: np.ndarray, mask: np.ndarray | None = None) -> float | None:
    """``l2r_sdlogj``: standard deviation of log(det + 3), two voxels off every face; None where nothing is left.

    Parameters
    ----------
    displacement
        (3, *S) voxels.
    mask
        (*S) boolean: where to look; everywhere without.
    """
    shape = grid_of(displacement)
    if min(shape) <= 2 * CROP:
        return None
    rows = max(1, _SLAB * shape[0] // int(np.prod(shape)))
    parts = []
    for start in range(CROP, shape[0] - CROP, rows):
        stop = min(start + rows, shape[0] - CROP)
        values = np.log((_determinants(displacement, start, stop) + OFFSET).clip(*LIMITS))
        inner = (slice(start, stop), slice(CROP, -CROP), slice(CROP, -CROP))
        parts.append(values.ravel() if mask is None else values[mask[inner]])
    chosen = np.concatenate(parts)
    return float(chosen.std()) if chosen.size else None


def _determinants(displacement: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Determinants of identity plus central differences, for rows start to stop, cropped along the other axes."""
    from .metrics import determinant

    ranges = [(start, stop), *((CROP, n - CROP) for n in displacement.shape[2:])]
    matrix = []
    for component, field in enumerate(displacement):
        row = []
        for axis in range(3):
            ends = []
            for step in (1, -1):
                window = [slice(a + step * (k == axis), b + step * (k == axis)) for k, (a, b) in enumerate(ranges)]
                ends.append(field[tuple(window)].astype(np.float64))
            row.append(torch.from_numpy(0.5 * (ends[0] - ends[1]) + (component == axis)))
        matrix.append(row)
    return determinant(matrix).numpy()


def _surface(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) cubes that the surface passes through, and the area in each."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros(tuple(n - 1 for n in padded.shape), dtype=np.uint8)
    for bit in range(8):
        i, j, k = bit >> 2, bit >> 1 & 1, bit & 1
        part = padded[i : i + code.shape[0], j : j + code.shape[1], k : k + code.shape[2]]
        code |= part << np.uint8(7 - bit)
    index = np.nonzero((code != 0) & (code != 255))
    return np.stack(index, axis=1).astype(np.float64), surface_areas()[code[index]]


def _percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(share, 0.95)), len(order) - 1)])


def _in_both(fixed: np.ndarray, moving: np.ndarray, labels: Iterable[int]) -> list[int]:
    present = [set(np.unique(values).astype(np.int64).tolist()) for values in (fixed, moving)]
    return [label for label in labels if all(label in values for values in present)]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
