"""What training minimises: a similarity of images and penalties on the transform, each seen through one object."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from ..image import Image
from ..interpolate import linear, nearest
from ..limits import HEAVIEST, check_sizes
from ..localisation.base import Named, full_precision
from ..registrar import Aligner
from ..sampling import unit_grid
from ..space import Space
from ..transforms.base import Transform
from .batch import PairBatch


class Seen:
    """A batch and the transforms that an aligner found for it; what terms ask for is computed once.

    Parameters
    ----------
    batch
        B pairs.
    residual
        Fixed mm -> fixed mm, what the aligner proposed; None where no term looks at it (:attr:`Term.aligns`).
    named
        What it said the anatomy is, if it did.
    """

    def __init__(self, batch: PairBatch, residual: Transform | None, named: Named | None = None) -> None:
        self.batch, self._residual, self.named = batch, residual, named

    @property
    def residual(self) -> Transform:
        """Fixed mm -> fixed mm, what the aligner proposed."""
        assert self._residual is not None, "a term that looks at the transform says so by `aligns`"
        return self._residual

    @cached_property
    def transform(self) -> Transform:
        """Fixed mm -> moving mm of the upright frames."""
        return self.batch.initial @ self.residual

    @cached_property
    def grid(self) -> Tensor:
        """(B, *S, D) where the fixed voxels fall in the unit coordinates of the moving image."""
        fixed = self.batch.fixed
        grid = unit_grid(self.transform, self.batch.moving.space, fixed.space, fixed.data)
        return grid.expand(self.batch.size, *grid.shape[1:])

    @cached_property
    def evidence(self) -> Tensor | None:
        """(B, 1, *S) boolean: fixed voxels that can be judged, by both masks and the moving field of view."""
        fixed, moving = self.batch.fixed.mask, self.batch.moving.mask
        inside = (self.grid.detach().abs().amax(dim=-1) <= 1)[:, None]
        if moving is not None:
            inside = inside & (nearest(moving.to(self.grid.dtype), self.grid.detach()) > 0.5)
        if fixed is not None:
            inside = inside & fixed
        return None if bool(inside.all()) else inside

    def pull(self, data: Tensor) -> Tensor:
        """(B, C, *S) of the moving image's grid on the fixed grid, linear, the border value outside."""
        return linear(data, self.grid)

    @cached_property
    def nodes(self) -> Space:
        """A grid of half the resolution, fine enough for penalties on smooth maps."""
        return coarser(self.batch.fixed.space)

    @cached_property
    def displacement(self) -> Tensor:
        """(B, D, *nodes) mm: what the residual moves the :attr:`nodes` by."""
        like = self.batch.fixed.data
        moves = (self.residual.on_grid(self.nodes, like) - self.nodes.points(like)).movedim(-1, -1 - self.nodes.ndim)
        return moves.expand(self.batch.size, *moves.shape[-1 - self.nodes.ndim :])


def coarser(space: Space) -> Space:
    """A grid of half the resolution over the same field of view."""
    return space.resized([max(1, -(-n // 2)) for n in space.shape])


class Term(nn.Module, ABC):
    """One part of the objective.

    Parameters
    ----------
    weight
        By which the sum multiplies it.
    """

    asked: Literal["always", "training", "rehearsal"] = "always"
    """When it counts: a rehearsal is the part of a training in which pairs come again (``trainer.rehearse``)."""
    aligns = True
    """Whether it looks at the transform; where no term of a step does, none is computed."""
    both_ways = False
    """Whether it judges batches that hold every pair both ways (``trainer.symmetric``)."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        check_sizes(HEAVIEST, weight=weight)
        self.weight = float(weight)

    @abstractmethod
    def forward(self, seen: Seen) -> Tensor:
        """(B,) values, lower is better."""

    def foresee(self, batches: Iterable[PairBatch], folder: Path) -> None:
        """Prepare for the pairs of a rehearsal, before it begins or is resumed; nothing by default.

        Parameters
        ----------
        folder
            What was prepared may be kept there for a training that is resumed; it is removed at the training's end.
        """


class Objective(nn.Module):
    """A weighted sum of terms.

    Parameters
    ----------
    terms
        By name, as logs show them; None leaves one out, and so does a weight of 0.
    """

    def __init__(self, terms: Mapping[str, Term | None]) -> None:
        super().__init__()
        kept = {name: term for name, term in terms.items() if term is not None and term.weight != 0}
        if not kept:
            raise ValueError("an objective needs at least one term with a weight")
        # Who learns from labels is judged by their Dice.
        if all(term.asked != "always" and term.aligns for term in kept.values()):
            raise ValueError("an objective needs at least one term that counts at all times")
        self.terms = nn.ModuleDict(kept)
        self.rehearsing = False

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """(B,) values of all terms, unweighted, and the weighted sum of those that count now as ``loss``.

        Terms of training are NaN in evaluation mode, those of rehearsals also while :attr:`rehearsing` is false; so is
        the sum where none counts.
        """
        now = self.counting()
        nothing = seen.batch.fixed.data.new_full((seen.batch.size,), math.nan)
        values = {name: term(seen) if name in now else nothing for name, term in self.terms.items()}
        parts = [term.weight * values[name] for name, term in now.items()]
        return {"loss": sum(parts[1:], parts[0]) if parts else nothing, **values}

    def counting(self) -> dict[str, Term]:
        """The terms that count now, by name."""
        now = {"always", "training"} if self.training else {"always"}
        if self.training and self.rehearsing:
            now.add("rehearsal")
        terms: dict[str, Term] = dict(self.terms.items())  # type: ignore[arg-type]
        return {name: term for name, term in terms.items() if term.asked in now}

    @property
    def aligns(self) -> bool:
        """Whether a term that counts now looks at the transform."""
        return any(term.aligns for term in self.counting().values())


class Box:
    """Carries a batch through wrappers that would otherwise look into it for tensors to convert."""

    def __init__(self, batch: PairBatch) -> None:
        self.batch = batch


class Learner(nn.Module):
    """Aligner and objective as one module, so that data-parallel wrappers see one forward call.

    Parameters
    ----------
    aligner
        What learns.
    objective
        What it learns from.
    symmetric
        Whether every pair is also seen the other way round.
    """

    def __init__(self, aligner: Aligner, objective: Objective, symmetric: bool = False) -> None:
        super().__init__()
        self.aligner, self.objective, self.symmetric = aligner, objective, symmetric

    def forward(self, box: Box) -> dict[str, Tensor]:
        """(B,) values by name, ``loss`` among them; (2B,) if symmetric."""
        batch = box.batch.both_ways() if self.symmetric else box.batch
        pair = (batch.fixed, batch.moving, batch.initial)
        residual, named = self.aligner.told(*pair) if self.objective.aligns else (None, self.aligner.named(*pair))
        with full_precision(batch.fixed.data):
            return self.objective(Seen(batch, residual, named))  # type: ignore[no-any-return]


def warped(seen: Seen) -> Image:
    """The moving images on the fixed grid."""
    return seen.batch.fixed.with_data(seen.pull(seen.batch.moving.data)).with_mask(None)
