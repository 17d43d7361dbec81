"""What the commands do with bad input, faults and interruptions: one line, the right status, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_files import AFFINE, volume

from registration import InputError
from registration.cli import main as command
from registration.cli.options import numbers
from registration.cli.outputs import output_folder
from registration.cli.progress import Lines, watching

ROOT = Path(__file__).resolve().parents[1]


def bad_registers(folder: Path, pair: list[str]) -> dict[str, tuple[list[str], str]]:
    """Each way to go wrong: the options, and a word the one line must hold."""
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_text("no image")
    (folder / "short.nii.gz").write_bytes((folder / "f.nii.gz").read_bytes()[:-60])
    volume(folder / "flat.nii", (12, 10), np.diag([2.0, 3.0, 4.0, 1.0]))
    nib.save(nib.Nifti1Image(np.full((9, 9, 9), 7.0), AFFINE), folder / "constant.nii")
    nib.save(nib.Nifti1Image(np.random.rand(9, 9, 9, 3), AFFINE), folder / "four.nii")
    away = AFFINE.copy()
    away[0, 3] = 4000
    volume(folder / "away.nii", affine=away)
    (folder / "one.csv").write_text("x,y,z\n1,2,3\n")
    (folder / "two.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    (folder / "file").write_text("a file, no folder")
    moving = {name: [*pair[:3], str(folder / name), *pair[4:]] for name in (
        "missing.nii.gz", "empty.nii.gz", "text.nii.gz", "short.nii.gz", "flat.nii", "constant.nii", "four.nii",
        "away.nii",
    )}  # fmt: skip
    points = ["--fixed-points", str(folder / "one.csv"), "--moving-points"]
    return {
        **{f"moving is {name}": (words, name) for name, words in moving.items() if name != "away.nii"},
        "disjoint": ([*moving["away.nii"], "--initial", "header"], "overlap"),
        "no output": (pair[:4], "--output"),
        "no fixed": (pair[2:], "--fixed"),
        "unknown option": ([*pair, "--fixd-mask", "x"], "--fixd-mask"),
        "unknown transform": ([*pair, "--transform", "afine"], "did you mean affine"),
        "unknown loss": ([*pair, "--loss", "nc"], "did you mean ncc"),
        "unknown start": ([*pair, "--initial", "maas"], "did you mean mass"),
        "missing start": ([*pair, "--initial", str(folder / "none.h5")], "none.h5"),
        "start is no transform": ([*pair, "--initial", str(folder / "text.nii.gz")], "text.nii.gz"),
        "unknown key": ([*pair, "pipeline.ofset=1"], "did you mean pipeline.offset"),
        "word for a number": ([*pair, "pipeline.offset=far"], "a number was expected"),
        "value refused": ([*pair, "pipeline.offset=2000"], "at most 1000 mm"),
        "stray word": ([*pair, "stray"], "key=value"),
        "seed no number": ([*pair, "--seed", "x"], "--seed"),
        "negative seed": ([*pair, "--seed", "-1"], "--seed"),
        "endless seed": ([*pair, "--seed", "9" * 30], "2^63"),
        "seed with a fraction": ([*pair, "seed=1.5"], "whole number"),
        "no such device": ([*pair, "--device", "tpu9"], "--device tpu9"),
        "a device without numbers": ([*pair, "--device", "meta"], "--device meta"),
        "empty start": ([*pair, "--initial", ""], "neither a way to start"),
        "bad spacing": ([*pair, "--spacing", "1,-2,3"], "--spacing"),
        "bad points space": ([*pair, "--points-space", "mni"], "--points-space"),
        "one table of points": ([*pair, *points[:2]], "together"),
        "unequal points": ([*pair, *points, str(folder / "two.csv"), "--points-space", "ras"], "2 points"),
        "points of unknown space": ([*pair, *points, str(folder / "one.csv")], "--points-space"),
        "fixed labels alone": ([*pair, "--fixed-labels", pair[1]], "--moving-labels"),
        "labels with fractions": ([*pair, "--moving-labels", pair[1]], "whole numbers"),
        "mask of another dimension": ([*pair, "--fixed-mask", str(folder / "flat.nii")], "flat.nii"),
        "empty mask": ([*pair, "--fixed-mask", str(folder / "nothing.nii")], "nothing.nii: this mask is empty"),
        "mask elsewhere": ([*pair, "--fixed-mask", str(folder / "away.nii")], "lies in this mask"),
        "mask of four volumes": ([*pair, "--fixed-mask", str(folder / "four.nii")], "a file of its own"),
        "labels of four volumes": ([*pair, "--moving-labels", str(folder / "four.nii")], "--label-channel 0 ... 2"),
        "one spacing too few": ([*pair, "--spacing", "1,2"], "--spacing 0.5,0.5,2"),
        "a folder without slices": ([*pair[:3], str(folder / "configs"), *pair[4:]], "no DICOM series"),
        "output is a file": ([*pair[:5], str(folder / "file")], "no folder"),
        "output below a file": ([*pair[:5], str(folder / "file" / "deep")], "cannot be made"),
        "images do not go together": ([*pair, "pipeline.fails=value"], "do not go together"),
    }  # fmt: skip


def test_bad_input_is_one_line_and_leaves_nothing(
    stub: Path, pair: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8), np.uint8), AFFINE), tmp_path / "nothing.nii")
    table = bad_registers(tmp_path, pair)
    before = sorted(tmp_path.rglob("*"))
    for name, (words, expected) in table.items():
        line = refused("register", *words, *([] if "pipeline.fails=value" not in words else ["-q"]))
        assert expected in line, f"{name}: {line}"
        assert sorted(tmp_path.rglob("*")) == before, f"{name} left something behind"


def test_bad_apply(stub: Path, pair: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    assert command.run(["register", *pair, "-q"]) == 0
    transform, fixed, out = str(tmp_path / "out" / "transform.h5"), pair[1], str(tmp_path / "new.nii.gz")
    volume(tmp_path / "flat.nii", (12, 10))
    (tmp_path / "bad.h5").write_bytes(Path(transform).read_bytes()[:700])
    (tmp_path / "flat.txt").write_text("0 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    flat, other = str(tmp_path / "flat.nii"), str(tmp_path / "other.nii.gz")
    table = {
        "truncated transform": (["-t", str(tmp_path / "bad.h5"), "-r", fixed, "-i", fixed, "-o", out], "bad.h5"),
        "missing transform": (["-t", str(tmp_path / "none.h5"), "-r", fixed, "-i", fixed, "-o", out], "none.h5"),
        "an image for a transform": (["-t", fixed, "-r", fixed, "-i", fixed, "-o", out], "f.nii.gz"),
        "reference in 2-D": (["-t", transform, "-r", flat, "-i", fixed, "-o", out], "2 axes"),
        "input in 2-D": (["-t", transform, "-r", fixed, "-i", flat, "-o", out], "2 axes"),
        "no partner": (["-t", transform, "-r", fixed, "-i", fixed, "-i", fixed, "-o", out], "2 and 1"),
        "one output twice": (["-t", transform, "-r", fixed, *["-i", fixed, "-o", out] * 2], "twice"),
        "second in 2-D": (["-t", transform, "-r", fixed, "-i", fixed, "-o", out, "-i", flat, "-o", other], "2 axes"),
        "second as a picture": (
            ["-t", transform, "-r", fixed, "-i", fixed, "-o", out, "-i", fixed, "-o", str(tmp_path / "b.png")],
            f"{tmp_path / 'b.png'}: a png file holds 2-D images",
        ),
        "unknown interpolation": (["-t", transform, "-r", fixed, "-i", fixed, "-o", out, "-n", "liner"], "linear"),
        "unknown format": (["-t", transform, "-r", fixed, "-i", fixed, "-o", str(tmp_path / "a.xyz")], "a.xyz"),
        "no such folder": (["-t", transform, "-r", fixed, "-i", fixed, "-o", str(tmp_path / "no" / "a.nii")], "no"),
        "singular": (["-t", str(tmp_path / "flat.txt"), "-r", fixed, "-i", fixed, "-o", out, "--inverse"], "flat.txt"),
    }
    before = sorted(tmp_path.rglob("*"))
    for name, (words, expected) in table.items():
        line = refused("apply", *words, "-q")
        assert expected in line, f"{name}: {line}"
        assert sorted(tmp_path.rglob("*")) == before, f"{name} left something behind"


def test_apply_says_when_nothing_is_hit(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "far.txt").write_text("1 0 0 900\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    words = ["-t", str(tmp_path / "far.txt"), "-r", pair[1], "-i", pair[3], "-o", str(tmp_path / "far.nii.gz")]
    assert command.run(["apply", *words]) == 0
    assert "nowhere inside" in capsys.readouterr().err


@pytest.mark.parametrize(("how", "status", "word"), [("fault", 1, "KeyError"), ("interrupt", 130, "interrupted")])
def test_faults_and_interruptions_leave_nothing(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, status: int, word: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    deep = [*pair[:5], str(tmp_path / "new" / "deep" / "out")]
    assert command.run(["register", *deep, "-q", f"pipeline.fails={how}"]) == status
    seen = capsys.readouterr()
    assert word in seen.err and "Traceback" not in seen.err and len(seen.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_traceback_for_developers(
    stub: Path, pair: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(command.TRACEBACK, "1")
    assert command.run(["register", *pair, "-q", "pipeline.fails=fault"]) == 1
    assert "stub_pipeline.py" in capsys.readouterr().err


@pytest.mark.parametrize("user", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "passive"}])
def test_waiting_threads_leave_their_core_unless_the_user_decided(
    monkeypatch: pytest.MonkeyPatch, user: dict[str, str]
) -> None:
    decisions = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in decisions} | user
    monkeypatch.setattr(os, "environ", environment)
    with pytest.raises(SystemExit):
        command.main(["--version"])
    found = {name: environment[name] for name in decisions if name in environment}
    assert found == (user or {"GOMP_SPINCOUNT": "20000"})


def test_termination_clears_the_folder(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\nfrom pathlib import Path\n"
        "from registration.cli.main import _terminated\nfrom registration.cli.outputs import output_folder\n"
        "signal.signal(signal.SIGTERM, _terminated)\n"
        "with output_folder(Path(sys.argv[1]), False, ()) as folder:\n"
        "    (folder / 'half').write_text('half')\n    print('ready', flush=True)\n    time.sleep(60)"
    )
    out = str(tmp_path / "out")
    running = subprocess.Popen([sys.executable, "-c", code, out], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_unwritable_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be made"), output_folder(tmp_path / "out", False, ()):
        pass


def test_names_that_the_terminal_cannot_show() -> None:
    code = (
        "from registration.cli.main import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    print('\\u00fc.nii \\udcff.nii')"
    )
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=plain)
    assert done.returncode == 0 and done.stdout.endswith(b"\\xfc.nii \\udcff.nii\n"), done


def test_what_cannot_be_written_has_the_name_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, output_folder(tmp_path / "out", False, ()) as folder:
        raise InputError(folder / "a.csv", "cannot be written")
    assert str(caught.value) == f"{tmp_path / 'out' / 'a.csv'}: cannot be written"
    assert list(tmp_path.iterdir()) == []


def test_shell_sees_status_and_help() -> None:
    def shell(*words: str) -> subprocess.CompletedProcess[str]:
        code = "from registration.cli.main import main; main()"
        return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT)

    helped = shell("--help")
    assert helped.returncode == 0 and all(verb in helped.stdout for verb in ("register", "apply", "demo"))
    version = shell("--version")
    assert version.returncode == 0 and version.stdout.startswith("registration ")
    wrong = shell("regster")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "regster" in wrong.stderr


def test_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100_000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    stream = StringIO()
    lines = Lines(stream)
    lines.stage("affine", 100)
    for step in range(10):
        lines.step(1.0 / (step + 1))
    lines.note("something odd")
    lines.stage("tps", 5)
    lines.close()
    told = stream.getvalue().splitlines()
    assert "affine: 10 steps, loss 0.1" in told[-2] and "note: something odd" in told and "tps: 0 steps" in told[-1]
    assert 3 < len(told) < 10


def test_who_watches(tmp_path: Path) -> None:
    stream = StringIO()
    with watching(True, stream) as watcher:
        watcher.stage("affine", 3), watcher.step(1.0), watcher.note("odd")
    assert stream.getvalue() == ""
    terminal = StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    with watching(False, terminal) as watcher:
        watcher.stage("affine", 3), watcher.step(1.0), watcher.note("odd [brackets]")
    assert "affine" in terminal.getvalue() and "odd [brackets]" in terminal.getvalue()


def test_numbers() -> None:
    assert numbers("--spacing", None) is None
    assert numbers("--spacing", "0.5") == (0.5,) and numbers("--spacing", "1x1x2.5") == (1.0, 1.0, 2.5)
    for wrong in ("", "a", "1,0", "1,-1", "nan", "inf", "1;2"):
        with pytest.raises(InputError, match="positive numbers"):
            numbers("--spacing", wrong)
