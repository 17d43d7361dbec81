"""A trained network as the start of stages that optimise: its answer, checked and settled on coarse voxels."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ..image import Image
from ..io.files import PathLike
from ..limits import check_counts
from ..pairwise import Initialiser, Pair
from ..pairwise.initialise.contest import Contest
from ..pairwise.initialise.histogram import JointHistogram
from ..pairwise.initialise.mass import centre_of_mass, principal_axes
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .stage import NetworkStage

_ACROSS = 16  # voxels along the object: where the search settles, too


class NetworkPose(Initialiser):
    """What a trained network says, as the start of stages that optimise.

    A network that has mistaken one side of the anatomy for another is wrong by a half turn, near enough. So where its
    answer is linear, mutual information decides on a few voxels between it and its half turns about the principal axes
    of the fixed object, and some rounds of a pattern search lead to the best place nearby. All that looks at the
    images as the network saw them, and costs less than the network.

    Parameters
    ----------
    checkpoint
        As for :class:`NetworkStage`; of a network that aligns from anywhere, such as ``experiment=affine``.
    rounds
        Of the pattern search; 0 takes the network's word.
    """

    def __init__(self, checkpoint: PathLike | None, rounds: int = 1) -> None:
        check_counts(0, rounds=rounds)
        self.stage, self.rounds = NetworkStage(checkpoint), rounds

    def __call__(self, pair: Pair) -> Transform:
        answer = self.stage.aligned(pair, None)
        found = answer.transform
        if self.rounds == 0 or not isinstance(found, Linear):
            return found
        similarity = JointHistogram()
        level = Contest(Pair(answer.fixed, answer.moving), similarity, _ACROSS)
        poses = found.matrix.double() @ half_turns(level.fixed)
        chosen = poses[level.losses(poses, similarity).argmin()]
        return Linear(level.settle(chosen[None], similarity, self.rounds)[0][0])


def half_turns(image: Image) -> Tensor:
    """(2 ** (D-1), D+1, D+1) turns by 180 degrees about the principal axes of an object, the identity first; RAS mm."""
    d = image.ndim
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=d)), dtype=torch.float64)
    axes, centre = principal_axes(image), centre_of_mass(image)
    turns = torch.eye(d + 1, dtype=torch.float64).repeat(2 ** (d - 1), 1, 1)
    turns[:, :d, :d] = axes @ torch.diag_embed(signs[signs.prod(dim=1) > 0]) @ axes.T
    turns[:, :d, d] = centre - turns[:, :d, :d] @ centre
    return turns
