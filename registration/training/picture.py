"""A pair as a picture shows it: by the best network of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from ..image import Image
from ..space import Space
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .batch import Collate
from .checkpoints import read_checkpoint
from .starts import to_upright
from .trainer import Task
from .unbatched import unbatched


@torch.no_grad()
def shown(task: Task, checkpoint: Path) -> tuple[Image, Image, Transform, str]:
    """The first validation pair in its own world, the transform (fixed mm -> moving mm), and its name."""
    assert task.validation is not None
    item = task.validation[0]
    batch = Collate(task.start)([item])
    aligner = task.aligner.to("cpu")
    aligner.load_state_dict(read_checkpoint(checkpoint)["model"])
    aligner.eval()
    residual = aligner.residual(batch.fixed, batch.moving, batch.initial)
    images = [
        Image(item[side][None], Space(tuple(item[side].shape[1:]), item[f"{side}_affine"]), name=side)
        for side in ("fixed", "moving")
    ]
    frames = [Linear(to_upright(image.space)) for image in images]
    start = task.start(images[0].space, images[1].space)
    return images[0], images[1], start @ unbatched(residual, images[0].space, frames[0]), str(item["id"])
