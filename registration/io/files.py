"""What every reader and writer does with a path: is it there, is it whole, and never leave half a file behind."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

PathLike = str | os.PathLike[str]

# Deflate cannot pack more than 1032:1; a header that claims more than this many bytes per byte of file is wrong or
# hostile.
DENSEST = 1100
# Claims below this many bytes are harmless to allocate and are left to the reader.
HARMLESS = 1 << 26
# Headers whose voxels are in a file of their own, and how they name it.
_DETACHED = (".mhd", ".nhdr", ".hdr", ".img")
_NAMED = re.compile(rb"^\s*(?:ElementDataFile\s*=|data ?file:)\s*([^\r\n]+?)\s*$", re.MULTILINE | re.IGNORECASE)


def existing_file(path: PathLike) -> Path:
    """The path of a file that is there, can be read and is not empty.

    Raises
    ------
    InputError
        If it is missing, a folder, a pipe, empty or unreadable.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(file, "this is a folder, a file was expected")
        if not file.exists():
            if file.is_symlink():
                raise InputError(file, f"is a link to {os.readlink(file)}, which is not there", "give the file itself")
            raise InputError(file, "there is no such file", _nearby(file))
        if not file.is_file():
            raise InputError(file, "is a pipe or a device, a file was expected", "save what it gives in a file first")
        size = file.stat().st_size
        with file.open("rb"):
            pass
    except PermissionError:
        raise InputError(file, "no permission to read this file", "change its permissions or copy it") from None
    except OSError as error:
        raise InputError(file, f"cannot be opened ({error.strerror or error})") from None
    if size == 0:
        raise InputError(file, "the file is empty (0 bytes)", "it was probably not copied or written completely")
    return file


def _nearby(file: Path) -> str:
    """A hint for a missing file: a name in the same folder that is nearly the same."""
    import difflib

    if not file.parent.is_dir():
        return f"the folder {file.parent} does not exist either"
    with contextlib.suppress(OSError):
        names = [entry.name for _, entry in zip(range(2000), file.parent.iterdir(), strict=False)]
        close = difflib.get_close_matches(file.name, names, n=1, cutoff=0.75)
        if close:
            return f"did you mean {close[0]}?"
    return "check the spelling"


def check_claim(file: Path, claimed: int, stored: int) -> None:
    """Refuse a header whose voxels cannot be in the file, before anything is allocated for them.

    Parameters
    ----------
    claimed
        Bytes of voxels the header speaks of.
    stored
        Bytes that hold them, compressed or not.

    Raises
    ------
    InputError
        If ``claimed`` is beyond what any compression of ``stored`` bytes can give.
    """
    if claimed > HARMLESS and claimed > DENSEST * stored:
        raise InputError(
            file,
            f"its header claims {claimed:,} bytes of data, the file has {stored:,} bytes",
            "the header is wrong or the file is truncated",
        )


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary name in the same folder, with the same ending; renamed at the end, removed on any error.

    So a reader sees the old file or the whole new one, and an interrupted run leaves nothing half-written.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(target, "this is a folder, a file name was expected")
    if target.exists() and not target.is_file():
        raise InputError(target, "is a pipe or a device, and is not replaced", "choose another name")
    if not target.parent.is_dir():
        raise InputError(target, f"the folder {target.parent} does not exist", "create it first")
    endings = "".join(target.suffixes[-2:]) if target.suffix == ".gz" else target.suffix
    try:
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix=endings, dir=target.parent)
    except OSError as error:
        raise InputError(
            target, f"cannot write into {target.parent} ({error.strerror or error})", "choose another folder"
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if temporary.stat().st_size == 0:  # not every writer notices
            raise InputError(target, "nothing could be written", "is the disk full?")
        # mkstemp makes private files; give the result the permissions any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(target, f"cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def beside(path: PathLike) -> list[Path]:
    """Files that hold the voxels of a header (.mhd, .nhdr, .hdr): the one it names, and those of the same stem."""
    file = Path(path)
    if file.suffix.lower() not in _DETACHED:
        return []
    found = {p for p in file.parent.glob(f"{glob.escape(file.stem)}.*") if p.is_file()}
    with contextlib.suppress(OSError), file.open("rb") as stream:
        for name in _NAMED.findall(stream.read(1 << 16)):
            other = file.parent / os.fsdecode(name)
            found |= {other} if other.is_file() else set()
    return sorted(found - {file})


def newest(path: PathLike) -> int:
    """When a file, or one that holds its voxels, was last changed, in ns.

    Raises
    ------
    OSError
        If it is not there.
    """
    return max(file.stat().st_mtime_ns for file in (Path(path), *beside(path)))


def sha256(path: PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of a folder, of the names and bytes of its files in order.

    Voxels that are in a file of their own count with their header.
    """
    root = Path(path)
    digest = hashlib.sha256()
    for file in (
        sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [existing_file(root), *beside(root)]
    ):
        if file != root:
            digest.update((file.relative_to(root).as_posix() if root.is_dir() else file.name).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
