"""Matrix products whose every bit is fixed; importing this imports numba.

Libraries of linear algebra choose among kernels by where the operands lie in memory and by the number of threads, and
round differently with each. Here every entry is one sum in one order.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")
_ROWS = 16  # that are worked on together: one line of memory
_COLUMNS = 64


@_jit
def times(matrix, columns, out):
    """out (V, G) = columns (V, K) times the transpose of matrix (G, K)."""
    count, size = columns.shape
    for g in nb.prange(matrix.shape[0]):
        for v in range(count):
            total = matrix[0, 0] * 0
            for k in range(size):
                total += matrix[g, k] * columns[v, k]
            out[v, g] = total


@_jit
def times_transposed(matrix, columns, out):
    """out (V, K) = columns (V, G) times matrix (G, K)."""
    count, size = out.shape
    for part in nb.prange((size + _COLUMNS - 1) // _COLUMNS):
        low, high = part * _COLUMNS, min(size, part * _COLUMNS + _COLUMNS)
        sums = np.zeros((count, high - low), out.dtype)
        for g in range(matrix.shape[0]):
            line = matrix[g, low:high]
            for v in range(count):
                factor = columns[v, g]
                for k in range(high - low):
                    sums[v, k] += factor * line[k]
        out[:, low:high] = sums


@_jit
def turn(values, matrix, out):
    """out (R, S) = the transpose of values (N, R) times matrix (N, S)."""
    count, rows = values.shape
    size = matrix.shape[1]
    for part in nb.prange((rows + _ROWS - 1) // _ROWS):
        low, high = part * _ROWS, min(rows, part * _ROWS + _ROWS)
        out[low:high] = 0
        for n in range(count):
            line = matrix[n]
            for r in range(low, high):
                factor = values[n, r]
                for s in range(size):
                    out[r, s] += factor * line[s]


@_jit
def turn_back(values, matrix, out):
    """out (N, R) = matrix (S, N), transposed, times the transpose of values (R, S)."""
    rows, count = values.shape
    size = matrix.shape[1]
    for part in nb.prange((rows + _ROWS - 1) // _ROWS):
        low, high = part * _ROWS, min(rows, part * _ROWS + _ROWS)
        sums = np.zeros((high - low, size), out.dtype)
        for s in range(count):
            line = matrix[s]
            for r in range(high - low):
                factor = values[low + r, s]
                for n in range(size):
                    sums[r, n] += factor * line[n]
        for n in range(size):
            for r in range(high - low):
                out[n, low + r] = sums[r, n]
