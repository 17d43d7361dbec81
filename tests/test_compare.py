"""compare: what is tested, against which definition, and what is said instead of a number that means nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from registration.cli import main as command
from registration.evaluation.cohort import Judged, write_cohort
from registration.evaluation.compare import compare
from registration.evaluation.figure import AFTER, BEFORE, Figure
from registration.evaluation.report.folder import read_evaluation


def evaluation(folder: Path, pairs: dict[str, tuple[float, float]], start: float = 0.5) -> Path:
    """An evaluation folder: id -> (Dice of label 1, of label 2), and TRE and seconds made from them."""
    folder.mkdir()
    cohort = []
    for name, (one, two) in pairs.items():
        figures = [
            Figure("dice", "", BEFORE, start),
            Figure("dice", "", AFTER, (one + two) / 2),
            Figure("dice", "1", AFTER, one),
            Figure("dice", "2", AFTER, two),
            Figure("tre", "", AFTER, 3 - one),
            Figure("jacobian_p99", "", AFTER, one),
        ]
        cohort.append(Judged(name, "done", figures=tuple(figures)))
    write_cohort(folder, cohort, folder)
    return folder


def numbers(count: int, seed: int, gain: float = 0.0) -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(seed)
    drawn = 0.6 + 0.1 * rng.random((count, 2)) + gain
    return {f"p{n:02d}": (float(a), float(b)) for n, (a, b) in enumerate(drawn)}


def run(*words: object) -> int:
    return command.run(["compare", *[str(word) for word in words]])


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text())


def test_the_figures_are_scipys(tmp_path: Path) -> None:
    a, b = numbers(20, 0), numbers(20, 1, 0.03)
    runs = {n: read_evaluation(evaluation(tmp_path / n, p)) for n, p in (("A", a), ("B", b))}
    found = {(d.metric, d.label): d for d in compare(runs).differences}
    assert list(found) == [("dice", ""), ("dice", "1"), ("dice", "2"), ("tre", "")]
    x, y = (np.array([p[0] for p in pairs.values()]) for pairs in (a, b))
    one = found["dice", "1"]
    assert one.test.p == pytest.approx(stats.wilcoxon(x, y).pvalue, rel=1e-6)
    assert one.test.median == pytest.approx(np.median(y - x), abs=1e-9)
    assert (one.median_first, one.median_second) == pytest.approx((np.median(x), np.median(y)), abs=1e-9)
    wins = stats.wilcoxon(y, x, alternative="greater").statistic
    assert one.test.effect == pytest.approx(2 * wins / (20 * 21 / 2) - 1)
    assert one.test.low is not None and one.test.high is not None and one.test.low < one.test.median < one.test.high
    ordered = sorted(d.test.p for d in found.values() if d.test.p is not None)
    assert min(d.p_holm for d in found.values() if d.p_holm is not None) == pytest.approx(4 * ordered[0])
    assert {d.better for d in found.values()} == {"B"}  # more overlap, less distance
    fewer = compare(runs, ["dice"], labels=False).differences
    assert len(fewer) == 1 and fewer[0].p_holm == fewer[0].test.p


def test_files_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [evaluation(tmp_path / n, numbers(12, 0, gain)) for n, gain in (("A", 0), ("B", 0.05), ("C", 0.01))]
    assert run(*folders, "-o", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    for text in ("B against A", "C against A", "C against B", "Dice", "label 2", "+1.00"):
        assert text in shown
    report = told(tmp_path / "out")
    assert len(report["differences"]) == 12 and "all 12 tests" in report["correction"]
    with (tmp_path / "out" / "comparison.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["difference_median"]) == pytest.approx(0.05) and rows[0]["better"] == "B"
    assert rows[0]["first"] == "A" and rows[0]["second"] == "B" and float(rows[0]["p_holm"]) < 0.05
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "out" / "comparison.svg").read_text()
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["inputs"]["A"]["sha256"]


def test_names_are_neither_markup_nor_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [evaluation(tmp_path / n, numbers(8, 0, gain)) for n, gain in (("A", 0), ("B", 0.05))]
    assert run(*folders, "-o", tmp_path / "out", "--names", "[bold]$^$,[/x]") == 0
    shown = capsys.readouterr().out
    assert "[/x] against [bold]$^$" in shown and "[bold]$^$" in (tmp_path / "out" / "comparison.svg").read_text()


def test_pairs_of_one_run_are_listed_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = numbers(9, 0), numbers(9, 0, 0.1)
    del b["p03"]
    b["extra"] = (0.9, 0.9)
    assert run(evaluation(tmp_path / "A", a), evaluation(tmp_path / "B", b), "-o", tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert "of A: p03" in error and "of B: extra" in error
    assert told(tmp_path / "out")["only_in"] == {"A": ["p03"], "B": ["extra"]}
    assert {row["n"] for row in told(tmp_path / "out")["differences"]} == {8}


@pytest.mark.parametrize(
    ("count", "gain", "note", "shown"),
    [(5, 0.1, "too few pairs", "too few pairs differ: a test needs 6"), (8, 0.0, "no difference", " equal ")],
)
def test_no_p_where_it_means_nothing(
    tmp_path: Path, count: int, gain: float, note: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = numbers(count, 0), numbers(count, 0, gain)
    assert run(evaluation(tmp_path / "A", a), evaluation(tmp_path / "B", b), "-o", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert shown in out and "\u2026" not in out  # nothing is cut off
    for row in told(tmp_path / "out")["differences"]:
        assert row["p"] is None and row["p_holm"] is None and note in row["note"] and row["better"] in ("", "B")


def test_other_images_under_the_same_names_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = evaluation(tmp_path / "A", numbers(7, 0)), evaluation(tmp_path / "B", numbers(7, 1), start=0.4)
    assert run(*folders, "-o", tmp_path / "out", "-q") == 0
    assert "began from other images under the same names: p00" in capsys.readouterr().err


def test_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {f"q{name}": pair for name, pair in numbers(3, 0).items()}
    folders = evaluation(tmp_path / "A", numbers(3, 0)), evaluation(tmp_path / "B", other)
    assert run(*folders, "-o", tmp_path / "out") == 0
    assert "no figure of the same pair in common" in capsys.readouterr().err
    assert not (tmp_path / "out" / "comparison.png").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["A"], "two or more"),
    (["A", "A"], "given twice"),
    (["A", "nowhere"], "no such folder"),
    (["A", "B", "--names", "x,x"], "2 different names"),
    (["A", "B", "--metrics", "dice,dise"], "dise"),
])  # fmt: skip
def test_bad_input(tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "AB":
        evaluation(tmp_path / name, numbers(3, 0))
    given = [tmp_path / word if word in ("A", "B", "nowhere") else word for word in words]
    assert run(*given, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("width", "gone"), [(110, 0), (80, 3), (62, 4)])
def test_a_narrow_terminal_gets_fewer_columns_and_no_text_cut(tmp_path: Path, width: int, gone: int) -> None:
    from rich.console import Console

    from registration.cli.comparison_tables import SPARED, tables_of
    from registration.cli.figure_tables import narrowed

    names = {"a": numbers(8, 0), "a_run-of_a_long_name": numbers(8, 1, 0.1)}
    runs = {name: read_evaluation(evaluation(tmp_path / name, pairs)) for name, pairs in names.items()}
    ((table, _),) = tables_of(compare(runs))
    console = Console(width=width, record=True, file=io.StringIO())
    assert narrowed(table, console, SPARED) == list(SPARED[:gone])
    console.print(table)
    text = console.export_text()
    assert "…" not in text and "a_run-of_a_" in text and "long_name" in text
    assert ("second" in text) == (gone < 4)
