"""How images are aligned: what options of ``register`` and ``batch`` ask for, as settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ..io.links import Link


@dataclass(frozen=True)
class Method:
    """The options of ``register`` and ``batch`` that are settings by another name; None where one was not given.

    Parameters
    ----------
    initial
        A way to start, or transform files from the fixed side to the moving one.
    checkpoint, refine
        A trained network that aligns, and the steps of the usual engine after it.
    overrides
        Further settings, ``key=value`` each.
    """

    transform: str | None = None
    preset: str | None = None
    loss: str | None = None
    initial: Sequence[str] | None = None
    checkpoint: Path | None = None
    refine: int | None = None
    label_interpolation: str | None = None
    seed: int | None = None
    device: str | None = None
    overrides: Sequence[str] | None = None

    def chosen(self) -> tuple[list[str], tuple[Link, ...]]:
        """What is asked for: ``key=value`` each, and the transform files to start from.

        Raises
        ------
        InputError
            If a start or file is not there, or options exclude each other.
        """
        from .settings import choices

        names = ("transform", "preset", "loss", "seed", "device", "label_interpolation")
        words: dict[str, str | int | None] = {name: getattr(self, name) for name in names}
        start, files = start_of(self.initial or (), choices("initial"))
        if self.checkpoint is not None or self.refine is not None:
            words |= self._network()
            start = "network" if start is None and not files else start
        named = [f"{key}={value}" for key, value in {**words, "initial": start}.items() if value is not None]
        return [*named, *(self.overrides or ())], files

    def _network(self) -> dict[str, str | int | None]:
        """The settings that let a trained network be what aligns.

        Raises
        ------
        InputError
            If its file is not given or missing, or another transform is asked for.
        """
        from ..io.files import existing_file
        from .settings import quoted

        if self.checkpoint is None:
            raise InputError("--refine", "needs --checkpoint", "without a network, --preset says how much work is done")
        if self.transform is not None:
            raise InputError(f"--transform {self.transform}", "cannot be had from --checkpoint", "give one of the two")
        # Workers of a batch may live in another folder.
        checkpoint = quoted(os.path.abspath(existing_file(self.checkpoint)))
        return {"transform": "network", "checkpoint": checkpoint, "refine": self.refine}


def settings_of(words: list[str]) -> DictConfig:
    """The settings of a registration, from ``key=value`` each.

    Raises
    ------
    InputError
        If a word is wrong, or is about a network where none is used.
    """
    from omegaconf import OmegaConf

    from .settings import compose

    settings = compose("register", words)
    references = OmegaConf.to_yaml(settings)
    for key in ("checkpoint", "refine"):
        if settings.get(key) and f"${{{key}}}" not in references:
            cure = "give --checkpoint FILE, or transform=network as well"
            raise InputError(f"{key}={settings[key]}", "is about a network, but none is used", cure)
    return settings


def start_of(initial: Sequence[str], words: list[str]) -> tuple[str | None, tuple[Link, ...]]:
    """The configured start, or the transform files, that ``--initial`` names.

    Raises
    ------
    InputError
        If it is neither, or both.
    """
    if not initial:
        return None, ()
    if len(initial) == 1 and initial[0] in words:
        return initial[0], ()
    from ..io.links import Link
    from .settings import nearest

    for text in initial:
        if text in words:
            raise InputError(f"--initial {text}", "is a way to start, and goes with no other --initial")
        file = Link.of(text).file
        if not text or not (file.exists() or file.suffix):
            raise InputError(f"--initial {text}", "is neither a way to start nor a file", nearest(text, words))
    return None, tuple(Link.of(text) for text in initial)
