"""Squared local correlation in three sweeps through memory; every window sum stays in the cache.

``rows`` (2, X, Y) holds, for every row of voxels along the last axis, where work begins and ends. Outside there must be
no weight, nor within a window's radius of there: what lies outside then has no part in any sum.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, box_line, box_rows, copy, extent, push_line

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=FAST, error_model="numpy")


@_jit
def window_sums(first, second, mass, weighted, rows, radius, shifts, sums):
    """First sweep: sums over the (y, z) window of a, b, aa, bb, ab, and of the weights if ``sums`` has room (6)."""
    nx, _, nz = first.shape
    count = sums.shape[0]
    ry, rz = radius[1], radius[2]
    for i in nb.prange(nx):
        j0, j1, k0, k1 = extent(rows[:, i], nz)
        m = k1 - k0
        pad = np.empty(m + 2 * rz, f32)
        q = np.empty((6, m), f32)
        plane = np.empty((6, j1 - j0, m), f32)
        line = np.empty((j1 - j0, m), f32)
        for j in range(j0, j1):
            u = first[i, j, k0:k1]
            v = second[i, j, k0:k1]
            g = mass[i, j, k0:k1]
            for k in range(m):
                w = f32(g[k]) if weighted else f32(1)
                a = u[k] - shifts[0]
                b = v[k] - shifts[1]
                q[0, k] = w * a
                q[1, k] = w * b
                q[2, k] = w * a * a
                q[3, k] = w * b * b
                q[4, k] = w * a * b
                q[5, k] = w
            for c in range(count):
                box_line(q[c], plane[c, j - j0], pad, rz)
        for c in range(count):
            box_rows(plane[c], line, ry)
            for j in range(j0, j1):
                low = rows[0, i, j]
                high = rows[1, i, j]
                copy(line[j - j0, low - k0 : high - k0], sums[c, i, j, low:high])


@_inline
def wanted(c, first, second):
    """Whether the c-th of the five sums on the way back serves the derivatives that are wanted."""
    return (first or (c != 1 and c != 3)) and (second or (c != 2 and c != 4))


@_inline
def _windows(s, n, g, weighted, floors, t):
    """One line of windows: the sum of their correlations, and into ``t`` (5, Z) what they give to the derivatives.

    ``s`` (5, Z) holds the sums, ``n`` the weights of the windows, ``g`` those of their centres.
    """
    row = f32(0)
    for k in range(n.shape[0]):
        inverse = f32(1) / n[k] if n[k] > f32(1e-6) else f32(0)
        ma = s[0, k] * inverse
        mb = s[1, k] * inverse
        va = max(s[2, k] * inverse - ma * ma, f32(0)) + floors[0]
        vb = max(s[3, k] * inverse - mb * mb, f32(0)) + floors[1]
        cov = s[4, k] * inverse - ma * mb
        ratio = cov / (va * vb)
        if weighted:
            ratio *= f32(g[k])
        row += ratio * cov
        ratio *= f32(2) * inverse
        to_a = ratio * cov / va
        to_b = ratio * cov / vb
        t[0, k] = ratio
        t[1, k] = to_a
        t[2, k] = to_b
        t[3, k] = to_a * ma - ratio * mb
        t[4, k] = to_b * mb - ratio * ma
    return row


@_jit
def window_terms(mass, weighted, counts, rows, radius, floors, sums, want_first, want_second):
    """Second sweep: the sum of cov**2 / (var_1 var_2), and into ``sums`` what each window gives to the derivatives.

    ``counts`` holds the weights of every window, if there are weights and ``sums`` has no room for them.
    """
    nx, ny, nz = sums.shape[1:]
    rx, ry, rz = radius[0], radius[1], radius[2]
    count = sums.shape[0]
    total = np.zeros(ny, np.float64)
    for j in nb.prange(ny):
        i0, i1, k0, k1 = extent(rows[:, :, j], nz)
        m = k1 - k0
        pad = np.empty(m + 2 * rz, f32)
        s = np.empty((i1 - i0, 6, m), f32)
        t = np.zeros((6, i1 - i0, m), f32)
        box = np.empty((i1 - i0, m), f32)
        line = np.empty((5, m), f32)
        for c in range(count):
            for i in range(i0, i1):
                low = rows[0, i, j]
                high = rows[1, i, j]
                copy(sums[c, i, j, low:high], t[c, i - i0, low - k0 : high - k0])
            box_rows(t[c], box, rx)
            for i in range(i1 - i0):
                copy(box[i], s[i, c])
        cy = min(j + ry, ny - 1) - max(j - ry, 0) + 1
        for i in range(i0, i1):
            n = s[i - i0, 5]
            if count == 5 and weighted:
                copy(counts[i, j, k0:k1], n)
            elif count == 5:
                cxy = cy * (min(i + rx, nx - 1) - max(i - rx, 0) + 1)
                for k in range(m):
                    n[k] = f32(cxy * (min(k0 + k + rz, nz - 1) - max(k0 + k - rz, 0) + 1))
            total[j] += _windows(s[i - i0], n, mass[i, j, k0:k1], weighted, floors, line)
            for c in range(5):
                copy(line[c], t[c, i - i0])
        if want_first or want_second:
            for c in range(5):
                if wanted(c, want_first, want_second):
                    box_rows(t[c], box, rx)
                    for i in range(i0, i1):
                        low = rows[0, i, j]
                        high = rows[1, i, j]
                        box_line(box[i - i0], line[0], pad, rz)
                        copy(line[0, low - k0 : high - k0], sums[c, i, j, low:high])
    return total.sum()


@_inline
def _gathered(sums, i, rows, ry, box, t, want_first, want_second):
    """The last window sums of a slab into ``t`` (5, Y, Z), over the rectangle that its rows span."""
    j0, j1, k0, k1 = box
    source = np.zeros((j1 - j0, k1 - k0), f32)
    for c in range(5):
        if wanted(c, want_first, want_second):
            for j in range(j0, j1):
                low = rows[0, i, j]
                high = rows[1, i, j]
                copy(sums[c, i, j, low:high], source[j - j0, low - k0 : high - k0])
            box_rows(source, t[c], ry)


@_jit
def derivatives(first, second, mass, weighted, rows, radius, shifts, sums, grads, want_first, want_second):
    """Third sweep: the derivatives to both images into the two arrays ``grads``."""
    nx, _, nz = first.shape
    for i in nb.prange(nx):
        j0, j1, k0, k1 = extent(rows[:, i], nz)
        t = np.empty((5, j1 - j0, k1 - k0), f32)
        _gathered(sums, i, rows, radius[1], (j0, j1, k0, k1), t, want_first, want_second)
        for j in range(j0, j1):
            u = first[i, j, k0:k1]
            v = second[i, j, k0:k1]
            g = mass[i, j, k0:k1]
            for k in range(k1 - k0):
                w = f32(g[k]) if weighted else f32(1)
                a = u[k] - shifts[0]
                b = v[k] - shifts[1]
                if want_first:
                    grads[0][i, j, k0 + k] = w * (b * t[0, j - j0, k] - a * t[1, j - j0, k] + t[3, j - j0, k])
                if want_second:
                    grads[1][i, j, k0 + k] = w * (a * t[0, j - j0, k] - b * t[2, j - j0, k] + t[4, j - j0, k])


@_jit
def pushes(first, second, mass, weighted, rows, radius, shifts, sums, metric, out):
    """Third sweep: adds to ``out`` (D, X, Y, Z) metric times the derivative to opposite moves of both images."""
    nx, _, nz = first.shape
    for i in nb.prange(nx):
        j0, j1, k0, k1 = extent(rows[:, i], nz)
        m = k1 - k0
        t = np.empty((5, j1 - j0, m), f32)
        _gathered(sums, i, rows, radius[1], (j0, j1, k0, k1), t, True, True)
        du = np.empty((3, m), f32)
        dv = np.empty((3, m), f32)
        to = np.empty((2, m), f32)
        for j in range(j0, j1):
            low = rows[0, i, j]
            high = rows[1, i, j]
            n = high - low
            if n <= 0:
                continue
            u = first[i, j, low:high]
            v = second[i, j, low:high]
            g = mass[i, j, low:high]
            for k in range(n):
                w = f32(g[k]) if weighted else f32(1)
                a = u[k] - shifts[0]
                b = v[k] - shifts[1]
                x = low - k0 + k
                to[0, k] = w * (b * t[0, j - j0, x] - a * t[1, j - j0, x] + t[3, j - j0, x])
                to[1, k] = w * (a * t[0, j - j0, x] - b * t[2, j - j0, x] + t[4, j - j0, x])
            push_line(first, second, i, j, low, to[0], to[1], du[:, :n], dv[:, :n], metric, out)
