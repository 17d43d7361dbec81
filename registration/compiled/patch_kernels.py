"""Squared differences of neighbours and their sums over patches in a tile of an image, and the way back.

A field is ``(v(y + e1) - v(y + e2))**2`` for two ends e1, e2, at every y where both are in the image: along an axis so
many voxels less as its ``span`` says. Along an axis a tile starts at ``low`` and has ``size`` voxels; buffers of patch
sums begin ``pad`` voxels earlier, and a field a patch's radius before those. ``work`` is scratch: a ring of planes that
are summed along two axes, and two planes more.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

f32 = np.float32
_FAST = {"contract", "arcp", "nsz", "reassoc"}
_plain: Any = nb.njit(fastmath=_FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=_FAST, error_model="numpy")


@_plain
def _windowed(source, rows, r, across, out):
    """out[j, k] = sum of source[j + s, k + t] over 0 <= s, t <= 2 r, for so many rows of out; ``across`` is scratch."""
    m = out.shape[1]
    for j in range(rows + 2 * r):
        line = across[j]
        for k in range(m):
            line[k] = source[j, k]
        for t in range(1, 2 * r + 1):
            for k in range(m):
                line[k] += source[j, k + t]
    for j in range(rows):
        line = out[j]
        for k in range(m):
            line[k] = across[j, k]
        for t in range(1, 2 * r + 1):
            for k in range(m):
                line[k] += across[j + t, k]


@_inline
def _clipped(start, count, n):
    """Which of ``count`` places from ``start`` on lie in 0 .. n - 1, as a range."""
    return max(0, -start), max(0, min(count, n - start))


@_plain
def patch_sums(image, support, kind, tile, field, out, work):
    """out = sums of a field over patches. ``kind``: 0 every voxel of the image, 1 within the support, 2 the support."""
    low, size, pad, r = tile
    ends, span = field
    ring, plane, across = work
    start = low - pad - r
    rows, m = size[1] + pad[1], size[2] + pad[2]
    limit = np.array(image.shape) - span
    j0, j1 = _clipped(start[1], rows + 2 * r, limit[1])
    k0, k1 = _clipped(start[2], m + 2 * r, limit[2])
    width = max(k1 - k0, 0)
    plane[: rows + 2 * r, : m + 2 * r] = f32(0)
    for p in range(size[0] + pad[0] + 2 * r):
        x = start[0] + p
        slot = ring[p % (2 * r + 1), :, :m]
        if 0 <= x < limit[0]:
            for j in range(j0, j1):
                y = start[1] + j
                z = start[2] + k0
                line = plane[j, k0:k1]
                a, b, c = x + ends[0, 0], y + ends[0, 1], z + ends[0, 2]
                d, e, f = x + ends[1, 0], y + ends[1, 1], z + ends[1, 2]
                if kind < 2:
                    u = image[a, b, c : c + width]
                    v = image[d, e, f : f + width]
                    for k in range(width):
                        line[k] = (u[k] - v[k]) * (u[k] - v[k])
                if kind > 0:
                    g = support[a, b, c : c + width]
                    h = support[d, e, f : f + width]
                    for k in range(width):
                        both = f32(1) if (g[k] > 0) & (h[k] > 0) else f32(0)
                        line[k] = both if kind == 2 else line[k] * both
            _windowed(plane, rows, r, across, slot)
        else:
            slot[:rows] = f32(0)
        q = p - 2 * r
        if q >= 0:
            for j in range(rows):
                line = out[q, j, :m]
                for k in range(m):
                    line[k] = ring[0, j, k]
                for t in range(1, 2 * r + 1):
                    for k in range(m):
                        line[k] += ring[t, j, k]


@_inline
def _count(y, r, n):
    """How many of the places y - r .. y + r lie in 0 .. n - 1."""
    return f32(max(0, min(y + r, n - 1) - max(y - r, 0) + 1))


@_plain
def patch_shares(image, weighted, tile, field, out):
    """out = one over the number of voxels that count in the patch of a field, which it holds already if ``weighted``.

    0 where there are none.
    """
    low, size, pad, r = tile
    rows, m = size[1] + pad[1], size[2] + pad[2]
    limit = np.array(image.shape) - field[1]
    for q in range(size[0] + pad[0]):
        for j in range(rows):
            line = out[q, j, :m]
            if not weighted:
                outer = _count(low[0] - pad[0] + q, r, limit[0]) * _count(low[1] - pad[1] + j, r, limit[1])
                for k in range(m):
                    line[k] = outer * _count(low[2] - pad[2] + k, r, limit[2])
            for k in range(m):
                line[k] = f32(1) / line[k] if line[k] > f32(0.5) else f32(0)


@_plain
def spread(image, support, weighted, tile, field, means, shares, grad, work):
    """Add to ``grad`` what the derivatives to the means of a field give to the voxels of the image."""
    low, size, pad, r = tile
    ends, span = field
    ring, plane, across = work
    start = low - pad - r
    rows, m = size[1] + pad[1] + 2 * r, size[2] + pad[2] + 2 * r
    limit = np.array(image.shape) - span
    j0, j1 = _clipped(start[1], rows, limit[1])
    k0, k1 = _clipped(start[2], m, limit[2])
    width = max(k1 - k0, 0)
    plane[: rows + 2 * r, : m + 2 * r] = f32(0)
    ring[:] = f32(0)
    c = np.empty(width, f32)
    for p in range(size[0] + pad[0] + 2 * r):
        slot = ring[p % (2 * r + 1), :, :m]
        if p < size[0] + pad[0]:
            for j in range(rows - 2 * r):
                line = plane[j + 2 * r, 2 * r :]
                g = means[p, j]
                s = shares[p, j]
                for k in range(m - 2 * r):
                    line[k] = g[k] * s[k]
            _windowed(plane, rows, r, across, slot)
        else:
            slot[:rows] = f32(0)
        x = start[0] + p
        if x < 0 or x >= limit[0]:
            continue
        for j in range(j0, j1):
            y = start[1] + j
            z = start[2] + k0
            for k in range(width):
                c[k] = ring[0, j, k0 + k]
            for t in range(1, 2 * r + 1):
                for k in range(width):
                    c[k] += ring[t, j, k0 + k]
            a, b, e = x + ends[0, 0], y + ends[0, 1], z + ends[0, 2]
            d, f, h = x + ends[1, 0], y + ends[1, 1], z + ends[1, 2]
            u = image[a, b, e : e + width]
            v = image[d, f, h : h + width]
            for k in range(width):
                c[k] *= f32(2) * (u[k] - v[k])
            if weighted:
                g = support[a, b, e : e + width]
                s = support[d, f, h : h + width]
                for k in range(width):
                    c[k] = c[k] if (g[k] > 0) & (s[k] > 0) else f32(0)
            one = grad[a, b, e : e + width]
            for k in range(width):
                one[k] += c[k]
            other = grad[d, f, h : h + width]
            for k in range(width):
                other[k] -= c[k]
