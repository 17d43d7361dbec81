"""What a similarity is: two images of one shape in, one number per batch item out, lower is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ..compiled import Region

Held = Callable[[Sequence[Tensor]], "Similarity"]
"""``held(places)``: the loss in a part of two images, of which the whole has been seen.

``places`` are D vectors: where the voxels of the part lie along each axis, in voxels of the whole.
"""

Bound = Callable[..., Tensor]
"""``bound(warped, mask=None) -> (B,)``: a similarity with the fixed image already inside."""


class Similarity(nn.Module, ABC):
    """How badly a warped image fits the fixed one.

    Every similarity obeys: lower is better; batch items are independent; voxels whose weight is 0 have no influence;
    a mask that is empty gives the value of unrelated images (:meth:`unrelated`) with a gradient of zero, never NaN.
    Images must be finite, also where the mask is 0.
    """

    def forward(self, warped: Tensor, fixed: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compare two images; those of 16 bits as float32, in which sums over a window or a volume keep their digits.

        Parameters
        ----------
        warped
            (B, C, *S) the moving image on the fixed grid.
        fixed
            (B or 1, C, *S) the fixed image.
        mask
            (B or 1, 1, *S) boolean, or weights of 0 or more; None stands for everywhere.

        Returns
        -------
        (B,) losses.

        Raises
        ------
        ValueError
            If the shapes do not agree.
        """
        warped = single(warped)
        fixed, mask = checked(warped, fixed, mask)
        values = self.compare(warped, fixed, mask)
        if mask is None:
            return values
        empty = mask.flatten(1).sum(dim=1) == 0
        if not bool(empty.any()):
            return values
        return torch.where(empty, self.unrelated(warped.detach(), fixed.detach()), values)

    @abstractmethod
    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        """The (B,) losses of checked (B, C, *S) images; the mask, if any, is (B, 1, *S) in their dtype.

        An item whose mask is empty may have any finite value and must have a gradient of zero.
        """

    @abstractmethod
    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """The (B,) value expected of images that know nothing of each other: the loss where there is no evidence."""

    @property
    def nats(self) -> bool:
        """Whether the loss is minus an information per voxel, in nats: what so many independent voxels say together."""
        return False

    @property
    def reach(self) -> int:
        """How many voxels away from a voxel that counts its windows still take sums over regions."""
        return 0

    def spaced(self, spacing: Sequence[float]) -> Similarity:
        """The same loss for voxels of this size (D numbers, mm); losses that measure no distances are that already."""
        return self

    def suited(self, data: Tensor, mask: Tensor | None = None) -> Tensor:
        """An image's intensities as this loss sees most in them, among those that mean the same to it; here unchanged.

        Parameters
        ----------
        data
            (B, C, *S) intensities of a fixed or a moving image, before it is warped.
        mask
            (B or 1, 1, *S) boolean: where the image counts; None for everywhere.
        """
        return data

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """The loss in a region, and its derivative to moving both images by opposite steps.

        Parameters
        ----------
        moving, fixed
            (1, C, *S) images, both warped.
        region
            The voxels that count, and where the derivative is wanted.
        metric
            D factors for the components of the derivative.
        out
            (D, *S) receives, by addition, the derivative of the loss times the number of voxels that count, per voxel.

        Returns
        -------
        The loss.
        """
        weight = region.weight()
        images = [image.detach().requires_grad_(True) for image in (moving, fixed)]
        mask = None if weight is None else weight.reshape(1, 1, *moving.shape[2:])
        with torch.enable_grad():  # also for those who ask where gradients are off
            loss = self(*images, mask).sum()
            grads = torch.autograd.grad(loss, images, allow_unused=True)
        for axis, factor in enumerate(metric):
            for image, grad, sign in zip(images, grads, (1.0, -1.0), strict=True):
                if grad is not None:
                    slope = _slope(image.detach(), axis + 2)
                    out[axis] += (grad * slope).sum(dim=(0, 1)).mul_(sign * factor * region.voxels)
        return float(loss.detach())

    @property
    def divisible(self) -> bool:
        """Whether images can be compared part by part, once the whole has been seen (:meth:`held`)."""
        return False

    def held(self, moving: Tensor, fixed: Tensor, region: Region) -> Held:
        """What the whole of two images tells about its parts, kept, so that :meth:`push` can go on part by part.

        Takes what :meth:`push` does. Losses that look no farther than about a voxel are the same in every part.
        """
        return lambda places: self

    def bind(self, fixed: Tensor, mask: Tensor | None = None, moving: Tensor | None = None) -> Bound:
        """The loss against one fixed image, for many warped ones: what the fixed image alone decides is computed once.

        Parameters
        ----------
        fixed
            (B or 1, C, *S) the fixed image; taken as a constant.
        mask
            (B or 1, 1, *S) mask or weights that belong to it.
        moving
            (B, C, *S') the moving image before warping, from which settings such as an intensity range may be taken.

        Returns
        -------
        ``bound(warped, mask=None) -> (B,)``; its mask (such as the validity of the warp) multiplies the one here.
        """
        fixed = fixed.detach()

        def bound(warped: Tensor, more: Tensor | None = None) -> Tensor:
            return self(warped, fixed, joined(mask, more, single(warped)))

        return bound


def _slope(image: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, the border repeated."""
    index = torch.arange(image.shape[axis], device=image.device)
    after, before = (index + 1).clamp(max=len(index) - 1), (index - 1).clamp(min=0)
    return (image.index_select(axis, after) - image.index_select(axis, before)) / 2


def single(images: Tensor) -> Tensor:
    """The images in float32 at least."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def joined(first: Tensor | None, second: Tensor | None, like: Tensor) -> Tensor | None:
    """The product of two masks or weights, either of which may be None."""
    if first is None or second is None:
        return second if first is None else first
    if first.dtype == torch.bool and second.dtype == torch.bool:
        return first & second
    return first.to(like.dtype) * second.to(like.dtype)


def checked(warped: Tensor, fixed: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The fixed image and the mask brought to the batch (and the mask to the dtype) of ``warped``, or an error."""
    batch, shape = warped.shape[0], tuple(warped.shape)
    if warped.ndim not in (4, 5):
        raise ValueError(f"expected images of shape (B, C, *S) with 2 or 3 spatial axes, got {shape}")
    if tuple(fixed.shape[1:]) != shape[1:] or fixed.shape[0] not in (1, batch):
        raise ValueError(f"warped and fixed must have one shape: warped is {shape}, fixed is {tuple(fixed.shape)}")
    fixed = fixed.to(warped.dtype).expand(shape)
    if mask is None:
        return fixed, None
    if mask.shape[0] not in (1, batch) or tuple(mask.shape[1:]) != (1, *shape[2:]):
        raise ValueError(f"images of shape {shape} need a mask of (B or 1, 1, *S), got {tuple(mask.shape)}")
    return fixed, mask.detach().to(warped.dtype).expand(batch, *mask.shape[1:])


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """(B,) mean over channels and voxels of (B, C, *S) values, weighted by a (B, 1, *S) mask; 0 where that is empty."""
    if mask is None:
        return (total(values.flatten(1)) / values[0].numel()).to(values.dtype)
    count = total(mask.flatten(1)) * values.shape[1]
    return (total((values * mask).flatten(1)) / torch.where(count > 0, count, 1)).to(values.dtype)


def total(values: Tensor) -> Tensor:
    """Sums over the last axis of (..., N) values in float64, always in the same order, whatever the number of threads.

    Torch cuts a sum to one number into a part per thread, so that its last digits depend on how many there are, and
    optimisers carry such a difference on until it shows.
    """
    whole = values.shape[-1] // _RUN * _RUN
    runs = values[..., :whole].unflatten(-1, (-1, _RUN)).sum(dim=-1, dtype=torch.float64)
    rest = values[..., whole:].sum(dim=-1, dtype=torch.float64)
    return rest + (total(runs) if runs.shape[-1] > _RUN else runs.sum(dim=-1))


def spread(values: Tensor, like: Tensor) -> Tensor:
    """(B, C) values at every voxel of a (B, C, *S) tensor; the gradient is gathered by :func:`total`."""
    return _Spread.apply(values, like.shape)  # type: ignore[no-any-return]


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, shape: torch.Size) -> Tensor:
        return values.reshape(*values.shape, *[1] * (len(shape) - 2)).expand(shape)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return total(grad.flatten(2)).to(grad.dtype), None


_RUN = 4096  # numbers that are added by one thread in one go; torch gives no fewer than 32768 to several
