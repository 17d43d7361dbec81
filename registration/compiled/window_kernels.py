"""Squared local correlation in three sweeps through memory; every window sum stays in the cache."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

f32 = np.float32
_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=_FAST, error_model="numpy")


@_inline
def _box_rows(source, out, r):
    """out[a] = sum of source[b] over |a - b| <= r, by additions of contiguous rows."""
    n, m = source.shape
    for a in range(n):
        for k in range(m):
            out[a, k] = source[a, k]
        for b in range(max(a - r, 0), min(a + r, n - 1) + 1):
            if b != a:
                for k in range(m):
                    out[a, k] += source[b, k]


@_inline
def _box_line(source, out, pad, r):
    """out[k] = sum of source[l] over |k - l| <= r; ``pad`` is scratch of length n + 2 r."""
    n = source.shape[0]
    for t in range(r):
        pad[t] = f32(0)
        pad[n + r + t] = f32(0)
    for k in range(n):
        pad[k + r] = source[k]
    for k in range(n):
        out[k] = pad[k]
    for t in range(1, 2 * r + 1):
        for k in range(n):
            out[k] += pad[k + t]


@_jit
def correlation(
    first, second, mass, weighted, rx, ry, rz, numbers, sums, grad_first, grad_second, want_first, want_second
):
    """Sum of cov**2 / (var_1 var_2) over windows; ``numbers``: two variance floors, two shifts.

    ``sums`` is scratch (5 or 6, X, Y, Z): window sums of a, b, aa, bb, ab (and the weights) on the way there, of what
    each window contributes to the derivative on the way back.
    """
    nx, ny, nz = first.shape
    count = sums.shape[0]
    floor_a, floor_b, shift_a, shift_b = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in nb.prange(nx):
        pad = np.empty(nz + 2 * rz, f32)
        q = np.empty((6, nz), f32)
        plane = np.empty((6, ny, nz), f32)
        for j in range(ny):
            for k in range(nz):
                w = mass[i, j, k] if weighted else f32(1)
                a = first[i, j, k] - shift_a
                b = second[i, j, k] - shift_b
                q[0, k] = w * a
                q[1, k] = w * b
                q[2, k] = w * a * a
                q[3, k] = w * b * b
                q[4, k] = w * a * b
                q[5, k] = w
            for c in range(count):
                _box_line(q[c], plane[c, j], pad, rz)
        for c in range(count):
            _box_rows(plane[c], sums[c, i], ry)
    total = np.zeros(ny, np.float64)
    back = want_first or want_second
    for j in nb.prange(ny):
        pad = np.empty(nz + 2 * rz, f32)
        s = np.empty((6, nx, nz), f32)
        t = np.empty((6, nx, nz), f32)
        for c in range(count):
            for i in range(nx):
                for k in range(nz):
                    t[c, i, k] = sums[c, i, j, k]
            _box_rows(t[c], s[c], rx)
        cy = min(j + ry, ny - 1) - max(j - ry, 0) + 1
        for i in range(nx):
            cxy = cy * (min(i + rx, nx - 1) - max(i - rx, 0) + 1)
            row = f32(0)
            for k in range(nz):
                n = s[5, i, k] if weighted else f32(cxy * (min(k + rz, nz - 1) - max(k - rz, 0) + 1))
                inverse = f32(1) / n if n > f32(1e-6) else f32(0)
                ma = s[0, i, k] * inverse
                mb = s[1, i, k] * inverse
                va = max(s[2, i, k] * inverse - ma * ma, f32(0)) + floor_a
                vb = max(s[3, i, k] * inverse - mb * mb, f32(0)) + floor_b
                cov = s[4, i, k] * inverse - ma * mb
                ratio = cov / (va * vb)
                if weighted:
                    ratio *= mass[i, j, k]
                row += ratio * cov
                ratio *= f32(2) * inverse
                to_a = ratio * cov / va
                to_b = ratio * cov / vb
                t[0, i, k] = ratio
                t[1, i, k] = to_a
                t[2, i, k] = to_b
                t[3, i, k] = to_a * ma - ratio * mb
                t[4, i, k] = to_b * mb - ratio * ma
            total[j] += row
        if back:
            for c in range(5):
                if (want_first or (c != 1 and c != 3)) and (want_second or (c != 2 and c != 4)):
                    _box_rows(t[c], s[c], rx)
                    for i in range(nx):
                        _box_line(s[c, i], sums[c, i, j], pad, rz)
    if back:
        for i in nb.prange(nx):
            t = np.empty((5, ny, nz), f32)
            for c in range(5):
                if (want_first or (c != 1 and c != 3)) and (want_second or (c != 2 and c != 4)):
                    _box_rows(sums[c, i], t[c], ry)
            for j in range(ny):
                for k in range(nz):
                    w = mass[i, j, k] if weighted else f32(1)
                    a = first[i, j, k] - shift_a
                    b = second[i, j, k] - shift_b
                    if want_first:
                        grad_first[i, j, k] = w * (b * t[0, j, k] - a * t[1, j, k] + t[3, j, k])
                    if want_second:
                        grad_second[i, j, k] = w * (a * t[0, j, k] - b * t[2, j, k] + t[4, j, k])
    return total.sum()
