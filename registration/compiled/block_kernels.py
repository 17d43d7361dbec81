"""Squared local correlation in wide windows made of blocks of voxels: two sweeps through memory at any size."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, extent, push_line

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_plain: Any = nb.njit(fastmath=FAST, error_model="numpy")  # called, for copies take seconds more to compile


@_jit
def block_sums(first, second, mass, weighted, rows, block, shifts, sums):
    """(6, X', Y', Z') sums of a, b, aa, bb, ab and the weights over the blocks of (X, Y, Z) images."""
    nx, ny, nz = first.shape
    for p in nb.prange(sums.shape[1]):
        line = np.empty((6, nz), f32)
        for q in range(sums.shape[2]):
            line[:] = f32(0)
            for i in range(p * block[0], min(p * block[0] + block[0], nx)):
                for j in range(q * block[1], min(q * block[1] + block[1], ny)):
                    low = rows[0, i, j]
                    high = rows[1, i, j]
                    u = first[i, j, low:high]
                    v = second[i, j, low:high]
                    g = mass[i, j, low:high]
                    part = line[:, low:high]
                    for k in range(high - low):
                        w = f32(g[k]) if weighted else f32(1)
                        a = u[k] - shifts[0]
                        b = v[k] - shifts[1]
                        part[0, k] += w * a
                        part[1, k] += w * b
                        part[2, k] += w * a * a
                        part[3, k] += w * b * b
                        part[4, k] += w * a * b
                        part[5, k] += w
            for c in range(6):
                for r in range(sums.shape[3]):
                    total = f32(0)
                    for k in range(r * block[2], min(r * block[2] + block[2], nz)):
                        total += line[c, k]
                    sums[c, p, q, r] = total


@_plain
def _plane_pushes(first, second, mass, weighted, rows, block, shifts, terms, metric, out, i):
    """The part of :func:`block_pushes` of one plane."""
    nz = first.shape[2]
    j0, j1, _, _ = extent(rows[:, i], nz)
    t = np.empty((5, nz), f32)
    du = np.empty((3, nz), f32)
    dv = np.empty((3, nz), f32)
    to = np.empty((2, nz), f32)
    p = i // block[0]
    held = -1
    for j in range(j0, j1):
        low = rows[0, i, j]
        high = rows[1, i, j]
        n = high - low
        if n <= 0:
            continue
        if j // block[1] != held:
            held = j // block[1]
            for c in range(5):
                for k in range(nz):
                    t[c, k] = terms[c, p, held, k // block[2]]
        here = t[:, low:high]
        u = first[i, j, low:high]
        v = second[i, j, low:high]
        g = mass[i, j, low:high]
        for k in range(n):
            w = f32(g[k]) if weighted else f32(1)
            a = u[k] - shifts[0]
            b = v[k] - shifts[1]
            to[0, k] = w * (b * here[0, k] - a * here[1, k] + here[3, k])
            to[1, k] = w * (a * here[0, k] - b * here[2, k] + here[4, k])
        push_line(first, second, i, j, low, to[0], to[1], du[:, :n], dv[:, :n], metric, out)


@_jit
def block_pushes(first, second, mass, weighted, rows, block, shifts, terms, metric, out):
    """Adds to ``out`` (D, X, Y, Z) metric times the derivative to opposite moves of both images.

    ``terms`` (5, X', Y', Z') holds what the windows give to the derivatives in every block.
    """
    for i in nb.prange(first.shape[0]):
        _plane_pushes(first, second, mass, weighted, rows, block, shifts, terms, metric, out, np.int64(i))
