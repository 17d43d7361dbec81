"""Windowed (local) normalised cross-correlation with a closed-form gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .. import compiled
from ..compiled import Region
from ..limits import WIDEST, check_above, check_counts
from ._windows import Side, Statistics, correlate, side, statistics
from .base import Bound, Similarity, checked, joined, single, total


class LocalNormalisedCrossCorrelation(Similarity):
    """``1 - mean(cc)``, with ``cc = cov**2 / (var_warped * var_fixed)`` in a window about every voxel.

    Blind to local gain, offset and inversion of contrast (Avants et al. 2008, doi:10.1016/j.media.2007.06.004). Mean
    and variance of a window count only voxels inside the image and weighted by the mask, so neither the border nor
    the edge of the valid region makes a false correlation; the mean over windows is weighted by the mask at their
    centres. Channels are averaged.

    The gradient is in closed form (three more window sums, no autograd graph), to ``fixed`` as well if it asks for
    one. It cannot be differentiated again.

    Parameters
    ----------
    radius
        Windows have 2*radius+1 voxels along an axis: one number, or one per axis.
    variance_floor
        Added to both variances, in squared intensity units: windows whose contrast is well below its square root
        count as uncorrelated. The default suits intensities in [0, 1]; it is raised to what rounding of the image at
        hand allows.
    """

    def __init__(self, radius: int | Sequence[int] = 2, variance_floor: float = 1e-5) -> None:
        super().__init__()
        given = tuple(radius) if isinstance(radius, Iterable) else (radius,)
        if not given:
            raise ValueError("radius is a whole number from 0, or one per axis, got none")
        for one in given:
            check_counts(0, WIDEST, radius=one)
        check_above(variance_floor=variance_floor)
        self.radius, self.variance_floor = tuple(int(one) for one in given), float(variance_floor)

    @property
    def reach(self) -> int:
        """The largest radius of a window."""
        return max(self.radius)

    @property
    def divisible(self) -> bool:
        """True: no voxel is compared by what lies far away."""
        return True

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        radius = self._radius(warped.ndim - 2)
        return _LocalCorrelation.apply(warped, fixed, mask, self._job(radius, None))  # type: ignore[no-any-return]

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """1: no correlation."""
        return warped.new_ones(warped.shape[0])

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """As in :class:`Similarity`, in three sweeps through memory for both images together."""
        if not compiled.fits(moving, fixed, out):
            return super().push(moving, fixed, region, metric, out)
        if not region.voxels:
            return 1.0
        channels, total = moving.shape[1], 0.0
        for c in range(channels):
            sides = [glance(image[0, c], self.variance_floor) for image in (moving, fixed)]
            (floor_m, shift_m), (floor_f, shift_f) = sides
            windows = compiled.Windows(self._radius(moving.ndim - 2), (floor_m, floor_f), (shift_m, shift_f))
            factors = np.array([-factor / channels for factor in metric], dtype=np.float32)
            total += compiled.correlation_pushes((moving[0, c], fixed[0, c]), region, windows, factors, out)
        return 1 - total / (region.voxels * channels)

    def bind(self, fixed: Tensor, mask: Tensor | None = None, moving: Tensor | None = None) -> Bound:
        """As in :class:`Similarity`; mean and variance of the fixed image in every window are kept (two more volumes).

        They serve wherever the mask of a call agrees with the one given here, and are computed anew elsewhere, and by
        the compiled loops, for which that costs less than the memory.
        """
        radius = self._radius(fixed.ndim - 2)
        fixed = single(fixed.detach())
        fixed, weight = checked(fixed, fixed, mask)
        kept = _Kept(side(fixed, weight, self.variance_floor), weight, radius)

        def bound(warped: Tensor, more: Tensor | None = None) -> Tensor:
            warped = single(warped)
            target, both = checked(warped, fixed, joined(mask, more, warped))
            known = kept if warped.dtype == fixed.dtype else None
            return _LocalCorrelation.apply(warped, target, both, self._job(radius, known))  # type: ignore[no-any-return]

        return bound

    def _job(self, radius: tuple[int, ...], kept: _Kept | None) -> _Job:
        return _Job(radius, self.variance_floor, kept, torch.is_grad_enabled())

    def _radius(self, ndim: int) -> tuple[int, ...]:
        radius = self.radius * ndim if len(self.radius) == 1 else self.radius
        if len(radius) != ndim:
            raise ValueError(f"the window has {len(radius)} radii {radius}, the images have {ndim} spatial axes")
        return radius


@dataclass(frozen=True, eq=False)
class _Kept:
    """What is known of a fixed image: its side, and statistics that are made when they are first asked for."""

    side: Side
    weight: Tensor | None
    radius: tuple[int, ...]

    @cached_property
    def statistics(self) -> Statistics:
        return statistics(self.side, self.weight, self.radius)


@dataclass(frozen=True, eq=False)
class _Job:
    """What the autograd function needs besides tensors."""

    radius: tuple[int, ...]
    floor: float
    kept: _Kept | None
    derivative: bool

    def sums(self, x: Tensor, y: Tensor, weight: Tensor | None, grads: list[Tensor | None]) -> Tensor:
        """(B,) summed correlations over windows and channels; their derivatives to ``x`` and ``y`` into ``grads``."""
        moving = side(x, weight, self.floor)
        fixed = side(y, weight, self.floor) if self.kept is None else self.kept.side
        if compiled.fits(x, y):
            return self._compiled(moving, fixed, weight, grads)
        known = None if self.kept is None else self.kept.statistics
        found = correlate(moving, fixed, weight, self.radius, known, grads[0])
        if grads[1] is not None:
            correlate(fixed, moving, weight, self.radius, None, grads[1])
        return found

    def _compiled(self, moving: Side, fixed: Side, weight: Tensor | None, grads: list[Tensor | None]) -> Tensor:
        """The same in compiled loops, one image after the other."""
        found = torch.zeros(len(moving.data), dtype=torch.float64)
        for b, c in product(range(len(moving.data)), range(moving.data.shape[1])):
            one, other = moving.part(slice(b, b + 1), slice(c, c + 1)), fixed.part(slice(b, b + 1), slice(c, c + 1))
            own = None if weight is None else weight[b, 0]
            if own is not None and not bool(own.any()):
                continue
            floors, shifts = (float(one.floor), float(other.floor)), (float(one.shift), float(other.shift))
            windows = compiled.Windows(self.radius, floors, shifts)
            out = tuple(None if grad is None else grad[b, c] for grad in grads)
            found[b] += compiled.correlation_sums((one.data[0, 0], other.data[0, 0]), own, windows, (out[0], out[1]))
        return found


class _LocalCorrelation(torch.autograd.Function):
    """(B,) losses of (B, C, *S) images; the derivative is made on the way, while the windows are in the cache."""

    @staticmethod
    def forward(ctx: FunctionCtx, warped: Tensor, fixed: Tensor, mask: Tensor | None, job: _Job) -> Tensor:
        wanted = [job.derivative and need for need in ctx.needs_input_grad[:2]]  # type: ignore[attr-defined]
        grads = [
            torch.zeros_like(image, memory_format=torch.contiguous_format) if need else None
            for image, need in zip((warped, fixed), wanted, strict=True)
        ]
        count = warped[:, 0].flatten(1).shape[1] if mask is None else total(mask.flatten(1))
        share = 1 / (torch.as_tensor(count, dtype=torch.float64, device=warped.device) * warped.shape[1])
        share = torch.where(share.isfinite(), share, 0)
        losses = (1 - share * job.sums(warped.detach(), fixed.detach(), mask, grads)).to(warped.dtype)
        for grad in grads:
            if grad is not None:
                grad.mul_(-share.to(grad).reshape(-1, *[1] * (grad.ndim - 1)))
        ctx.save_for_backward(*grads)  # type: ignore[arg-type]
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        kept: tuple[Tensor | None, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        return (*(None if k is None else k * grad.reshape(-1, *[1] * (k.ndim - 1)) for k in kept), None, None)


def glance(image: Tensor, floor: float, every: int = 3) -> tuple[float, float]:
    """The floor and the shift of a (*S) image as in :func:`side`, from some of its voxels."""
    some = side(image[(slice(None, None, every),) * image.ndim][None, None], None, floor)
    return float(some.floor), float(some.shift)
