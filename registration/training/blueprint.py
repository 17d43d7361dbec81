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


def build(plan: Any) -> Any:
    """The object that a blueprint describes; lists, numbers and words are taken as they are.

    Parameters
    ----------
    plan
        Nested dicts and lists.

    Raises
    ------
    InputError
        If a name is not one of those that may be built, or a constructor refuses its arguments.
    """
    if isinstance(plan, (list, tuple)):
        return [build(part) for part in plan]
    if not isinstance(plan, Mapping):
        return plan
    parts = {str(key): build(value) for key, value in plan.items() if key != "_target_"}
    if "_target_" not in plan:
        return parts
    kind = _class(str(plan["_target_"]))
    try:
        return kind(**parts)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise InputError(str(plan["_target_"]), f"cannot be made: {error}".replace(".__init__()", "")) from error


def completed(plan: Any, space: Space, channels: int, labels: Sequence[int] = ()) -> Any:
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
        Their channels C.
    labels
        The values of their label maps other than 0.
    """
    d = space.ndim
    known: dict[str, Any] = {"ndim": d, "outputs": d, "inputs": 2 * channels, "counts": [5] * d}
    if labels:
        known["labels"] = [int(value) for value in labels]
    return _completed(plan, known, space)


def _completed(plan: Any, known: Mapping[str, Any], space: Space) -> Any:
    if isinstance(plan, (list, tuple)):
        return [_completed(part, known, space) for part in plan]
    if not isinstance(plan, Mapping):
        return plan
    if isinstance(plan.get("localiser"), Mapping) and isinstance(plan.get("family"), Mapping):
        family = build(_completed(plan["family"], known, space))
        if not isinstance(family, Family):
            raise InputError("family", f"{type(family).__name__} is for keypoints", "choose velocity, affine or tps")
        known = {**known, "size": family.size(space)}
    if "keypoints" in plan:
        known = {**known, "inputs": known["inputs"] // 2, "size": space.ndim**2}
    return {
        str(key): known[str(key)] if value is None and str(key) in known else _completed(value, known, space)
        for key, value in plan.items()
    }


def _class(name: str) -> type:
    room, _, last = name.rpartition(".")
    allowed = room in _ROOMS or (room == _NETWORKS and last in _KNOWN)
    module = importlib.import_module(room) if allowed else None
    kind = getattr(module, last, None) if not last.startswith("_") else None
    own = isinstance(kind, type) and kind.__module__.startswith(("registration.", "monai.networks."))
    if not own:
        raise InputError(name, "may not be built from settings", f"public classes of {', '.join(_ROOMS)} may")
    return kind  # type: ignore[return-value]
