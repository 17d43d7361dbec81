"""Sums of biharmonic kernels over the knots of a thin-plate spline, float64: ``-r`` in 3-D, ``r**2 log r`` in 2-D."""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

_FAST = {"contract", "arcp", "nsz", "reassoc"}
_TINY = 1e-30  # squared distances below count as zero
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")


@_jit
def moves_3d(points, nodes, weights, out):
    """``out`` (N, 3) = sum over K of ``-r`` times (3, K) ``weights``; ``points`` (N, 3), ``nodes`` (3, K)."""
    for n in nb.prange(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        a, b, c = 0.0, 0.0, 0.0
        for k in range(nodes.shape[1]):
            p, q, s = x - nodes[0, k], y - nodes[1, k], z - nodes[2, k]
            r = math.sqrt(p * p + q * q + s * s)
            a += weights[0, k] * r
            b += weights[1, k] * r
            c += weights[2, k] * r
        out[n, 0], out[n, 1], out[n, 2] = -a, -b, -c


@_jit
def moves_2d(points, nodes, weights, out):
    """``out`` (N, 2) = sum over K of ``r**2 log r`` times (2, K) ``weights``; ``points`` (N, 2), ``nodes`` (2, K)."""
    for n in nb.prange(points.shape[0]):
        x, y = points[n, 0], points[n, 1]
        a, b = 0.0, 0.0
        for k in range(nodes.shape[1]):
            p, q = x - nodes[0, k], y - nodes[1, k]
            r2 = max(p * p + q * q, _TINY)
            u = 0.5 * r2 * math.log(r2)
            a += weights[0, k] * u
            b += weights[1, k] * u
        out[n, 0], out[n, 1] = a, b


@_jit
def slopes_3d(points, nodes, weights, out):
    """``out`` (N, 3, 3): the derivatives of :func:`moves_3d`, the component first; at a knot it counts as flat."""
    for n in nb.prange(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        m = np.zeros((3, 3))
        m00, m01, m02, m10, m11, m12, m20, m21, m22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(nodes.shape[1]):
            p, q, s = x - nodes[0, k], y - nodes[1, k], z - nodes[2, k]
            f = 1.0 / math.sqrt(max(p * p + q * q + s * s, _TINY))
            p, q, s = p * f, q * f, s * f
            u, v, w = weights[0, k], weights[1, k], weights[2, k]
            m00 += u * p
            m01 += u * q
            m02 += u * s
            m10 += v * p
            m11 += v * q
            m12 += v * s
            m20 += w * p
            m21 += w * q
            m22 += w * s
        m[0, 0], m[0, 1], m[0, 2] = m00, m01, m02
        m[1, 0], m[1, 1], m[1, 2] = m10, m11, m12
        m[2, 0], m[2, 1], m[2, 2] = m20, m21, m22
        out[n] = -m


@_jit
def slopes_2d(points, nodes, weights, out):
    """``out`` (N, 2, 2): the derivatives of :func:`moves_2d`, the component first."""
    for n in nb.prange(points.shape[0]):
        x, y = points[n, 0], points[n, 1]
        m00, m01, m10, m11 = 0.0, 0.0, 0.0, 0.0
        for k in range(nodes.shape[1]):
            p, q = x - nodes[0, k], y - nodes[1, k]
            f = math.log(max(p * p + q * q, _TINY)) + 1.0
            m00 += weights[0, k] * p * f
            m01 += weights[0, k] * q * f
            m10 += weights[1, k] * p * f
            m11 += weights[1, k] * q * f
        out[n, 0, 0], out[n, 0, 1], out[n, 1, 0], out[n, 1, 1] = m00, m01, m10, m11
