"""Where dense work is done: rows of voxels that matter, and the voxels among them that count."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a grid (X, Y, Z); a 2-D grid is one whose first axis has one voxel.

    Parameters
    ----------
    rows
        (2, X, Y) int32 on the CPU: for every row of voxels along the last axis, where work begins and ends.
    mass
        (X, Y, Z) uint8, 1 for voxels that count; None if all do. Voxels that count lie at least as far inside the rows
        as the radius of any window that is used with them.
    """

    rows: Tensor
    mass: Tensor | None = None
    _kept: dict[Any, Tensor] = field(default_factory=dict)

    @classmethod
    def whole(cls, shape: tuple[int, int, int]) -> Region:
        """All of a grid."""
        return cls(every_row(shape))

    @classmethod
    def of(cls, mass: Tensor, reach: int) -> Region:
        """The voxels of an (X, Y, Z) boolean mask, and the rows within ``reach`` voxels of them."""
        if bool(mass.all()):
            return cls.whole(tuple(mass.shape))  # type: ignore[arg-type]
        near = mass.float()[None, None]
        for axis, n in enumerate(mass.shape):
            if n > 1:
                window = [1, 1, 1]
                window[axis] = 2 * reach + 1
                near = F.max_pool3d(near, window, stride=1, padding=[w // 2 for w in window])
        return cls(rows_of(near[0, 0] > 0), mass.to(torch.uint8).contiguous())

    @property
    def voxels(self) -> int:
        """How many voxels count."""
        return int((self.rows[1] - self.rows[0]).sum()) if self.mass is None else int(self.mass.count_nonzero())

    def counts(self, radius: tuple[int, int, int]) -> Tensor:
        """(X, Y, Z) how many voxels count in the window about each; made once."""
        assert self.mass is not None
        if radius not in self._kept:
            total = self.mass.int()
            for axis, r in enumerate(radius):
                total = window_sums(total, axis, r)
            self._kept[radius] = total.float().contiguous()
        return self._kept[radius]

    def scratch(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        """(count, X, Y, Z) of memory whose content lasts until the next call; fresh memory costs more than the work."""
        if ("scratch", count) not in self._kept:
            self._kept["scratch", count] = torch.zeros(count, *shape, dtype=torch.float32)
        return self._kept["scratch", count]

    def weight(self) -> Tensor | None:
        """(X, Y, Z) float32 weights, or None if all voxels count."""
        return None if self.mass is None else self.mass.float()


@lru_cache(maxsize=8)
def every_row(shape: tuple[int, int, int]) -> Tensor:
    """The rows of a whole grid."""
    rows = torch.zeros(2, *shape[:2], dtype=torch.int32)
    rows[1] = shape[2]
    return rows


def rows_of(inside: Tensor) -> Tensor:
    """(2, X, Y) the first and last voxel (and one) of an (X, Y, Z) boolean mask in every row; 0, 0 for none."""
    index = torch.arange(inside.shape[2], device=inside.device, dtype=torch.int32)
    low = torch.where(inside, index, inside.shape[2]).amin(dim=2)
    high = torch.where(inside, index + 1, 0).amax(dim=2)
    return torch.stack([torch.minimum(low, high), high]).int().cpu().contiguous()


def window_sums(x: Tensor, axis: int, radius: int) -> Tensor:
    """Sums over ``2*radius+1`` neighbours along one axis, by differences of running sums; outside there is nothing."""
    if radius == 0:
        return x
    n = x.shape[axis]
    total = F.pad(x.cumsum(dim=axis, dtype=x.dtype), [0, 0] * (x.ndim - 1 - axis % x.ndim) + [1, 0])
    index = torch.arange(n, device=x.device)
    high, low = (index + radius + 1).clamp(max=n), (index - radius).clamp(min=0)
    return total.index_select(axis, high) - total.index_select(axis, low)
