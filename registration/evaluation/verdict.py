"""Whether a result can be believed: what anyone would look at first, each against a limit, in words.

A registration always returns something. The verdict looks at it with other eyes than the optimiser: two measures of
similarity before and after, also beside the same images put out of place on purpose; what the map does to lengths,
volumes and the field of view; and whether its inverse leads back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..image import Image, check_images
from ..io.widened import as_written
from ..transforms.base import Transform
from .evidence import Evidence, gather
from .metrics import folding_percent
from .remembered import Remembered

if TYPE_CHECKING:
    from ..pairwise.pipeline import Result

Status = Literal["passed", "doubtful", "failed"]
_ORDER: tuple[Status, ...] = ("passed", "doubtful", "failed")

# Limits are (doubtful, failed) and were chosen on pairs of brains, hippocampi, heads, CT slices, stains and prostates,
# and on pairs of what does not belong together.
_VIEW = (0.5, 0.1)  # of the smaller field of view, at least
_OUTSIDE = (0.3, 0.9)  # of the fixed object, at most
_KNOWN = 0.04  # normalised mutual information above chance: noise, however well it is fitted, stays below
_STANDS_OUT = 1.15  # times what is left when the images are put out of place
_FELL = 0.02  # less similar by this share is less similar
_SLIGHT = 1e-3  # by less than this, a measure that says nothing of a pair may fall
_STILL = 0.5  # voxels: who moves less has not left the initial alignment
_FOLDING = (0.01, 1.0)  # percent
_SCALE = (1.5, 3.0)
_SHEAR = (1.5, 3.0)  # ratio of the longest to the shortest singular value
_SQUEEZE = (0.05, 4.0)  # volume changes of 98 % of the object
_BEND = (0.3, 1.0)  # of half the object's diagonal
_RETURN = (0.5, 2.0)  # voxels, on average


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Parameters
    ----------
    name
        A key for files.
    status
        What became of it.
    words
        A sentence for people.
    value
        What was found.
    limit
        What it should have been.
    """

    name: str
    status: Status
    words: str
    value: Any
    limit: str

    def described(self) -> dict[str, Any]:
        """As plain values."""
        return {"status": self.status, "words": self.words, "value": self.value, "limit": self.limit}


@dataclass(frozen=True)
class Verdict:
    """What all checks say together.

    Parameters
    ----------
    checks
        Every check.
    worse
        Why the initial alignment was better than the result; empty if it was not.
    """

    checks: tuple[Check, ...]
    worse: str

    @property
    def status(self) -> Status:
        """The worst of all checks; failed if the result is worse than the initial alignment."""
        return "failed" if self.worse else max((check.status for check in self.checks), key=_ORDER.index)

    @property
    def text(self) -> str:
        """One line: that nothing is wrong, or what is, the worst first."""
        wrong = sorted((c for c in self.checks if c.status != "passed"), key=lambda c: -_ORDER.index(c.status))
        return "; ".join(check.words for check in wrong) or "nothing unusual was found"

    def described(self) -> dict[str, Any]:
        """As plain values for a file."""
        return {
            "status": self.status,
            "text": self.text,
            "worse_than_initial": self.worse or None,
            "checks": {check.name: check.described() for check in self.checks},
        }


def judge(
    fixed: Image, moving: Image, initial: Transform, transform: Transform, folding: float | None = None
) -> Verdict:
    """Judge the result of a registration; a fraction of a second, for most is looked at on a coarse grid.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images with their masks.
    initial, transform
        Where the alignment started and the result, fixed RAS mm -> moving RAS mm.
    folding
        Percent of folded voxels of the fixed grid, if that is known already.
    """
    folding = folding_percent(transform, fixed.space) if folding is None else folding
    seen = gather(fixed, moving, initial, transform, folding)
    return Verdict(tuple(check(seen) for check in CHECKS), _worse(seen))


def judge_result(fixed: Image, moving: Image, result: Result) -> Verdict:
    """The verdict of the command on what :func:`registration.register` found; about as long as warping takes.

    Where its ``worse`` is not empty, the command keeps ``result.initial`` instead of ``result.transform``.

    Parameters
    ----------
    fixed, moving
        The (1, C, *S) images that were registered, with their masks.
    result
        What came of it. Its transform is judged as a file will hold it, see :func:`registration.write_transform`.

    Returns
    -------
    The :class:`Verdict`: ``status`` (passed, doubtful or failed), ``text`` in one line, and every check by itself.

    Raises
    ------
    TypeError
        If an image is none, such as a file name.
    """
    check_images(fixed=fixed, moving=moving)
    return judge(fixed, moving, result.initial, Remembered.of(as_written(result.transform, fixed.space)))


def _worse(seen: Evidence) -> str:
    if not seen.finite:
        return "the result is not finite"
    if not seen.moved[0] > _STILL * seen.voxel:
        return ""
    if _fell(seen.before.nmi, seen.after.nmi) and _fell(seen.before.lncc, seen.after.lncc):
        return f"both measures of similarity fell ({_similar(seen)})"
    if seen.mirrored:
        return "the result turns the image inside out"
    return ""


def _fell(before: float, after: float) -> bool:
    return not after >= before - max(_FELL * abs(before), _SLIGHT)


def _similar(seen: Evidence) -> str:
    a, b = seen.before, seen.after
    return f"NMI above chance {a.nmi:.3f} -> {b.nmi:.3f}, LNCC {a.lncc:.3f} -> {b.lncc:.3f}"


def _graded(value: float, limits: tuple[float, float], least: bool = False) -> Status:
    """Beyond the first limit is doubtful, beyond the second failed; NaN failed."""
    sign = -1 if least else 1
    if sign * value <= sign * limits[0]:
        return "passed"
    return "doubtful" if sign * value <= sign * limits[1] else "failed"


def _view(seen: Evidence) -> Check:
    status = _graded(seen.covered, _VIEW, least=True)
    words = f"the images share {seen.covered:.0%} of the smaller field of view"
    return Check("common_view", status, words, seen.covered, f"at least {_VIEW[0]:g}")


def _outside(seen: Evidence) -> Check:
    outside = 1 - seen.after.view
    words = f"{outside:.0%} of the fixed object lies outside the moving image or its mask"
    return Check("sampled_outside", _graded(outside, _OUTSIDE), words, outside, f"at most {_OUTSIDE[0]:g}")


def _similarity(seen: Evidence) -> Check:
    fell = [_fell(getattr(seen.before, name), getattr(seen.after, name)) for name in ("nmi", "lncc")]
    moved = seen.moved[0] > _STILL * seen.voxel
    status: Status = "passed" if not moved or not any(fell) else "failed" if all(fell) else "doubtful"
    words = f"similarity {'fell' if all(fell) else 'fell by one measure' if any(fell) else 'rose'}: {_similar(seen)}"
    value = {"before": seen.before.described(), "after": seen.after.described()}
    return Check("similarity", status, words, value, f"NMI and LNCC fall by at most {_FELL:.0%}")


def _match(seen: Evidence) -> Check:
    known = seen.after.nmi >= _KNOWN
    stands = seen.after.nmi >= _STANDS_OUT * seen.apart.nmi or seen.after.lncc >= _STANDS_OUT * seen.apart.lncc
    words = "the images fit here and not elsewhere"
    if not known:
        words = f"the images have hardly anything in common (NMI {seen.after.nmi:.3f} above chance)"
    elif not stands:
        words = "the images fit hardly better than a little out of place"
    value = {"after": seen.after.described(), "out_of_place": seen.apart.described()}
    limit = f"NMI above chance at least {_KNOWN:g}; NMI or LNCC at least {_STANDS_OUT:g} times that out of place"
    return Check("match", "passed" if known and stands else "doubtful", words, value, limit)


def _folding(seen: Evidence) -> Check:
    words = f"{seen.folding:.2g} % of the voxels are folded"
    return Check("folding", _graded(seen.folding, _FOLDING), words, seen.folding, f"at most {_FOLDING[0]:g} %")


def _scale(seen: Evidence) -> Check:
    size = abs(float(torch.linalg.det(seen.linear))) ** (1 / len(seen.linear))
    status = _graded(max(size, 1 / max(size, 1e-9)), _SCALE)
    words = f"the moving image is scaled by {size:.2f}"
    return Check("scale", status, words, size, f"between {1 / _SCALE[0]:.2g} and {_SCALE[0]:g}")


def _shear(seen: Evidence) -> Check:
    values = torch.linalg.svdvals(seen.linear)
    ratio = float(values[0] / values[-1].clamp(min=1e-9))
    words = f"one direction is stretched {ratio:.2f} times as much as another"
    return Check("shear", _graded(ratio, _SHEAR), words, ratio, f"at most {_SHEAR[0]:g}")


def _volume(seen: Evidence) -> Check:
    low, high = seen.volumes
    good = low >= _SQUEEZE[0] and high <= _SQUEEZE[1]
    words = f"volumes change by factors from {low:.2g} to {high:.2g}"
    limit = f"98 % of the object between {_SQUEEZE[0]:g} and {_SQUEEZE[1]:g}"
    return Check("volume", "passed" if good else "doubtful", words, [low, high], limit)


def _bend(seen: Evidence) -> Check:
    words = f"the object is bent by up to {seen.bend:.0%} of its radius"
    return Check("bend", _graded(seen.bend, _BEND), words, seen.bend, f"at most {_BEND[0]:g}")


def _inverse(seen: Evidence) -> Check:
    limit = f"at most {_RETURN[0] * seen.voxel:.3g} mm on average ({_RETURN[0]:g} voxels)"
    if seen.returns is None:
        return Check("inverse", "doubtful", "some points of the object cannot be mapped back", None, limit)
    mean, most = float(seen.returns.mean()), float(seen.returns.max())
    words = f"the inverse misses by {mean:.2g} mm on average, {most:.2g} mm at most"
    value = {"mean_mm": mean, "max_mm": most}
    return Check("inverse", _graded(mean / seen.voxel, _RETURN), words, value, limit)


def _displacement(seen: Evidence) -> Check:
    mean, most = seen.moved
    words = f"the object moved by {mean:.3g} mm from the initial alignment, {most:.3g} mm at most"
    status: Status = "passed" if seen.finite and math.isfinite(most) else "failed"
    return Check("displacement", status, words, {"mean_mm": mean, "max_mm": most}, "finite")


CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    _view, _outside, _similarity, _match, _folding, _scale, _shear, _volume, _bend, _inverse, _displacement,
)  # fmt: skip
