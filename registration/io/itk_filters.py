"""The two filters that are SimpleITK's: N4 bias field correction and Otsu's foreground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..image import Image
from .itk_images import array_of, reason


def foreground(image: Image) -> Tensor:
    """(*S) boolean mask of the object: above Otsu's threshold, the largest piece, holes filled.

    Of a batch and its channels the first is looked at.
    """
    return torch.from_numpy(array_of(_foreground(_itk(image, 0, 0))) > 0)


def n4(image: Image, shrink: int, iterations: Sequence[int]) -> Image:
    """Divide each channel by its bias field, fitted within the mask or the foreground (Tustison et al. 2010, N4).

    Parameters
    ----------
    shrink
        Voxels are thinned by this factor for the fit, less along axes of few voxels.
    iterations
        Most iterations of each fitting level.

    Raises
    ------
    InputError
        If there are negative values, whose logarithm N4 would need, or the filter refuses the image.
    """
    if float(image.data.min()) < 0:
        raise InputError(image.name, "has negative values, which N4 cannot correct", "it is meant for MR magnitudes")
    if not bool(image.data.amax() > image.data.amin()):
        return image
    data = torch.empty_like(image.data)
    for item in range(data.shape[0]):
        for channel in range(data.shape[1]):
            whole = _itk(image, item, channel)
            if image.mask is None:
                mask = _foreground(whole)
            else:
                mask = _to_itk(image.mask[item % image.mask.shape[0], 0].to(torch.uint8), image)
            factors = [max(1, min(shrink, n // 8)) for n in image.space.shape]
            corrector = sitk.N4BiasFieldCorrectionImageFilter()
            corrector.SetMaximumNumberOfIterations([int(n) for n in iterations])
            try:
                corrector.Execute(sitk.Shrink(whole, factors), sitk.Shrink(mask, factors))
                field = corrector.GetLogBiasFieldAsImage(whole)
            except RuntimeError as error:
                raise InputError(image.name, f"N4 cannot correct it ({reason(error)})") from None
            bias = torch.from_numpy(np.exp(array_of(field)).copy()).to(data)
            data[item, channel] = image.data[item, channel] / bias
    return image.with_data(data)


def _foreground(image: Any) -> Any:
    above = sitk.OtsuThreshold(image, 0, 1)
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(above), sortByObjectSize=True)
    return sitk.BinaryFillhole(sitk.Cast(pieces == 1, sitk.sitkUInt8))


def _itk(image: Image, item: int, channel: int) -> Any:
    return _to_itk(image.data[item, channel].float(), image)


def _to_itk(values: Tensor, image: Image) -> Any:
    """Voxels and their spacing; where they lie does not matter to these filters, and SimpleITK refuses sheared axes."""
    result = sitk.GetImageFromArray(np.ascontiguousarray(values.detach().cpu().numpy().transpose()))
    result.SetSpacing(image.space.spacing.tolist())
    return result
