"""The self-similarity context of every voxel compared between images: MIND-SSC, for images of different modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import compiled
from ..compiled import Region
from ..compiled.selfsimilarity import Contexts, context_pushes
from ..limits import WIDEST, check_above, check_counts
from ._contexts import Description, Patch, describe_whole
from ._differences import CompiledDifference, Difference
from .base import Bound, Similarity, checked, joined, single

_WIDEST = 100  # voxels: images are continued by as many on all sides


class SelfSimilarityContext(Similarity):
    """Mean squared (or absolute) difference of MIND-SSC descriptors, between 0 and 1.

    A descriptor tells how alike the patches around a voxel are to each other, not how bright they are, so it can be
    compared between modalities (Heinrich et al. 2013, doi:10.1007/978-3-642-40811-3_24). The neighbours at
    ``dilation`` voxels along and against every axis are compared wherever two of them lie on different axes: 12 pairs
    in 3-D, 4 in 2-D. Entry k of the descriptor is ``exp(-(s_k - min s) / (mean s + variance_floor))``, where ``s_k``
    is the mean squared difference of two patches, and mean and minimum go over the pairs of the voxel: the most alike
    pair has 1.

    Patches count only voxels inside the image and with a weight above 0 in the mask, pairs without any such voxels are
    left out. Channels are described each for itself, and averaged. Distances are in voxels. The gradient goes to both
    images, is made piece by piece on the way forward (no graph of the volume is kept) and cannot be differentiated
    again.

    Parameters
    ----------
    radius
        Patches have 2*radius+1 voxels along an axis.
    dilation
        How far the neighbours are, in voxels, at least 1.
    sigma
        Weigh the voxels of a patch by a Gaussian of this many voxels (cut at four), in place of the box.
    absolute
        Mean absolute in place of mean squared differences.
    variance_floor
        Added to the mean patch distance, in squared intensity units: where nothing differs by more than its square
        root, descriptors are flat. The default suits intensities in [0, 1].
    """

    def __init__(
        self,
        radius: int = 1,
        dilation: int = 2,
        sigma: float | None = None,
        absolute: bool = False,
        variance_floor: float = 1e-4,
    ) -> None:
        super().__init__()
        check_counts(0, _WIDEST, radius=radius)
        check_counts(1, WIDEST, dilation=dilation)
        check_above(WIDEST, sigma=1.0 if sigma is None else sigma)
        check_above(variance_floor=variance_floor)
        self.description, self.absolute = Description(Patch(radius, sigma), dilation, float(variance_floor)), absolute

    def describe(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C*K, *S) descriptors of a (B, C, *S) image, without gradient; 0 where a pair has no voxels to compare.

        K is 12 in 3-D and 4 in 2-D, less the pairs along axes that are no longer than ``dilation``.
        """
        with torch.no_grad():
            return describe_whole(image.detach(), mask, self.description)[0].flatten(1, 2)

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        return self._measure(warped, fixed, mask, None)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """Expected difference of the two images' descriptors with their voxels shuffled, over the whole grid.

        For absolute differences the root of that of the squares, which is no smaller; 1 where images are too small.
        """
        if min(sorted(warped.shape[2:])[-2:]) <= self.description.dilation:
            return warped.new_ones(warped.shape[0])
        first, second = self.describe(warped).flatten(2), self.describe(fixed).flatten(2)
        spread = first.var(dim=2, unbiased=False) + second.var(dim=2, unbiased=False)
        value = (spread + (first.mean(dim=2) - second.mean(dim=2)).square()).mean(dim=1)
        return value.sqrt() if self.absolute else value

    def bind(self, fixed: Tensor, mask: Tensor | None = None, moving: Tensor | None = None) -> Bound:
        """As in :class:`Similarity`; the descriptor of the fixed image is kept (12 volumes in 3-D).

        It serves wherever the mask of a call is above 0 where the one given here is; it is computed anew elsewhere, and
        by the compiled loops, for which that costs less than the memory.
        """
        if self._contexts(fixed) is not None:
            return super().bind(fixed, mask, moving)
        fixed = single(fixed.detach())
        fixed, weight = checked(fixed, fixed, mask)
        with torch.no_grad():
            kept = _Kept(*describe_whole(fixed, weight, self.description), None if weight is None else weight > 0)

        def bound(warped: Tensor, more: Tensor | None = None) -> Tensor:
            warped = single(warped)
            target, both = checked(warped, fixed, joined(mask, more, warped))
            return self._measure(warped, target, both, kept if kept.fits(both) else None)

        return bound

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """As in :class:`Similarity`; the derivatives to both images are made in one go."""
        contexts = self._contexts(moving, fixed, out)
        if contexts is None:
            return super().push(moving, fixed, region, metric, out)
        value = context_pushes(moving[0], fixed[0], region, contexts, (metric, out))
        return float(self.unrelated(moving, fixed)) if value is None else value

    def _contexts(self, *tensors: Tensor) -> Contexts | None:
        """What the compiled loops are told; None where they cannot be used."""
        patch = self.description.patch
        if patch.sigma is not None or not compiled.fits(*tensors):
            return None
        return Contexts(patch.radius, self.description.dilation, self.description.variance_floor, self.absolute)

    def _measure(self, warped: Tensor, fixed: Tensor, mask: Tensor | None, kept: _Kept | None) -> Tensor:
        """The (B,) losses; an item with nothing to compare has the value of unrelated images."""
        values: Tensor
        contexts = self._contexts(warped, fixed)
        derivative = torch.is_grad_enabled()
        if contexts is not None:
            values, compared = CompiledDifference.apply(warped, fixed, mask, contexts, derivative)
        else:
            known, how = None if kept is None else kept.values, (self.description, self.absolute, derivative)
            values, compared = Difference.apply(warped, fixed, mask, known, how)
        if bool((compared > 0).all()):
            return values
        return torch.where(compared > 0, values, self.unrelated(warped.detach(), fixed.detach()))


@dataclass(frozen=True, eq=False)
class _Kept:
    """(B, C, K, *S) descriptors of a fixed image, (B, 1, K, *S) whether they exist, (B, 1, *S) the mask (or None)."""

    values: Tensor
    exist: Tensor
    support: Tensor | None

    def fits(self, mask: Tensor | None) -> bool:
        if mask is None or self.support is None:
            return mask is self.support
        return torch.equal(mask > 0, self.support.expand_as(mask))
