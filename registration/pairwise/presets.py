"""How much work a registration does: the numbers of every stage, for those who call the library from Python.

The settings files ``configs/preset/*.yaml`` say the same to the commands; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..families.affine import Affine
from ..families.base import Family
from ..families.rigid import Rigid
from ..families.similarity import Similarity as SimilarityFamily
from ..losses import LocalMutualInformation, LocalNormalisedCrossCorrelation, MutualInformation, Similarity
from .diffeomorphic import DiffeomorphicStage, FieldLevel, Steps
from .optimise import QuasiNewton
from .splines import SplineLevel, SplineStage
from .stages import LinearStage, Stage

_FOLLOWED = QuasiNewton(tolerance=1e-4)  # of linear stages: what follows goes on from there
_SPLINE = (SplineLevel(8, 8), SplineLevel(4, 15), SplineLevel(2, 29))


@dataclass(frozen=True)
class Preset:
    """The numbers of all stages; each method gives the stages of one kind of transform, ready for a pipeline.

    Parameters
    ----------
    dense
        Levels of the diffeomorphic stage.
    before
        Levels of the spline between affine and diffeomorphic stage; none leaves it out.
    spline
        Levels of the spline that is the result.
    alone, first, second
        Shrinks of a rigid stage that nothing follows, of one that is followed, and of the linear stage that follows.
    bending, most
        Of the spline that is the result, see :class:`SplineStage`.
    stiffness
        ``bending`` of the spline between affine and diffeomorphic stage, which must not turn the inside of a head to
        fit its outline.
    edges, steps, least
        Of the diffeomorphic stage, see :class:`DiffeomorphicStage`.
    linear, deformable, fields
        What the linear stages, splines, and dense fields with the spline before them minimise.
    """

    dense: tuple[FieldLevel, ...]
    before: tuple[SplineLevel, ...] = (SplineLevel(8, 8, 5.0),)
    spline: tuple[SplineLevel, ...] = _SPLINE
    alone: tuple[float, ...] = (8, 4, 2)
    first: tuple[float, ...] = (8,)
    second: tuple[float, ...] = (4, 2)
    bending: float = 0.03
    stiffness: float = 3.0
    most: int = 20000
    edges: float = 1.0
    steps: Steps = field(default_factory=Steps)
    least: float = 0.6667
    linear: Similarity = field(default_factory=MutualInformation)
    deformable: Similarity = field(default_factory=LocalNormalisedCrossCorrelation)
    fields: Similarity = field(default_factory=LocalMutualInformation)

    def rigid(self) -> list[Stage]:
        """Rotation and translation."""
        return [LinearStage("rigid", Rigid(), self.linear, self.alone)]

    def similarity(self) -> list[Stage]:
        """And one scale."""
        return self._linear("similarity", SimilarityFamily())

    def affine(self) -> list[Stage]:
        """And shear and three scales."""
        return self._linear("affine", Affine())

    def tps(self) -> list[Stage]:
        """And a thin-plate spline."""
        return [*self._linear("affine", Affine(), _FOLLOWED), self._spline(self.spline, self.deformable, self.bending)]

    def diffeomorphic(self) -> list[Stage]:
        """And a smooth invertible field on every voxel, after a spline if there is one."""
        bend = [self._spline(self.before, self.fields, self.stiffness)] if self.before else []
        return [
            *self._linear("affine", Affine(), _FOLLOWED),
            *bend,
            DiffeomorphicStage("diffeomorphic", self.fields, self.dense, self.steps, self.edges, least=self.least),
        ]

    def _linear(self, name: str, family: Family, descent: QuasiNewton | None = None) -> list[Stage]:
        rigid = LinearStage("rigid", Rigid(), self.linear, self.first, _FOLLOWED)
        return [rigid, LinearStage(name, family, self.linear, self.second, descent)]

    def _spline(self, levels: tuple[SplineLevel, ...], similarity: Similarity, bending: float) -> Stage:
        return SplineStage("tps", similarity, levels, bending, self.most)


def fast() -> Preset:
    """Seconds: the dense field at two thirds of the resolution, no spline before it."""
    dense = (FieldLevel(4, 20, 0.5, 2.0), FieldLevel(2, 10, 0.4), FieldLevel(1.5, 8, 0.4))
    return Preset(dense, before=(), spline=_SPLINE[:2], second=(4,), steps=Steps(damping=0.2))


def default() -> Preset:
    """What suits most pairs."""
    return Preset((FieldLevel(4, 20, 0.5, 2.0), FieldLevel(2, 20, 0.4), FieldLevel(1, 20, 0.4)))


def accurate() -> Preset:
    """More steps, finer images under the last voxels, and then the field between them."""
    finest = FieldLevel(1, 20, 0.36, detail=1.5), FieldLevel(0.5, 10, 0.4)
    return Preset((FieldLevel(4, 30, 0.5, 2.0), FieldLevel(2, 30, 0.4), *finest))
