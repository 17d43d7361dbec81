"""Sampling along affine maps of voxel indices, and histograms of what is found; importing this imports numba.

Every sum is made over parts that do not depend on the number of threads, in float64 or whole numbers.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .sampling_kernels import slopes

f32 = np.float32
_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")
_plain: Any = nb.njit(fastmath=_FAST, error_model="numpy")  # called, for copies take seconds more to compile
_inline: Any = nb.njit(inline="always", fastmath=_FAST, error_model="numpy")


@_inline
def _between(x, n):
    """Voxel coordinate -> (lower voxel, upper voxel, fraction, not clamped, within the outer voxel edges)."""
    clear = x > f32(0) and x < f32(n - 1)  # NaN is not clear, and clamps to the border
    inside = x >= f32(-0.5) and x <= f32(n) - f32(0.5)
    x = min(max(f32(0), x), f32(n - 1)) if x == x else f32(0)
    lower = int(x)
    return lower, min(lower + 1, n - 1), x - f32(lower), clear, inside


@_jit
def sample(image, maps, shape, out, inside):
    """out[b, c, p] = image[c] at ``maps[b] @ (i, j, k, 1)``, linear, the border outside; p runs over all (i, j, k)."""
    channels, nx, ny, nz = image.shape
    si, sj, sk = shape
    for row in nb.prange(maps.shape[0] * si):
        b, i = row // si, row % si
        m = maps[b]
        for j in range(sj):
            at = (i * sj + j) * sk
            bx = f32(m[0, 0] * i + m[0, 1] * j + m[0, 3])
            by = f32(m[1, 0] * i + m[1, 1] * j + m[1, 3])
            bz = f32(m[2, 0] * i + m[2, 1] * j + m[2, 3])
            dx, dy, dz = f32(m[0, 2]), f32(m[1, 2]), f32(m[2, 2])
            for k in range(sk):
                x0, x1, fx, _, in_x = _between(bx + dx * f32(k), nx)
                y0, y1, fy, _, in_y = _between(by + dy * f32(k), ny)
                z0, z1, fz, _, in_z = _between(bz + dz * f32(k), nz)
                inside[b, at + k] = in_x and in_y and in_z
                for c in range(channels):
                    v = image[c]
                    c00 = v[x0, y0, z0] + fz * (v[x0, y0, z1] - v[x0, y0, z0])
                    c01 = v[x0, y1, z0] + fz * (v[x0, y1, z1] - v[x0, y1, z0])
                    c10 = v[x1, y0, z0] + fz * (v[x1, y0, z1] - v[x1, y0, z0])
                    c11 = v[x1, y1, z0] + fz * (v[x1, y1, z1] - v[x1, y1, z0])
                    c0 = c00 + fy * (c01 - c00)
                    c1 = c10 + fy * (c11 - c10)
                    out[b, c, at + k] = c0 + fx * (c1 - c0)


@_plain
def _plane_gradient(image, maps, shape, row, upstream, out):
    """The part of :func:`sample_gradient` of one plane under one map."""
    channels, nx, ny, nz = image.shape
    si, sj, sk = shape
    b, i = row // si, row % si
    m = maps[b]
    grad = out[b, i]
    for axis in range(3):
        for column in range(4):
            grad[axis, column] = 0.0
    for j in range(sj):
        at = (i * sj + j) * sk
        bx = f32(m[0, 0] * i + m[0, 1] * j + m[0, 3])
        by = f32(m[1, 0] * i + m[1, 1] * j + m[1, 3])
        bz = f32(m[2, 0] * i + m[2, 1] * j + m[2, 3])
        dx, dy, dz = f32(m[0, 2]), f32(m[1, 2]), f32(m[2, 2])
        sx = sy = sz = tx = ty = tz = f32(0)
        for k in range(sk):
            x0, x1, fx, in_x, _ = _between(bx + dx * f32(k), nx)
            y0, y1, fy, in_y, _ = _between(by + dy * f32(k), ny)
            z0, z1, fz, in_z, _ = _between(bz + dz * f32(k), nz)
            gx = gy = gz = f32(0)
            for c in range(channels):
                v = image[c]
                ex, ey, ez = slopes(v, x0, x1, fx, y0, y1, fy, z0, z1, fz)
                g = upstream[b, c, at + k]
                gz += g * ez
                gy += g * ey
                gx += g * ex
            gx = gx if in_x else f32(0)
            gy = gy if in_y else f32(0)
            gz = gz if in_z else f32(0)
            sx += gx
            sy += gy
            sz += gz
            tx += gx * f32(k)
            ty += gy * f32(k)
            tz += gz * f32(k)
        for axis, (s, t) in enumerate(((sx, tx), (sy, ty), (sz, tz))):
            grad[axis, 0] += np.float64(s) * i
            grad[axis, 1] += np.float64(s) * j
            grad[axis, 2] += np.float64(t)
            grad[axis, 3] += np.float64(s)


@_jit
def sample_gradient(image, maps, shape, upstream, out):
    """out[b, i] = sum over c, j, k of upstream[b, c, p] * d(sample)/d(maps[b]): (B, si, 3, 4), float64."""
    for row in nb.prange(maps.shape[0] * shape[0]):
        _plane_gradient(image, maps, shape, np.int64(row), upstream, out)


@_jit
def joint_counts(rows, values, inside, bins, out):
    """out[b, c, rows[c, p] + bin of values[b, c, p]] += 1 where inside; ``rows``: fixed bin times ``bins``."""
    channels = rows.shape[0]
    for item in nb.prange(values.shape[0] * channels):
        b, c = item // channels, item % channels
        for p in range(rows.shape[1]):
            if inside[b, p]:
                cell = int(values[b, c, p] * f32(bins))
                out[b, c, rows[c, p] + min(max(cell, 0), bins - 1)] += 1


@_jit
def moments(values, low, slope, rows, weight, weighted, bins, out):
    """out[part, cell] = sums of w, w t, w t^2, w t^3 over a part of the voxels, t the place between two bins."""
    count = len(values)
    parts = out.shape[0]
    for part in nb.prange(parts):
        sums = out[part]
        sums[:] = 0
        for p in range(count * part // parts, count * (part + 1) // parts):
            place = min(max((values[p] - low) * slope + f32(2), f32(2)), f32(bins - 2))
            base = min(int(place), bins - 3)
            t = np.float64(place - f32(base))
            w = np.float64(weight[p]) if weighted else 1.0
            if w != 0:
                cell = rows[p] + base
                sums[cell, 0] += w
                sums[cell, 1] += w * t
                sums[cell, 2] += w * t * t
                sums[cell, 3] += w * t * t * t


@_jit
def information_gradient(values, low, slope, rows, weight, weighted, bins, table, out):
    """out[p] = w * slope * (table[cell, 0] + table[cell, 1] t + table[cell, 2] t^2); 0 beyond the range."""
    for p in nb.prange(len(values)):
        place = (values[p] - low) * slope + f32(2)
        if place > f32(2) and place < f32(bins - 2):
            base = min(int(place), bins - 3)
            t = place - f32(base)
            row = table[rows[p] + base]
            change = ((row[2] * t + row[1]) * t + row[0]) * slope
            out[p] = change * weight[p] if weighted else change
        else:
            out[p] = f32(0)
