"""What several kernels do with lines of voxels: copy them, sum them over windows, take their slopes, push.

All are compiled into the kernels that call them.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

f32 = np.float32
FAST = {"contract", "arcp", "nsz", "reassoc"}
# Where values are summed, their order may not be the compiler's: the process that compiles a kernel would round in
# another way than those which find it compiled.
ORDERED = FAST - {"reassoc"}
_inline: Any = nb.njit(inline="always", fastmath=FAST, error_model="numpy")


@_inline
def copy(source, out):
    """out[:] = source, for lines of one length."""
    for k in range(out.shape[0]):
        out[k] = source[k]


@_inline
def extent(rows, longest):
    """The rectangle of a plane that its (2, A) rows span: first and last row, first and last voxel; 0 if none."""
    a0 = a1 = k1 = 0
    k0 = longest
    for a in range(rows.shape[1]):
        if rows[1, a] > rows[0, a]:
            if a1 == 0:
                a0 = a
            a1 = a + 1
            k0 = min(k0, rows[0, a])
            k1 = max(k1, rows[1, a])
    return a0, a1, min(k0, k1), k1


@_inline
def box_rows(source, out, r):
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
def box_line(source, out, pad, r):
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


@_inline
def line_slopes(v, i, j, k0, out):
    """Central differences (3, Z) along a line of an image from voxel k0 on, one-sided halved at the border."""
    nx, ny, nz = v.shape
    m = out.shape[1]
    half = f32(0.5)
    after = v[min(i + 1, nx - 1), j, k0 : k0 + m]
    before = v[max(i - 1, 0), j, k0 : k0 + m]
    for k in range(m):
        out[0, k] = half * (after[k] - before[k])
    after = v[i, min(j + 1, ny - 1), k0 : k0 + m]
    before = v[i, max(j - 1, 0), k0 : k0 + m]
    for k in range(m):
        out[1, k] = half * (after[k] - before[k])
    line = v[i, j, k0 : k0 + m]
    for k in range(1, m - 1):
        out[2, k] = half * (line[k + 1] - line[k - 1])
    for k in (0, m - 1):
        out[2, k] = half * (v[i, j, min(k0 + k + 1, nz - 1)] - v[i, j, max(k0 + k - 1, 0)])


@_inline
def push_line(first, second, i, j, low, to_first, to_second, du, dv, metric, out):
    """Add what opposite moves of both images give to a line of ``out`` (D, X, Y, Z).

    That is metric * (to_first * slopes of the first image - to_second * those of the second), from (i, j, low) on.
    ``du`` and ``dv`` (3, Z) are scratch for the slopes, as long as the line; ``to_first``, ``to_second`` at least that.
    """
    line_slopes(first, i, j, low, du)
    line_slopes(second, i, j, low, dv)
    n = du.shape[1]
    skipped = 3 - out.shape[0]
    for axis in range(skipped, 3):
        line = out[axis - skipped, i, j, low : low + n]
        factor = metric[axis - skipped]
        for k in range(n):
            line[k] += factor * (to_first[k] * du[axis, k] - to_second[k] * dv[axis, k])


@_inline
def clamped(x, n):
    """A voxel coordinate, clamped to the image; NaN counts as 0."""
    return min(max(f32(0), x), f32(n - 1)) if x == x else f32(0)
