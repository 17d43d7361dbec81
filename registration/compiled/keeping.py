"""Where compiled loops are kept between runs, and the word to the user while they are compiled.

numba keeps what it has compiled in ``NUMBA_CACHE_DIR``, beside the file of the loop, or in the user's cache folder, and
refuses to begin where it may write in none of them: an installation that is read only, and no home.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

_log = logging.getLogger(__package__)
_COMPILING = "compiling loops, which the first run after an installation does once; it takes about a minute"


def prepare() -> bool:
    """See that loops can be kept, if need be in a temporary folder, and tell when the first one is compiled.

    Returns
    -------
    Whether they can be.
    """
    if not _has_place():
        try:
            folder = _private_folder()
        except OSError as error:
            _log.warning("no folder can be written to, so loops are not compiled and torch runs instead (%s)", error)
            return False
        import numba

        # By the environment for processes that this one starts, and for numba when it looks there again.
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(folder)
        _log.warning(
            "neither the installation nor the home may be written to: compiled loops are kept in %s, and are compiled "
            "anew, which takes about a minute, where that is empty; NUMBA_CACHE_DIR=FOLDER names another place", folder,
        )  # fmt: skip
    _listen()
    return True


def _has_place() -> bool:
    """Whether numba finds a place to keep the loops of this folder, by its own rules; nothing is compiled."""
    import numba

    try:
        numba.njit(cache=True)(_has_place)  # any function of a file beside the kernels
    except RuntimeError:
        return False
    return True


def _private_folder() -> Path:
    """A temporary folder of this user that nobody else can write to: what is kept there will be run."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"registration-loops-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if _is_private(folder):
        return folder
    other = Path(tempfile.mkdtemp(prefix="registration-loops-"))
    atexit.register(shutil.rmtree, other, ignore_errors=True)
    return other


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user, that no other may write to or read."""
    state = folder.lstat()
    own = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    return stat.S_ISDIR(state.st_mode) and own and (os.name != "posix" or not state.st_mode & 0o077)


def _listen() -> None:
    """Say so when the first loop of this process is compiled rather than read."""
    from numba.core import event

    class First(event.Listener):  # type: ignore[misc]
        told = False

        def on_start(self, event: Any) -> None:
            loop = getattr((event.data or {}).get("dispatcher"), "py_func", None)
            if not self.told and getattr(loop, "__module__", "").startswith(f"{__package__}."):
                self.told = True
                _log.info(_COMPILING)

        def on_end(self, event: Any) -> None:
            """Nothing."""

    event.register("numba:compile", First())
