"""What several kernels do with lines of voxels: copy them, sum them over windows, take their slopes.

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
def clamped(x, n):
    """A voxel coordinate, clamped to the image; NaN counts as 0."""
    return min(max(f32(0), x), f32(n - 1)) if x == x else f32(0)
