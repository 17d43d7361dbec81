"""Differences of the self-similarity descriptors of two images, with derivatives that are made on the way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..compiled.selfsimilarity import Contexts, context_sums
from ._contexts import Description, describe, few, thick
from ._slabs import Slab, part_of
from .base import total


class Difference(torch.autograd.Function):
    """(B,) mean differences of descriptors, and (B,) how much was compared; the derivative is made on the way."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        warped: Tensor,
        fixed: Tensor,
        mask: Tensor | None,
        kept: Tensor | None,
        job: tuple[Description, bool, bool],
    ) -> tuple[Tensor, Tensor]:
        settings, absolute, derivative = job
        grads = _blank(ctx, (warped, fixed), derivative)
        found = torch.zeros(2, warped.shape[0], dtype=torch.float64, device=warped.device)
        for items in few(warped):
            pair = warped[items], fixed[items]
            own = [None if grad is None else grad[items] for grad in grads]
            weight = None if mask is None else part_of(mask, items)
            known = None if kept is None else part_of(kept, items)
            for slab in thick(pair[0], settings.reach):
                if weight is None or bool(weight[:, :, slab.own].any()):
                    found[:, items] += _compare(pair, weight, known, slab, (settings, absolute), own)
        return _settled(ctx, grads, found, warped)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (*_scaled(ctx, outer[0]), None, None, None)


def _compare(
    pair: tuple[Tensor, Tensor],
    weight: Tensor | None,
    known: Tensor | None,
    slab: Slab,
    how: tuple[Description, bool],
    grads: list[Tensor | None],
) -> Tensor:
    """(2, B) sums of a slab's differences and of their weights; adds the derivatives of the sums to ``grads``."""
    settings, absolute = how
    with torch.enable_grad():
        pieces = [
            x[:, :, slab.voxels].detach().requires_grad_(grad is not None) for x, grad in zip(pair, grads, strict=True)
        ]
        there = None if weight is None else weight[:, :, slab.voxels] > 0
        first, exist = describe(pieces[0], there, slab.alone, settings)
        second = describe(pieces[1], there, slab.alone, settings)[0] if known is None else known[:, :, :, slab.own]
        difference = (first - second).abs() if absolute else (first - second).square()
        counted = exist.to(difference.dtype) if weight is None else exist * weight[:, :, None, slab.own]
        sums = total((difference * counted).flatten(1))
    given = [piece for piece in pieces if piece.requires_grad]
    if given and sums.requires_grad:
        slopes = torch.autograd.grad(sums, given, torch.ones_like(sums))
        for grad, slope in zip((g for g in grads if g is not None), slopes, strict=True):
            grad[:, :, slab.voxels] += slope
    return torch.stack([sums.detach(), (total(counted.flatten(1)) * pair[0].shape[1]).expand(len(sums))])


class CompiledDifference(torch.autograd.Function):
    """The same by compiled loops, for float32 images on the CPU and patches without a Gaussian."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, warped: Tensor, fixed: Tensor, mask: Tensor | None, contexts: Contexts, derivative: bool
    ) -> tuple[Tensor, Tensor]:
        grads = _blank(ctx, (warped, fixed), derivative)
        found = torch.zeros(2, warped.shape[0], dtype=torch.float64)
        for b in range(warped.shape[0]):
            weight = None if mask is None else mask[b, 0]
            for c in range(warped.shape[1]):
                out = tuple(None if grad is None else grad[b, c] for grad in grads)
                pair = warped[b, c], fixed[b, c]
                found[:, b] += torch.tensor(context_sums(pair, weight, contexts, (out[0], out[1])), dtype=torch.float64)
        return _settled(ctx, grads, found, warped)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (*_scaled(ctx, outer[0]), None, None, None)


def _blank(ctx: FunctionCtx, images: tuple[Tensor, Tensor], derivative: bool) -> list[Tensor | None]:
    """Zeros for the derivatives that are wanted."""
    needs = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
    return [
        torch.zeros_like(image, memory_format=torch.contiguous_format) if derivative and need else None
        for image, need in zip(images, needs, strict=True)
    ]


def _settled(ctx: FunctionCtx, grads: list[Tensor | None], found: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
    """The (B,) means and how much was compared, from (2, B) sums; the derivatives of the sums are kept."""
    share = torch.where(found[1] > 0, 1 / found[1].clamp_min(torch.finfo(torch.float64).tiny), 0)
    ctx.save_for_backward(*grads, share.to(warped.dtype))  # type: ignore[arg-type]
    compared = found[1].to(warped.dtype)
    ctx.mark_non_differentiable(compared)
    return (found[0] * share).to(warped.dtype), compared


def _scaled(ctx: FunctionCtx, outer: Tensor) -> list[Tensor | None]:
    """The derivatives of the means to both images."""
    *grads, share = ctx.saved_tensors  # type: ignore[attr-defined]
    return [None if g is None else g * (outer * share).reshape(-1, *[1] * (g.ndim - 1)) for g in grads]
