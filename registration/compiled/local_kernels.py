"""Splines on a lattice at any points: a smooth part from nodes close by, and kernels of the knots close by.

Coordinates are steps of the lattice; of a 2-D lattice the first axis has one point.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

_FAST = {"contract", "arcp", "nsz", "reassoc"}
_TINY = 1e-30  # squared distances below count as zero
_CUSP = 1e-16  # of the squared radius: closer to a knot a slope counts as flat
_TAPS = 6  # nodes that a quintic B-spline reaches along an axis
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")
_inline: Any = nb.njit(inline="always", fastmath=_FAST, error_model="numpy")


@_inline
def _taps(t, value, slope):
    """Weights of the nodes -2 ... 3 of a quintic B-spline at 0 <= t < 1, and their derivatives, by recursion."""
    value[:] = 0.0
    value[0] = 1.0
    for k in range(1, _TAPS):
        if k == _TAPS - 1:
            for j in range(_TAPS - 1, 0, -1):
                slope[j] = value[j - 1] - value[j]
            slope[0] = -value[0]
        for j in range(k, 0, -1):
            value[j] = ((t + k - j) * value[j - 1] + (1.0 - t + j) * value[j]) / k
        value[0] *= (1.0 - t) / k


@_inline
def _near(r2, radius, flat, taylor):
    """The compact part of the kernel at a squared distance within the radius, and its derivative to that."""
    u = max(r2 / (radius * radius), _TINY)
    v = u - 1.0
    rest = taylor[4]
    slope = 4.0 * taylor[4]
    for j in range(3, 0, -1):
        rest = rest * v + taylor[j]
        slope = slope * v + j * taylor[j]
    rest = rest * v + taylor[0]
    if flat:
        log = math.log(u)
        return radius * radius * (0.5 * u * log - rest), 0.5 * (log + 1.0) - slope
    root = math.sqrt(u)
    cusp = 0.5 / root if u > _CUSP else 0.0
    return -radius * (root - rest), -(cusp - slope) / radius


@_inline
def _place(p, frame, size, knots, work):
    """Where the nodes and the knots about a point begin and end, and its weights; False beyond the nodes."""
    value, slope, first, end = work
    for a in range(3):
        first[0, a], end[0, a], first[1, a], end[1, a] = 0, 1, 0, 1
        if size[a] == 1:
            value[a, 0] = 1.0
            continue
        g = frame[0, a] * (p[a] + frame[1, a])
        if not (g >= 2.0 and g < size[a] - 3):
            return False
        whole = math.floor(g)
        first[0, a], end[0, a] = whole - 2, whole - 2 + _TAPS
        _taps(g - whole, value[a], slope[a])
        first[1, a] = max(0, math.ceil(p[a] - frame[3, a] + frame[2, a]))
        end[1, a] = min(knots[a], math.floor(p[a] + frame[3, a] + frame[2, a]) + 1)
    return True


@_inline
def _smooth(nodes, frame, work, lines, wanted, total):
    """Add what the nodes say: first sums over two axes, along rows of memory, then over the last."""
    value, slope, first, end = work
    channels = total.shape[0]
    taps = end[0, 2] - first[0, 2]
    lines[:] = 0.0
    for i in range(end[0, 0] - first[0, 0]):
        for j in range(end[0, 1] - first[0, 1]):
            start = first[0, 2] * channels
            row = nodes[first[0, 0] + i, first[0, 1] + j, start : start + taps * channels]
            w = value[0, i] * value[1, j]
            for m in range(taps * channels):
                lines[0, m] += w * row[m]
            if wanted:
                di = slope[0, i] * value[1, j] * frame[0, 0]
                dj = value[0, i] * slope[1, j] * frame[0, 1]
                for m in range(taps * channels):
                    lines[1, m] += di * row[m]
                    lines[2, m] += dj * row[m]
    for k in range(taps):
        for c in range(channels):
            m = k * channels + c
            total[c, 0] += value[2, k] * lines[0, m]
            if wanted:
                total[c, 1] += value[2, k] * lines[1, m]
                total[c, 2] += value[2, k] * lines[2, m]
                total[c, 3] += slope[2, k] * frame[0, 2] * lines[0, m]


@_inline
def _sharp(p, frame, knots, kernel, work, wanted, total):
    """Add the compact parts of the kernels about a point."""
    metric, radius, flat, taylor = kernel
    _, _, first, end = work
    for i in range(first[1, 0], end[1, 0]):
        x = p[0] + frame[2, 0] - i
        for j in range(first[1, 1], end[1, 1]):
            y = p[1] + frame[2, 1] - j
            for k in range(first[1, 2], end[1, 2]):
                z = p[2] + frame[2, 2] - k
                e = metric[0, 0] * x + metric[0, 1] * y + metric[0, 2] * z
                f = metric[1, 0] * x + metric[1, 1] * y + metric[1, 2] * z
                h = metric[2, 0] * x + metric[2, 1] * y + metric[2, 2] * z
                r2 = x * e + y * f + z * h
                if r2 < radius * radius:
                    part, steep = _near(r2, radius, flat, taylor)
                    for c in range(total.shape[0]):
                        w = knots[i, j, k, c]
                        total[c, 0] += w * part
                        if wanted:
                            total[c, 1] += 2.0 * w * steep * e
                            total[c, 2] += 2.0 * w * steep * f
                            total[c, 3] += 2.0 * w * steep * h


@_jit
def local(points, nodes, size, frame, knots, kernel, out, slopes, wanted):
    """Moves ``out`` (N, C) and, if ``wanted``, their ``slopes`` (N, C, 3) per step of the lattice.

    ``points`` (N, 3); ``nodes`` (X, Y, Z C) coefficients of quintic B-splines at ``frame[0, a] * (p + frame[1, a])``,
    ``size`` their X, Y, Z; ``knots`` (A, B, E, C) weights of kernels, the first at ``-frame[2, a]``, that reach
    ``frame[3, a]`` steps; ``kernel``: a (3, 3) metric of steps to squared scaled lengths, the radius, whether the
    kernel is that of the plane, and its polynomial. Beyond the nodes nothing moves.
    """
    channels = knots.shape[3]
    for block in nb.prange((len(points) + _BLOCK - 1) // _BLOCK):
        work = np.zeros((3, _TAPS)), np.zeros((3, _TAPS)), np.zeros((2, 3), np.int64), np.ones((2, 3), np.int64)
        lines, total = np.zeros((3, _TAPS * channels)), np.zeros((channels, 4))
        for n in range(block * _BLOCK, min((block + 1) * _BLOCK, len(points))):
            total[:] = 0.0
            if _place(points[n], frame, size, knots.shape, work):
                _smooth(nodes, frame, work, lines, wanted, total)
                _sharp(points[n], frame, knots, kernel, work, wanted, total)
            for c in range(channels):
                out[n, c] = total[c, 0]
                if wanted:
                    for a in range(3):
                        slopes[n, c, a] = total[c, 1 + a]


_BLOCK = 256  # points that share their scratch
