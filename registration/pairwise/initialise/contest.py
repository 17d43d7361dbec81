"""Many poses compared on one coarse level, cheaply and in batches; the best of them refined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...families.rigid import Rigid
from ...image import Image
from ...losses.base import Bound, Similarity, total
from ...sampling import nearest, pull, unit_grid
from ...space import Space
from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..optimise import QuasiNewton
from ..pair import Pair
from .mass import mass

_CHUNK = 64  # poses per batch: their grids stay in the cache
_STRIDE = 2.0  # voxels: the first steps of a pattern search, at the edge of the object
_MARGIN = 0.12  # of the object's size: the silhouette needs some background around it


class Contest:
    """The object of the fixed image, ``across`` voxels long, and the moving image at the same voxel size.

    The loss of a pose is that of the voxels it carries into the moving field of view (and mask), drawn towards the loss
    of unrelated images by the share of the fixed object's mass that it loses sight of: without that, a pose that leaves
    a few fitting voxels in view would win.

    Parameters
    ----------
    pair
        The two images.
    similarity
        The loss; any one that does not look at neighbouring voxels works on coarse voxels.
    across
        Voxels along the longest side of the object, at most as many as the image has.
    """

    def __init__(self, pair: Pair, similarity: Similarity, across: int) -> None:
        place = object_box(pair)
        voxel = max(place.extent.tolist()) / across
        fixed, self.moving = pair.level(max(1.0, voxel / pair.finest))
        self.fixed = cut(fixed, place)
        self.voxel = max(float(self.fixed.space.spacing.max()), voxel)
        weight = cut(fixed.with_data(mass(fixed)[None, None]), place).data.to(self.fixed.data)
        self.weight = weight if bool(weight.any()) else torch.ones_like(weight)
        self.similarity = similarity
        self.bound = self._bind(similarity)
        self.family = Rigid()

    @property
    def domain(self) -> Space:
        """The box around the object, whose centre residual rotations are about."""
        return self.fixed.space

    @property
    def unrelated(self) -> float:
        """The loss of images that know nothing of each other."""
        return float(self.similarity.unrelated(self.fixed.data[:1], self.fixed.data[:1]).mean())

    def losses(self, poses: Tensor, similarity: Similarity | None = None) -> Tensor:
        """(N,) losses, float64, of (N, D+1, D+1) linear maps, fixed RAS mm -> moving RAS mm, without gradients.

        They are those of the contest's own similarity, or of another.
        """
        bound = self.bound if similarity is None else self._bind(similarity)
        with torch.no_grad():
            parts = [self.compare(Linear(part), bound) for part in poses.double().split(_CHUNK)]
        return torch.cat(parts).double().cpu()

    def compare(self, transform: Transform, bound: Bound) -> Tensor:
        """(B,) losses of a batch of transforms, differentiable to it."""
        data = self.fixed.data
        values, seen = pull(self.moving, transform, self.domain)
        if self.moving.mask is not None:
            grid = unit_grid(transform, self.moving.space, self.domain, data).detach()
            inside = self.moving.mask.to(grid.dtype).expand(len(grid), *self.moving.mask.shape[1:])
            seen = seen & (nearest(inside, grid) > 0.5)
        share = (total((seen * self.weight).flatten(1)) / total(self.weight.flatten())).to(data)
        unrelated = self.similarity.unrelated(values.detach(), data)
        return unrelated + share * (bound(values, seen) - unrelated)

    def settle(self, poses: Tensor, similarity: Similarity, rounds: int) -> tuple[Tensor, Tensor]:
        """All (N, D+1, D+1) poses improved by a pattern search in step, without derivatives, and their (N,) losses.

        Each round tries a step both ways along every rotation and translation, takes the best, and halves the step of
        a pose that none improves.
        """
        size = self.family.size(self.domain)
        directions = torch.cat([torch.eye(size, dtype=torch.float64), -torch.eye(size, dtype=torch.float64)])
        step = torch.full((len(poses),), _STRIDE * self.voxel / self.domain.radius, dtype=torch.float64)
        losses = self.losses(poses, similarity)
        for _ in range(rounds):
            moves = self.family((step[:, None, None] * directions).reshape(-1, size), self.domain).matrix
            tried = (poses[:, None] @ moves.reshape(len(poses), -1, *moves.shape[1:])).flatten(0, 1)
            best, which = self.losses(tried, similarity).reshape(len(poses), -1).min(dim=1)
            better = best < losses
            chosen = tried.reshape(len(poses), -1, *tried.shape[1:])[torch.arange(len(poses)), which]
            poses = torch.where(better[:, None, None], chosen, poses)
            losses = torch.where(better, best, losses)
            step = torch.where(better, step, step / 2)
        return poses, losses

    def refine(self, pose: Tensor, iterations: int) -> tuple[Tensor, float]:
        """Descend from a (D+1, D+1) pose over rotations and translations; the better pose and its loss."""

        def objective(parameters: Tensor) -> Tensor:
            return self.compare(Linear(pose) @ self.family(parameters, self.domain), self.bound).mean()

        start = torch.zeros(self.family.size(self.domain), dtype=torch.float64)
        descent = QuasiNewton(iterations=iterations, tolerance=1e-4)
        found, _ = descent(objective, start, self.voxel / self.domain.radius, lambda loss: None)
        both = torch.stack([pose @ self.family(found, self.domain).matrix, pose])
        losses = self.losses(both)
        best = int(losses.argmin())
        return both[best], float(losses[best])

    def apart(self, one: Tensor, others: Tensor) -> Tensor:
        """(N,) mean distances of the object's corners under one (D+1, D+1) pose and N others, in object sizes."""
        corners = self.domain.corners()
        change = (others - one)[:, : self.domain.ndim]
        moved = corners @ change[..., :-1].mT + change[:, None, :, -1]
        return moved.norm(dim=-1).mean(dim=1) / (2 * self.domain.radius)

    def turned(self, pose: Tensor, degrees: float) -> Tensor:
        """A (D+1, D+1) pose after turns of the object both ways about every axis: (N, D+1, D+1)."""
        d, size = self.domain.ndim, self.family.size(self.domain)
        turns = math.radians(degrees) * torch.eye(size, dtype=torch.float64)[d:]
        return pose @ self.family(torch.cat([turns, -turns]), self.domain).matrix

    def _bind(self, similarity: Similarity) -> Bound:
        return similarity.bind(self.fixed.data, self.fixed.mask, self.moving.data)

    def best(self, poses: Tensor, losses: Tensor, count: int, distance: float) -> Tensor:
        """Indices of ``count`` poses at most, best first, each ``distance`` from those before (:meth:`apart`)."""
        order = losses.argsort(stable=True)
        kept: list[int] = []
        while len(order) and len(kept) < count:
            kept.append(int(order[0]))
            order = order[self.apart(poses[kept[-1]], poses[order]) > distance]
        return torch.tensor(kept)


def object_box(pair: Pair, samples: int = 32) -> Space:
    """The part of the fixed grid (at a coarse spacing) that holds its mask or else its object, with a margin."""
    image = pair.level(max(1.0, max(pair.fixed.space.extent.tolist()) / samples / pair.finest))[0]
    present = image.mask[0, 0] if image.mask is not None else mass(image) > 0
    if not bool(present.any()):
        return image.space
    index = present.nonzero()
    first, last = index.amin(dim=0).tolist(), index.amax(dim=0).tolist()
    start, shape = [], []
    for low, high, n in zip(first, last, image.space.shape, strict=True):
        pad = round(_MARGIN * (high - low + 1)) if image.mask is None else 0
        start.append(max(0, low - pad))
        shape.append(min(n - 1, high + pad) - start[-1] + 1)
    return image.space.cropped(start, shape)


def cut(image: Image, place: Space) -> Image:
    """The voxels of an image whose centres lie in a box along its own axes; at least one per axis."""
    d = image.ndim
    to_index = torch.linalg.inv(image.space.affine)
    ends = place.corners() @ to_index[:d, :d].T + to_index[:d, d]
    start, shape = [], []
    for low, high, n in zip(ends.amin(dim=0).tolist(), ends.amax(dim=0).tolist(), image.space.shape, strict=True):
        start.append(min(n - 1, max(0, round(low + 0.5))))
        shape.append(max(1, min(n - 1, round(high - 0.5)) - start[-1] + 1))
    window: Sequence[slice] = [slice(None), slice(None), *(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
    mask = None if image.mask is None else image.mask[tuple(window)]
    return replace(image, data=image.data[tuple(window)], space=image.space.cropped(start, shape), mask=mask)
