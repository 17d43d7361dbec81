"""The inverse of a displacement field (3, X, Y, Z) in voxels: Newton's method in the cells of linear interpolation."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, clamped

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=FAST, error_model="numpy")


@_inline
def _cell(v, place, u, jacobian):
    """Displacement (3,) of a (3, X, Y, Z) field at voxel coordinates, and its derivatives (3, 3) in that cell."""
    nx, ny, nz = v.shape[1:]
    x = clamped(place[0], nx)
    y = clamped(place[1], ny)
    z = clamped(place[2], nz)
    i = min(np.int64(x), max(nx - 2, 0))
    j = min(np.int64(y), max(ny - 2, 0))
    k = min(np.int64(z), max(nz - 2, 0))
    fx = x - f32(i)
    fy = y - f32(j)
    fz = z - f32(k)
    i1 = min(i + 1, nx - 1)
    j1 = min(j + 1, ny - 1)
    k1 = min(k + 1, nz - 1)
    for a in range(3):
        c000 = v[a, i, j, k]
        c001 = v[a, i, j, k1]
        c010 = v[a, i, j1, k]
        c011 = v[a, i, j1, k1]
        c100 = v[a, i1, j, k]
        c101 = v[a, i1, j, k1]
        c110 = v[a, i1, j1, k]
        c111 = v[a, i1, j1, k1]
        c00 = c000 + fz * (c001 - c000)
        c01 = c010 + fz * (c011 - c010)
        c10 = c100 + fz * (c101 - c100)
        c11 = c110 + fz * (c111 - c110)
        c0 = c00 + fy * (c01 - c00)
        c1 = c10 + fy * (c11 - c10)
        u[a] = c0 + fx * (c1 - c0)
        jacobian[a, 0] = c1 - c0
        jacobian[a, 1] = c01 - c00 + fx * (c11 - c10 - c01 + c00)
        d0 = c001 - c000 + fy * (c011 - c010 - c001 + c000)
        d1 = c101 - c100 + fy * (c111 - c110 - c101 + c100)
        jacobian[a, 2] = d0 + fx * (d1 - d0)
        jacobian[a, a] += f32(1)


@_inline
def _newton(jacobian, rest, step):
    """step = - jacobian^-1 rest, no longer than a voxel; towards the fixed point where the jacobian is no help."""
    p = jacobian[0]
    q = jacobian[1]
    r = jacobian[2]
    yz0 = q[1] * r[2] - q[2] * r[1]
    yz1 = q[2] * r[0] - q[0] * r[2]
    yz2 = q[0] * r[1] - q[1] * r[0]
    volume = p[0] * yz0 + p[1] * yz1 + p[2] * yz2
    if volume > f32(0.01):
        s = f32(-1) / volume
        step[0] = s * (yz0 * rest[0] + (p[2] * r[1] - p[1] * r[2]) * rest[1] + (p[1] * q[2] - p[2] * q[1]) * rest[2])
        step[1] = s * (yz1 * rest[0] + (p[0] * r[2] - p[2] * r[0]) * rest[1] + (p[2] * q[0] - p[0] * q[2]) * rest[2])
        step[2] = s * (yz2 * rest[0] + (p[1] * r[0] - p[0] * r[1]) * rest[1] + (p[0] * q[1] - p[1] * q[0]) * rest[2])
    else:
        for a in range(3):
            step[a] = f32(-0.5) * rest[a]
    length = np.sqrt(step[0] * step[0] + step[1] * step[1] + step[2] * step[2])
    if length > f32(1):
        for a in range(3):
            step[a] /= length


@_jit
def invert(field, matrix, turn, rounds, tolerance, out):
    """out(i), voxels of a lattice, with q = M (i + out(i)) where q + field(q) = M i: Newton steps in linear cells.

    ``matrix`` M (3, 4) leads from voxels of the lattice to voxels of the field, ``turn`` (3, 3) brings steps back.
    """
    nx, ny, nz = out.shape[1:]
    for i in nb.prange(nx):
        start = np.empty(3, f32)
        u = np.empty(3, f32)
        w = np.empty(3, f32)
        place = np.empty(3, f32)
        rest = np.empty(3, f32)
        step = np.empty(3, f32)
        jacobian = np.empty((3, 3), f32)
        for j in range(ny):
            for k in range(nz):
                for a in range(3):
                    start[a] = matrix[a, 0] * f32(i) + matrix[a, 1] * f32(j) + matrix[a, 2] * f32(k) + matrix[a, 3]
                _cell(field, start, u, jacobian)
                for a in range(3):
                    w[a] = -u[a]
                for _ in range(rounds):
                    for a in range(3):
                        place[a] = start[a] + w[a]
                    _cell(field, place, u, jacobian)
                    square = f32(0)
                    for a in range(3):
                        rest[a] = w[a] + u[a]
                        square += rest[a] * rest[a]
                    if square < tolerance * tolerance:
                        break
                    _newton(jacobian, rest, step)
                    for a in range(3):
                        w[a] += step[a]
                for a in range(3):
                    out[a, i, j, k] = turn[a, 0] * w[0] + turn[a, 1] * w[1] + turn[a, 2] * w[2]
