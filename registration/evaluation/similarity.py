"""How alike two images on one grid are, in four measures. None where there is nothing to compare."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image import Image
from ..losses import LocalNormalisedCrossCorrelation, MeanSquaredError, MutualInformation
from .metrics import correlation

LNCC_RADIUS = 4
MI_BINS = 32


def similarity_figures(fixed: Image, warped: Image, where: Tensor) -> dict[str, float | None]:
    """Similarity of two images inside a mask.

    Parameters
    ----------
    fixed, warped
        (1, C, *S) images on one grid.
    where
        (1, 1, *S) boolean: the voxels to compare.

    Returns
    -------
    ``ncc``: normalised cross-correlation, in [-1, 1]. ``lncc``: mean squared correlation in windows of 9 voxels along
    each axis, in [0, 1], of intensities scaled to [0, 1]. ``mi``: mutual information in nats, of a histogram of 32
    bins. ``mse``: mean squared difference of the intensities as they are.
    """
    ncc = correlation(fixed, warped, where)
    if not bool(where.any()):
        return {"ncc": None, "lncc": None, "mi": None, "mse": None}
    mse = float(MeanSquaredError()(warped.data.double(), fixed.data.double(), where))
    if ncc is None:
        return {"ncc": None, "lncc": None, "mi": None, "mse": mse}
    with torch.no_grad():
        x, y = (_scaled(image.data, where) for image in (warped, fixed))
        return {
            "ncc": ncc,
            "lncc": 1 - float(LocalNormalisedCrossCorrelation(LNCC_RADIUS)(x, y, where)),
            "mi": -float(MutualInformation(MI_BINS)(x, y, where)),
            "mse": mse,
        }


def _scaled(data: Tensor, where: Tensor) -> Tensor:
    """Intensities from 0 to 1 inside the mask, and no further outside."""
    low, high = data[where.expand_as(data)].aminmax()
    return ((data - low) / (high - low)).clamp(0, 1)
