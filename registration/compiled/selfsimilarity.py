"""Differences of self-similarity contexts by compiled loops: how a volume is cut into tiles, and scratch memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from . import _NOTHING, _solid, call
from .region import Region

_TILE = (16, 32)  # voxels along the first two axes: the descriptors of such a tile stay in the cache


@dataclass(frozen=True)
class Contexts:
    """What is compared, as in the loss: patches of 2*radius+1 voxels at neighbours ``dilation`` voxels away.

    Parameters
    ----------
    radius, dilation
        In voxels.
    variance_floor
        Added to the mean patch distance.
    absolute
        Mean absolute in place of mean squared differences.
    """

    radius: int
    dilation: int
    variance_floor: float
    absolute: bool

    def tables(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ends (F, 2, 3) and spans (F, 3) of the fields, places (2 F, 3) of the entries in them, and the pads (3,)."""
        step = self.dilation
        longer = [axis for axis in range(3) if shape[axis] > step]
        pads = np.array([step if axis in longer and len(longer) > 1 else 0 for axis in range(3)])
        unit = step * np.eye(3, dtype=np.int64)
        ends, spans, starts = [], [], []
        for i, j in combinations(longer, 2):
            for one, other, first in ((unit[i], unit[j], pads), (unit[i] + unit[j], 0 * pads, pads - unit[j])):
                ends.append((one, other))
                spans.append(unit[i] + unit[j])
                starts += [first, first - unit[i] - unit[j] if first is pads else pads - unit[i]]
        fields = len(ends)
        return (
            np.array(ends, dtype=np.int64).reshape(fields, 2, 3),
            np.array(spans, dtype=np.int64).reshape(fields, 3),
            np.array(starts, dtype=np.int64).reshape(2 * fields, 3),
            pads.astype(np.int64),
        )


def context_sums(
    images: tuple[Tensor, Tensor], weight: Tensor | None, contexts: Contexts, grads: tuple[Tensor | None, Tensor | None]
) -> tuple[float, float]:
    """The weighted sum of the differences of all descriptor entries of two images, and the sum of their weights.

    Parameters
    ----------
    images
        Two (*S) images.
    weight
        (*S) weights of the voxels; patches count those above 0. None stands for ones.
    contexts
        What is compared.
    grads
        (*S) contiguous tensors that receive the derivatives of the sum to each image, by addition, or None.
    """
    from . import mind_kernels as kernels

    first, second = (_solid(image) for image in images)
    *tables, pads = contexts.tables(tuple(first.shape))
    if len(tables[0]) == 0:
        return 0.0, 0.0
    lows, sizes, colours = _tiles(tuple(first.shape), contexts.dilation + contexts.radius)
    weights = first if weight is None else _solid(weight)
    if weight is not None:
        call(kernels.tighten, weights, lows, sizes)
    wanted = np.array([grad is not None for grad in grads])
    out = tuple(_NOTHING if grad is None else grad.view(first.shape).detach().numpy() for grad in grads)
    rooms = _rooms(sizes, pads, contexts.radius, len(tables[0]), bool(wanted.any()))
    found = np.zeros((len(lows), 2))
    settings = contexts.absolute, np.float32(contexts.variance_floor)
    pair = first.detach().numpy(), second.detach().numpy()
    tiles = lows, sizes, colours
    shape = pads, contexts.radius
    call(kernels.differences, pair, weights, weight is not None, settings, shape, tiles, tuple(tables), rooms, out,
         wanted, found)  # fmt: skip
    total, compared = found.sum(axis=0).tolist()
    return total, compared


def context_pushes(
    moving: Tensor, fixed: Tensor, region: Region, contexts: Contexts, push: tuple[Sequence[float], Tensor]
) -> float | None:
    """The mean difference in a region, and its derivative to opposite moves of both images.

    Parameters
    ----------
    moving, fixed
        (C, *S) images.
    region
        The voxels that count.
    contexts
        What is compared.
    push
        (D,) factors of the components, and the (D, *S) tensor that receives the derivative times the number of voxels
        that count, by addition.

    Returns
    -------
    None where nothing could be compared.
    """
    from . import mind_kernels as kernels

    metric, out = push
    weight, sums = region.weight(), []
    shape = tuple(region.rows.shape[1:]) + tuple(moving.shape[-1:])
    slopes = region.scratch(2, shape)  # type: ignore[arg-type]
    for c in range(moving.shape[0]):
        pair = _solid(moving[c]), _solid(fixed[c])
        slopes.zero_()
        sums.append(context_sums(pair, weight, contexts, (slopes[0], slopes[1])))
        if sums[-1][1] > 0:
            scale = region.voxels / (sums[-1][1] * moving.shape[0])
            factors = np.array([factor * scale for factor in metric], dtype=np.float32)
            call(kernels.add_pushes, *pair, region.rows, slopes, factors, out.view(out.shape[0], *shape))
    compared = sum(each for _, each in sums)
    return sum(each for each, _ in sums) / compared if compared > 0 else None


def _tiles(shape: tuple[int, ...], reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First voxels (T, 3) and sizes (T, 3) of the tiles, sorted by colour, and where each colour begins and ends (5,).

    Derivatives go ``reach`` voxels beyond a tile: those of one colour are farther than that apart.
    """
    sides = [max(side, 2 * reach) for side in _TILE]
    grid = [
        (i % 2 * 2 + j % 2, i * sides[0], j * sides[1])
        for i in range(-(-shape[0] // sides[0]))
        for j in range(-(-shape[1] // sides[1]))
    ]
    grid.sort()
    lows = np.array([(x, y, 0) for _, x, y in grid], dtype=np.int64)
    sizes = np.minimum(np.array([*sides, shape[2]]), np.array(shape) - lows)
    return lows, sizes, np.searchsorted([colour for colour, _, _ in grid], np.arange(5)).astype(np.int64)


def _rooms(sizes: np.ndarray, pads: np.ndarray, radius: int, fields: int, derivative: bool) -> tuple[np.ndarray, ...]:
    """Scratch memory of every thread: patch sums of both images, derivatives to them, shares, and three more."""
    workers = max(1, min(torch.get_num_threads(), len(sizes)))
    rows, lines, voxels = (sizes.max(axis=0) + pads).tolist()
    more = 2 * radius
    means = (workers, 2, fields, rows, lines, voxels)
    shapes = [
        means,
        means if derivative else (workers, *[1] * 5),
        (workers, fields, rows, lines, voxels),
        (workers, 2 * radius + 1, lines + more, voxels + more),
        (workers, lines + 2 * more, voxels + 2 * more),
        (workers, lines + 2 * more, voxels + 2 * more),
    ]
    return tuple(np.empty(shape, dtype=np.float32) for shape in shapes)
