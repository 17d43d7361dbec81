"""Where results go: an output folder that appears whole or not at all, and files that replace nothing unasked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..io.files import atomic_path


@contextlib.contextmanager
def output_folder(path: Path, overwrite: bool, ours: Collection[str]) -> Iterator[Path]:
    """A folder to write into, which becomes ``path`` at the end and vanishes on any error.

    Parameters
    ----------
    path
        Where the results shall be; missing parents are made.
    overwrite
        Whether an existing folder may be replaced: one that holds nothing but ``ours``, the names such a run writes.

    Raises
    ------
    InputError
        If ``path`` is there and may not be replaced, or its parent cannot be written to.
    """
    path = Path(os.path.abspath(path))
    check_folder(path, overwrite, ours)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        _remove_empty(made)
        raise InputError(path, f"cannot be made ({error.strerror or error})", "choose another --output") from None
    try:
        yield partial
        _put_in_place(partial, path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _remove_empty(made)
        if isinstance(error, InputError) and str(partial) in str(error):
            raise InputError(str(error).replace(str(partial), str(path))) from error  # nobody knows the other name
        raise


@contextlib.contextmanager
def output_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Names to write files by, which all become ``paths`` at the end, or vanish on any error.

    Raises
    ------
    InputError
        If a file cannot be written; what is said inside of such a name is said of the path.
    """
    places: list[Path] = []
    try:
        with contextlib.ExitStack() as files:
            places += [files.enter_context(atomic_path(path)) for path in paths]
            yield places
    except InputError as error:
        raise InputError(renamed(str(error), places, paths)) from error


def renamed(text: str, places: Iterable[Path], paths: Iterable[Path]) -> str:
    """A sentence with the names that were given, instead of those that files have while they are written."""
    for place, path in zip(places, paths, strict=False):
        text = text.replace(str(place), str(path))
    return text


def check_file(path: Path, overwrite: bool, given: Iterable[Path]) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Parameters
    ----------
    overwrite
        Whether a file that is there may be replaced.
    given
        Files that are read, none of which is replaced even so: they are no results of an earlier run.

    Raises
    ------
    InputError
        If it is a folder, in none, there already, or one of ``given``.
    """
    if path.is_dir():
        raise InputError(path, "this is a folder, a file name was expected", "choose another --output")
    if not path.parent.is_dir():
        raise InputError(path, f"the folder {path.parent} does not exist", "create it first")
    if os.path.lexists(path) and not overwrite:
        raise InputError(path, "is there already", "give --overwrite to replace it, or another --output")
    if path.exists() and not path.is_file():
        raise InputError(path, "is a pipe or a device, and is not replaced", "choose another --output")
    if any(path.resolve() == file.resolve() for file in given):
        raise InputError(path, "is one of the files that are read, and is not replaced", "choose another --output")


def check_folder(path: Path, overwrite: bool, ours: Collection[str]) -> None:
    """Refuse a folder that is there and may not be replaced, see :func:`output_folder`."""
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink():
        raise InputError(path, "is there already and is no folder", "choose another --output")
    if not overwrite:
        raise InputError(
            path, "the output folder is there already", "give --overwrite to replace it, or another --output"
        )
    try:
        foreign = sorted({entry.name for entry in path.iterdir()} - set(ours))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from None
    if foreign:
        raise InputError(
            path, f"holds {foreign[0]}, which no run wrote, and is not replaced", "choose another --output"
        )


def _put_in_place(partial: Path, path: Path) -> None:
    # mkdtemp makes private folders; give the result the permissions any new folder would have.
    mask = os.umask(0)
    os.umask(mask)
    partial.chmod(0o777 & ~mask)
    if not path.exists():
        partial.rename(path)
        return
    old = partial.with_suffix(".old")
    path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
