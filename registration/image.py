"""A tensor together with the place of its voxels in the world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import check_types
from .space import Space


@dataclass(frozen=True, eq=False)
class Image:
    """Intensities on a grid.

    Parameters
    ----------
    data
        (B, C, *S) floating point intensities.
    space
        The grid, ``space.shape == S``.
    mask
        (B or 1, 1, *S) boolean, True where the image may be used for alignment; None stands for everywhere.
    name
        What messages call the image, such as its file name.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    """

    data: Tensor
    space: Space
    mask: Tensor | None = None
    name: str = "image"

    def __post_init__(self) -> None:
        if tuple(self.data.shape[2:]) != self.space.shape:
            raise ValueError(
                f"{self.name}: data of shape (B, C, *S) = {tuple(self.data.shape)} "
                f"do not fit a grid of {self.space.shape}"
            )
        if self.mask is not None and tuple(self.mask.shape[1:]) != (1, *self.space.shape):
            raise ValueError(
                f"{self.name}: a mask of shape {tuple(self.mask.shape)} "
                f"does not fit (B, 1, *S) = (B, 1, {self.space.shape})"
            )

    @staticmethod
    def of(array: Tensor, space: Space | None = None, name: str = "image") -> Image:
        """An image from a bare (*S) array, float32, on the given grid or on unit voxels about the origin."""
        data = torch.as_tensor(array)
        data = data if data.is_floating_point() else data.float()
        return Image(data[None, None], space or Space.regular(data.shape), name=name)

    @property
    def ndim(self) -> int:
        """Spatial dimension D."""
        return self.space.ndim

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Image:
        """The same image on another device or with another floating dtype; the mask stays boolean."""
        mask = None if self.mask is None else self.mask.to(device=device)
        return replace(self, data=self.data.to(device=device, dtype=dtype), mask=mask)

    def with_data(self, data: Tensor) -> Image:
        """The same grid, mask and name with other intensities."""
        return replace(self, data=data)

    def with_mask(self, mask: Tensor | None) -> Image:
        """The same image with a mask of shape (*S), (1, *S) or (B, 1, *S); nonzero is inside."""
        if mask is not None:
            mask = torch.as_tensor(mask, device=self.data.device) != 0
            mask = mask.reshape(-1, 1, *self.space.shape)
        return replace(self, mask=mask)


def check_images(**given: object) -> None:
    """Refuse arguments that are no images, by :func:`check_types`."""
    cure = "registration.read_image(path) reads a file, registration.Image.of(array, space) takes an array"
    check_types(Image, cure, **given)
