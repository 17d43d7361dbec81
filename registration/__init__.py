"""Medical image registration with spatial transformers: 2-D and 3-D, affine, thin-plate spline and beyond.

Names are loaded when first used, so ``import registration`` costs nothing::

    import registration
    fixed, moving = registration.read_image("fixed.nii.gz"), registration.read_image("moving.nii.gz")
    result = registration.register(fixed, moving)
    warped, inside = registration.warp(moving, result.transform, fixed.space)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_HOMES = {
    "Image": "image",
    "InputError": "errors",
    "Linear": "transforms.linear",
    "Registrar": "registrar",
    "Space": "space",
    "SpatialTransformer": "spatial_transformer",
    "Transform": "transforms.base",
    "judge_result": "evaluation.verdict",
    "read_image": "io.images",
    "read_transform": "io.transforms",
    "register": "pairwise",
    "stack_channels": "pairwise",
    "warp": "sampling",
    "windowed": "pairwise",
    "write_image": "io.images",
    "write_transform": "io.transforms",
}
_ROOMS = ("evaluation", "families", "io", "localisation", "losses", "pairwise", "phantom", "sampling", "transforms")

__all__ = ["__version__", *_HOMES, *_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _ROOMS:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from . import (
        evaluation,
        families,
        io,
        localisation,
        losses,
        pairwise,
        phantom,
        sampling,
        transforms,
    )
    from .errors import InputError
    from .evaluation.verdict import judge_result
    from .image import Image
    from .io.images import read_image, write_image
    from .io.transforms import read_transform, write_transform
    from .pairwise import register, stack_channels, windowed
    from .registrar import Registrar
    from .sampling import warp
    from .space import Space
    from .spatial_transformer import SpatialTransformer
    from .transforms.base import Transform
    from .transforms.linear import Linear
