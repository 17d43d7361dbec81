"""Learning from the pairwise engine: what it finds for a pair is what a network should have said at once."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import Image
from ..pairwise import Pair, Silent, Stage
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .objective import Seen, Term


class Imitation(Term):
    """Mean squared distance, in squared fixed voxels, from where the pairwise engine brings the fixed voxels.

    The engine optimises each pair by itself, from coarse to fine and with smooth steps; of many maps under which two
    images look alike it finds one that is also right where little can be seen. A similarity and a penalty alone lead a
    network to another of them. No labels are needed. Fixed voxels outside the mask do not count.

    What is found is remembered, one displacement at half resolution for each pair in each direction (110 KB for
    48 x 64 x 48 voxels), so it counts only where a limited number of pairs comes again and again: from the share of
    training on that ``trainer.rehearse`` says, with ``data.per_epoch`` pairs. The first time through all of them takes
    the time of the engine, which is asked on the CPU wherever the network is: its kernels are compiled there.

    Parameters
    ----------
    teacher
        A stage of the pairwise engine.
    weight
        In the sum.
    """

    asked = "rehearsal"

    def __init__(self, teacher: Stage, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.teacher = teacher
        self.known: dict[bytes, Tensor] = {}

    def forward(self, seen: Seen) -> Tensor:
        target = torch.stack([self.target(seen, number) for number in range(seen.batch.size)]).to(seen.displacement)
        spacing = float(seen.batch.fixed.space.spacing.prod()) ** (1 / seen.nodes.ndim)
        distance = (seen.displacement - target).square().sum(dim=1, keepdim=True) / spacing**2
        mask = seen.batch.fixed.mask
        if mask is None:
            return distance.flatten(1).mean(dim=1)
        counted = F.interpolate(mask.to(distance), size=seen.nodes.shape, mode="area")
        return (distance * counted).flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp_min(1e-6)

    def target(self, seen: Seen, number: int) -> Tensor:
        """(D, *nodes) mm: how far the engine moves the nodes, in one pair of a batch; half precision."""
        fixed, moving = (_one(image, number) for image in (seen.batch.fixed, seen.batch.moving))
        matrix = seen.batch.initial.matrix
        initial = Linear((matrix[number] if matrix.ndim == 3 else matrix).cpu())
        key = _key(fixed, moving, initial)
        if key not in self.known:
            with torch.no_grad():
                if moving.space.same_as(fixed.space):  # the other direction comes with it
                    back = _key(moving, fixed, initial.inverse())
                    # It is always the same one that is asked, so that the order of pairs does not matter.
                    if key < back:
                        found = self.found(fixed, moving, initial)
                    else:
                        found = self.found(moving, fixed, initial.inverse()).inverse()
                    self.known[back] = _moves(initial @ found.inverse(), seen)
                else:
                    found = self.found(fixed, moving, initial)
                self.known[key] = _moves(initial.inverse() @ found, seen)
        return self.known[key]

    def found(self, fixed: Image, moving: Image, initial: Linear) -> Transform:
        """What the engine says, fixed RAS mm -> moving RAS mm."""
        with torch.enable_grad():  # it may take gradients of its own
            return self.teacher(Pair(fixed, moving), initial, Silent())[0]


def _one(image: Image, number: int) -> Image:
    """One image of a batch, on the CPU."""
    mask = None if image.mask is None else image.mask[number : number + 1]
    return Image(image.data[number : number + 1], image.space, mask, image.name).to("cpu")


def _moves(residual: Transform, seen: Seen) -> Tensor:
    like = seen.batch.fixed.data.new_zeros(0, device="cpu")
    moves = residual.on_grid(seen.nodes, like) - seen.nodes.points(like)
    return moves.reshape(*seen.nodes.shape, -1).movedim(-1, 0).half()


def _key(fixed: Image, moving: Image, initial: Linear) -> bytes:
    """What a pair is known by: its numbers, as names are the same both ways and augmentations keep them."""
    digest: Any = hashlib.blake2b(digest_size=16)
    for tensor in (fixed.data, moving.data, initial.matrix.round(decimals=6)):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return bytes(digest.digest())
