"""``registration export``: the network of a checkpoint for programs that do not have this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Quiet


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Such as RUN/best.pt.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.pt2 (torch.export), .ts (TorchScript) or .onnx.")
    ],
    shape: Annotated[
        str | None, typer.Option("--shape", metavar="N[,N...]", help="Voxels of the input; those of training without.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the network alone: fixed and moving tensors in, what it proposes out.

    Inputs are (1, C, *S) preprocessed images on one grid. Outputs are velocities in voxels at half the resolution
    (unet) or dimensionless parameters (cnn); the flow or the matrix is left to whoever uses them. The file is read
    again and compared before the command ends.
    """
    from ..training.exported import write_exported

    told = write_exported(checkpoint, output, None if shape is None else _whole(shape))
    if not quiet:
        typer.echo(told)


def _whole(text: str) -> tuple[int, ...]:
    from ..errors import InputError

    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--shape {text}", "whole numbers of voxels were expected", "for example --shape 64,64,64")
    return tuple(int(part) for part in parts)
