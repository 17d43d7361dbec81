"""Files by patterns with one ``*``, and the names that belong to subjects."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from ...errors import InputError

_NO_IMAGES = (".txt", ".md", ".json", ".csv", ".fcsv", ".tsv", ".xml", ".pdf", ".html", ".bval", ".bvec")
_VOXELS = (".raw", ".zraw", ".raw.gz")  # of headers beside them


def matches(root: Path, pattern: str, what: str) -> dict[str, Path]:
    """Files by what the ``*`` of the pattern stands for; the pattern is relative to ``root``, unless it is absolute.

    Raises
    ------
    InputError
        If the pattern has not one ``*``, the folder is missing, or two files have one id.
    """
    pattern = str(pattern)
    if pattern.count("*") != 1:
        raise InputError(
            f"data.{what}={pattern}", "one * was expected, where the names of the subjects stand",
            f"such as {what}/* or */{what}.nii.gz",
        )  # fmt: skip
    head = pattern.partition("*")[0].rpartition("/")[0]
    fixed_part, rest = root / head, pattern[len(head) :].lstrip("/")
    if not fixed_part.is_dir():
        cure = "check data.root" if what == "images" else f"data.{what}=null does without"
        raise InputError(fixed_part, f"there is no such folder for the {what}", cure)
    shape = re.compile(re.escape(rest).replace(r"\*", "([^/]+)") + "$")
    found: dict[str, Path] = {}
    for path in sorted(fixed_part.glob("*".join(map(glob.escape, rest.split("*"))))):
        relative = path.relative_to(fixed_part).as_posix()
        match = shape.match(relative)
        if match is None or any(part.startswith(".") for part in Path(relative).parts):
            continue
        if what != "points" and (path.suffix.lower() in _NO_IMAGES or path.name.lower().endswith(_VOXELS)):
            continue
        name = stem(Path(match[1])) if pattern.endswith("*") and path.is_file() else match[1]
        if name in found:
            raise InputError(path, f"and {found[name].name} have the same name without ending", "keep one of them")
        found[name] = path
    return found


def strangers(root: Path, what: str, pattern: str, found: list[str], images: list[str]) -> InputError:
    """The error for files beside the images of which none has the name of an image."""
    problem = "no file matches"
    if found:
        problem = f"none of {len(found)} files has the name of an image: the first is {found[0]}, not {images[0]}"
    return InputError(
        root / pattern, problem,
        f"the * of data.{what} and data.images stands for the same names; data.{what}=null does without",
    )  # fmt: skip


def stem(file: Path) -> str:
    """A file's name without its ending, of which .nii.gz and .mrk.json are one."""
    name = file.name
    for double in (".nii.gz", ".mrk.json"):
        if name.lower().endswith(double):
            return name[: -len(double)]
    return file.stem
