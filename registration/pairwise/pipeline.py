"""A registration from start to end: an initial guess, then one stage after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..image import Image, check_images
from ..transforms.base import Transform
from .border import inner_pair
from .initialise import Initialiser
from .observe import Noted, Observer, StageReport
from .order import swapped
from .pair import Pair
from .shading import evened
from .stages import Stage
from .terms import Term


@dataclass(frozen=True, eq=False)
class Result:
    """What a run found.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    initial
        The transform that the first stage started from.
    stages
        What each stage did.
    notes
        What the run had to say: stages left out, alignments kept.
    """

    transform: Transform
    initial: Transform
    stages: tuple[StageReport, ...]
    notes: tuple[str, ...] = ()


class Pipeline:
    """Stages in a row.

    Parameters
    ----------
    initial
        The first guess.
    stages
        Each refines the transform of the one before. None stands for a stage that settings left out.
    symmetric
        Whether exchanging fixed and moving shall give the inverse transform: which image then takes the fixed one's
        part does not depend on what they are called, and the result is inverted if need be. For stages whose
        transforms have cheap inverses.
    wary
        Whether smooth images that share no more than such images do by chance are kept near their start, and not
        deformed (:attr:`Pair.chance`): the similarity, followed freely, leads them anywhere.
    even
        Whether slow shading is left out of what deforms them, where the images share more without it.
    """

    def __init__(
        self,
        initial: Initialiser,
        stages: Sequence[Stage | None],
        symmetric: bool = False,
        wary: bool = True,
        even: bool = True,
    ) -> None:
        if odd := [stage for stage in stages if stage is not None and not callable(stage)]:
            raise ValueError(f"stages are what aligns, or null for none, got {odd[0]!r}")
        self.initial, self.stages = initial, tuple(stage for stage in stages if stage is not None)
        self.symmetric, self.wary, self.even = symmetric, wary, even

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        initial: Transform | None = None,
        observer: Observer | None = None,
        terms: Sequence[Term] = (),
    ) -> Result:
        """Bring the moving image onto the fixed one.

        Parameters
        ----------
        fixed, moving
            (1, C, *S) images on any grids of one dimension; their masks restrict the alignment.
        initial
            Fixed RAS mm -> moving RAS mm, in place of the configured guess.
        observer
            Watches the progress.
        terms
            What guides the alignment beside the similarity: labels, landmarks.

        Raises
        ------
        TypeError
            If one is no image, such as a file name.
        ValueError
            If the images do not go together, or the first guess leaves them without common field of view.
        """
        check_images(fixed=fixed, moving=moving)
        watcher = Noted(observer)
        if self.symmetric and swapped(fixed, moving, initial, tuple(terms)):
            back = self._run(moving, fixed, None if initial is None else initial.inverse(), watcher, terms)
            return Result(back.transform.inverse(), back.initial.inverse(), back.stages, back.notes)
        return self._run(fixed, moving, initial, watcher, terms)

    def _run(
        self, fixed: Image, moving: Image, initial: Transform | None, observer: Noted, terms: Sequence[Term]
    ) -> Result:
        pair = inner_pair(fixed, moving, terms=terms, wary=self.wary)
        pair.check_size()
        start = initial or self.initial(pair)
        pair.check_overlap(start)
        transform, reports = start, []
        bends: bool | None = None  # not known yet
        for stage in self.stages:
            if stage.deforms and bends is None:
                bends = self._founded(pair, transform, observer)
                pair = self._even(pair, transform, observer) if bends and self.even else pair
            if stage.deforms and not bends:
                continue
            transform, report = stage(pair, transform, observer)
            reports.append(report)
        return Result(transform, start, tuple(reports), tuple(observer.notes))

    def _founded(self, pair: Pair, transform: Transform, observer: Observer) -> bool:
        doubt = unfounded(pair, transform)
        if doubt:
            names = " and ".join(stage.name for stage in self.stages if stage.deforms)
            observer.note(f"{names} left out: {doubt}; wary=false deforms all the same")
        return not doubt

    def _even(self, pair: Pair, transform: Transform, observer: Observer) -> Pair:
        plain, gain = evened(pair, transform)
        if gain:
            observer.note(f"slow shading is left out of the images: {gain}; even=false keeps it")
        return plain


def unfounded(pair: Pair, transform: Transform) -> str:
    """Why what the images share under a transform is no ground to deform them by; nothing if it is one."""
    if pair.terms or not pair.chance > 0:
        return ""
    shared = pair.shared(transform)
    if shared > pair.chance:
        return ""
    return (
        f"the images share {shared:.2f} nats of mutual information, and images as smooth as these "
        f"(about {pair.samples:.0f} independent places) share up to {pair.chance:.2f} by chance"
    )
