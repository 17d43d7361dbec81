"""A start from the shape of the object: centres of mass and principal axes."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ...limits import check_counts
from ...losses import MutualInformation
from ...losses.base import Similarity
from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..pair import Pair
from .contest import Contest
from .mass import centre_of_mass, coarse, principal_axes
from .rotations import about
from .simple import Initialiser


class Moments(Initialiser):
    """Lay centres of mass and principal axes on one another.

    An axis has no direction, so there are 2 proper rotations that do it in 2-D, 4 in 3-D (never a mirror image); the
    one with the lowest loss is taken. Only the right order of the axes is tried: an object that is nearly as wide as
    long, or only partly in view, needs :class:`Search`.

    Parameters
    ----------
    similarity
        Decides between the candidates; mutual information without.
    across
        Voxels along the object at which they are compared.
    """

    def __init__(self, similarity: Similarity | None = None, across: int = 16) -> None:
        check_counts(4, across=across)
        self.similarity = similarity or MutualInformation(16)
        self.across = across

    def __call__(self, pair: Pair) -> Transform:
        poses = candidates(pair)
        losses = Contest(pair, self.similarity, self.across).losses(poses)
        return Linear(poses[int(losses.argmin())])


def candidates(pair: Pair) -> Tensor:
    """(2 ** (D-1), D+1, D+1) poses that lay principal axes and centres of mass on one another; proper rotations."""
    fixed, moving = coarse(pair)
    one, other = principal_axes(fixed), principal_axes(moving)
    d = pair.fixed.ndim
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=d)), dtype=torch.float64)
    turns = other @ torch.diag_embed(signs) @ one.T
    turns = turns[torch.linalg.det(turns) > 0]
    return about(turns, centre_of_mass(fixed), centre_of_mass(moving))
