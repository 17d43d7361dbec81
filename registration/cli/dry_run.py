"""``registration register --dry-run``: everything up to the first step, then what the steps would be."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .case import Inputs

if TYPE_CHECKING:
    from ..image import Image
    from ..io.links import Link
    from ..pairwise.plan import LevelPlan

# Seconds per voxel of the fixed image for judging, warping and writing, and for pictures, whatever the size.
_WRITING, _PICTURES = 5e-7, 3.0
_JUDGING_BYTES = 100  # per voxel of the fixed image


def dry_run(inputs: Inputs, settings: Any, initial: Sequence[Link], output: tuple[Path, bool] | None = None) -> None:
    """Check everything as a run would, and print stages, levels and estimates; nothing is written.

    Parameters
    ----------
    output
        The folder that a run would write, and whether it may replace one, if they are known.

    Raises
    ------
    InputError
        As the run would.
    """
    from ..errors import InputError
    from ..pairwise.border import inner_pair
    from ..pairwise.plan import plan
    from .also import written_before
    from .outputs import check_folder
    from .progress import loops_told
    from .run import OUTPUTS, prepared

    if output is not None:
        check_folder(*output, (*OUTPUTS, *written_before(output[0])))
    ready = prepared(inputs, settings, initial)
    fixed, moving = ready.case.aligned
    with loops_told(_note):
        began = time.perf_counter()
        pair = inner_pair(fixed, moving)
        try:
            pair.check_overlap(ready.start or ready.pipeline.initial(pair))
        except ValueError as error:
            raise InputError(str(error)) from error
        starting = time.perf_counter() - began
        levels = plan(pair, ready.pipeline.stages)
    for text in ready.notices:
        _note(text)
    print(f"fixed   {fixed.space.describe()}\nmoving  {moving.space.describe()}\n")
    _table(levels)
    seconds = starting + sum(level.seconds for level in levels)
    whole = seconds + _PICTURES + _WRITING * fixed.data[0, 0].numel()
    print(
        f"\nestimate: {seconds:.2g} s to register, {whole:.2g} s in all, {memory(fixed, moving, levels):.2g} GB at most"
    )
    print("nothing was written")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def memory(fixed: Image, moving: Image, levels: list[LevelPlan]) -> float:
    """The most memory a run holds, GB: what is held now, images and levels included, and the largest stage."""
    working = max((level.memory for level in levels), default=0)
    judging = _JUDGING_BYTES * fixed.data[0, 0].numel()
    return (_resident() + max(working, judging)) / 1e9


def _resident() -> float:
    """The most memory this process has held so far, bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _table(levels: list[LevelPlan]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, side in (("stage", "left"), ("grid", "left"), ("spacing, mm", "left"), ("points", "right"),
                       ("steps", "right"), ("seconds", "right"), ("MB", "right")):  # fmt: skip
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    before = ""
    for level in levels:
        table.add_row(
            level.stage if level.stage != before else "",
            " x ".join(map(str, level.grid.shape)),
            " x ".join(f"{v:.3g}" for v in level.grid.spacing.tolist()),
            str(level.points or ""),
            str(level.steps),
            f"{level.seconds:.2g}",
            f"{level.memory / 1e6:.0f}",
        )
        before = level.stage
    Console(width=max(100, Console().width)).print(table)
