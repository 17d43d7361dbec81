"""The terms of an objective: each is one thing that a good registration has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..filters import gradient_magnitude
from ..image import Image
from ..interpolate import nearest
from ..limits import check_finite, check_sizes
from ..losses.base import Similarity
from ..losses.regularity import bending_energy, diffusion_energy, folding_penalty
from ..sampling import unit_grid
from ..transforms.base import Transform
from ..transforms.field import DisplacementField
from ..transforms.linear import Linear
from .objective import Seen, Term


class Likeness(Term):
    """A similarity of the fixed and the warped moving image.

    Parameters
    ----------
    similarity
        Of ``registration.losses``.
    edges
        Weight of the gradient magnitude (per voxel of the finest axis) as a further channel; 0 leaves it out.
    weight
        In the sum.
    """

    def __init__(self, similarity: Similarity, edges: float = 0.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        check_sizes(edges=edges)
        self.similarity, self.edges = similarity, float(edges)

    def forward(self, seen: Seen) -> Tensor:
        fixed, moving = self.channels(seen.batch.fixed), self.channels(seen.batch.moving)
        return self.similarity(seen.pull(moving), fixed, seen.evidence)  # type: ignore[no-any-return]

    def channels(self, image: Image) -> Tensor:
        """(B, C or 2C, *S) intensities and, if wanted, edges."""
        if self.edges == 0:
            return image.data
        step = float(image.space.spacing.min())
        magnitude = gradient_magnitude(image.data, image.space.spacing.tolist())
        return torch.cat([image.data, self.edges * step * magnitude], dim=1)


class Diffusion(Term):
    """Squared first derivatives of the residual's displacement: no unit, the same on every grid and scanner."""

    def forward(self, seen: Seen) -> Tensor:
        return diffusion_energy(seen.displacement, seen.nodes)


class Bending(Term):
    """Squared second derivatives of the displacement, times the squared radius of the domain: no unit either."""

    def forward(self, seen: Seen) -> Tensor:
        return bending_energy(seen.displacement, seen.nodes) * seen.nodes.radius**2


class Folding(Term):
    """How far Jacobian determinants are below a margin; 0 where nothing folds.

    Parameters
    ----------
    weight
        In the sum.
    margin
        Smallest determinant that costs nothing.
    """

    def __init__(self, weight: float = 1.0, margin: float = 0.05) -> None:
        super().__init__(weight)
        check_finite(margin=margin)
        self.margin = float(margin)

    def forward(self, seen: Seen) -> Tensor:
        return folding_penalty(seen.displacement, seen.nodes, margin=self.margin)


class LabelOverlap(Term):
    """1 less the mean soft Dice of all labels (Milletari et al. 2016, arXiv 1606.04797): weak supervision.

    Labels of the batch that occur in only one image of a pair do not count for it; 0 is background.
    """

    def forward(self, seen: Seen) -> Tensor:
        fixed, moving = _labels(seen, "penalty.labels")
        labels = torch.cat([fixed.flatten(), moving.flatten()]).unique()
        labels = labels[labels != 0].reshape(1, -1, *[1] * (fixed.ndim - 2))
        if labels.numel() == 0:
            return 1 + 0 * seen.grid.flatten(1).sum(dim=1)  # nothing to overlap; the graph stays whole
        like = seen.batch.fixed.data
        target = (fixed == labels).to(like).flatten(2)
        source = (moving == labels).to(like)
        found = seen.pull(source).flatten(2)
        shared = (target.sum(dim=2) > 0) & (source.flatten(2).sum(dim=2) > 0)
        dice = 2 * (found * target).sum(dim=2) / (found.sum(dim=2) + target.sum(dim=2)).clamp_min(1e-6)
        return 1 - (dice * shared).sum(dim=1) / shared.sum(dim=1).clamp_min(1)


class Naming(Term):
    """How badly the network names the anatomy of both images: cross entropy, and 1 less the mean soft Dice.

    For localisers that name it (:class:`~registration.localisation.AnatomyVelocity`). Labels that an image lacks do not
    count for its Dice.
    """

    asked, aligns = "training", False

    def forward(self, seen: Seen) -> Tensor:
        fixed, moving = _labels(seen, "penalty.naming")
        if seen.named is None:
            raise InputError("penalty.naming", "needs a network that names the anatomy", "localisation=anatomy does")
        start = unit_grid(seen.batch.initial, seen.batch.moving.space, seen.batch.fixed.space, seen.batch.fixed.data)
        brought = nearest(moving.to(start), start.expand(len(moving), *start.shape[1:]))
        truth = torch.cat([fixed.to(start), brought])
        values = truth.new_tensor(seen.named.labels).reshape(1, -1, *[1] * (truth.ndim - 2))
        found = truth == values
        classes = torch.cat([~found.any(dim=1, keepdim=True), found], dim=1).to(start)
        surprise = F.cross_entropy(seen.named.logits, classes, reduction="none").flatten(1).mean(dim=1)
        said = seen.named.logits.softmax(dim=1)[:, 1:].flatten(2)
        sizes = classes[:, 1:].flatten(2)
        there = sizes.sum(dim=2) > 0
        dice = 2 * (said * sizes).sum(dim=2) / (said.sum(dim=2) + sizes.sum(dim=2)).clamp_min(1e-6)
        missed = surprise + 1 - (dice * there).sum(dim=1) / there.sum(dim=1).clamp_min(1)
        return missed.reshape(2, -1).mean(dim=0)


class Landmarks(Term):
    """Mean squared distance of corresponding landmarks, in radii of the fixed domain; 0 for pairs without any."""

    def forward(self, seen: Seen) -> Tensor:
        if seen.batch.points is None:
            raise InputError(
                "penalty.landmarks", "needs landmarks in all pairs, of validation too", "set its weight to 0"
            )
        most = max(1, *(len(a) for a, _ in seen.batch.points))
        fixed, moving, there = [], [], []
        for a, b in seen.batch.points:
            fixed.append(torch.cat([a, a.new_zeros(most - len(a), a.shape[1])]))
            moving.append(torch.cat([b, b.new_zeros(most - len(b), b.shape[1])]))
            there.append(torch.arange(most, device=a.device) < len(a))
        counted = torch.stack(there)
        away = self.away(seen.transform, torch.stack(fixed), torch.stack(moving))
        distance = away.square().sum(dim=-1) / seen.batch.fixed.space.radius**2
        return (distance * counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1)

    def away(self, transform: Transform, fixed: Tensor, moving: Tensor) -> Tensor:
        """(B, N, D) mm between where a transform brings points and where they belong."""
        moved = transform(fixed)
        return moved - moving.to(moved)


class LandmarksBack(Landmarks):
    """As :class:`Landmarks`, from the moving points back to the fixed ones, for transforms with an exact inverse.

    That is what :class:`~registration.registrar.PoseRegistrar` learns from.
    """

    def away(self, transform: Transform, fixed: Tensor, moving: Tensor) -> Tensor:
        back = transform.inverse()(moving)
        return back - fixed.to(back)


class InverseConsistency(Term):
    """Mean squared distance, in radii, from a point after going there by one transform and back by the other's.

    Needs ``trainer.symmetric``, which puts both directions into one batch. Networks that are antisymmetric have it by
    construction.
    """

    asked = "training"
    both_ways = True

    def forward(self, seen: Seen) -> Tensor:
        if seen.batch.size % 2:
            raise ValueError("inverse consistency is judged on batches that hold every pair both ways")
        there, half = seen.displacement, seen.batch.size // 2
        back = DisplacementField(there.roll(half, dims=0), seen.nodes)
        matrix = seen.batch.initial.matrix.expand(seen.batch.size, -1, -1)
        start, start_back = Linear(matrix), Linear(matrix.roll(half, dims=0))
        here = seen.nodes.points(there).flatten(0, -2)[None]
        away = start_back(back(start(here + there.flatten(2).mT))) - here
        return away.square().sum(dim=-1).mean(dim=1) / seen.nodes.radius**2


def _labels(seen: Seen, key: str) -> tuple[Tensor, Tensor]:
    """The label maps of both images.

    Raises
    ------
    InputError
        If there are none, naming the setting that needs them.
    """
    fixed, moving = seen.batch.fixed_labels, seen.batch.moving_labels
    if fixed is None or moving is None:
        raise InputError(key, "needs labels in all pairs, of validation too", "set its weight to 0")
    return fixed, moving
