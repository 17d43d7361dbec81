"""Where displacement fields (3, X, Y, Z) in voxels fold, cell by cell."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

f32 = np.float32
_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=_FAST, error_model="numpy")


@_inline
def _edges(field, i, j, low, high, ex, ey, ez):
    """The edges of the cells low ... high - 1 of a row: ``ex`` [y][component, z], ``ey`` [x][...], ``ez`` [x][y][...].

    Along an axis of one voxel edges are those of the grid.
    """
    nx, ny, nz = field.shape[1:]
    i1 = min(i + 1, nx - 1)
    j1 = min(j + 1, ny - 1)
    for a in range(3):
        along_x = f32(1) if a == 0 else f32(0)
        along_y = f32(1) if a == 1 else f32(0)
        along_z = f32(1) if a == 2 else f32(0)
        for k in range(low, min(high + 1, nz)):
            v00 = field[a, i, j, k]
            v10 = field[a, i1, j, k]
            v01 = field[a, i, j1, k]
            v11 = field[a, i1, j1, k]
            ex[0, a, k] = along_x + v10 - v00
            ex[1, a, k] = along_x + v11 - v01
            ey[0, a, k] = along_y + v01 - v00
            ey[1, a, k] = along_y + v11 - v10
        for k in range(low, high):
            after = min(k + 1, nz - 1)
            ez[0, 0, a, k] = along_z + field[a, i, j, after] - field[a, i, j, k]
            ez[1, 0, a, k] = along_z + field[a, i1, j, after] - field[a, i1, j, k]
            ez[0, 1, a, k] = along_z + field[a, i, j1, after] - field[a, i, j1, k]
            ez[1, 1, a, k] = along_z + field[a, i1, j1, after] - field[a, i1, j1, k]


@_inline
def _volume(p0, p1, p2, q0, q1, q2, r0, r1, r2):
    return p0 * (q1 * r2 - q2 * r1) - p1 * (q0 * r2 - q2 * r0) + p2 * (q0 * r1 - q1 * r0)


@_inline
def _corners(ex, ey, ez, low, high, last, worst):
    """``worst`` = the smallest volume of the simplices made of one corner of a cell and the three edges there."""
    for k in range(low, high):
        worst[k] = f32(np.inf)
    for cx in range(2):
        for cy in range(2):
            p = ex[cy]
            q = ey[cx]
            r = ez[cx, cy]
            for cz in range(2):
                for k in range(low, high):
                    t = min(k + cz, last)
                    here = _volume(p[0, t], p[1, t], p[2, t], q[0, t], q[1, t], q[2, t], r[0, k], r[1, k], r[2, k])
                    worst[k] = min(worst[k], here)


@_inline
def _middles(ex, ey, ez, low, high, worst):
    """The same for the two simplices of four corners of which no two share an edge, halved: as large at rest."""
    for k in range(low, high):
        t = k + 1
        first = _volume(
            ex[0, 0, k] + ez[1, 0, 0, k], ex[0, 1, k] + ez[1, 0, 1, k], ex[0, 2, k] + ez[1, 0, 2, k],
            ex[0, 0, k] + ey[1, 0, k], ex[0, 1, k] + ey[1, 1, k], ex[0, 2, k] + ey[1, 2, k],
            ey[0, 0, k] + ez[0, 1, 0, k], ey[0, 1, k] + ez[0, 1, 1, k], ey[0, 2, k] + ez[0, 1, 2, k],
        )  # fmt: skip
        second = _volume(
            ez[0, 1, 0, k] + ex[1, 0, t], ez[0, 1, 1, k] + ex[1, 1, t], ez[0, 1, 2, k] + ex[1, 2, t],
            ex[0, 0, t] + ey[1, 0, t], ex[0, 1, t] + ey[1, 1, t], ex[0, 2, t] + ey[1, 2, t],
            ey[1, 0, k] + ez[1, 1, 0, k], ey[1, 1, k] + ez[1, 1, 1, k], ey[1, 2, k] + ez[1, 1, 2, k],
        )  # fmt: skip
        worst[k] = min(worst[k], f32(0.5) * min(first, second))


@_jit
def folded_cells(field, least, rows, out, counts):
    """``out`` (X, Y, Z) = 1 for cells, named by their first voxel, of which some simplex is smaller than ``least``.

    The simplices are those of :func:`registration.evaluation.jacobian.folded_cells`, volumes as shares of a cell's.
    ``rows`` (2, X, Y) tells which voxels are looked at; ``counts`` (X,) receives how many cells were found.
    """
    nx, ny, nz = field.shape[1:]
    solid = min(nx, ny, nz) > 1
    for i in nb.prange(max(nx - 1, 1)):
        ex = np.empty((2, 3, nz), f32)
        ey = np.empty((2, 3, nz), f32)
        ez = np.empty((2, 2, 3, nz), f32)
        worst = np.empty(nz, f32)
        found = 0
        for j in range(max(ny - 1, 1)):
            low = rows[0, i, j]
            high = min(rows[1, i, j], max(nz - 1, 1))
            if high <= low:
                continue
            _edges(field, i, j, low, high, ex, ey, ez)
            _corners(ex, ey, ez, low, high, nz - 1, worst)
            if solid:
                _middles(ex, ey, ez, low, high, worst)
            for k in range(low, high):
                bad = not worst[k] >= least
                out[i, j, k] = np.uint8(1) if bad else np.uint8(0)
                found += 1 if bad else 0
        counts[i] = found


@_inline
def _slope(field, a, i0, i1, j0, j1, k0, k1, apart):
    return (field[a, i1, j1, k1] - field[a, i0, j0, k0]) * apart


@_jit
def folded_voxels(field, least, rows, out, counts):
    """``out`` (X, Y, Z) = 1 for voxels with a determinant below ``least``: central differences, one-sided at borders.

    ``rows`` and ``counts`` as for :func:`folded_cells`.
    """
    nx, ny, nz = field.shape[1:]
    for i in nb.prange(nx):
        m = np.empty((3, 3), f32)
        i0, i1 = max(i - 1, 0), min(i + 1, nx - 1)
        di = f32(1) / f32(max(i1 - i0, 1))
        found = 0
        for j in range(ny):
            j0, j1 = max(j - 1, 0), min(j + 1, ny - 1)
            dj = f32(1) / f32(max(j1 - j0, 1))
            for k in range(rows[0, i, j], rows[1, i, j]):
                k0, k1 = max(k - 1, 0), min(k + 1, nz - 1)
                dk = f32(1) / f32(max(k1 - k0, 1))
                for a in range(3):
                    m[0, a] = _slope(field, a, i0, i1, j, j, k, k, di)
                    m[1, a] = _slope(field, a, i, i, j0, j1, k, k, dj)
                    m[2, a] = _slope(field, a, i, i, j, j, k0, k1, dk)
                for a in range(3):
                    m[a, a] += f32(1)
                here = _volume(m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2], m[2, 0], m[2, 1], m[2, 2])
                bad = not here >= least
                out[i, j, k] = np.uint8(1) if bad else np.uint8(0)
                found += 1 if bad else 0
        counts[i] = found


@_jit
def softened(field, places, out):
    """``out`` (3, N) = the vectors of ``field`` at voxels (N, 3), half-way to the mean of the 27 about them."""
    nx, ny, nz = field.shape[1:]
    for n in nb.prange(places.shape[0]):
        x, y, z = places[n, 0], places[n, 1], places[n, 2]
        for a in range(3):
            total = f32(0)
            for i in range(-1, 2):
                for j in range(-1, 2):
                    for k in range(-1, 2):
                        total += field[
                            a, min(max(x + i, 0), nx - 1), min(max(y + j, 0), ny - 1), min(max(z + k, 0), nz - 1)
                        ]
            here = field[a, x, y, z]
            out[a, n] = f32(0.5) * (here + total / f32(27))


@_jit
def settled(vectors, there, back, step, out):
    """``out`` (3, N) = ``back`` times the multiples of ``step`` nearest to ``there`` times the vectors."""
    for n in nb.prange(vectors.shape[1]):
        v0, v1, v2 = vectors[0, n], vectors[1, n], vectors[2, n]
        a = f32(np.rint((there[0, 0] * v0 + there[0, 1] * v1 + there[0, 2] * v2) / step)) * step
        b = f32(np.rint((there[1, 0] * v0 + there[1, 1] * v1 + there[1, 2] * v2) / step)) * step
        c = f32(np.rint((there[2, 0] * v0 + there[2, 1] * v1 + there[2, 2] * v2) / step)) * step
        for d in range(3):
            out[d, n] = back[d, 0] * a + back[d, 1] * b + back[d, 2] * c
