"""How alike the features of two images are at neighbouring voxels, in compiled loops."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Correlation(torch.autograd.Function):
    """(B, N, C) features of two images on one grid -> (B, N, K) inner products, neighbours in the order of
    :func:`neighbours`."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, shape: tuple[int, ...], radius: int) -> Tensor:
        from . import call
        from . import matching_kernels as kernels

        ctx.near = neighbours(shape, radius)
        ctx.save_for_backward(first, second)
        out = first.new_empty(*first.shape[:2], ctx.near.shape[1])
        call(kernels.correlate, first, second, ctx.near, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        from . import call
        from . import matching_kernels as kernels

        first, second = ctx.saved_tensors
        grad = grad.contiguous()
        here, there = torch.empty_like(first), torch.empty_like(second)
        call(kernels.derivative, grad, second, ctx.near, False, here)
        call(kernels.derivative, grad, first, ctx.near, True, there)
        return here, there, None, None


@lru_cache(maxsize=32)
def neighbours(shape: tuple[int, ...], radius: int) -> Any:
    """(N, K) flat indices of the voxels in a window about each of N, last axis fastest; -1 beyond the border."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 1, len(shape))
    found = places + np.array(list(product(range(-radius, radius + 1), repeat=len(shape))))
    flat = np.ravel_multi_index(tuple(np.moveaxis(found, -1, 0)), shape, mode="clip")
    inside = ((found >= 0) & (found < shape)).all(axis=-1)
    return np.ascontiguousarray(np.where(inside, flat, -1).astype(np.int32))


__all__ = ["Correlation", "neighbours"]
