"""The command ``registration``: its verbs, and what the shell sees when something goes wrong.

Status 0 on success, 2 on bad input (one line on stderr), 3 if an initial alignment was kept because the result was
worse, 4 if some of many pairs or images could not be done, 1 on a fault of the program itself or if only a page could
not be made, 129, 130 and 143 when the connection was closed, or when interrupted or terminated.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from .. import __version__
from . import (
    apply,
    batch,
    check,
    compare,
    convert,
    demo,
    evaluate,
    export,
    invert,
    jacobian,
    points,
    preprocess,
    register,
    report,
    train,
)
from .arguments import given
from .once import Once

TRACEBACK = "REGISTRATION_TRACEBACK"
_RARELY = 5000  # new objects between looks for garbage: libraries make many while they load, and they all stay
# Newer typer carries click inside itself, so the base class of usage errors is found through typer.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="registration",
    help="Align medical images, 2-D and 3-D, in world millimetres. FIXED stays, MOVING is brought onto it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("register", no_args_is_help=True)(register.register)
app.command("apply", no_args_is_help=True)(apply.apply)
app.command("check", no_args_is_help=True)(check.check)
app.command("invert", no_args_is_help=True)(invert.invert)
app.command("convert", no_args_is_help=True)(convert.convert)
app.command("jacobian", no_args_is_help=True)(jacobian.jacobian)
app.command("points", no_args_is_help=True)(points.points)
app.command("batch", no_args_is_help=True)(batch.batch)
app.command("evaluate", no_args_is_help=True)(evaluate.evaluate)
app.command("report", no_args_is_help=True)(report.report)
app.command("compare", no_args_is_help=True)(compare.compare)
app.command("preprocess", no_args_is_help=True)(preprocess.preprocess)
app.command("train", no_args_is_help=True)(train.train)
app.command("export", no_args_is_help=True)(export.export)
app.command("demo")(demo.demo)
for _verb in app.registered_commands:
    _verb.cls = Once


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"registration {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help=f"Show where an error arose (also by {TRACEBACK}=1).")
    ] = False,
) -> None:
    if traceback:
        os.environ[TRACEBACK] = "1"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with ``arguments`` (those of the shell without) and leave with its status."""
    for name in ("SIGTERM", "SIGHUP"):
        # nohup sets the hang-up to be ignored, and means it.
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _terminated)
    _share_cores()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: no name of a file ends a run
    gc.set_threshold(_RARELY)
    status = run(arguments)
    gc.freeze()  # at its end Python would look through all that was imported once more
    sys.exit(status)


def _share_cores() -> None:
    """Let OpenMP threads that have nothing to do leave their core soon, unless the user has decided.

    torch and the compiled kernels take turns with a pool of threads each. GNU's OpenMP lets a thread spin for about a
    millisecond after its work, on the core that the other pool waits for: a training step takes a fifth longer. Read
    when torch is loaded, which the verbs do.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its status; errors become one line on stderr."""
    given.set(tuple(sys.argv[1:] if arguments is None else arguments))
    try:
        status = int(app(None if arguments is None else list(arguments), standalone_mode=False) or 0)
        # Some versions of typer turn an interruption into a silent status.
        return _fail("interrupted", 130) if status == 130 else status
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except _UsageError as error:
        return _fail(_usage(error), 2)
    except BrokenPipeError:
        # Whoever read the output has left, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _explain(error)


def _explain(error: Exception) -> int:
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    from ..errors import InputError

    if isinstance(error, InputError):
        return _fail(str(error), 2)
    if type(error).__name__ == "SpaceError":
        return _fail(f"this is no grid of voxels: {error}", 2)
    if isinstance(error, OSError) and error.filename:
        return _fail(f"{str(os.fsdecode(error.filename))[:200]}: cannot be used ({error.strerror})", 2)
    if isinstance(error, RuntimeError) and str(error).startswith(("Could not determine home", "Symlink loop")):
        return _fail(f"{_line(error)}; give another path", 2)
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return _fail(f"not enough memory ({_line(error)}); crop the images or coarsen their grids", 1)
    return _fail(f"fault of the program, {type(error).__name__}: {_line(error)}; {TRACEBACK}=1 shows where", 1)


def _usage(error: Any) -> str:
    """A usage error without the help text, which is one option away."""
    text = error.format_message() or "no command given"
    return f"{text.rstrip('.')}; see registration --help"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or "no further word"


def _fail(text: str, status: int) -> int:
    sys.stderr.write(f"registration: {' '.join(text.split())}\n")
    return status


def _terminated(number: int, _frame: Any) -> NoReturn:
    """Leave by an exception, so that half-written folders are cleared away."""
    raise SystemExit(128 + number)
