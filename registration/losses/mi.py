"""Mutual information of a Parzen-window joint histogram, with a closed-form gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .. import compiled
from ..compiled.blocks import at_once, groups
from ..limits import check_counts
from ._histograms import CompiledHistograms, Histograms, TorchHistograms
from ._ranges import Range, Scale, check_ranges
from ._slabs import part_of
from .base import Bound, Similarity, checked, joined, single, total

_MOST = 4096  # bins: a histogram of intensities of 12 bits, each for itself; it takes gigabytes
# Cubic B-spline weights of bins m-1, m, m+1, m+2 for a value at m + t: rows are bins, columns powers 0..3 of t.
_SPLINE = ((1 / 6, -1 / 2, 1 / 2, -1 / 6), (2 / 3, 0, -1, 1 / 2), (1 / 6, 1 / 2, 1 / 2, -1 / 2), (0, 0, 0, 1 / 6))


class MutualInformation(Similarity):
    """Minus the mutual information of intensities, in nats: for images of different contrast.

    Mattes et al. (2003, doi:10.1109/TMI.2003.809072): a joint histogram with a cubic B-spline window on the warped
    image and a box on the fixed one, two spare bins at either end. The gradient is in closed form, takes the intensity
    ranges as constants and cannot be differentiated again. If ``fixed`` asks for one, it receives that of the loss with
    the windows exchanged, as the box has none. Channels are averaged.

    Parameters
    ----------
    bins
        Bins per image, 8 to 4096.
    normalised
        Use minus Studholme's (1999) normalised mutual information ``(H(w) + H(f)) / H(w, f)``, between -2 and -1, which
        depends less on the size of the overlap.
    fixed_range, moving_range
        Intensities (low, high) that the bins span; values beyond count as the end values and have no gradient. None
        takes them from each image, inside the mask.
    tail
        Fraction of voxels left out at either end of a range taken from an image; 0 spans all values.
    """

    def __init__(
        self,
        bins: int = 32,
        normalised: bool = False,
        fixed_range: Range | None = None,
        moving_range: Range | None = None,
        tail: float = 1e-3,
    ) -> None:
        super().__init__()
        check_counts(8, _MOST, bins=bins)
        if not 0 <= tail < 0.5:
            raise ValueError(f"tail is a share from 0 to below 0.5, got {tail}")
        check_ranges(fixed_range, moving_range)
        self.bins = bins
        self.normalised = normalised
        self.fixed_range = fixed_range
        self.moving_range = moving_range
        self.tail = tail

    @property
    def nats(self) -> bool:
        return not self.normalised

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        rows = self._fixed_bins(fixed, mask)
        scale = Scale.of(warped, mask, self.moving_range, self.bins, self.tail)
        value: Tensor = _Information.apply(warped, rows, mask, scale, self._job())
        if not (fixed.requires_grad and torch.is_grad_enabled()):
            return value
        # The box window has no useful derivative: that of the same loss with the two images in each other's place.
        roles = MutualInformation(self.bins, self.normalised, self.moving_range, self.fixed_range, self.tail)
        swapped = roles.compare(fixed, warped.detach(), mask)
        return value + (swapped - swapped.detach())

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """The value of independent images: 0, or -1 if normalised."""
        return warped.new_full((warped.shape[0],), -1.0 if self.normalised else 0.0)

    def bind(self, fixed: Tensor, mask: Tensor | None = None, moving: Tensor | None = None) -> Bound:
        """As in :class:`Similarity`; keeps the bins of the fixed image, and the range of ``moving`` if that is given.

        The range of the fixed image is then that inside the mask given here.
        """
        fixed = single(fixed.detach())
        fixed, weight = checked(fixed, fixed, mask)
        rows = self._fixed_bins(fixed, weight)
        known = None if moving is None else Scale.of(moving, None, self.moving_range, self.bins, self.tail)

        def bound(warped: Tensor, more: Tensor | None = None) -> Tensor:
            warped = single(warped)
            _, both = checked(warped, fixed, joined(mask, more, warped))
            scale = known or Scale.of(warped, both, self.moving_range, self.bins, self.tail)
            return _Information.apply(warped, rows, both, scale, self._job())  # type: ignore[no-any-return]

        return bound

    def _job(self) -> _Job:
        return _Job(self.bins, self.normalised, torch.is_grad_enabled())

    def _fixed_bins(self, fixed: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, N) flat index of the first cell in the histogram row of every fixed voxel."""
        scale = Scale.of(fixed, mask, self.fixed_range, self.bins, self.tail)
        return scale.place(fixed, self.bins).floor_().clamp_(max=self.bins - 3).long().mul_(self.bins)


@dataclass(frozen=True)
class _Job:
    """What the autograd function needs besides tensors."""

    bins: int
    normalised: bool
    derivative: bool


class _Information(torch.autograd.Function):
    """(B,) losses of (B, C, *S) images against (B or 1, C, N) histogram rows; the derivative is made on the way."""

    @staticmethod
    def forward(ctx: FunctionCtx, warped: Tensor, rows: Tensor, mask: Tensor | None, scale: Scale, job: _Job) -> Tensor:
        wanted = job.derivative and ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        grad = torch.zeros_like(warped, memory_format=torch.contiguous_format) if wanted else None
        weight = None if mask is None else mask[:, 0].flatten(1)
        losses = torch.zeros(len(warped), dtype=torch.float64, device=warped.device)
        made = CompiledHistograms if compiled.fits(warped, *([] if mask is None else [mask])) else TorchHistograms
        for items, channels in groups(warped, at_once(warped, 1)):
            own, row = None if weight is None else weight[items], part_of(rows, items)[:, channels]
            values = warped.detach()[items, channels].flatten(2)
            found = made(values, scale.part(items, channels), row, own, job.bins)
            out = None if grad is None else grad[items, channels].flatten(2)
            losses[items] += _compared(found, own, job, out, warped.shape[1]).sum(dim=1) / warped.shape[1]
        ctx.save_for_backward(grad)  # type: ignore[arg-type]
        return losses.to(warped.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (kept,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return kept * grad.reshape(-1, *[1] * (kept.ndim - 1)), None, None, None, None


def _compared(found: Histograms, weight: Tensor | None, job: _Job, out: Tensor | None, channels: int) -> Tensor:
    """(B, C) losses; ``out`` (B, C, N) receives the derivatives to the intensities, divided by the channels.

    The four weights of a voxel are cubic polynomials of its place t between two bins, so the histogram needs only the
    sums of 1, t, t^2, t^3 over the voxels of every cell, and the derivative one quadratic per cell.
    """
    sums = found.moments()
    count = sums[..., 0].sum(dim=-1) if weight is None else total(weight)[:, None].expand(sums.shape[:2])
    seen = torch.where(count > 0, count, 1)[..., None, None]  # where nothing is, all sums are 0, and so are the weights
    value, slope = _information(_joint(sums, job.bins) / seen, job.normalised)
    if out is not None:
        powers = torch.tensor(_SPLINE, dtype=torch.float64, device=sums.device)[:, 1:]
        powers = powers * torch.tensor([1.0, 2, 3]).to(sums)
        near = torch.stack([slope.roll(1 - k, dims=-1) for k in range(4)], dim=-1)  # [..., f, m, k]: at f, m - 1 + k
        found.gradient((near @ powers).flatten(2, 3) / (seen * channels), out)
    return value


def _joint(sums: Tensor, bins: int) -> Tensor:
    """(B, C, bins, bins) joint histograms, float64, of (B, C, bins * bins, 4) moments: rows fixed, columns warped."""
    spread = sums @ torch.tensor(_SPLINE, dtype=sums.dtype, device=sums.device).T
    spread = spread.unflatten(2, (bins, bins))
    return sum((spread[..., k].roll(k - 1, dims=-1) for k in range(4)), torch.zeros_like(spread[..., 0]))


def _information(joint: Tensor, normalised: bool) -> tuple[Tensor, Tensor]:
    """Minus the (normalised) mutual information of joint histograms, and its derivative up to a constant.

    That of a histogram of nothing is that of independent images, as is, if normalised, that of a single cell.
    """
    tiny = torch.finfo(joint.dtype).tiny
    joint = joint.clamp_min(0)
    log = joint.clamp_min(tiny).log()
    log_fixed = joint.sum(dim=-1, keepdim=True).clamp_min(tiny).log()
    log_warped = joint.sum(dim=-2, keepdim=True).clamp_min(tiny).log()
    if not normalised:
        information = log - log_fixed - log_warped
        return -(joint * information).sum(dim=(-2, -1)), -information
    both = -(joint * log).sum(dim=(-2, -1), keepdim=True)
    alone = -(joint * (log_fixed + log_warped)).sum(dim=(-2, -1), keepdim=True)
    varied = both >= math.sqrt(torch.finfo(joint.dtype).eps)
    ratio = torch.where(varied, alone / torch.where(varied, both, 1), 1)
    slope = torch.where(varied, (log_fixed + log_warped - ratio * log) / torch.where(varied, both, 1), 0)
    return -ratio[..., 0, 0], slope
