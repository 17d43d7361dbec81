"""A saved network of random weights, as small as one can be."""

from __future__ import annotations

from pathlib import Path

import torch

from registration.preprocessing import CropOrPad, Reorient, RobustScale
from registration.preprocessing import Pipeline as Preprocessing
from registration.space import Space
from registration.training.blueprint import build, completed
from registration.training.checkpoints import write_checkpoint

_MODEL = {
    "_target_": "registration.registrar.Registrar",
    "localiser": {
        "_target_": "registration.localisation.ParameterNetwork", "ndim": None, "inputs": None, "size": None,
        "widths": [4, 4], "cells": 2, "hidden": 8,
    },
    "family": {"_target_": "registration.families.Affine"},
}  # fmt: skip


def tiny_checkpoint(folder: Path, seed: int = 1) -> Path:
    """``model.pt`` in a folder: an affine network for volumes of 16 voxels a side."""
    torch.manual_seed(seed)
    plan = {
        "model": completed(_MODEL, Space.regular((16,) * 3), 1), "ndim": 3, "channels": 1,
        "preprocessing": Preprocessing([Reorient("RAS"), CropOrPad(16), RobustScale()]).config(),
        "start": {"_target_": "registration.training.Grids"},
    }  # fmt: skip
    model = build(plan["model"])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.02)
    content = {"config": {}, "plan": plan, "model": model.state_dict(), "metrics": {}, "step": 0}
    write_checkpoint(folder / "model.pt", content)
    return folder / "model.pt"
