"""A trained network as a stage of registration: from checkpoint and images to a transform in their own world."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from ..errors import InputError
from ..image import Image
from ..io.files import PathLike
from ..limits import check_counts, check_sizes
from ..localisation import Named
from ..losses import LocalNormalisedCrossCorrelation
from ..pairwise import (
    DiffeomorphicStage,
    FieldLevel,
    Initialiser,
    LabelOverlap,
    Observer,
    Pair,
    Stage,
    StageReport,
    Steps,
)
from ..preprocessing import CropOrPad, Pipeline
from ..registrar import Aligner
from ..sampling import warp
from ..space import Space
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .blueprint import build
from .checkpoints import read_checkpoint
from .starts import Start, to_upright, upright
from .unbatched import unbatched

_MULTIPLE = 16  # enlarged grids have so many voxels per axis or a multiple: what networks would pad to


class Trained:
    """What a checkpoint holds, made ready for use.

    Parameters
    ----------
    checkpoint
        A file that ``registration train`` has written.

    Raises
    ------
    InputError
        If the file is no checkpoint that this version can read.
    """

    def __init__(self, checkpoint: PathLike | None) -> None:
        if checkpoint is None:
            raise InputError("checkpoint", "is not given", "name the file, such as RUN/best.pt")
        content = read_checkpoint(str(checkpoint))
        plan: dict[str, Any] = content["plan"]
        missing = [key for key in ("model", "start", "preprocessing") if key not in plan]
        if missing:
            raise InputError(checkpoint, f"is an incomplete checkpoint: plan.{missing[0]} is missing", "train again")
        self.file, self.plan, self.metrics = str(checkpoint), plan, content["metrics"]
        self.aligner: Aligner = build(plan["model"])
        if not isinstance(self.aligner, Aligner):
            raise InputError(checkpoint, f"describes no network that aligns, but {type(self.aligner).__name__}")
        try:
            self.aligner.load_state_dict(content["model"])
        except (RuntimeError, TypeError, AttributeError) as error:
            why = " ".join(str(error).split())[:150]
            raise InputError(checkpoint, f"its weights do not fit its network ({why})") from None
        self.aligner.eval().float().requires_grad_(False)  # as images are, whatever torch's default is
        self.start: Start = build(plan["start"])
        self.pipeline = Pipeline.from_config(plan["preprocessing"])

    def prepared(self, image: Image) -> Image:
        """The image as the network was trained to see it; one that is larger than those of training is not cropped."""
        for step in self.pipeline.steps.values():
            if isinstance(step, CropOrPad) and self.aligner.any_size:
                step = replace(step, shape=self._enlarged(step, image.space))
            image = step(image)
        return image

    def _enlarged(self, step: CropOrPad, space: Space) -> tuple[int, ...]:
        wanted = (step.shape,) * space.ndim if isinstance(step.shape, int) else tuple(step.shape)
        if len(wanted) != space.ndim:
            return wanted  # the step says it better
        return tuple(w if n <= w else -(-n // _MULTIPLE) * _MULTIPLE for n, w in zip(space.shape, wanted, strict=True))


class NetworkStart(Initialiser):
    """The first guess that a network was trained with.

    Parameters
    ----------
    checkpoint
        As for :class:`NetworkStage`.
    """

    def __init__(self, checkpoint: PathLike | None) -> None:
        self.checkpoint = checkpoint

    def __call__(self, pair: Pair) -> Linear:
        trained = Trained(self.checkpoint)
        fixed, moving = (_checked(trained, image).space for image in (pair.fixed, pair.moving))
        return trained.start(fixed, moving)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network makes of a pair.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    fixed, moving
        The images as the network saw them, but where they lie in the world.
    names
        (1, 1, *S) label maps of both, where they lie in the world, by networks that name the anatomy.
    """

    transform: Transform
    fixed: Image
    moving: Image
    names: tuple[Image, Image] | None = None


class NetworkStage(Stage):
    """One look of a trained network: no iterations.

    The images are preprocessed as in training, of any size, spacing and orientation; what the network answers is
    brought back to their world. What it named guides the stages after it, which see the intensities alone otherwise.

    Parameters
    ----------
    checkpoint
        A file that ``registration train`` has written; read when the stage is first used.
    name
        What reports call the stage.
    naming
        Weight of the overlap of what it named in the stages after it, where networks name the anatomy; 0 for none.
    """

    def __init__(self, checkpoint: PathLike | None, name: str = "network", naming: float = 1.0) -> None:
        check_sizes(naming=naming)
        self.checkpoint, self.name, self.naming = checkpoint, name, float(naming)

    @cached_property
    def trained(self) -> Trained:
        """The network and what belongs to it."""
        return Trained(self.checkpoint)

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        """Align further.

        Raises
        ------
        InputError
            If the checkpoint cannot be used, or was trained on images of other dimension or channels.
        """
        began = time.perf_counter()
        observer.stage(self.name, 1)
        answer = self.aligned(pair, initial)
        similarity = LocalNormalisedCrossCorrelation(2, 1e-3)
        before, after = (
            float(similarity(warp(answer.moving, transform, answer.fixed.space)[0].data, answer.fixed.data).mean())
            for transform in (initial, answer.transform)
        )
        observer.step(after)
        if answer.names is not None and self.naming > 0:
            with suppress(ValueError):  # no label was found in both images
                pair.guide(LabelOverlap(*answer.names, self.naming))
        return answer.transform, StageReport(self.name, time.perf_counter() - began, before, after, 1)

    @torch.no_grad()
    def aligned(self, pair: Pair, initial: Transform | None) -> Answer:
        """What the network makes of a pair; None begins as its training did.

        Raises
        ------
        InputError
            As for the stage itself.
        """
        trained = self.trained
        trained.aligner.to(pair.fixed.data.device)
        fixed, moving = (_checked(trained, image) for image in (pair.fixed, pair.moving))
        initial = trained.start(fixed.space, moving.space) if initial is None else initial
        to_fixed, to_moving = (Linear(to_upright(image.space)) for image in (fixed, moving))
        seen = [replace(image, space=upright(image.space)) for image in (fixed, moving)]
        start = to_moving @ initial @ to_fixed.inverse()
        residual, named = trained.aligner.told(seen[0], seen[1], start)
        transform = initial @ unbatched(residual, fixed.space, to_fixed)
        return Answer(transform, fixed, moving, _names(named, fixed, moving, initial))


def refinement(iterations: int, sigma: float = 2.0, edges: float = 2.0, floor: float = 1e-3) -> Stage | None:
    """The pairwise engine after a network: so many steps at half and at full resolution; None for 0.

    Parameters
    ----------
    iterations
        Steps at each resolution.
    sigma
        Of the Gaussian that smooths a step, in voxels: twice that of the presets, so that what the network knows of
        anatomy gives way to what many voxels agree on, not to noise.
    edges, floor
        Weight of the gradient magnitude, and the floor of variances, of the correlation in windows.

    Raises
    ------
    ValueError
        If the number is no whole number from 0.
    """
    check_counts(0, iterations=iterations)
    if iterations == 0:
        return None
    levels = tuple(FieldLevel(shrink, iterations, total=0.4, sigma=sigma) for shrink in (2, 1))
    loss = LocalNormalisedCrossCorrelation(2, floor)
    return DiffeomorphicStage("refine", loss, levels, Steps(damping=0.1), edges)


def _names(named: Named | None, fixed: Image, moving: Image, initial: Transform) -> tuple[Image, Image] | None:
    """Label maps of what was named; both were looked at on the fixed grid, the moving one as the start brought it."""
    if named is None or not isinstance(initial, Linear):
        return None
    values = torch.tensor([0, *named.labels], dtype=torch.float32, device=named.logits.device)
    here, there = values[named.logits.argmax(dim=1, keepdim=True)].chunk(2)
    brought = Space(fixed.space.shape, initial.matrix @ fixed.space.affine)
    return (
        Image(here, fixed.space, name=f"what was named in {fixed.name}"),
        Image(there, brought, name=f"what was named in {moving.name}"),
    )


def _checked(trained: Trained, image: Image) -> Image:
    """The prepared image, if the network is for its dimension and channels."""
    ndim, channels = trained.plan.get("ndim"), trained.plan.get("channels")
    if ndim is not None and image.ndim != ndim:
        raise InputError(trained.file, f"was trained on {ndim}-D images, {image.name} has {image.ndim} axes")
    if channels is not None and image.data.shape[1] != channels:
        raise InputError(
            trained.file, f"was trained on images of {channels} channel(s), {image.name} has {image.data.shape[1]}",
            "contrasts of an image are its channels: give as many as the network was trained on",
        )  # fmt: skip
    return trained.prepared(image)
