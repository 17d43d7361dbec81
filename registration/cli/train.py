"""``registration train``: a network learns to register the pairs of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides, Quiet


def train(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; outputs/train without.")
    ] = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="A run for every combination of values such as seed=0,1,2.")
    ] = False,
    quiet: Quiet = False,
    overrides: Overrides = None,
) -> None:
    """Train a registration network, such as with experiment=hippocampus data.root=FOLDER trainer.max_minutes=60.

    OUTPUT receives best.pt (the best network so far, for register --checkpoint), checkpoints/, train.csv,
    validation.csv, tensorboard/, curves.png, overview.png, metrics.json and config.yaml. train.resume=auto goes on
    after an interruption.
    """
    words = list(overrides or ())
    if output is not None:
        from .settings import quoted

        words.append(f"{'hydra.sweep.dir' if multirun else 'output'}={quoted(output)}")
    if multirun:
        from .sweep import sweep

        sweep(words, quiet)
        return
    from .progress import watching
    from .settings import compose
    from .training import run_training

    settings = compose("train", words)
    with watching(quiet) as watcher:
        told = run_training(settings, Path(str(settings.output)), watcher)
    if not quiet:
        for name, text in told.items():
            typer.echo(f"{name:<10} {text}")
        typer.echo(f"results in {settings.output}")
