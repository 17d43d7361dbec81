"""What joint histograms of blocks tell in windows of several blocks."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .line_kernels import ORDERED, box_rows

f32 = np.float32
_jit: Any = nb.njit(parallel=True, fastmath=ORDERED, cache=True, error_model="numpy")
_inner: Any = nb.njit(fastmath=ORDERED, cache=True, error_model="numpy")


@_inner
def _plane_windows(blocks, p, radius, out, held):
    """out (Y', Z', N N) = sums of blocks (X', Y', Z', N N) over the windows about those of one plane."""
    nx, ny, nz, cells = blocks.shape
    plane, passed = out.reshape(ny, nz * cells), held.reshape(ny, nz * cells)
    low = max(p - radius, 0)
    for a in range(ny):
        line = plane[a]
        for i in range(low, min(p + radius + 1, nx)):
            source = blocks[i, a].reshape(nz * cells)
            for c in range(nz * cells):
                line[c] = source[c] if i == low else line[c] + source[c]
    box_rows(plane, passed, radius)
    for a in range(ny):
        box_rows(held[a], out[a], radius)


@_inner
def _sum(x):
    """The sum over an (N, N) array, in whole rows."""
    row = np.zeros(x.shape[1], f32)
    for m in range(x.shape[0]):
        for n in range(x.shape[1]):
            row[n] += x[m, n]
    total = f32(0)
    for n in range(x.shape[1]):
        total += row[n]
    return total


@_inner
def _window_information(window, usual, logs, prior, own, slopes):
    """The information of one window, and times ``own`` its derivative to the cells; ``window`` is overwritten."""
    bins = window.shape[0]
    seen = prior + _sum(window)
    scale = f32(1) / seen
    less = np.log(seen)
    columns = np.zeros(bins, f32)
    for m in range(bins):
        for n in range(bins):
            # Most cells of a window are empty, and what the prior puts there has the same logarithm in all.
            slopes[m, n] = logs[m, n] if window[m, n] == f32(0) else np.log(window[m, n] + usual[m, n])
        row = f32(0)
        for n in range(bins):
            window[m, n] = (window[m, n] + usual[m, n]) * scale
            columns[n] += window[m, n]
            row += window[m, n]
        row = np.log(row) + less
        for n in range(bins):
            slopes[m, n] -= row
    for n in range(bins):
        columns[n] = np.log(columns[n])
    factor = own * scale
    for m in range(bins):
        for n in range(bins):
            told = slopes[m, n] - columns[n]
            window[m, n] *= told
            slopes[m, n] = told * factor
    return _sum(window)


@_inner
def _plane_information(blocks, bins, radius, usual, logs, prior, slopes, p):
    """The part of :func:`window_information` of the windows about one plane of blocks."""
    _, ny, nz, cells = blocks.shape
    windows = np.empty((ny, nz, cells), f32)
    held = np.empty((ny, nz, cells), f32)
    _plane_windows(blocks, p, radius, windows, held)
    square = (bins, bins)
    both = usual.reshape(square), logs.reshape(square)
    total = 0.0
    for a in range(ny):
        for b in range(nz):
            own = _sum(blocks[p, a, b].reshape(square))
            window, slope = windows[a, b].reshape(square), slopes[p, a, b].reshape(square)
            total += np.float64(own) * np.float64(_window_information(window, *both, prior, own, slope))
    return total


@_inner
def _plane_slopes(slopes, radius, more, terms, p):
    """terms = sums of slopes over the windows about the blocks of one plane, and ``more``."""
    _, ny, nz, cells = slopes.shape
    held = np.empty((ny, nz, cells), f32)
    _plane_windows(slopes, p, radius, terms[p], held)
    for a in range(ny):
        for b in range(nz):
            for c in range(cells):
                terms[p, a, b, c] += more[c]


@_inner
def _total(blocks):
    """(N N) sums over all blocks, one after another."""
    cells = blocks.shape[3]
    total = np.zeros(cells)
    for block in blocks.reshape(blocks.size // cells, cells):
        for c in range(cells):
            total[c] += block[c]
    return total


@_inner
def _usual(sums, prior, even):
    """The prior's voxels in every cell, their logarithms, and how many voxels there are."""
    whole = _total(sums)
    count = 0.0
    for number in whole:
        count += number
    count = max(count, 1e-30)
    usual = np.empty(whole.size, f32)
    logs = np.empty(whole.size, f32)
    for c in range(whole.size):
        usual[c] = prior * ((1 - even) * whole[c] / count + even / whole.size)
        logs[c] = np.log(usual[c])
    return usual, logs, count


@_inner
def _by_prior(slopes, share):
    """The share of the derivatives to all windows that every cell has by the prior."""
    total = _total(slopes)
    more = np.empty(total.size, f32)
    for c in range(total.size):
        more[c] = share * total[c]
    return more


@_jit
def window_information(sums, bins, radius, prior, even, terms):
    """The information of windows about (X', Y', Z', N N) histograms of blocks, summed over voxels, and their number.

    To every window ``prior`` voxels of the whole image are added, of which the share ``even`` is spread over all cells.
    ``terms``, of the shape of ``sums``, receives the derivative to every cell.
    """
    usual, logs, count = _usual(sums, prior, even)
    slopes = np.empty(sums.shape, f32)
    values = np.empty(sums.shape[0])
    for p in nb.prange(sums.shape[0]):
        values[p] = _plane_information(sums, bins, radius, usual, logs, f32(prior), slopes, np.int64(p))
    more = _by_prior(slopes, (1 - even) * prior / count)
    for p in nb.prange(sums.shape[0]):
        _plane_slopes(slopes, radius, more, terms, np.int64(p))
    return values, count
