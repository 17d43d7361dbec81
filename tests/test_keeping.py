"""Where compiled loops are kept, also where nothing may be written, and what is told of their compilation."""

from __future__ import annotations

import importlib.util
import logging
import os
import stat
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from registration import compiled
from registration.cli.progress import watching
from registration.compiled import keeping

numba = pytest.importorskip("numba")


@pytest.fixture()
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, where alone numba may write."""
    from numba.core import caching

    allowed = caching._CacheLocator.ensure_cache_path

    def ensured(locator: caching._CacheLocator) -> None:
        if tmp_path not in Path(locator.get_cache_path()).parents:
            raise PermissionError(30, "Read-only file system")
        allowed(locator)

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", ensured)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(keeping, "_listen", lambda: None)
    return tmp_path


def kernels_anew() -> ModuleType:
    """The kernels of sampling as the first process of an installation reads them; nothing is compiled."""
    spec = importlib.util.spec_from_file_location("anew", Path(compiled.__file__).with_name("sampling_kernels.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kernels_run_where_nothing_may_be_written(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert compiled._installed.__wrapped__()
    folder = Path(kernels_anew().sample._cache.cache_path).parent
    assert folder.parent == read_only and folder.name == f"registration-loops-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and os.environ["NUMBA_CACHE_DIR"] == str(folder)
    assert "compiled anew" in caplog.text and str(folder) in caplog.text
    caplog.clear()
    assert compiled._installed.__wrapped__()  # a place that somebody has named
    assert not caplog.text


def test_loops_are_not_kept_where_others_may_write(read_only: Path) -> None:
    first = keeping._private_folder()
    assert keeping._private_folder() == first
    first.chmod(0o777)
    other = keeping._private_folder()
    assert other != first and stat.S_IMODE(other.stat().st_mode) == 0o700
    first.rmdir()
    first.symlink_to(other)
    assert keeping._private_folder() not in (first, other)


def test_torch_runs_where_there_is_no_temporary_folder_either(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(read_only / "no"))
    assert not compiled._installed.__wrapped__()
    assert "torch runs instead" in caplog.text


def test_the_first_compilation_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from numba.core import event

    def compiles(module: str) -> None:
        loop = ModuleType("loop")
        loop.py_func = ModuleType(module)  # type: ignore[attr-defined]
        loop.py_func.__module__ = module  # type: ignore[attr-defined]
        with event.trigger_event("numba:compile", data={"dispatcher": loop}):
            pass

    before = list(event._registered["numba:compile"])
    try:
        event._registered["numba:compile"].clear()
        keeping._listen()
        with watching(False):
            compiles("somebody.else")
            compiles("registration.compiled.affine_kernels")
            compiles("registration.compiled.affine_kernels")
        told = capsys.readouterr().err
        assert told.startswith("note: compiling loops") and told.count("\n") == 1
    finally:
        event._registered["numba:compile"][:] = before


def test_what_loops_say_goes_to_the_watcher_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("registration.compiled")
    before = log.level, log.propagate, list(log.handlers)
    with watching(True):
        log.warning("kept in %s", "a folder")
    assert capsys.readouterr().err == ""
    assert (log.level, log.propagate, log.handlers) == before
