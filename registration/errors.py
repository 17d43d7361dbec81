"""The error of bad input: something the person at the keyboard can mend."""

from __future__ import annotations

import os


class InputError(ValueError):
    """A file or an argument that cannot be used, told in one line.

    Parameters
    ----------
    where
        The file or the option that is at fault.
    problem
        What was expected and what came.
    cure
        What to do about it.
    """

    def __init__(self, where: str | os.PathLike[str], problem: str = "", cure: str = "") -> None:
        text = os.fspath(where)
        if problem:
            text = f"{text}: {problem}"
        if cure:
            text = f"{text}; {cure}"
        super().__init__(" ".join(text.split()))
