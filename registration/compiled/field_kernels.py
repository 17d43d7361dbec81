"""Displacement fields (3, X, Y, Z) in voxels: pull images, compose, smooth, step."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

f32 = np.float32
_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=_FAST, error_model="numpy")


@_inline
def _cell(x, n):
    """Voxel coordinate -> (lower voxel, upper voxel, fraction), clamped to the image; NaN counts as 0."""
    x = min(max(f32(0), x), f32(n - 1)) if x == x else f32(0)
    lower = int(x)
    return lower, min(lower + 1, n - 1), x - f32(lower)


@_inline
def _linear(v, x0, x1, fx, y0, y1, fy, z0, z1, fz):
    c00 = v[x0, y0, z0] + fz * (v[x0, y0, z1] - v[x0, y0, z0])
    c01 = v[x0, y1, z0] + fz * (v[x0, y1, z1] - v[x0, y1, z0])
    c10 = v[x1, y0, z0] + fz * (v[x1, y0, z1] - v[x1, y0, z0])
    c11 = v[x1, y1, z0] + fz * (v[x1, y1, z1] - v[x1, y1, z0])
    c0 = c00 + fy * (c01 - c00)
    c1 = c10 + fy * (c11 - c10)
    return c0 + fx * (c1 - c0)


@_jit
def pull(image, matrix, field, out):
    """out[c](i) = image[c](matrix (i + field(i))), linear, border values outside; matrix (3, 4) maps voxels."""
    channels, nx, ny, nz = image.shape
    for i in nb.prange(field.shape[1]):
        for j in range(field.shape[2]):
            for k in range(field.shape[3]):
                a = f32(i) + field[0, i, j, k]
                b = f32(j) + field[1, i, j, k]
                c = f32(k) + field[2, i, j, k]
                x0, x1, fx = _cell(matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + matrix[0, 3], nx)
                y0, y1, fy = _cell(matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + matrix[1, 3], ny)
                z0, z1, fz = _cell(matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + matrix[2, 3], nz)
                for m in range(channels):
                    out[m, i, j, k] = _linear(image[m], x0, x1, fx, y0, y1, fy, z0, z1, fz)


@_jit
def compose(field, step, keep, sign, out):
    """out(i) = keep * step(i) + sign * field(i + step(i)): composition for 1, 1; an inversion step for 0, -1."""
    nx, ny, nz = field.shape[1:]
    for i in nb.prange(nx):
        for j in range(ny):
            for k in range(nz):
                x0, x1, fx = _cell(f32(i) + step[0, i, j, k], nx)
                y0, y1, fy = _cell(f32(j) + step[1, i, j, k], ny)
                z0, z1, fz = _cell(f32(k) + step[2, i, j, k], nz)
                for m in range(3):
                    value = _linear(field[m], x0, x1, fx, y0, y1, fy, z0, z1, fz)
                    out[m, i, j, k] = keep * step[m, i, j, k] + sign * value


@_inline
def _smooth_rows(source, out, weights):
    """out[a] = sum of weights[|t|] source[a + t], the border repeated; rows are contiguous."""
    n, m = source.shape
    for a in range(n):
        for k in range(m):
            out[a, k] = weights[0] * source[a, k]
        for t in range(1, weights.shape[0]):
            low = max(a - t, 0)
            high = min(a + t, n - 1)
            for k in range(m):
                out[a, k] += weights[t] * (source[low, k] + source[high, k])


@_inline
def _smooth_line(source, out, pad, weights):
    n = source.shape[0]
    r = weights.shape[0] - 1
    for t in range(r):
        pad[t] = source[0]
        pad[n + r + t] = source[n - 1]
    for k in range(n):
        pad[k + r] = source[k]
    for k in range(n):
        out[k] = weights[0] * pad[k + r]
    for t in range(1, r + 1):
        for k in range(n):
            out[k] += weights[t] * (pad[k + r - t] + pad[k + r + t])


@_jit
def smooth(field, wx, wy, wz):
    """Convolve (C, X, Y, Z) in place with symmetric kernels, given from their middle outwards."""
    channels, nx, ny, nz = field.shape
    for p in nb.prange(channels * nx):
        c = p // nx
        i = p % nx
        plane = np.empty((ny, nz), f32)
        pad = np.empty(nz + 2 * wz.shape[0], f32)
        for j in range(ny):
            _smooth_line(field[c, i, j], plane[j], pad, wz)
        _smooth_rows(plane, field[c, i], wy)
    if wx.shape[0] > 1:
        for p in nb.prange(channels * ny):
            c = p // ny
            j = p % ny
            plane = np.empty((nx, nz), f32)
            for i in range(nx):
                for k in range(nz):
                    plane[i, k] = field[c, i, j, k]
            _smooth_rows(plane, field[c, :, j], wx)


@_inline
def _slope(v, i, j, k, axis):
    """Central difference along an axis, one-sided halved at the border."""
    nx, ny, nz = v.shape
    if axis == 0:
        return f32(0.5) * (v[min(i + 1, nx - 1), j, k] - v[max(i - 1, 0), j, k])
    if axis == 1:
        return f32(0.5) * (v[i, min(j + 1, ny - 1), k] - v[i, max(j - 1, 0), k])
    return f32(0.5) * (v[i, j, min(k + 1, nz - 1)] - v[i, j, max(k - 1, 0)])


@_jit
def force(moving, to_moving, fixed, to_fixed, both, metric, out):
    """out[a] = metric[a] * sum over channels of to_moving * d moving / da - to_fixed * d fixed / da."""
    channels, nx, ny, nz = moving.shape
    for i in nb.prange(nx):
        for j in range(ny):
            for k in range(nz):
                for a in range(3):
                    total = f32(0)
                    for c in range(channels):
                        total += to_moving[c, i, j, k] * _slope(moving[c], i, j, k, a)
                        if both:
                            total -= to_fixed[c, i, j, k] * _slope(fixed[c], i, j, k, a)
                    out[a, i, j, k] = metric[a] * total


@_jit
def adam(gradient, first, second, beta1, beta2, unbias1, unbias2, least):
    """In place: the gradient becomes minus the Adam direction; the second moment is of the vector's length."""
    nx, ny, nz = second.shape
    for i in nb.prange(nx):
        for j in range(ny):
            for k in range(nz):
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
def longest(field):
    """The greatest length of a vector of (3, X, Y, Z)."""
    nx, ny, nz = field.shape[1:]
    rows = np.zeros(nx, f32)
    for i in nb.prange(nx):
        most = f32(0)
        for j in range(ny):
            for k in range(nz):
                x = field[0, i, j, k]
                y = field[1, i, j, k]
                z = field[2, i, j, k]
                most = max(most, x * x + y * y + z * z)
        rows[i] = most
    return np.sqrt(rows.max())
