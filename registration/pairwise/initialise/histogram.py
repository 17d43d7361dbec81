"""Mutual information for ranking many poses: a plain joint histogram, without derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import compiled
from ...compiled.affine import joint_counts
from ...limits import check_counts
from ...losses.base import Similarity


class JointHistogram(Similarity):
    """Minus the mutual information (nats) of a joint histogram with sharp bins, channels averaged.

    One count over the whole batch, so thousands of small images are compared in a fraction of a second; it has no
    gradient. Intensities are expected in [0, 1], what lies beyond counts as the end values; weights are rounded to in
    or out.

    Parameters
    ----------
    bins
        Per image.
    """

    def __init__(self, bins: int = 16) -> None:
        super().__init__()
        check_counts(2, bins=bins)
        self.bins = bins

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        if compiled.fits(warped) and _shared(fixed):
            rows = self._bin(fixed[:1]).flatten(2)[0] * self.bins
            count = joint_counts(rows, warped.detach(), None if mask is None else mask > 0.5, self.bins)
        else:
            count = self._count(warped, fixed, mask)
        joint = count.double()
        joint = joint / joint.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        # H(f, w) - H(f) - H(w)
        information = _entropy(joint.flatten(2)) - _entropy(joint.sum(dim=2)) - _entropy(joint.sum(dim=3))
        return information.mean(dim=1).to(warped.dtype)

    def _count(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, bins, bins) joint counts, rows fixed."""
        batch, channels = warped.shape[:2]
        item = torch.arange(batch * channels, device=warped.device).reshape(batch, channels, 1)
        cell = (self._bin(fixed) * self.bins + self._bin(warped)).flatten(2) + item * self.bins**2
        length = batch * channels * self.bins**2
        if mask is not None:
            # What does not count goes to one more cell, which is dropped.
            cell = torch.where(mask.flatten(2) > 0.5, cell, length)
        count = torch.bincount(cell.flatten(), minlength=length + 1)[:length]
        return count.reshape(batch, channels, self.bins, self.bins)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """0: independent images."""
        return warped.new_zeros(warped.shape[0])

    def _bin(self, image: Tensor) -> Tensor:
        return (image * self.bins).long().clamp_(0, self.bins - 1)


def _shared(fixed: Tensor) -> bool:
    """Whether all items of a batch are the same memory."""
    return fixed.shape[0] == 1 or fixed.stride(0) == 0


def _entropy(share: Tensor) -> Tensor:
    return -torch.special.xlogy(share, share).sum(dim=-1)
