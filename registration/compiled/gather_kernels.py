"""Linear interpolation of images whose channels lie together in memory; importing this imports numba.

Features have many channels: what a place costs, its neighbours and their weights, is then paid once for all of them.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .sampling_kernels import _index

f32 = np.float32
_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")


@_jit
def gather(data, grid, out):
    """out[b, p] = data[b] (X, Y, Z, C) at unit coordinates grid[b, p] (last axis first), the border outside."""
    nx, ny, nz, channels = data.shape[1:]
    places = grid.shape[1]
    deep = grid.shape[2] == 3
    for n in nb.prange(grid.shape[0] * places):
        b, p = n // places, n % places
        z0, z1, fz, _ = _index(grid[b, p, 0], nz)
        y0, y1, fy, _ = _index(grid[b, p, 1], ny)
        x0, x1, fx, _ = _index(grid[b, p, 2] if deep else f32(0), nx)
        v = data[b]
        for c in range(channels):
            c00 = v[x0, y0, z0, c] + fz * (v[x0, y0, z1, c] - v[x0, y0, z0, c])
            c01 = v[x0, y1, z0, c] + fz * (v[x0, y1, z1, c] - v[x0, y1, z0, c])
            c10 = v[x1, y0, z0, c] + fz * (v[x1, y0, z1, c] - v[x1, y0, z0, c])
            c11 = v[x1, y1, z0, c] + fz * (v[x1, y1, z1, c] - v[x1, y1, z0, c])
            c0 = c00 + fy * (c01 - c00)
            c1 = c10 + fy * (c11 - c10)
            out[b, p, c] = c0 + fx * (c1 - c0)


@_jit
def slope(data, grid, upstream, out):
    """out[b, p, d] = sum over c of upstream[b, p, c] times the derivative of :func:`gather` by grid[b, p, d].

    0 along axes where the border clamps.
    """
    nx, ny, nz, channels = data.shape[1:]
    places = grid.shape[1]
    deep = grid.shape[2] == 3
    half = f32(0.5)
    for n in nb.prange(grid.shape[0] * places):
        b, p = n // places, n % places
        z0, z1, fz, in_z = _index(grid[b, p, 0], nz)
        y0, y1, fy, in_y = _index(grid[b, p, 1], ny)
        x0, x1, fx, in_x = _index(grid[b, p, 2] if deep else f32(0), nx)
        v = data[b]
        gx = f32(0)
        gy = f32(0)
        gz = f32(0)
        for c in range(channels):
            d00 = v[x0, y0, z1, c] - v[x0, y0, z0, c]
            d01 = v[x0, y1, z1, c] - v[x0, y1, z0, c]
            d10 = v[x1, y0, z1, c] - v[x1, y0, z0, c]
            d11 = v[x1, y1, z1, c] - v[x1, y1, z0, c]
            c00 = v[x0, y0, z0, c] + fz * d00
            c01 = v[x0, y1, z0, c] + fz * d01
            c10 = v[x1, y0, z0, c] + fz * d10
            c11 = v[x1, y1, z0, c] + fz * d11
            d0 = d00 + fy * (d01 - d00)
            d1 = d10 + fy * (d11 - d10)
            c0 = c00 + fy * (c01 - c00)
            c1 = c10 + fy * (c11 - c10)
            g = upstream[b, p, c]
            gz += g * (d0 + fx * (d1 - d0))
            gy += g * ((c01 - c00) + fx * ((c11 - c10) - (c01 - c00)))
            gx += g * (c1 - c0)
        out[b, p, 0] = gz * f32(nz) * half if in_z else f32(0)
        out[b, p, 1] = gy * f32(ny) * half if in_y else f32(0)
        if deep:
            out[b, p, 2] = gx * f32(nx) * half if in_x else f32(0)


@_jit
def scatter(grid, upstream, out):
    """Adds the derivative of :func:`gather` by its data to out[b] (X, Y, Z, C): every place gives to its neighbours.

    Places share neighbours, so that an item of the batch is the work of one thread.
    """
    nx, ny, nz, channels = out.shape[1:]
    deep = grid.shape[2] == 3
    one = f32(1)
    for b in nb.prange(grid.shape[0]):
        for p in range(grid.shape[1]):
            z0, z1, fz, _ = _index(grid[b, p, 0], nz)
            y0, y1, fy, _ = _index(grid[b, p, 1], ny)
            x0, x1, fx, _ = _index(grid[b, p, 2] if deep else f32(0), nx)
            for x, wx in ((x0, one - fx), (x1, fx)):
                if wx == 0:
                    continue
                for y, wy in ((y0, one - fy), (y1, fy)):
                    low, high = wx * wy * (one - fz), wx * wy * fz
                    for c in range(channels):
                        out[b, x, y, z0, c] += low * upstream[b, p, c]
                    for c in range(channels):
                        out[b, x, y, z1, c] += high * upstream[b, p, c]
