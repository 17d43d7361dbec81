"""``registration demo``: a phantom whose true deformation is known, registered by the same code as everything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Overwrite, Quiet

if TYPE_CHECKING:
    from ..phantom import PhantomPair
    from ..transforms.base import Transform
    from .case import Inputs
    from .run import Outcome

FILES = (
    "fixed.nii.gz",
    "moving.nii.gz",
    "fixed_labels.nii.gz",
    "moving_labels.nii.gz",
    "fixed_points.csv",
    "moving_points.csv",
)
RESULT = "result"
DEFAULT = Path("demo-output")


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where everything goes.")] = DEFAULT,
    transform: Annotated[
        str, typer.Option("--transform", "-t", metavar="NAME", help="As in register.")
    ] = "diffeomorphic",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of phantom and registration.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)] = None,
) -> None:
    """Register a labelled phantom pair with a known deformation, and score the result against the truth.

    DIR receives the pair, its labels and landmarks, and in DIR/result what register writes.
    """
    from .outputs import output_folder
    from .progress import watching
    from .run import OUTPUTS, run_registration
    from .settings import compose

    words = list(overrides or ())
    if "=" in folder.name and not folder.exists():
        # A setting without DIR before it must not become a folder of that name.
        folder, words = DEFAULT, [str(folder), *words]
    settings = compose("register", [f"transform={transform}", f"seed={seed}", *words])
    pair = make_pair(seed)
    with output_folder(folder, overwrite, (*FILES, RESULT)) as place:
        write_pair(pair, place)
    with output_folder(folder / RESULT, False, OUTPUTS) as place, watching(quiet) as watcher:
        outcome = run_registration(inputs_of(folder), settings, place, watcher, ())
    if not quiet:
        show(pair, outcome)
        typer.echo(f"the report: {folder / RESULT / 'overview.png'} and metrics.json beside it")
    if outcome.verdict.worse:
        raise typer.Exit(outcome.report(quiet=True))


def make_pair(seed: int) -> PhantomPair:
    """Two oblique, anisotropic grids that differ in everything, as two scanners would."""
    from ..phantom import oblique_space, phantom_pair

    fixed = oblique_space((68, 78, 52), (2.5, 2.4, 3.4), 9)
    moving = oblique_space((72, 62, 64), (2.6, 3.1, 2.7), -14, flips=(0, 2))
    return phantom_pair(fixed, moving, seed)


def write_pair(pair: PhantomPair, folder: Path) -> None:
    """Write both images, labels and landmarks, the way any data would come."""
    from ..io.images import write_image
    from ..io.points import write_points

    for image, name in ((pair.fixed, FILES[0]), (pair.moving, FILES[1])):
        write_image(folder / name, image)
    for image, name in ((pair.fixed_labels, FILES[2]), (pair.moving_labels, FILES[3])):
        write_image(folder / name, image, dtype="uint8")
    for points, name in ((pair.fixed_points, FILES[4]), (pair.moving_points, FILES[5])):
        write_points(folder / name, points)


def inputs_of(folder: Path) -> Inputs:
    """The files of :func:`write_pair` as the inputs of a registration."""
    from .case import Inputs

    files = [folder / name for name in FILES]
    return Inputs(
        fixed=files[0],
        moving=files[1],
        fixed_labels=files[2],
        moving_labels=files[3],
        fixed_points=files[4],
        moving_points=files[5],
        points_space="ras",
    )


def show(pair: PhantomPair, outcome: Outcome) -> None:
    """Print what was reached beside what the truth reaches: a Dice below 1, as the two grids differ."""
    from rich.console import Console
    from rich.table import Table

    from ..phantom import NAMES

    best = dice_through(pair, pair.truth)
    table = Table(title="Phantom: Dice per label, distances in mm")
    for column in ("", "before", "after", "true deformation"):
        table.add_column(column, justify="left" if not column else "right")
    before, after = (outcome.figures["dice"][when]["per_label"] for when in ("before", "after"))
    for label, name in sorted(NAMES.items()):
        row = (before.get(str(label)), after.get(str(label)), best.get(label))
        table.add_row(name, *("none" if value is None else f"{value:.3f}" for value in row))
    known = [value for value in best.values() if value is not None]
    means = [outcome.figures["dice"][when]["mean"] for when in ("before", "after")]
    table.add_row("mean Dice", *(f"{value:.3f}" for value in (*means, sum(known) / len(known))), style="bold")
    tre = [outcome.figures["tre_mm"][when]["mean"] for when in ("before", "after")]
    table.add_row("mean TRE of landmarks, mm", *(f"{value:.2f}" for value in (*tre, 0.0)), style="bold")
    Console().print(table)


def dice_through(pair: PhantomPair, transform: Transform) -> dict[int, float | None]:
    """Dice per label of the moving labels, warped, with the fixed ones."""
    from ..evaluation.metrics import dice
    from ..sampling import nearest, warp

    warped, _ = warp(pair.moving_labels, transform, pair.fixed_labels.space, nearest)
    return dice(pair.fixed_labels.data, warped.data)
