"""How alike features are to those of neighbouring voxels; importing this imports numba."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

_FAST = {"contract", "arcp", "nsz", "reassoc"}
_jit: Any = nb.njit(parallel=True, fastmath=_FAST, cache=True, error_model="numpy")


@_jit
def correlate(first, second, near, out):
    """out (B, N, K) = mean products of first (B, N, C) with second (B, N, C) at near (N, K), 0 where below 0."""
    channels = np.float32(first.shape[2])
    for n in nb.prange(first.shape[1]):
        for b in range(first.shape[0]):
            for k in range(near.shape[1]):
                other = near[n, k]
                total = first[0, 0, 0] * 0
                if other >= 0:
                    for c in range(first.shape[2]):
                        total += first[b, n, c] * second[b, other, c]
                out[b, n, k] = total / channels


@_jit
def derivative(grad, features, near, of_second, out):
    """out (B, N, C): the derivative of :func:`correlate` by one side, from grad (B, N, K) and the other's features.

    A voxel of the second side is read from the places whose k-th neighbour it is: they lie at the k-th last offset.
    """
    last = near.shape[1] - 1
    channels = np.float32(out.shape[2])
    for n in nb.prange(out.shape[1]):
        for b in range(out.shape[0]):
            for c in range(out.shape[2]):
                out[b, n, c] = 0
            for k in range(near.shape[1]):
                other = np.int64(near[n, last - k if of_second else k])
                if other >= 0:
                    factor = grad[b, other if of_second else np.int64(n), k] / channels
                    for c in range(out.shape[2]):
                        out[b, n, c] += factor * features[b, other, c]
