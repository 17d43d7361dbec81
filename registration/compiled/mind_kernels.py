"""Differences of self-similarity contexts and their derivatives, tile by tile: a tile's descriptors stay in the cache.

Every field of :mod:`.patch_kernels` serves two entries of the descriptor, at two places. Tiles of one colour write to
different voxels, and colours follow one another, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, push_line
from .patch_kernels import patch_shares, patch_sums, spread

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_plain: Any = nb.njit(fastmath=FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=FAST, error_model="numpy")


@_inline
def _exp(x):
    """exp(x) for -12 <= x <= 0, in operations that run on several voxels at once."""
    u = x * f32(1 / 16)
    p = f32(1 / 720) + u * f32(1 / 5040)
    p = f32(1 / 24) + u * (f32(1 / 120) + u * p)
    p = f32(1) + u * (f32(1) + u * (f32(1 / 2) + u * (f32(1 / 6) + u * p)))
    p *= p
    p *= p
    p *= p
    return p * p


@_plain
def _described(s, e, many, floor, typical, least, v):
    """One line of voxels: descriptors v (K, Z) of the distances s (K, Z), 1 over their mean into ``typical``.

    ``e`` (K, Z) tells which exist, ``many`` (Z,) how many; ``least`` is scratch. On return s holds the logarithms of v.
    """
    entries, m = s.shape
    for z in range(m):
        typical[z] = f32(0)
        least[z] = f32(1e30)
    for k in range(entries):
        for z in range(m):
            typical[z] += s[k, z]
            here = s[k, z] if e[k, z] > f32(0) else f32(1e30)
            least[z] = here if here < least[z] else least[z]
    for z in range(m):
        typical[z] = f32(1) / (typical[z] / many[z] + floor)
    for k in range(entries):
        for z in range(m):
            s[k, z] = e[k, z] * (least[z] - s[k, z]) * typical[z]
            v[k, z] = e[k, z] * _exp(s[k, z])


@_plain
def _to_means(s, e, many, typical, q, sums):
    """The derivatives to the distances, into q, which holds those to the logarithms of the descriptors."""
    entries, m = s.shape
    first, second, ties = sums[0], sums[1], sums[2]
    for z in range(m):
        first[z] = second[z] = ties[z] = f32(0)
    for k in range(entries):
        for z in range(m):
            first[z] += q[k, z]
            second[z] += q[k, z] * s[k, z]
            ties[z] += e[k, z] if s[k, z] == f32(0) else f32(0)
    for z in range(m):
        first[z] = first[z] / ties[z] if ties[z] > f32(0) else f32(0)
        second[z] /= many[z]
    for k in range(entries):
        for z in range(m):
            least = first[z] if s[k, z] == f32(0) else f32(0)
            q[k, z] = typical[z] * (least - q[k, z] - second[z])


@_plain
def _compared(v, e, weight, weighted, absolute, q):
    """The sum of one line's weighted differences, how much was compared, and into q (K, Z) the slopes to v[0]."""
    entries, m = e.shape
    total = compared = f32(0)
    for k in range(entries):
        for z in range(m):
            w = e[k, z] * f32(weight[z]) if weighted else e[k, z]
            apart = v[0, k, z] - v[1, k, z]
            compared += w
            if absolute:
                total += w * abs(apart)
                q[k, z] = w * np.sign(apart)
            else:
                total += w * apart * apart
                q[k, z] = f32(2) * w * apart
    return total, compared


@_plain
def _voxels(weight, weighted, absolute, floor, tile, starts, shares, means, slopes, wanted):
    """The sum of a tile's differences and how much was compared; the derivatives to ``means`` into ``slopes``."""
    low, size = tile[0], tile[1]
    entries, m = starts.shape[0], size[2]
    s = np.empty((2, entries, m), f32)
    v = np.empty((2, entries, m), f32)
    e = np.empty((entries, m), f32)
    q = np.empty((2, entries, m), f32)
    many, typical, sums = np.empty(m, f32), np.empty((2, m), f32), np.empty((3, m), f32)
    total = np.zeros(2, np.float64)
    for i in range(size[0]):
        for j in range(size[1]):
            many[:] = f32(0)
            for k in range(entries):
                x, y, z0 = i + starts[k, 0], j + starts[k, 1], starts[k, 2]
                share = shares[k // 2, x, y, z0 : z0 + m]
                for z in range(m):
                    e[k, z] = f32(1) if share[z] > f32(0) else f32(0)
                    many[z] += e[k, z]
                for c in range(2):
                    mean = means[c, k // 2, x, y, z0 : z0 + m]
                    for z in range(m):
                        s[c, k, z] = mean[z] * share[z]
            for z in range(m):
                many[z] = max(many[z], f32(1))
            for c in range(2):
                _described(s[c], e, many, floor, typical[c], sums[0], v[c])
            line = weight[low[0] + i, low[1] + j, low[2] : low[2] + m]
            found, compared = _compared(v, e, line, weighted, absolute, q[0])
            total[0] += found
            total[1] += compared
            for c in range(2):
                if not wanted[c]:
                    continue
                own = q[1]
                for k in range(entries):
                    for z in range(m):
                        own[k, z] = v[c, k, z] * (q[0, k, z] if c == 0 else -q[0, k, z])
                _to_means(s[c], e, many, typical[c], own, sums)
                for k in range(entries):
                    x, y, z0 = i + starts[k, 0], j + starts[k, 1], starts[k, 2]
                    slope = slopes[c, k // 2, x, y, z0 : z0 + m]
                    for z in range(m):
                        slope[z] += own[k, z]
    return total[0], total[1]


@_inline
def _one_tile(images, weight, weighted, settings, tile, tables, room, grads, wanted):
    """The sum of a tile's differences, and how much was compared; adds its derivatives to ``grads``."""
    absolute, floor = settings
    ends, spans, starts = tables
    means, slopes, shares, ring, plane, across = room
    rows = tile[1][0] + tile[2][0]
    work = ring, plane, across
    for f in range(ends.shape[0]):
        field = ends[f], spans[f]
        if weighted:
            patch_sums(images[0], weight, 2, tile, field, shares[f], work)
        patch_shares(images[0], weighted, tile, field, shares[f])
        for c in range(2):
            patch_sums(images[c], weight, 1 if weighted else 0, tile, field, means[c, f], work)
            if wanted[c]:
                slopes[c, f, :rows] = f32(0)
    found = _voxels(weight, weighted, absolute, floor, tile, starts, shares, means, slopes, wanted)
    for c in range(2):
        if wanted[c]:
            for f in range(ends.shape[0]):
                field = ends[f], spans[f]
                spread(images[c], weight, weighted, tile, field, slopes[c, f], shares[f], grads[c], work)
    return found


@_jit
def differences(images, weight, weighted, settings, shape, tiles, tables, rooms, grads, wanted, found):
    """found (T, 2) = every tile's sum of differences and of weights; adds the derivatives to both images to ``grads``.

    ``tiles``: (T, 3) first voxels, (T, 3) sizes, where each colour begins and ends; ``shape``: the pads, the radius.
    """
    lows, sizes, colours = tiles
    pad, radius = shape
    workers = rooms[0].shape[0]
    for colour in range(colours.shape[0] - 1):
        for w in nb.prange(workers):
            room = (rooms[0][w], rooms[1][w], rooms[2][w], rooms[3][w], rooms[4][w], rooms[5][w])
            for t in range(colours[colour] + w, colours[colour + 1], workers):
                if sizes[t, 2] == 0:
                    continue
                tile = (lows[t], sizes[t], pad, radius)
                found[t, 0], found[t, 1] = _one_tile(
                    images, weight, weighted, settings, tile, tables, room, grads, wanted
                )


@_jit
def tighten(weight, lows, sizes):
    """Shrink tiles to the boxes of the voxels with a weight above 0, in place; to no voxels where there are none."""
    for t in nb.prange(lows.shape[0]):
        first = np.array([lows[t, 0] + sizes[t, 0], lows[t, 1] + sizes[t, 1], lows[t, 2] + sizes[t, 2]])
        last = np.array([lows[t, 0], lows[t, 1], lows[t, 2]])
        for i in range(lows[t, 0], lows[t, 0] + sizes[t, 0]):
            for j in range(lows[t, 1], lows[t, 1] + sizes[t, 1]):
                begin = lows[t, 2]
                end = lows[t, 2] + sizes[t, 2]
                while begin < end and not weight[i, j, begin] > 0:
                    begin += 1
                if begin == end:
                    continue
                while not weight[i, j, end - 1] > 0:
                    end -= 1
                first[0], first[1], first[2] = min(first[0], i), min(first[1], j), min(first[2], begin)
                last[0], last[1], last[2] = max(last[0], i + 1), max(last[1], j + 1), max(last[2], end)
        for a in range(3):
            lows[t, a] = first[a]
            sizes[t, a] = max(last[a] - first[a], 0)


@_jit
def add_pushes(first, second, rows, grads, metric, out):
    """Add to ``out`` (D, X, Y, Z) metric * (grads[0] * slopes of the first image - grads[1] * those of the second)."""
    nx, ny, nz = first.shape
    for i in nb.prange(nx):
        du = np.empty((3, nz), f32)
        dv = np.empty((3, nz), f32)
        for j in range(ny):
            low = rows[0, i, j]
            n = rows[1, i, j] - low
            if n > 0:
                to_first = grads[0, i, j, low : low + n]
                to_second = grads[1, i, j, low : low + n]
                push_line(first, second, i, j, low, to_first, to_second, du[:, :n], dv[:, :n], metric, out)
