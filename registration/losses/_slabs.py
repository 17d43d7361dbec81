"""Batches cut into pieces along the first spatial axis, for losses that look at neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Slab:
    """Rows of the first spatial axis: ``own`` ones, the ``windows`` that reach them, the ``voxels`` those hold."""

    own: slice
    windows: slice
    voxels: slice

    @property
    def rows(self) -> slice:
        """Own within windows."""
        return _within(self.own, self.windows)

    @property
    def core(self) -> slice:
        """Own within voxels."""
        return _within(self.own, self.voxels)

    @property
    def inner(self) -> slice:
        """Windows within voxels."""
        return _within(self.windows, self.voxels)

    @property
    def alone(self) -> Slab:
        """The same slab in a tensor of its voxels only."""
        return Slab(self.core, self.inner, _within(self.voxels, self.voxels))


def slabs(data: Tensor, rows: int, reach: int, radius: int) -> Iterator[Slab]:
    """Cut (B, C, *S) data into so many own rows; windows are wanted ``reach`` rows beyond, and have a ``radius``."""
    n = data.shape[2]
    for start in range(0, n, rows):
        own = slice(start, min(n, start + rows))
        windows = slice(max(0, own.start - reach), min(n, own.stop + reach))
        yield Slab(own, windows, slice(max(0, windows.start - radius), min(n, windows.stop + radius)))


def part_of(values: Tensor, items: slice) -> Tensor:
    """Some of the B items of a tensor; a single item serves all."""
    return values if len(values) == 1 else values[items]


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
