"""What to try where the verdict is not content: the options that mend what a check found, by what was run.

Which of them help was seen on pairs of brains, hippocampi, heads, CT slices, stains and prostates, and on such that
were turned, moved away, cut, inverted and stretched on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..evaluation.verdict import Verdict

_MOST = 3  # in a line
_PLACED = ("header", "centre", "mass", "moments", "file")  # starts that look for no turn, or hardly
_SHAPED = ("affine", "tps", "diffeomorphic")
_BENT = ("tps", "diffeomorphic")
_ONE_CONTRAST = ("MeanSquaredError", "NormalisedCrossCorrelation", "LocalNormalisedCrossCorrelation")
_STRUCTURE = ("SelfSimilarityContext", "WeightedSum")


@dataclass(frozen=True)
class Ran:
    """What was run, as far as advice depends on it.

    Parameters
    ----------
    stages
        Their names, in order.
    start
        The name of the start, or file.
    similarity
        The class of what the last stage minimised.
    bending
        Of splines.
    masked
        Whether the images had masks.
    """

    stages: tuple[str, ...]
    start: str = "auto"
    similarity: str = ""
    bending: float = 0.0
    masked: bool = False

    @staticmethod
    def of(stages: Sequence[str], settings: DictConfig, from_file: bool, masked: bool) -> Ran:
        """From the names of the stages that ran, the settings, and whether transform files and masks were given."""
        part = {"tps": "deformable", "diffeomorphic": "dense"}.get(stages[-1] if stages else "", "linear")
        loss = str(OmegaConf.select(settings, f"loss.{part}._target_")).rpartition(".")[2]
        start = "file" if from_file else str(OmegaConf.select(settings, "start"))
        bending = float(OmegaConf.select(settings, "preset.tps.bending") or 0)
        return Ran(tuple(stages), start, loss, bending, masked)

    @property
    def last(self) -> str:
        """The stage whose kind of transform the result is."""
        return self.stages[-1] if self.stages else ""


def advised(verdict: Verdict, ran: Ran) -> dict[str, Any]:
    """A verdict as plain values, with what to try for every check that did not pass, and for the whole."""
    told = verdict.described()
    found = {check.name: _tips(check.name, ran) for check in verdict.checks if check.status != "passed"}
    for name, words in found.items():
        told["checks"][name]["advice"] = words
    return {**told, "advice": _first(list(found.values()))}


def _tips(name: str, ran: Ran) -> list[str]:
    """What to try where a check did not pass, the most likely first."""
    tips = (_without_network,) if "network" in ran.stages else _TIPS.get(name, ())
    return [words for tip in tips if (words := tip(ran))][:_MOST]


def _first(found: list[list[str]]) -> list[str]:
    """The likeliest to help of all: what many checks ask for, and ask for first."""
    weights: dict[str, float] = {}
    for tips in found:
        for rank, words in enumerate(tips, start=1):
            weights[words] = weights.get(words, 0) + 1 / rank
    return sorted(weights, key=lambda words: -weights[words])[:_MOST]


def _without_network(_: Ran) -> str:
    return "the usual stages, without --checkpoint"


def _look(_: Ran) -> str:
    return "a look at overview.png, whether both show the same"


def _place(ran: Ran) -> str:
    if ran.start in ("header", "centre", "file"):
        return "--initial mass if they lie far apart"
    return "--initial header if the files place them well"


def _mask(ran: Ran) -> str:
    return "" if ran.masked else "--fixed-mask of what both show"


def _turn(ran: Ran) -> str:
    return "--initial search if one is turned" if ran.start in _PLACED else ""


def _search(ran: Ran) -> str:
    return "" if ran.start in (*_PLACED, "search") else "--initial search if one is turned"


def _near(ran: Ran) -> str:
    if ran.last == "near":
        return ""
    start = "" if ran.start in ("centre", "file") else " --initial centre"
    return f"--transform near{start} if they show little of the same"


def _contrast(ran: Ran) -> str:
    if ran.last in _BENT:
        return "" if ran.similarity in _STRUCTURE else "--loss mind if the contrasts differ"
    return "--loss mi if the contrasts differ" if ran.similarity in _ONE_CONTRAST else ""


def _stiffer(ran: Ran) -> str:
    return "--transform affine, which does not bend" if ran.last in _BENT else ""


def _sizes(ran: Ran) -> str:
    return "--transform affine if the sizes differ" if ran.last in ("rigid", "similarity") else ""


def _rigid(ran: Ran) -> str:
    return "--transform rigid if both are of one patient" if ran.last in (*_SHAPED, "similarity") else ""


def _check(_: Ran) -> str:
    return "registration check FIXED MOVING, which shows places and voxel sizes"


def _diffeomorphic(ran: Ran) -> str:
    return "--transform diffeomorphic" if ran.last == "tps" else ""


def _bending(ran: Ran) -> str:
    return f"preset.tps.bending={10 * ran.bending:g} to bend less" if ran.last == "tps" and ran.bending else ""


_Tip = Callable[[Ran], str]
_TIPS: dict[str, Sequence[_Tip]] = {
    "common_view": (_place, _check),
    "sampled_outside": (_place, _check, _mask),
    "similarity": (_contrast, _turn, _near, _stiffer, _look),
    "match": (_look, _sizes, _turn, _near, _search),
    "folding": (_diffeomorphic, _bending, _look),
    "scale": (_turn, _check, _rigid),
    "shear": (_turn, _rigid, _check),
    "volume": (_contrast, _near, _stiffer, _look),
    "bend": (_contrast, _near, _stiffer, _look),
    "inverse": (_diffeomorphic, _bending, _stiffer, _look),
}
