"""What labels and landmarks add to the loss of a registration."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from ..limits import HEAVIEST
from ..pairwise.terms import LabelOverlap, Landmarks, Term
from .case import Case


def guiding(case: Case, settings: DictConfig) -> tuple[tuple[Term, ...], tuple[str, ...]]:
    """What labels and landmarks with a weight add to the loss of every stage, and what to say of it.

    Raises
    ------
    InputError
        If there is a weight for what was not given, or one that is no number of 0 or more.
    """
    weights = weights_of(settings)
    given_ = {"labels": case.fixed_labels and case.moving_labels, "landmarks": case.points}
    for name, weight in weights.items():
        if weight and given_[name] is None:
            option = "points" if name == "landmarks" else name
            raise InputError(f"terms.{name}={weight}", f"needs --fixed-{option} and --moving-{option}")
    terms: list[Term] = []
    try:
        if weights["labels"] and case.fixed_labels and case.moving_labels:
            terms.append(LabelOverlap(case.fixed_labels.image, case.moving_labels.image, weights["labels"]))
        if weights["landmarks"] and case.points:
            terms.append(Landmarks(*case.points, weight=weights["landmarks"]))
    except ValueError as error:
        raise InputError("terms", str(error)) from error
    used = [name for name, weight in weights.items() if weight]
    notices = [f"{' and '.join(used)} guide the alignment: their scores are no independent check"] if used else []
    return tuple(terms), tuple(notices)


def weights_of(settings: DictConfig) -> dict[str, float]:
    """The weights of labels and landmarks, by these names.

    Raises
    ------
    InputError
        If one is no number of 0 or more.
    """
    weights = {name: float(OmegaConf.select(settings, f"terms.{name}") or 0) for name in ("labels", "landmarks")}
    for name, weight in weights.items():
        if not 0 <= weight <= HEAVIEST:
            raise InputError(f"terms.{name}={weight:g}", "a number of 0 or more was expected")
    return weights
