"""Products with fixed matrices that come out the same to the bit, whatever the threads and the place in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def product(matrix: Tensor, values: Tensor) -> Tensor:
    """(G, V) product of a constant (G, K) matrix and (K, V) values of few columns; differentiable to the values."""
    if not _fit(matrix, values):
        return matrix @ values
    return _Product.apply(matrix, values)  # type: ignore[no-any-return]


def turned_product(values: Tensor, matrix: Tensor) -> Tensor:
    """(R, S) product of the transposes of (N, R) values and a constant (S, N) matrix; differentiable to the values."""
    if not _fit(matrix, values):
        return values.T @ matrix.T
    return _Turned.apply(values, matrix)  # type: ignore[no-any-return]


def _fit(matrix: Tensor, values: Tensor) -> bool:
    from . import available

    plain = matrix.device.type == "cpu" and matrix.dtype == values.dtype and not matrix.requires_grad
    return plain and matrix.dtype in (torch.float32, torch.float64) and values.device.type == "cpu" and available()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, values: Tensor) -> Tensor:
        from . import call
        from . import product_kernels as kernels

        ctx.matrix = matrix = matrix.contiguous()
        out = values.new_empty(values.shape[1], len(matrix))
        call(kernels.times, matrix, values.T.contiguous(), out)
        return out.T.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        from . import call
        from . import product_kernels as kernels

        out = grad.new_empty(grad.shape[1], ctx.matrix.shape[1])
        call(kernels.times_transposed, ctx.matrix, grad.T.contiguous(), out)
        return None, out.T.contiguous()


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, matrix: Tensor) -> Tensor:
        from . import call
        from . import product_kernels as kernels

        ctx.matrix = matrix
        out = values.new_empty(values.shape[1], len(matrix))
        call(kernels.turn, values.contiguous(), matrix.T.contiguous(), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        from . import call
        from . import product_kernels as kernels

        out = grad.new_empty(ctx.matrix.shape[1], len(grad))
        call(kernels.turn_back, grad.contiguous(), ctx.matrix.contiguous(), out)
        return out, None


__all__ = ["product", "turned_product"]
