"""The numba kernels behind :mod:`registration.compiled`; importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath={"contract", "arcp", "nsz", "reassoc"}, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")


@_inline
def _index(unit, n):
    """Unit coordinate -> (lower voxel, upper voxel, fraction, whether the coordinate was not clamped)."""
    x = ((unit + f32(1)) * f32(n) - f32(1)) * f32(0.5)
    clear = x > f32(0) and x < f32(n - 1)  # NaN is not clear, and clamps to the border
    x = min(max(f32(0), x), f32(n - 1)) if x == x else f32(0)
    lower = int(x)
    return lower, min(lower + 1, n - 1), x - f32(lower), clear


@_inline
def slopes(v, x0, x1, fx, y0, y1, fy, z0, z1, fz):
    """The derivatives of a linear interpolation in a volume, between two voxels and by a fraction along every axis."""
    d00 = v[x0, y0, z1] - v[x0, y0, z0]
    d01 = v[x0, y1, z1] - v[x0, y1, z0]
    d10 = v[x1, y0, z1] - v[x1, y0, z0]
    d11 = v[x1, y1, z1] - v[x1, y1, z0]
    c00 = v[x0, y0, z0] + fz * d00
    c01 = v[x0, y1, z0] + fz * d01
    c10 = v[x1, y0, z0] + fz * d10
    c11 = v[x1, y1, z0] + fz * d11
    d0 = d00 + fy * (d01 - d00)
    d1 = d10 + fy * (d11 - d10)
    c0 = c00 + fy * (c01 - c00)
    c1 = c10 + fy * (c11 - c10)
    return c1 - c0, (c01 - c00) + fx * ((c11 - c10) - (c01 - c00)), d0 + fx * (d1 - d0)


@_jit
def sample(image, grid, out):
    """out[c, p] = image[c] at unit coordinates grid[p] (last axis of the image first), linear, the border outside."""
    channels, nx, ny, nz = image.shape
    deep = grid.shape[1] == 3
    for p in nb.prange(grid.shape[0]):
        z0, z1, fz, _ = _index(grid[p, 0], nz)
        y0, y1, fy, _ = _index(grid[p, 1], ny)
        x0, x1, fx, _ = _index(grid[p, 2] if deep else f32(0), nx)
        for c in range(channels):
            v = image[c]
            c00 = v[x0, y0, z0] + fz * (v[x0, y0, z1] - v[x0, y0, z0])
            c01 = v[x0, y1, z0] + fz * (v[x0, y1, z1] - v[x0, y1, z0])
            c10 = v[x1, y0, z0] + fz * (v[x1, y0, z1] - v[x1, y0, z0])
            c11 = v[x1, y1, z0] + fz * (v[x1, y1, z1] - v[x1, y1, z0])
            c0 = c00 + fy * (c01 - c00)
            c1 = c10 + fy * (c11 - c10)
            out[c, p] = c0 + fx * (c1 - c0)


@_jit
def sample_gradient(image, grid, upstream, out):
    """out[p, d] = sum over c of upstream[c, p] * d(sample)/d(grid[p, d]); zero along axes where the border clamps."""
    channels, nx, ny, nz = image.shape
    deep = grid.shape[1] == 3
    half = f32(0.5)
    for p in nb.prange(grid.shape[0]):
        z0, z1, fz, in_z = _index(grid[p, 0], nz)
        y0, y1, fy, in_y = _index(grid[p, 1], ny)
        x0, x1, fx, in_x = _index(grid[p, 2] if deep else f32(0), nx)
        gx = f32(0)
        gy = f32(0)
        gz = f32(0)
        for c in range(channels):
            v = image[c]
            dx, dy, dz = slopes(v, x0, x1, fx, y0, y1, fy, z0, z1, fz)
            g = upstream[c, p]
            gz += g * dz
            gy += g * dy
            gx += g * dx
        out[p, 0] = gz * f32(nz) * half if in_z else f32(0)
        out[p, 1] = gy * f32(ny) * half if in_y else f32(0)
        if deep:
            out[p, 2] = gx * f32(nx) * half if in_x else f32(0)
