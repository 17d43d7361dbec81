"""Localiser and family together: images in, a better transform out."""

from __future__ import annotations

from torch import nn

from .families.base import Family
from .image import Image
from .localisation.base import Localiser
from .transforms.base import Transform


class Registrar(nn.Module):
    """Aligns a pair of images by what its localiser proposes; pairwise optimisation trains it on one pair.

    Parameters
    ----------
    localiser
        Proposes parameters: free ones, or a network.
    family
        Turns them into a transform over the fixed domain.
    """

    def __init__(self, localiser: Localiser, family: Family) -> None:
        super().__init__()
        self.localiser, self.family = localiser, family

    def forward(self, fixed: Image, moving: Image, initial: Transform) -> Transform:
        """``initial @ residual``, fixed RAS mm -> moving RAS mm.

        Parameters
        ----------
        fixed, moving
            (B, C, *S) images, each on its own grid.
        initial
            Where to start from, fixed RAS mm -> moving RAS mm.

        Raises
        ------
        ValueError
            If the dimensions differ, or the localiser proposes another number of parameters than the family takes.
        """
        if not fixed.ndim == moving.ndim == initial.ndim:
            raise ValueError(
                f"{fixed.name} has {fixed.ndim} spatial axes {fixed.space.shape}, {moving.name} has {moving.ndim} "
                f"{moving.space.shape}, the initial transform {initial.ndim}: all three must agree"
            )
        parameters = self.localiser.propose(fixed, moving, initial)
        return initial @ self.family(parameters, fixed.space)
