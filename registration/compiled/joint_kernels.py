"""Joint histograms of two images in every block of voxels, and the way back to moving them."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, extent, push_line

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_inner: Any = nb.njit(fastmath=FAST, cache=True, error_model="numpy")


@_inner
def _place(value, low, slope, last):
    """The bin nearest to a value, how far beyond its middle the value is, and the slope there: 0 outside the range."""
    at = (value - low) * slope + f32(1)
    inside = slope if at >= f32(1) and at <= f32(last) else f32(0)
    at = min(max(at, f32(1)), f32(last))
    nearest = min(int(at + f32(0.5)), last)
    return nearest, at - f32(nearest), inside


@_inner
def _weights(d):
    """What a value ``d`` beyond the middle of a bin gives to the bin before, to that one and to the next."""
    return f32(0.5) * (f32(0.5) - d) ** 2, f32(0.75) - d * d, f32(0.5) * (f32(0.5) + d) ** 2


@_inner
def _slab_sums(first, second, mass, weighted, rows, block, scale, sums, p):
    """The part of :func:`joint_sums` of the blocks in one place along the first axis."""
    nx, ny, _ = first.shape
    last = sums.shape[3] - 2
    sums[p] = f32(0)
    for i in range(p * block[0], min(p * block[0] + block[0], nx)):
        for j in range(ny):
            for k in range(rows[0, i, j], rows[1, i, j]):
                w = f32(mass[i, j, k]) if weighted else f32(1)
                m, s, _ = _place(first[i, j, k], scale[0], scale[1], last)
                n, t, _ = _place(second[i, j, k], scale[2], scale[3], last)
                before, here, after = _weights(t)
                cells = sums[p, j // block[1], k // block[2]]
                r = m - 1
                for share in _weights(s):
                    cells[r, n - 1] += w * share * before
                    cells[r, n] += w * share * here
                    cells[r, n + 1] += w * share * after
                    r += 1


@_jit
def joint_sums(first, second, mass, weighted, rows, block, scale, sums):
    """(X', Y', Z', N, N) joint histograms over the blocks of (X, Y, Z) images; a voxel is shared by nine cells.

    ``scale`` holds the lowest value and the bins per unit of intensity of the first image, then of the second.
    """
    for p in nb.prange(sums.shape[0]):
        _slab_sums(first, second, mass, weighted, rows, block, scale, sums, np.int64(p))


@_inner
def _plane_pushes(first, second, mass, weighted, rows, lines, scale, terms, metric, out, i):
    """The part of :func:`joint_pushes` of one plane."""
    nz = first.shape[2]
    last = terms.shape[3] - 2
    j0, j1, _, _ = extent(rows[:, i], nz)
    du = np.empty((3, nz), f32)
    dv = np.empty((3, nz), f32)
    to = np.empty((2, nz), f32)
    for j in range(j0, j1):
        low = rows[0, i, j]
        high = rows[1, i, j]
        count = high - low
        if count <= 0:
            continue
        for k in range(low, high):
            w = f32(mass[i, j, k]) if weighted else f32(1)
            m, s, a = _place(first[i, j, k], scale[0], scale[1], last)
            n, t, b = _place(second[i, j, k], scale[2], scale[3], last)
            cells = terms[lines[0, i], lines[1, j], lines[2, k]]
            before, here, after = _weights(s)
            left, middle, right = _weights(t)
            x0 = left * cells[m - 1, n - 1] + middle * cells[m - 1, n] + right * cells[m - 1, n + 1]
            x1 = left * cells[m, n - 1] + middle * cells[m, n] + right * cells[m, n + 1]
            x2 = left * cells[m + 1, n - 1] + middle * cells[m + 1, n] + right * cells[m + 1, n + 1]
            y0 = before * cells[m - 1, n - 1] + here * cells[m, n - 1] + after * cells[m + 1, n - 1]
            y1 = before * cells[m - 1, n] + here * cells[m, n] + after * cells[m + 1, n]
            y2 = before * cells[m - 1, n + 1] + here * cells[m, n + 1] + after * cells[m + 1, n + 1]
            to[0, k - low] = w * a * ((s - f32(0.5)) * x0 - f32(2) * s * x1 + (s + f32(0.5)) * x2)
            to[1, k - low] = w * b * ((t - f32(0.5)) * y0 - f32(2) * t * y1 + (t + f32(0.5)) * y2)
        push_line(first, second, i, j, low, to[0], to[1], du[:, :count], dv[:, :count], metric, out)


@_jit
def joint_pushes(first, second, mass, weighted, rows, lines, scale, terms, metric, out):
    """Adds to ``out`` (D, X, Y, Z) metric times the derivative to opposite moves of both images.

    ``terms`` (X', Y', Z', N, N) is the derivative to the cells of every block; ``lines`` (3, most of X, Y, Z) tells
    along each axis which block a voxel belongs to.
    """
    for i in nb.prange(first.shape[0]):
        _plane_pushes(first, second, mass, weighted, rows, lines, scale, terms, metric, out, np.int64(i))
