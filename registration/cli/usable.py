"""Settings of a registration that can be used: refused before a pair is read."""

from __future__ import annotations

import copy

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from ..io.files import existing_file
from ..limits import is_whole
from .guiding import weights_of
from .settings import build


def check_settings(settings: DictConfig) -> None:
    """Refuse what no pair could be registered with, before any is; the settings stay as they are.

    Raises
    ------
    InputError
        Naming the setting.
    """
    device_of(str(settings.device))
    seed_of(settings)
    weights_of(settings)
    check_network(settings)
    build(copy.deepcopy(settings).pipeline)


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    InputError
        If there is no such device, or not on this computer.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device "meta" holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu" + (", cuda" if torch.cuda.is_available() else "")
        raise InputError(
            f"--device {name}", "there is no such device on this computer", f"use one of: {known}"
        ) from error
    return device


def seed_of(settings: DictConfig) -> int:
    """The seed.

    Raises
    ------
    InputError
        If it is no whole number that generators take.
    """
    seed = settings.seed
    if not is_whole(seed) or not 0 <= seed < 1 << 63:
        raise InputError(f"seed={seed}", "a whole number from 0 to 2^63 - 1 was expected")
    return seed


def check_network(settings: DictConfig) -> None:
    """Refuse a network that no file holds, before the stages ahead of it have done their work."""
    if "${checkpoint}" in OmegaConf.to_yaml(settings):
        if settings.checkpoint is None:
            raise InputError("checkpoint", "is not given", "name the file, such as RUN/best.pt")
        existing_file(str(settings.checkpoint))  # a number is a name, too
