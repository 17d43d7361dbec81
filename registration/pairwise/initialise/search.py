"""A start by search: rotations all around, the best of them refined."""

from __future__ import annotations

import torch
from torch import Tensor

from ...limits import check_counts
from ...losses import MutualInformation
from ...losses.base import Similarity
from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..pair import Pair
from .contest import Contest
from .histogram import JointHistogram
from .mass import centre_of_mass, coarse
from .rotations import about, spread
from .simple import Initialiser

_REACH = 0.17  # of the object's size: how far the shifts that are tried reach
_SAME = 0.12  # of the object's size: poses closer than this lead to the same place
_ROUNDS = 10  # of the pattern search
_STEPS = 10  # of the descent at the fine level


class Search(Initialiser):
    """Try rotations all around the centre of mass, and shifts of the best ones, then refine and compare.

    Candidates are ranked by a joint histogram on voxels of a sixteenth of the object. The best few that are apart from
    each other settle there; the best places descend at half the voxel size, where the similarity decides. All
    candidates are fixed beforehand: the same images give the same result.

    Parameters
    ----------
    similarity
        What descends and decides; mutual information without, which serves any two contrasts.
    rotations
        How many; 600 are about 30 degrees apart in 3-D, so that one is always within about 20 of the right one.
    settled, refined
        How many candidates settle at the coarse level, and how many places descend at the fine one.
    across
        Voxels along the object at the coarse level.
    """

    def __init__(
        self,
        similarity: Similarity | None = None,
        rotations: int = 600,
        settled: int = 8,
        refined: int = 3,
        across: int = 16,
    ) -> None:
        check_counts(1, 10**6, rotations=rotations)
        check_counts(1, settled=settled, refined=refined)
        check_counts(4, across=across)
        self.similarity = similarity or MutualInformation(16)
        self.ranking: Similarity = JointHistogram()
        self.rotations, self.settled, self.refined, self.across = rotations, settled, refined, across

    def __call__(self, pair: Pair) -> Transform:
        coarse_level, fine_level = self.levels(pair)
        turns = self.turns(pair)
        found, _ = self.places(coarse_level, fine_level, turns, coarse_level.losses(turns, self.ranking))
        return Linear(found[0])

    def levels(self, pair: Pair) -> tuple[Contest, Contest]:
        """The coarse level, where candidates are ranked, and the fine one, which decides."""
        return Contest(pair, self.similarity, self.across), Contest(pair, self.similarity, 2 * self.across)

    def turns(self, pair: Pair) -> Tensor:
        """(N, D+1, D+1) poses all around, that lay the centres of mass on one another."""
        fixed, moving = (centre_of_mass(image) for image in coarse(pair))
        return about(spread(pair.fixed.ndim, self.rotations), fixed, moving)

    def places(self, level: Contest, fine: Contest, turns: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct places that the (N,) ``losses`` of the poses ``turns`` point to: (M, D+1, D+1) poses, best first.

        With their (M,) losses at the fine level.
        """
        few = turns[level.best(turns, losses, 3 * self.settled, _SAME)]
        tried = torch.cat([few, *(_shifted(few, offset) for offset in self._offsets(level))])
        kept = level.best(tried, level.losses(tried, self.ranking), self.settled, _SAME)
        poses, losses = level.settle(tried[kept], self.ranking, _ROUNDS)
        kept = level.best(poses, losses, self.refined, _SAME)
        refined = [fine.refine(pose, _STEPS) for pose in poses[kept]]
        poses = torch.stack([pose for pose, _ in refined])
        losses = torch.tensor([loss for _, loss in refined], dtype=torch.float64)
        kept = fine.best(poses, losses, len(losses), _SAME)
        return poses[kept], losses[kept]

    def _offsets(self, level: Contest) -> list[Tensor]:
        """Shifts (D,) in mm along and against every axis."""
        reach = 2 * _REACH * level.domain.radius
        return [sign * reach * axis for axis in torch.eye(level.domain.ndim, dtype=torch.float64) for sign in (1, -1)]


def _shifted(poses: Tensor, offset: Tensor) -> Tensor:
    """The poses followed by a shift (D,) in mm."""
    moved = poses.clone()
    moved[:, :-1, -1] += offset
    return moved
