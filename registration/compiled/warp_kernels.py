"""Displacement fields (3, X, Y, Z) in voxels: pull images through them, compose; rows as in field_kernels."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import FAST, clamped, copy

f32 = np.float32
i32 = np.int32
_jit: Any = nb.njit(parallel=True, fastmath=FAST, cache=True, error_model="numpy")
_plain: Any = nb.njit(fastmath=FAST, error_model="numpy")  # called, for copies take seconds more to compile
_inline: Any = nb.njit(inline="always", fastmath=FAST, error_model="numpy")


@_inline
def _mixed(v, first, steps, fractions, k):
    """Linear interpolation in a flat image; positions and fractions of voxel k of the row lie in buffers."""
    at = np.uint32(first[k])
    dx = np.uint32(steps[0, k])
    dy = np.uint32(steps[1, k])
    dz = np.uint32(steps[2, k])
    fz = fractions[2, k]
    c00 = v[at] + fz * (v[at + dz] - v[at])
    c01 = v[at + dy] + fz * (v[at + dy + dz] - v[at + dy])
    c10 = v[at + dx] + fz * (v[at + dx + dz] - v[at + dx])
    c11 = v[at + dx + dy] + fz * (v[at + dx + dy + dz] - v[at + dx + dy])
    c0 = c00 + fractions[1, k] * (c01 - c00)
    c1 = c10 + fractions[1, k] * (c11 - c10)
    return c0 + fractions[0, k] * (c1 - c0)


@_inline
def _place(x, y, z, size, first, steps, fractions, k):
    """Write where a coordinate falls in an image of ``size`` voxels into the buffers of the row."""
    nx, ny, nz = size
    x = clamped(x, nx)
    y = clamped(y, ny)
    z = clamped(z, nz)
    i = i32(x)
    j = i32(y)
    m = i32(z)
    fractions[0, k] = x - f32(i)
    fractions[1, k] = y - f32(j)
    fractions[2, k] = z - f32(m)
    first[k] = (i * i32(ny) + j) * i32(nz) + m
    steps[0, k] = i32(ny * nz) if i < nx - 1 else i32(0)
    steps[1, k] = i32(nz) if j < ny - 1 else i32(0)
    steps[2, k] = i32(1) if m < nz - 1 else i32(0)


@_jit
def pull(image, matrix, field, rows, out):
    """out[c](i) = image[c](matrix (i + field(i))), linear, border values outside; matrix (3, 4) maps voxels."""
    size = image.shape[1:]
    flat = image.reshape(image.shape[0], size[0] * size[1] * size[2])
    n = field.shape[3]
    for i in nb.prange(field.shape[1]):
        first = np.empty(n, i32)
        steps = np.empty((3, n), i32)
        fractions = np.empty((3, n), f32)
        for j in range(field.shape[2]):
            low = rows[0, i, j]
            high = rows[1, i, j]
            for k in range(low, high):
                a = f32(i) + field[0, i, j, k]
                b = f32(j) + field[1, i, j, k]
                c = f32(k) + field[2, i, j, k]
                x = matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + matrix[0, 3]
                y = matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + matrix[1, 3]
                z = matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + matrix[2, 3]
                _place(x, y, z, size, first, steps, fractions, k)
            for m in range(image.shape[0]):
                v = flat[m]
                for k in range(low, high):
                    out[m, i, j, k] = _mixed(v, first, steps, fractions, k)


@_jit
def compose(field, step, keep, sign, rows, out):
    """out(i) = keep * step(i) + sign * field(i + step(i)): composition for 1, 1; an inversion step for 0, -1."""
    size = field.shape[1:]
    n = size[2]
    flat = field.reshape(3, size[0] * size[1] * n)
    for i in nb.prange(size[0]):
        first = np.empty(n, i32)
        steps = np.empty((3, n), i32)
        fractions = np.empty((3, n), f32)
        for j in range(size[1]):
            low = rows[0, i, j]
            high = rows[1, i, j]
            for k in range(low, high):
                x = f32(i) + step[0, i, j, k]
                y = f32(j) + step[1, i, j, k]
                z = f32(k) + step[2, i, j, k]
                _place(x, y, z, size, first, steps, fractions, k)
            for m in range(3):
                v = flat[m]
                for k in range(low, high):
                    out[m, i, j, k] = keep * step[m, i, j, k] + sign * _mixed(v, first, steps, fractions, k)


_PLANES = 8  # worked on at a time: with those beside them they stay in the cache
_CUT = f32(1e-3)  # voxels, more than rounding of a place


@_plain
def _gather(flat, start, out):
    """Planes of (3, X, A) from ``start`` on to (3, R, A), as far as there are any."""
    for q in range(out.shape[1]):
        if 0 <= start + q < flat.shape[1]:
            for m in range(3):
                copy(flat[m, start + q], out[m, q])


@_plain
def _replace(planes, start, end, beyond):
    """Of planes that begin with ``start``, those from ``end`` on become ``beyond``, which begins there."""
    for q in range(planes.shape[1]):
        if 0 <= start + q - end < beyond.shape[1]:
            for m in range(3):
                copy(beyond[m, start + q - end], planes[m, q])


@_plain
def _keep_edges(flat, p, parts, edges):
    """Copy the planes beside one part."""
    nx = flat.shape[1]
    _gather(flat, p * nx // parts - edges.shape[3], edges[p, 0])
    _gather(flat, (p + 1) * nx // parts, edges[p, 1])


@_plain
def _follow_part(field, step, sign, one, reach, rows, p, parts, edges):
    """The part of :func:`follow` of one of ``parts``, given what lies beside all of them."""
    _, nx, ny, n = field.shape
    flat = field.reshape(3, nx, ny * n)
    begin, end = p * nx // parts, (p + 1) * nx // parts
    old = np.empty((3, _PLANES + 2 * reach, ny * n), f32)
    first = np.empty(n, i32)
    steps = np.empty((3, n), i32)
    fractions = np.empty((3, n), f32)
    _gather(edges[p, 0], 0, old[:, _PLANES : _PLANES + reach])  # an assignment takes seconds to compile
    _gather(flat, begin, old[:, _PLANES + reach :])
    _replace(old[:, _PLANES + reach :], begin, end, edges[p, 1])
    for base in range(begin, end, _PLANES):
        for q in range(2 * reach):
            for m in range(3):
                copy(old[m, q + _PLANES], old[m, q])
        _gather(flat, base + reach, old[:, 2 * reach :])
        _replace(old[:, 2 * reach :], base + reach, end, edges[p, 1])
        for i in range(base, min(base + _PLANES, end)):
            for j in range(ny):
                low, high = rows[0, i, j], rows[1, i, j]
                for k in range(low, high):
                    x = f32(i) + sign * step[0, i, j, k]
                    y = f32(j) + sign * step[1, i, j, k]
                    z = f32(k) + sign * step[2, i, j, k]
                    x = min(max(x, f32(i - reach)), f32(i + reach) - _CUT) if x == x else f32(i)
                    _place(x, y, z, (nx, ny, n), first, steps, fractions, k)
                    first[k] -= i32((base - reach) * ny * n)
                for m in range(3):
                    v = old[m].reshape(old.shape[1] * ny * n)
                    for k in range(low, high):
                        field[m, i, j, k] = sign * step[m, i, j, k] + one * _mixed(v, first, steps, fractions, k)


@_jit
def follow(field, step, sign, one, reach, rows, parts):
    """field(i) = sign * step(i) + field(i + sign * step(i)) in place; no component of step is as long as ``reach``.

    Planes are copied before they are written, in ``parts`` that are worked on side by side. Longer steps are cut. A
    factor ``one`` that no compiler knows of makes it round as :func:`compose` does.
    """
    _, nx, ny, n = field.shape
    flat = field.reshape(3, nx, ny * n)
    edges = np.empty((parts, 2, 3, reach, ny * n), f32)  # what lies beside each part before anything is written
    for p in nb.prange(parts):
        _keep_edges(flat, np.int64(p), parts, edges)
    for p in nb.prange(parts):
        _follow_part(field, step, sign, one, reach, rows, np.int64(p), parts, edges)
