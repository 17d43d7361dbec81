"""``registration jacobian``: where a transform stretches and shrinks, as an image and per structure."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Overwrite, Quiet, Spacing, TransformFiles, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.volumes import LabelVolume
    from ..io.images import Loaded
    from ..io.links import Link
    from ..transforms.base import Transform

_Reference = Annotated[
    Path, typer.Option("--reference", "-r", help="Image whose grid the map gets: the fixed one.", show_default=False)
]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The map, such as jac.nii.gz.", show_default=False)]
_Log = Annotated[bool, typer.Option("--log", help="Natural logarithms; NaN where the transform folds.")]
_WithoutLinear = Annotated[
    bool, typer.Option("--without-linear", help="Take the affine part out: what is left of a change of size.")
]
_Labels = Annotated[
    Path | None, typer.Option("--labels", help="Labels on the fixed grid whose volumes are told in --table.")
]
_LabelChannel = Annotated[int | None, typer.Option("--label-channel", min=0, help="Volume of --labels, from 0.")]
_Table = Annotated[Path | None, typer.Option("--table", help="A row per label: volumes, ratio, mean, percentiles.")]


def jacobian(
    transform: TransformFiles,
    reference: _Reference,
    output: _Output,
    log: _Log = False,
    without_linear: _WithoutLinear = False,
    labels: _Labels = None,
    table: _Table = None,
    label_channel: _LabelChannel = None,
    spacing: Spacing = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write the Jacobian determinants of TRANSFORM on the grid of REFERENCE.

    Above 1 where the anatomy is larger in the moving image than in the fixed one, below 1 where it is smaller, 0 or
    less where the transform folds. Derivatives are central differences between the voxels of REFERENCE, in mm along
    the axes of the world.
    """
    from ..io.links import named
    from .convert import links_of
    from .inverting import telling_misses
    from .progress import watching

    links = links_of(transform)
    _check_outputs(output, table, labels, overwrite, [*(link.file for link in links), reference])
    steps = numbers("--spacing", spacing)
    notices: list[str] = []
    with watching(quiet) as watcher:
        with telling_misses(notices):
            chain, target, said = _loaded(links, reference, steps)
            structures = None if labels is None else _structures(labels, target, label_channel, steps)
            determinants, values, more = _values(chain, target, log, without_linear, named(links))
        more += _write(output, values, target, table, _volumes(structures, determinants, values, target))
        for text in (*said, *notices, *more):
            watcher.note(text)
    if not quiet:
        for result in (output, *([] if table is None else [table])):
            typer.echo(f"wrote {result}")


def _check_outputs(output: Path, table: Path | None, labels: Path | None, overwrite: bool, read: list[Path]) -> None:
    from ..errors import InputError
    from .outputs import check_file

    if (labels is None) != (table is None):
        raise InputError("--labels and --table", "go together", "give both or neither")
    results = [output, *([] if table is None else [table])]
    if len({path.resolve() for path in results}) < len(results):
        raise InputError("--output and --table", "name one file")
    for path in results:
        check_file(path, overwrite, [*read, *([] if labels is None else [labels])])


def _loaded(
    links: Sequence[Link], reference: Path, spacing: tuple[float, ...] | None
) -> tuple[Transform, Loaded, list[str]]:
    """The transform, the image whose grid counts, and what to say of them."""
    import torch

    from ..errors import InputError
    from ..io.images import load_image
    from ..io.links import named, read_links
    from .beyond import told_beyond

    chain, info = read_links(links)
    target = load_image(reference, channel=0, spacing=spacing)  # only the grid counts, so any volume will do
    space = target.image.space
    if chain.ndim != space.ndim:
        raise InputError(named(links), f"is a {chain.ndim}-D transform, {reference} has {space.ndim} axes")
    few = space.resized([min(n, 32) for n in space.shape]).points(torch.zeros(0, dtype=torch.float64))
    strange = told_beyond(chain, few.reshape(-1, space.ndim), "voxels", share=True)
    return chain, target, [*info.notices, *target.notices, *strange]


def _structures(path: Path, target: Loaded, channel: int | None, spacing: tuple[float, ...] | None) -> Tensor:
    """(*S) labels on the grid of the map."""
    from ..errors import InputError
    from ..io.images import load_labels
    from ..io.raw import ChannelError
    from .label_channels import no_such_volume

    try:
        found = load_labels(path, channel=channel, spacing=spacing).image
    except ChannelError as error:
        raise no_such_volume(path, channel, error.count) from None
    space = target.image.space
    if not found.space.same_as(space):
        raise InputError(
            path, f"is on a grid of {found.space.describe()}, --reference has {space.describe()}",
            "bring it there with registration apply",
        )  # fmt: skip
    if not bool(found.data.any()):
        raise InputError(path, "holds no label but 0")
    return found.data[0, 0]


def _values(
    chain: Transform, target: Loaded, log: bool, without_linear: bool, file: str
) -> tuple[Tensor, Tensor, list[str]]:
    """(*S) determinants of the whole transform, (*S) what the map holds, and what to say of them.

    Raises
    ------
    InputError
        If the affine part cannot be told, or no voxel has a logarithm.
    """
    from ..errors import InputError
    from ..evaluation.volumes import determinant_map, linear_determinant

    space, notices = target.image.space, list[str]()
    determinants = determinant_map(chain, space)
    values, folded = determinants, int((determinants <= 0).sum())
    if without_linear:
        try:
            scale, fitted = linear_determinant(chain, space)
        except ValueError as error:
            raise InputError(file, f"has no affine part to take out: {error}") from error
        whose = "the affine map that fits it best on the grid" if fitted else "the linear maps of its chain"
        notices.append(f"{file}: without {whose}, of determinant {scale:.6g}")
        values = values / scale
    share = f"{folded:,} of {determinants.numel():,} voxels ({100 * folded / determinants.numel():.2g} %)"
    if log:
        positive = values > 0
        if not bool(positive.any()):
            raise InputError(file, "turns the inside out at every voxel, so there are no logarithms", "leave --log out")
        values = values.where(positive, float("nan")).log()
        if folded:
            notices.append(f"the transform folds at {share}: NaN there, for there is no logarithm")
    elif folded:
        notices.append(f"the transform folds at {share}: determinants of 0 or less")
    return determinants, values, notices


def _volumes(structures: Tensor | None, determinants: Tensor, values: Tensor, target: Loaded) -> list[LabelVolume]:
    from ..evaluation.volumes import label_volumes

    return [] if structures is None else label_volumes(structures, determinants, values, target.image.space)


def _write(output: Path, values: Tensor, target: Loaded, table: Path | None, rows: list[LabelVolume]) -> list[str]:
    """Write the map, and the table where there is one; both appear or neither. What had to be decided."""
    from ..image import Image
    from ..io.files import atomic_path
    from ..io.images import write_image

    notices: list[str] = []
    with contextlib.ExitStack() as files:
        if table is not None:
            files.enter_context(atomic_path(table)).write_text(_as_table(rows, target.image.ndim), encoding="utf-8")
        image = Image(values[None, None].contiguous(), target.image.space, name=str(output))
        write_image(output, image, like=target.source, notices=notices)
    return notices


def _as_table(rows: list[LabelVolume], ndim: int) -> str:
    import csv
    import io

    from ..evaluation.jacobian import PERCENTILES

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    unit = f"mm{ndim}"
    titles = ["label", "voxels", f"fixed_{unit}", f"moving_{unit}", "ratio", "folded", "mean"]
    writer.writerow([*titles, *(f"p{p:02d}" for p in PERCENTILES)])
    for row in rows:
        figures = (row.fixed, row.moving, row.ratio, row.mean, *row.percentiles)
        fixed, moving, ratio, *told = ("" if value is None else f"{value:.10g}" for value in figures)
        writer.writerow([row.label, row.voxels, fixed, moving, ratio, row.folded, *told])
    return stream.getvalue()
