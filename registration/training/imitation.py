"""Learning from the pairwise engine: what it finds for a pair is what a network should have said at once."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batch.processes import default_jobs
from ..batch.workers import Workers
from ..image import Image
from ..limits import check_counts
from ..pairwise import Pair, Silent, Stage
from ..space import Space
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .answers import Answers
from .batch import PairBatch
from .objective import Seen, Term, coarser


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
    jobs
        Processes that ask it for all pairs before they come again, of one thread each, and whose answers are kept with
        the run until the training has come to its end; with 1, it is asked here for each pair as it comes, and None
        stands for one process per core.
    """

    asked = "rehearsal"

    def __init__(self, teacher: Stage, weight: float = 1.0, jobs: int | None = 1) -> None:
        super().__init__(weight)
        check_counts(1, 1024, jobs=1 if jobs is None else jobs)
        self.teacher, self.jobs = teacher, default_jobs() if jobs is None else jobs
        self.answers = Answers()

    def forward(self, seen: Seen) -> Tensor:
        target = torch.stack([self.target(seen, number) for number in range(seen.batch.size)]).to(seen.displacement)
        spacing = float(seen.batch.fixed.space.spacing.prod()) ** (1 / seen.nodes.ndim)
        distance = (seen.displacement - target).square().sum(dim=1, keepdim=True) / spacing**2
        mask = seen.batch.fixed.mask
        if mask is None:
            return distance.flatten(1).mean(dim=1)
        counted = F.interpolate(mask.to(distance), size=seen.nodes.shape, mode="area")
        return (distance * counted).flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp_min(1e-6)

    def foresee(self, batches: Iterable[PairBatch], folder: Path) -> None:
        """Ask for all pairs in several processes; whatever one of them leaves open is asked here when it comes."""
        if self.jobs == 1:
            return
        self.answers.keep(folder, self.teacher)
        asked: dict[int, Question] = {}

        def tasks() -> Iterator[tuple[bytes]]:
            for number, question in enumerate(self._open(batches)):
                asked[number] = question
                # In bytes, as tensors would be shared between processes by open files.
                yield (pickle.dumps((self.teacher, question)),)

        with Workers(self.jobs) as workers:
            for number, found in workers.as_finished(_answered, tasks()):
                question = asked.pop(number)  # images of all pairs would be too many
                if found is not None:
                    self.answers.add(question, pickle.loads(found))

    def _open(self, batches: Iterable[PairBatch]) -> Iterator[Question]:
        """What is not known of batches; the answer to one direction of a pair holds the other."""
        asked: set[bytes] = set()
        for batch in batches:
            for number in range(batch.size):
                question = _question(batch, number)
                if question.key not in asked and self.answers.get(question) is None:
                    asked |= {question.key, question.back}
                    yield question

    def target(self, seen: Seen, number: int) -> Tensor:
        """(D, *nodes) mm: how far the engine moves the nodes, in one pair of a batch; half precision."""
        question = _question(seen.batch, number)
        found = self.answers.get(question)
        if found is None:
            answer = question.answered(self.teacher)
            self.answers.add(question, answer)
            found = answer[question.key]
        return found


@dataclass(frozen=True, eq=False)
class Question:
    """A pair that the engine is asked about, on the CPU.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images.
    initial
        Fixed RAS mm -> moving RAS mm.
    nodes
        Where the answer is wanted.
    """

    fixed: Image
    moving: Image
    initial: Linear
    nodes: Space

    @cached_property
    def key(self) -> bytes:
        """What the pair is known by."""
        return _key(self.fixed, self.moving, self.initial)

    @cached_property
    def back(self) -> bytes:
        """What the other direction is known by; it comes with this one where the grids are the same."""
        same = self.moving.space.same_as(self.fixed.space)
        return _key(self.moving, self.fixed, self.initial.inverse()) if same else self.key

    @property
    def keys(self) -> list[bytes]:
        """What the answer is known by, in an order that is the same for both directions."""
        return sorted({self.key, self.back})

    def content(self) -> bytes:
        """All that the answer depends on but the engine, as a digest that is the same for both directions."""
        digest: Any = hashlib.blake2b(b"".join(self.keys), digest_size=16)
        for image in (self.fixed, self.moving) if self.key <= self.back else (self.moving, self.fixed):
            mask = b"" if image.mask is None else image.mask.numpy().tobytes()
            digest.update(repr((image.space.shape, image.space.affine.tolist(), len(mask))).encode() + mask)
        return bytes(digest.digest())

    def answered(self, teacher: Stage) -> dict[bytes, Tensor]:
        """What the engine says, by key: (D, *nodes) displacements in mm of one direction or of both."""
        initial, back = self.initial, self.initial.inverse()
        with torch.no_grad():
            # It is always the same direction that is asked, so that the order of pairs does not matter.
            if self.key <= self.back:
                found = _found(teacher, self.fixed, self.moving, initial)
            else:
                found = _found(teacher, self.moving, self.fixed, back).inverse()
            told = {self.key: self._moves(back @ found)}
            if self.back != self.key:
                told[self.back] = self._moves(initial @ found.inverse())
        return told

    def _moves(self, residual: Transform) -> Tensor:
        like = self.fixed.data.new_zeros(0)
        moves = residual.on_grid(self.nodes, like) - self.nodes.points(like)
        return moves.reshape(*self.nodes.shape, -1).movedim(-1, 0).half()


def _answered(question: bytes) -> bytes:
    teacher, asked = pickle.loads(question)
    return pickle.dumps(asked.answered(teacher))


def _found(teacher: Stage, fixed: Image, moving: Image, initial: Linear) -> Transform:
    """What the engine says, fixed RAS mm -> moving RAS mm."""
    with torch.enable_grad():  # it may take gradients of its own
        return teacher(Pair(fixed, moving), initial, Silent())[0]


def _question(batch: PairBatch, number: int) -> Question:
    matrix = batch.initial.matrix
    initial = Linear((matrix[number] if matrix.ndim == 3 else matrix).cpu())
    fixed, moving = (_one(image, number) for image in (batch.fixed, batch.moving))
    return Question(fixed, moving, initial, coarser(batch.fixed.space))


def _one(image: Image, number: int) -> Image:
    """One image of a batch, on the CPU."""
    mask = None if image.mask is None else image.mask[number : number + 1]
    return Image(image.data[number : number + 1], image.space, mask, image.name).to("cpu")


def _key(fixed: Image, moving: Image, initial: Linear) -> bytes:
    """What a pair is known by: its numbers, as names are the same both ways and augmentations keep them."""
    digest: Any = hashlib.blake2b(digest_size=16)
    for tensor in (fixed.data, moving.data, initial.matrix.round(decimals=6)):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return bytes(digest.digest())
