"""Displacement fields (3, X, Y, Z) in voxels: smooth, measure, step.

``rows`` (2, X, Y) holds, for every row of voxels along the last axis, where work begins and ends: what lies outside is
neither read as a result nor written.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, copy, extent

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_plain: Any = nb.njit(fastmath=FAST, error_model="numpy")  # called, for copies take seconds more to compile


@_plain
def _along(source, k0, n, weights, pad, out):
    """out[k] = sum of weights[|t|] source[k0 + k + t] for n voxels, the border of the line repeated; pad is scratch."""
    r = weights.shape[0] - 1
    last = source.shape[0] - 1
    for t in range(r):
        pad[t] = source[max(k0 + t - r, 0)]
        pad[n + r + t] = source[min(k0 + n + t, last)]
    copy(source[k0 : k0 + n], pad[r : r + n])
    for k in range(n):
        out[k] = weights[0] * pad[k + r]
    for t in range(1, r + 1):
        for k in range(n):
            out[k] += weights[t] * (pad[k + r - t] + pad[k + r + t])


@_plain
def _across(plane, a, weights, out):
    """out[k] = sum of weights[|t|] plane[a + t, k], the border repeated."""
    n, m = plane.shape
    for k in range(m):
        out[k] = weights[0] * plane[a, k]
    for t in range(1, weights.shape[0]):
        low = max(a - t, 0)
        high = min(a + t, n - 1)
        for k in range(m):
            out[k] += weights[t] * (plane[low, k] + plane[high, k])


@_plain
def _smooth_plane(field, wy, wz, rows, p):
    """The part of :func:`smooth` of one plane of one component, along the second and third axis."""
    _, nx, ny, nz = field.shape
    ry = wy.shape[0] - 1
    c = p // nx
    i = p % nx
    j0, j1, k0, k1 = extent(rows[:, i], nz)
    below = max(j0 - ry, 0)
    above = min(j1 + ry, ny)
    plane = np.empty((above - below, k1 - k0), f32)
    pad = np.empty(k1 - k0 + 2 * wz.shape[0], f32)
    line = np.empty(k1 - k0, f32)
    for j in range(below, above):
        _along(field[c, i, j], k0, k1 - k0, wz, pad, plane[j - below])
    for j in range(j0, j1):
        _across(plane, j - below, wy, line)
        low = rows[0, i, j]
        high = rows[1, i, j]
        copy(line[low - k0 : high - k0], field[c, i, j, low:high])


@_plain
def _smooth_across(field, wx, rows, p):
    """The part of :func:`smooth` of one plane of one component, along the first axis."""
    _, nx, ny, nz = field.shape
    rx = wx.shape[0] - 1
    c = p // ny
    j = p % ny
    i0, i1, k0, k1 = extent(rows[:, :, j], nz)
    below = max(i0 - rx, 0)
    above = min(i1 + rx, nx)
    plane = np.empty((above - below, k1 - k0), f32)
    line = np.empty(k1 - k0, f32)
    for i in range(below, above):
        copy(field[c, i, j, k0:k1], plane[i - below])
    for i in range(i0, i1):
        _across(plane, i - below, wx, line)
        low = rows[0, i, j]
        high = rows[1, i, j]
        copy(line[low - k0 : high - k0], field[c, i, j, low:high])


@_jit
def smooth(field, wx, wy, wz, rows):
    """Convolve (C, X, Y, Z) in place with symmetric kernels, given from their middle outwards."""
    for p in nb.prange(field.shape[0] * field.shape[1]):
        _smooth_plane(field, wy, wz, rows, np.int64(p))
    if wx.shape[0] > 1:
        for p in nb.prange(field.shape[0] * field.shape[2]):
            _smooth_across(field, wx, rows, np.int64(p))


@_jit
def lengths(field, rows):
    """The sum of the lengths of the vectors of (3, X, Y, Z), and the greatest."""
    nx, ny = field.shape[1:3]
    sums = np.zeros(nx, np.float64)
    peaks = np.zeros(nx, f32)
    for i in nb.prange(nx):
        most = f32(0)
        for j in range(ny):
            total = f32(0)
            for k in range(rows[0, i, j], rows[1, i, j]):
                x = field[0, i, j, k]
                y = field[1, i, j, k]
                z = field[2, i, j, k]
                square = x * x + y * y + z * z
                total += np.sqrt(square)
                most = max(most, square)
            sums[i] += total
        peaks[i] = most
    return sums.sum(), np.sqrt(peaks.max())


@_jit
def adam(gradient, first, second, numbers, rows):
    """In place: the gradient becomes minus the Adam direction; the second moment is of the vector's length.

    ``numbers``: both decays, both bias corrections, and what is added to the root of the second moment.
    """
    nx, ny, _ = second.shape
    beta1, beta2, unbias1, unbias2, least = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in nb.prange(nx):
        for j in range(ny):
            for k in range(rows[0, i, j], rows[1, i, j]):
                x = gradient[0, i, j, k]
                y = gradient[1, i, j, k]
                z = gradient[2, i, j, k]
                v = beta2 * second[i, j, k] + (f32(1) - beta2) * (x * x + y * y + z * z)
                second[i, j, k] = v
                scale = -unbias1 / (np.sqrt(v * unbias2) + least)
                for a in range(3):
                    m = beta1 * first[a, i, j, k] + (f32(1) - beta1) * gradient[a, i, j, k]
                    first[a, i, j, k] = m
                    gradient[a, i, j, k] = m * scale


@_jit
def scale(field, factors, rows):
    """Multiply the components of (3, X, Y, Z) by factors, in place."""
    for i in nb.prange(field.shape[1]):
        for a in range(3):
            for j in range(field.shape[2]):
                for k in range(rows[0, i, j], rows[1, i, j]):
                    field[a, i, j, k] *= factors[a]


@_jit
def determinants(field, out):
    """Jacobian determinants of i + field(i), by central differences, one-sided at the border; one-voxel axes stay."""
    nx, ny, nz = out.shape
    for i in nb.prange(nx):
        below = max(np.int64(i) - 1, 0)
        above = min(np.int64(i) + 1, nx - 1)
        across = f32(1) / f32(max(above - below, 1))
        slopes = np.zeros((3, 3, nz), f32)
        for j in range(ny):
            left = max(j - 1, 0)
            right = min(j + 1, ny - 1)
            along = f32(1) / f32(max(right - left, 1))
            for a in range(3):
                after = field[a, above, j]
                before = field[a, below, j]
                for k in range(nz):
                    slopes[a, 0, k] = across * (after[k] - before[k])
                after = field[a, i, right]
                before = field[a, i, left]
                for k in range(nz):
                    slopes[a, 1, k] = along * (after[k] - before[k])
                line = field[a, i, j]
                for k in range(1, nz - 1):
                    slopes[a, 2, k] = f32(0.5) * (line[k + 1] - line[k - 1])
                slopes[a, 2, 0] = line[min(1, nz - 1)] - line[0]
                slopes[a, 2, nz - 1] = line[nz - 1] - line[max(nz - 2, 0)]
            p = slopes[0]
            q = slopes[1]
            r = slopes[2]
            line = out[i, j]
            for k in range(nz):
                b = f32(1) + q[1, k]
                c = f32(1) + r[2, k]
                first = (f32(1) + p[0, k]) * (b * c - q[2, k] * r[1, k])
                second = p[1, k] * (q[0, k] * c - q[2, k] * r[0, k])
                line[k] = first - second + p[2, k] * (q[0, k] * r[1, k] - b * r[0, k])
