"""``registration preprocess``: prepare a folder of images once, for trainings that then read it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Channel, Overrides, Overwrite, Quiet

if TYPE_CHECKING:
    from ..training.data.prepare import Preparation
    from ..training.data.subjects import Folder, Subject

SOME_FAILED = 4
_Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Holds images/ and perhaps labels/, masks/.", show_default=False)
]
_Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)]
_Images = Annotated[
    str | None,
    typer.Option("--images", metavar="PATTERN", help="Such as '*/t1.nii.gz'; * is the name of the subject."),
]
_Labels = Annotated[str | None, typer.Option("--labels", metavar="PATTERN", help="The same for label maps.")]
_Masks = Annotated[str | None, typer.Option("--masks", metavar="PATTERN", help="The same for masks.")]
_Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes; one per core without.", show_default=False)
]


def preprocess(
    folder: _Folder,
    output: _Output,
    images: _Images = None,
    labels: _Labels = None,
    masks: _Masks = None,
    channel: Channel = None,
    jobs: _Jobs = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    overrides: Overrides = None,
) -> int:
    """Preprocess the images of FOLDER, such as with preprocessing=brain preprocessing.shape=[160,192,160].

    OUTPUT receives images/, labels/ and masks/ with one NAME.nii.gz per subject, and preprocessing.json. The same
    command again does only what is missing or older than its source. A file that cannot be used is named and left out;
    status 4 if there was one.
    """
    from ..training.data.prepare import Preparation
    from .settings import build, compose

    pipeline = build(compose("preprocess", overrides or ()).pipeline)
    subjects = _files(folder, (images, labels, masks), channel).subjects()
    work = Preparation(pipeline, output)
    todo = work.begin(subjects, overwrite)
    bad = _run(work, todo, jobs, quiet)
    work.end()
    for text in bad:
        typer.echo(f"registration: {text}", err=True)
    if not quiet:
        kept = len(subjects) - len(todo)
        told = [f"{len(todo) - len(bad)} preprocessed", *([f"{kept} were done already"] if kept else [])]
        typer.echo(f"{len(subjects)} images: {', '.join([*told, *([f'{len(bad)} left out'] if bad else [])])}")
        typer.echo(f"results in {output}")
    return SOME_FAILED if bad else 0


def _files(folder: Path, patterns: tuple[str | None, str | None, str | None], channel: int | None) -> Folder:
    """The folder with the patterns that were given, or those of the usual subfolders that are there."""
    from ..errors import InputError
    from ..training.data.subjects import Folder

    if not folder.is_dir():
        raise InputError(folder, "there is no such folder")
    usual = [f"{part}/*" if (folder / part).is_dir() else None for part in ("images", "labels", "masks")]
    images, labels, masks = (given if given is not None else own for given, own in zip(patterns, usual, strict=True))
    return Folder(folder, images or "*", labels, masks, channel=channel)


def _run(work: Preparation, todo: Sequence[Subject], jobs: int | None, quiet: bool) -> list[str]:
    """What is wrong with subjects, in their order."""
    from ..batch.processes import default_jobs
    from .counting import counting

    jobs = min(default_jobs() if jobs is None else jobs, max(1, len(todo)))
    bad = []
    with counting("preprocess", len(todo), quiet) as count:
        for text in map(work, todo) if jobs == 1 else _in_processes(work, todo, jobs):
            count()
            bad += [] if text is None else [text]
    return bad


def _in_processes(work: Preparation, todo: Sequence[Subject], jobs: int) -> Iterator[str | None]:
    """Results in the order of ``todo``, from ``jobs`` processes of one thread each."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from ..batch.processes import begin_worker
    from ..errors import InputError

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_worker, initargs=(1,))
    try:
        yield from pool.map(work, todo)
    except BrokenProcessPool:
        raise InputError(
            "preprocess", "a process died, perhaps for lack of memory", "give --jobs 1; what is done stays done"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
