"""The benchmark of rivals without the rivals: which tools are chosen, what is kept, and the table of canned results."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"
CASE = {
    "dice": 0.8, "labels": 15, "folding_percent": 0.0, "seconds": 10.0, "processor_seconds": 18.0,
    "megabytes": 1024.0, "swap_mm": 0.25, "started": "2026-01-01 10:00", "load": 0.1,
}  # fmt: skip


@pytest.fixture()
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of scripts/bench by name."""
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setenv("PYTHONPATH", "")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def canned(title: str, **figures: Any) -> dict[str, Any]:
    cases = [{**CASE, **figures}, {**CASE, **figures, "dice": figures.get("dice", 0.8) - 0.1}]
    return {"title": title, "version": "1", "settings": "as it comes", "threads": 2, "cases": cases}


RESULTS = {
    "unregistered": {"title": "unregistered", "cases": [{"dice": 0.5, "folding_percent": 0.0, "labels": 15}]},
    "fast": canned("ours", seconds=5.0, inverse_mm=0.01),
    "ants": canned("ANTs SyN", seconds=50.0, megabytes=2048.0),
    "elastix": {"title": "elastix", "problem": "not installed (pip install itk-elastix)"},
}


def test_only_takes_names_families_and_nothing_else(bench: Any) -> None:
    chosen = bench("rivals").chosen
    known = ["fast", "default", "accurate", "tps", "ants", "greedy-ssd", "greedy-ncc"]
    assert chosen("", known, known[:2]) == known[:2]
    assert chosen("greedy,fast", known, known) == ["fast", "greedy-ssd", "greedy-ncc"]
    assert chosen("greedy-ncc,ours", known, known) == [*known[:4], "greedy-ncc"]
    with pytest.raises(ValueError, match="--only gredy: known are ours"):
        chosen("gredy", known, known)


def test_every_tool_has_a_title_of_its_own_and_says_what_its_seconds_hold(bench: Any) -> None:
    tools = bench("rival_tools").tools()
    assert len({tool.title for tool in tools.values()}) == len(tools)
    assert all(tool.settings and tool.package for tool in tools.values())
    assert {"fast", "default", "accurate", "tps", "ants", "greedy-ncc", "dipy", "elastix"} <= set(tools)


def test_the_table_of_canned_results(bench: Any) -> None:
    rows = {row[0]: dict(zip(bench("rival_table").table(RESULTS)[0], row, strict=True))
            for row in bench("rival_table").table(RESULTS)[1:]}  # fmt: skip
    assert rows["ours"]["Dice"] == "0.750" and rows["ours"]["least"] == "0.700"
    assert rows["ours"]["x ANTs"] == "0.10" and rows["ANTs SyN"]["x ANTs"] == "1.00"
    assert rows["ANTs SyN"]["peak GB"] == "2.00" and rows["ours"]["inverse mm"] == "0.01"
    assert rows["ANTs SyN"]["inverse mm"] == rows["unregistered"]["seconds"] == ""
    assert rows["elastix"]["Dice"] == "not installed (pip install itk-elastix)"


def test_a_figure_that_could_not_be_had_is_words_in_the_table_and_null_in_json(bench: Any) -> None:
    folded = canned("SimpleITK demons")
    folded["cases"][0]["swap_mm"] = None
    results = {**RESULTS, "sitk-demons": folded}
    header, *rows = bench("rival_table").table(results)
    cells = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert (cells["SimpleITK demons"]["swap mm"], cells["SimpleITK demons"]["inverse mm"]) == ("not found", "")
    summaries = {
        name: bench("rival_table").summary(result, None) for name, result in results.items() if "cases" in result
    }
    old = {"cases": [{"load": float("nan")}]}  # of a file that was kept before
    text = bench("rivals").as_json({"summary": summaries, "results": {**results, "old": old}})
    told = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["summary"]["sitk-demons"]["swap_mm"] is None and told["summary"]["fast"]["swap_mm"] == 0.25
    assert told["results"]["old"] == {"cases": [{"load": None}]}


def test_text_and_markdown_hold_the_same_cells(bench: Any) -> None:
    table = bench("rival_table")
    cells = table.table(RESULTS)
    text, markdown = table.as_text(cells).splitlines(), table.as_markdown(cells).splitlines()
    assert len(markdown) == len(cells) + 1 == len(text) + 1
    assert {line.count("|") for line in markdown} == {len(cells[0]) + 1}
    assert len({len(line.rstrip()) for line in text[:1]}) == 1 and max(map(len, text)) < 120
    assert all(f" {cell} " in f"{line} " for row, line in zip(cells, text, strict=True) for cell in row[1:] if cell)
    assert any("as it comes" in line and "ANTs" in line for line in table.notes(RESULTS))


def test_labels_beyond_the_shared_ones_get_a_column(bench: Any) -> None:
    more = {**RESULTS, "ants": canned("ANTs SyN", dice_shared=0.85)}
    header, *_ = bench("rival_table").table(more)
    assert "15 shared" in header
    assert "15 shared" not in bench("rival_table").table(RESULTS)[0]


def test_a_chain_is_read_outermost_first_and_inverts_what_it_is_told(bench: Any, tmp_path: Path) -> None:
    a, b = np.eye(4), np.eye(4)
    a[0, 3], b[:2, :2] = 5.0, [[0, -2], [1, 0]]
    np.savetxt(tmp_path / "a.txt", a)
    np.savetxt(tmp_path / "b.txt", b)
    chain = bench("rival_scores").read_chain(tmp_path, ["a.txt", "-b.txt"])
    expected = torch.from_numpy(a @ np.linalg.inv(b))
    torch.testing.assert_close(chain(torch.ones(1, 3, dtype=torch.float64))[0], expected[:3].sum(dim=1))


def options(folder: Path, **more: Any) -> argparse.Namespace:
    plain = {"output": folder, "pairs": "brain", "threads": 2, "again": False, "keep": False, "limit": 60.0}
    return argparse.Namespace(**{**plain, **more})


def test_a_result_is_kept_until_something_changes(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rivals, calls = bench("rivals"), []
    monkeypatch.setattr(rivals, "both_ways", lambda name, *_: calls.append(name) or [CASE])
    monkeypatch.setattr(rivals, "version_of", lambda tool: "1.0")
    tool = bench("rival_tools").tools()["ants"]
    pairs = [bench("rival_scores").Pair("brain", *[tmp_path / "x"] * 4)]
    first = rivals.measure("ants", tool, pairs, options(tmp_path))
    assert rivals.measure("ants", tool, pairs, options(tmp_path)) == first and calls == ["ants"]
    rivals.measure("ants", tool, pairs, options(tmp_path, threads=1))
    rivals.measure("ants", tool, pairs, options(tmp_path, threads=1, again=True))
    monkeypatch.setattr(rivals, "version_of", lambda tool: "1.1")
    rivals.measure("ants", tool, pairs, options(tmp_path, threads=1))
    assert len(calls) == 4
    monkeypatch.setattr(rivals, "version_of", lambda tool: None)
    assert rivals.measure("ants", tool, pairs, options(tmp_path))["problem"] == "not installed (pip install antspyx)"


def test_a_tool_that_fails_is_one_row_and_is_tried_again(bench: Any, tmp_path: Path) -> None:
    rivals = bench("rivals")
    tool = bench("rival_tools").Tool("none", "numpy", lambda job: None, "nothing")
    pairs = [bench("rival_scores").Pair("brain", *[tmp_path / "missing.nii.gz"] * 4)]
    result = rivals.measure("no-such-tool", tool, pairs, options(tmp_path))
    assert result["problem"].startswith("failed: KeyError: 'no-such-tool'")
    assert not list((tmp_path / "brain").glob("*.json"))
