"""Telling label maps from intensities by their voxels alone."""

from __future__ import annotations

import numpy as np

_GLANCE = 1 << 16  # voxels that a first look takes
_BLOCK = 1 << 22  # voxels that are counted at once


def looks_like_labels(array: np.ndarray, most: int = 1024) -> bool:
    """Whether voxels in the type of the file are labels: whole numbers, few, and mostly equal to their neighbours.

    A grey image may have few distinct values too, but its foreground is not made of flat patches.
    """
    if array.dtype.kind == "f":
        few = array.ravel(order="K")[:: max(1, array.size // _GLANCE)]
        if not all(bool((part == np.rint(part)).all()) for part in (few, array)):  # the first look is the cheap one
            return False
    elif array.dtype.kind not in "iub":
        return False
    low, high = float(array.min()), float(array.max())
    if low == high or max(-low, high) > 2**53:
        return False
    values, counts = _used(array, int(low), int(high), most)
    if len(values) > most:
        return False
    foreground = array != values[counts.argmax()]
    same = inside = 0
    for axis in range(array.ndim):
        (a, b), (one, other) = ((x[:-1], x[1:]) for x in (np.moveaxis(y, axis, 0) for y in (array, foreground)))
        both = one & other
        inside += int(np.count_nonzero(both))
        both &= a == b
        same += int(np.count_nonzero(both))
    return same >= 0.7 * inside


def _used(array: np.ndarray, low: int, high: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The values of whole numbers, and how often they occur; perhaps of a part where that has more than ``most``."""
    flat = array.ravel(order="K")
    if high - low <= 1 << 20:
        counts = np.zeros(high - low + 1, dtype=np.int64)
        for start in range(0, flat.size, _BLOCK):  # in 64 bits the whole would take eight times the memory of bytes
            counts += np.bincount(flat[start : start + _BLOCK].astype(np.int64) - low, minlength=len(counts))
        values = counts.nonzero()[0]
        return values + low, counts[values]
    part = np.unique(flat[:: max(1, flat.size // _GLANCE)], return_counts=True)
    return part if len(part[0]) > most else np.unique(flat, return_counts=True)
