"""Objects from plain values, for files that must not be able to run code.

A blueprint is what a configuration says of an object: ``_target_``, a public name of this package, and its arguments.
Only classes of the rooms below are made, so that a checkpoint from a stranger builds networks and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..families.base import Family
from ..space import Space

_ROOMS = ("registration.localisation", "registration.families", "registration.registrar", "registration.training")
_NETWORKS = "monai.networks.nets"
# Those that answer with an image, and fetch or load nothing by themselves.
_KNOWN = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "SegResNet", "SegResNetDS", "SwinUNETR",
    "UNETR", "UNet", "VNet",
)  # fmt: skip


class BlueprintError(InputError):
    """A part of a blueprint that cannot be made.

    Parameters
    ----------
    kind
        What it says the part is.
    problem
        Why.
    way
        To the part, by names and numbers.
    """

    def __init__(self, kind: str, problem: str, way: tuple[str, ...]) -> None:
        super().__init__(kind, f"cannot be made: {problem}")
        self.problem, self.way = problem, way


def build(plan: Any, way: tuple[str, ...] = ()) -> Any:
    """The object that a blueprint describes; lists, numbers and words are taken as they are.

    Parameters
    ----------
    plan
        Nested dicts and lists.
    way
        From the whole of a blueprint to this part, by names and numbers.

    Raises
    ------
    InputError
        If a name is not one of those that may be built, or a constructor refuses its arguments.
    """
    if isinstance(plan, (list, tuple)):
        return [build(part, (*way, str(number))) for number, part in enumerate(plan)]
    if not isinstance(plan, Mapping):
        return plan
    parts = {str(key): build(value, (*way, str(key))) for key, value in plan.items() if key != "_target_"}
    if "_target_" not in plan:
        return parts
    kind = _class(str(plan["_target_"]))
    try:
        return kind(**parts)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise BlueprintError(str(plan["_target_"]), str(error).replace(".__init__()", ""), way) from error


def completed(plan: Any, space: Space, channels: int | None, labels: Sequence[int] = ()) -> Any:
    """The blueprint of a network with every None replaced that the data decide.

    ``ndim`` and ``outputs`` become D; ``inputs`` the channels of both images, or of one for keypoints; ``size`` the
    number of parameters of the family beside it, or of a pose for keypoints; ``counts`` five control points per axis;
    ``labels`` the labels.

    Parameters
    ----------
    plan
        Nested dicts and lists.
    space
        The grid of the preprocessed images.
    channels
        Their channels C; None as long as they are not known, for one.
    labels
        The values of their label maps other than 0.

    Raises
    ------
    InputError
        If what it says already contradicts the data, or the family beside a network cannot be made for the grid.
    """
    d = space.ndim
    known: dict[str, Any] = {"ndim": d, "outputs": d, "inputs": 2 * (channels or 1), "counts": [5] * d}
    if labels:
        known["labels"] = [int(value) for value in labels]
    firm = ("ndim",) if channels is None else ("ndim", "inputs")
    return _completed(plan, known, space, firm)


def _completed(
    plan: Any, known: Mapping[str, Any], space: Space, firm: Sequence[str], way: tuple[str, ...] = ()
) -> Any:
    if isinstance(plan, (list, tuple)):
        return [_completed(part, known, space, firm, (*way, str(number))) for number, part in enumerate(plan)]
    if not isinstance(plan, Mapping):
        return plan
    if isinstance(plan.get("localiser"), Mapping) and isinstance(plan.get("family"), Mapping):
        known = {**known, "size": _parameters(plan["family"], known, space, firm, (*way, "family"))}
    if "keypoints" in plan:
        known = {**known, "inputs": known["inputs"] // 2, "size": space.ndim**2}
    for key in firm:
        if plan.get(key, known[key]) not in (None, known[key]):
            problem = f"{key} is {known[key]} for these images, got {plan[key]!r}; null takes what fits"
            raise BlueprintError(str(plan.get("_target_")), problem, way)
    return {
        str(key): known[str(key)]
        if value is None and str(key) in known
        else _completed(value, known, space, firm, (*way, str(key)))
        for key, value in plan.items()
    }


def _parameters(plan: Any, known: Mapping[str, Any], space: Space, firm: Sequence[str], way: tuple[str, ...]) -> int:
    """How many a family has over a grid."""
    family = build(_completed(plan, known, space, firm, way), way)
    if not isinstance(family, Family):
        raise InputError("family", f"{type(family).__name__} is for keypoints", "choose velocity, affine or tps")
    try:
        return family.size(space)
    except ValueError as error:
        raise BlueprintError(type(family).__name__, str(error), way) from error


def _class(name: str) -> type:
    room, _, last = name.rpartition(".")
    allowed = room in _ROOMS or (room == _NETWORKS and last in _KNOWN)
    module = importlib.import_module(room) if allowed else None
    kind = getattr(module, last, None) if not last.startswith("_") else None
    own = isinstance(kind, type) and kind.__module__.startswith(("registration.", "monai.networks."))
    if not own:
        raise InputError(name, "may not be built from settings", f"public classes of {', '.join(_ROOMS)} may")
    return kind  # type: ignore[return-value]
