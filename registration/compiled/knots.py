"""Thin-plate splines at many points, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from . import available, call


def sums_over_knots(points: Tensor, nodes: Tensor, weights: Tensor, slopes: bool = False) -> Tensor | None:
    """Sums of biharmonic kernels times weights, or their derivatives; None where there is no compiled code for them.

    Parameters
    ----------
    points
        (N, D), in the units of the nodes.
    nodes
        (K, D).
    weights
        (K, D).
    slopes
        Whether derivatives are asked for.

    Returns
    -------
    (N, D), or (N, D, D) with the component first; float64.
    """
    if not summable(points, nodes, weights):
        return None
    from . import knot_kernels as kernels

    d = points.shape[-1]
    kernel = ((kernels.moves_2d, kernels.moves_3d), (kernels.slopes_2d, kernels.slopes_3d))[slopes][d - 2]
    out = torch.empty(len(points), *(d,) * (2 if slopes else 1), dtype=torch.float64)
    call(kernel, points.double().contiguous(), nodes.double().T.contiguous(), weights.double().T.contiguous(), out)
    return out


def summable(points: Tensor, nodes: Tensor, weights: Tensor) -> bool:
    """Whether :func:`sums_over_knots` has compiled code for these."""
    d, tensors = points.shape[-1], (points, nodes, weights)
    if not (available() and all(t.device.type == "cpu" and t.ndim == 2 and t.shape[1] == d for t in tensors)):
        return False
    return all(held(t) for t in tensors)


def held(tensor: Tensor) -> bool:
    """Whether a tensor has memory of its own: those that torch.func passes about have none."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True
