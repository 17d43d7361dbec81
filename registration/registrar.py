"""Modules that align: images in, a better transform out. They differ in where the transform comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from .families.base import Family
from .families.landmarks import AffineFit, LandmarkFit
from .families.velocity import Velocity
from .image import Image
from .localisation.base import Localiser, Named, full_precision
from .localisation.dense import VoxelVelocity
from .localisation.keypoints import PointFinder
from .localisation.posed import Posed
from .transforms.base import Transform
from .transforms.linear import Linear


class Aligner(nn.Module, ABC):
    """Proposes what is left to do after an initial transform."""

    any_size = False
    """Whether images of another size than those of training mean the same to it, voxel by voxel."""

    @abstractmethod
    def residual(self, fixed: Image, moving: Image, initial: Transform) -> Transform:
        """The map of fixed RAS mm to fixed RAS mm with which ``initial @ residual`` is better than ``initial``."""

    def told(self, fixed: Image, moving: Image, initial: Transform) -> tuple[Transform, Named | None]:
        """The residual, and what was named on the way by those who name the anatomy; for training."""
        return self.residual(fixed, moving, initial), None

    def named(self, fixed: Image, moving: Image, initial: Transform) -> Named | None:
        """What is named on the way, without the residual where that saves time; for training."""
        return self.told(fixed, moving, initial)[1]

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
        return initial @ self.residual(fixed, moving, initial)


class Registrar(Aligner):
    """Aligns a pair of images by what its localiser proposes; pairwise optimisation trains it on one pair.

    Parameters
    ----------
    localiser
        Proposes parameters: free ones, or a network.
    family
        Turns them into a transform over the fixed domain.

    Raises
    ------
    ValueError
        If the localiser proposes velocities and the family takes none, or none so far apart.
    """

    def __init__(self, localiser: Localiser, family: Family) -> None:
        super().__init__()
        if isinstance(localiser, VoxelVelocity):
            given = family.shrink if isinstance(family, Velocity) else None
            if given is None or localiser.shrink not in (None, given):
                said = type(family).__name__ if given is None else f"one of shrink {given:g}"
                raise ValueError(
                    f"{type(localiser).__name__} proposes velocities, for family=velocity"
                    f"{'' if localiser.shrink is None else f' family.shrink={localiser.shrink}'}, not {said}"
                )
        self.localiser, self.family = localiser, family
        self.any_size = localiser.any_size

    def residual(self, fixed: Image, moving: Image, initial: Transform) -> Transform:
        """The family's transform of the proposed parameters."""
        return self.told(fixed, moving, initial)[0]

    def told(self, fixed: Image, moving: Image, initial: Transform) -> tuple[Transform, Named | None]:
        """That transform, and what the localiser named."""
        parameters, named = self.localiser.proposed(fixed, moving, initial)
        with full_precision(fixed.data):
            return self.family(parameters, fixed.space), named

    def named(self, fixed: Image, moving: Image, initial: Transform) -> Named | None:
        """What the localiser named."""
        return self.localiser.named(fixed, moving, initial)


class KeypointRegistrar(Aligner):
    """Finds the same points in both images and fits a transform to them (Wang et al. 2023, arXiv 2304.09941).

    Each image is looked at alone and where it lies, so that no pose is too far away.

    Parameters
    ----------
    keypoints
        Finds points and their weights.
    fit
        The transform that fits them best.

    Raises
    ------
    ValueError
        If what shall fit them does not take points.
    """

    def __init__(self, keypoints: PointFinder, fit: LandmarkFit) -> None:
        super().__init__()
        if not isinstance(fit, LandmarkFit):
            raise ValueError(
                f"{type(keypoints).__name__} finds points, for family=fit_rigid, fit_affine or fit_tps, "
                f"not {type(fit).__name__}"
            )
        self.keypoints, self.fit = keypoints, fit
        self.any_size = keypoints.any_size

    def residual(self, fixed: Image, moving: Image, initial: Transform) -> Transform:
        """The fit of the fixed points to the moving ones, brought to fixed mm by the inverse of ``initial``."""
        here, weight = self.keypoints(fixed)
        there, other = self.keypoints(moving)
        with full_precision(fixed.data):
            return self.fit(here, initial.inverse()(there), weight * other)


class PoseRegistrar(KeypointRegistrar):
    """Finds the pose of the anatomy in both images, and learns it from moving images that lie as the anatomy should.

    While it learns, only the fixed images are looked at (:meth:`~registration.localisation.Posed.lesson`). Were both,
    an answer would be right or wrong only beside another answer; and nothing would lead from a mistaken side of the
    anatomy to the right one, as half a turn away all small turns are equally bad. So what it learns from is the best
    affine map to axes that need not be orthogonal yet, and is judged from moving to fixed points (``LandmarksBack``):
    squared distances that are all but a quadratic function of what the network says.

    Parameters
    ----------
    keypoints
        The poses.
    fit
        The transform that fits their corners best.
    """

    def __init__(self, keypoints: Posed, fit: LandmarkFit) -> None:
        super().__init__(keypoints, fit)

    def residual(self, fixed: Image, moving: Image, initial: Transform) -> Transform:
        """As that of keypoints; while it learns, from the moving image as it lies."""
        assert isinstance(self.keypoints, Posed)
        if not self.training:
            here, there = self.keypoints.find([fixed, moving])
            with full_precision(fixed.data):
                return self.fit(here, initial.inverse()(there), here.new_ones(here.shape[:2]))
        here, there = self.keypoints.lesson(fixed), initial.inverse()(self.keypoints.as_it_lies(moving))
        with full_precision(fixed.data):
            return AffineFit()(there, here, here.new_ones(here.shape[:2])).inverse()


class Cascade(Aligner):
    """Several aligners in a row, each of which sees the moving image as the ones before it left it; trained as one.

    Parameters
    ----------
    parts
        In the order of application, such as affine, spline, velocity. None is left out, as settings may say.
    """

    def __init__(self, parts: Sequence[Aligner | None]) -> None:
        super().__init__()
        kept = [part for part in parts if part is not None]
        if not kept:
            raise ValueError("a cascade needs at least one part")
        self.parts = nn.ModuleList(kept)
        self.any_size = all(part.any_size for part in kept)

    def residual(self, fixed: Image, moving: Image, initial: Transform) -> Transform:
        """The composition of the residuals of all parts."""
        total: Transform = Linear.identity(fixed.ndim)
        for part in self.parts:
            assert isinstance(part, Aligner)
            total = total @ part.residual(fixed, moving, initial @ total)
        return total
