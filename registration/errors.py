"""The errors of bad input: something the person at the keyboard can mend."""

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


def check_types(expected: type, cure: str, **given: object) -> None:
    """Refuse arguments of another type in a sentence: what was expected, what came, and what to call.

    Parameters
    ----------
    cure
        Which functions make what was expected.
    given
        The arguments by their names.

    Raises
    ------
    TypeError
        If one is of another type.
    """
    for name, value in given.items():
        if not isinstance(value, expected):
            kind = type(value)
            came = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            shown = f" ({os.fspath(value)!r})" if isinstance(value, (str, os.PathLike)) else ""
            raise TypeError(f"{name}: expected a registration.{expected.__name__}, got {came}{shown}; {cure}")
