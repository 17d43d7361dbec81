"""What the dense stage compares of images: intensities that suit the loss, and edges."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..compiled import Region
from ..image import Image
from ..losses.base import Similarity
from ..space import Space
from .boxes import cut, padded, reached, volume
from .forces import Source, steepness
from .middle import Middle
from .pair import Pair

_READ = 6  # voxels of an image beyond those that a field reads when a level begins: steps may lead there


class Channels:
    """Makes of images what is compared.

    Parameters
    ----------
    similarity
        Tells which intensities suit it.
    edges
        Weight of the root of the gradient magnitude as a further channel beside the intensities; 0 leaves it out. The
        root brings weak edges, between tissues, nearer to the strong ones about them.
    """

    def __init__(self, similarity: Similarity, edges: float) -> None:
        self.similarity, self.edges = similarity, edges

    def suited(self, image: Image) -> Image:
        """Intensities that suit the loss, and behind them, if edges are wanted, those that the image has."""
        data = self.similarity.suited(image.data, image.mask)
        return image.with_data(torch.cat([data, image.data], dim=1) if self.edges > 0 else data)

    def values(
        self, seen: Image, voxel: float | None = None, refine: Callable[[Image], Image] | None = None
    ) -> tuple[Tensor, Space]:
        """(C, X, Y, Z) intensities and, if wanted, edges, and their grid.

        Parameters
        ----------
        seen
            From :meth:`suited`.
        voxel
            Gradients are per so many mm; None for the voxels of the finest axis.
        refine
            Brings the image to another grid; channels are made one after another, to hold few at once.
        """
        count = seen.data.shape[1]
        many = count // 2 if self.edges > 0 else count
        out, space = torch.empty(0), seen.space
        for c in range(count):
            one = seen.with_data(seen.data[:, c : c + 1])
            one = refine(one) if refine else one
            if c == 0:
                space, out = one.space, one.data.new_empty(1, count, *one.space.shape)
            target = out[:, c : c + 1]
            if c < many:
                target.copy_(one.data)
                continue
            steepness(one.data, space.spacing.tolist(), target)
            own = min(s for s, n in zip(space.spacing.tolist(), space.shape, strict=True) if n > 1)
            target.mul_(own if voxel is None else voxel).sqrt_().mul_(self.edges)
        return volume(out[0]), space

    def plain(self, middle: Middle) -> tuple[Source, Source]:
        """The images of a level as they are."""
        still = torch.eye(3, 4, dtype=torch.float64)
        fixed, moving = (self.values(self.suited(image))[0] for image in (middle.fixed, middle.moving))
        return Source(fixed, still), Source(moving, middle.matrix)

    def finer(
        self,
        pair: Pair,
        seen: tuple[Image, Image],
        middle: Middle,
        region: Region,
        shrink: float,
        voxel: float | None = None,
    ) -> tuple[Source, Source]:
        """The fixed and the moving image, from :meth:`suited`, on such a level, as far as the fields read them."""
        margin = _READ + self.similarity.spaced(middle.fixed.space.spacing.tolist()).reach
        linear, found = middle.outer.matrix.detach().double().cpu(), []
        for image, field, to_world in (
            (seen[0], middle.phi_f, middle.fixed.space.affine),
            (seen[1], middle.phi_m, linear @ middle.fixed.space.affine),
        ):
            onto = padded(torch.linalg.inv(image.space.affine) @ to_world)
            part = cut(image, reached(image.space, field, onto, region, margin))
            values, space = self.values(part, voxel, lambda one: pair.detailed(one, shrink))
            found.append(Source(values, padded(torch.linalg.inv(space.affine) @ to_world)))
        return found[0], found[1]
