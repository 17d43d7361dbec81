"""Write ``report.html``: one file, nothing fetched from anywhere, pairs decoded only when they are opened."""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from ...io.files import atomic_path
from .cohort import cohort_data
from .folder import Case, Evaluation, read_evaluation

PAGE = "report.html"
SCRIPTS = (
    "base.js", "figures.js", "plots.js", "tables.js", "cohort.js", "decode.js", "slices.js",
    "contours.js", "paint.js", "controls.js", "marks.js", "viewer.js", "pair.js", "main.js",
)  # fmt: skip
_STYLES = ("page.css", "viewer.css")
# Bytes of a page without a wish: 14 MB up to about a hundred pairs, and never beyond what a browser opens at once.
_USUAL, _PER_PAIR, _LARGEST = 14.4e6, 0.14e6, 60e6
_MOST_PER_PAIR = 9e6
_AT_ONCE = 2
_LOST = {"notes": ["The images of this pair cannot be shown: its process died, most likely because memory ran out."]}
Data = dict[str, Any]  # of one pair, ready for JSON


def in_threads(work: Callable[[Case], Data], cases: Sequence[Case]) -> Iterator[Data]:
    """The data of all pairs in order: two are worked on at a time, and few wait."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting: deque[Future[Data]] = deque()
        for case in cases:
            waiting.append(pool.submit(work, case))
            if len(waiting) > _AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write_report(
    folder: Path,
    megabytes: float | None = None,
    track: Callable[[Sequence[Case]], Iterable[Case]] = iter,
    title: str | None = None,
    each: Callable[[Callable[[Case], Data], Sequence[Case]], Iterable[Data | None]] = in_threads,
) -> Path:
    """Make the page of an evaluation folder from its ``metrics.csv``, ``summary.json`` and ``cases.json``.

    Parameters
    ----------
    folder
        What ``registration evaluate`` wrote. The images it names are read too; what is not there is said on the page.
    megabytes
        Size the page should stay within, 14 for up to a hundred pairs without; the pictures become coarser until it
        does. The figures alone may need more.
    track
        Wraps the sequence of cases while they are worked through, as a progress bar does.
    title
        What the page is called; the name of the folder without.
    each
        Applies a function to all cases and gives its results in their order, None where one was lost: here, or in
        processes, for the function pickles.

    Returns
    -------
    ``folder / "report.html"``, written whole or not at all.

    Raises
    ------
    InputError
        If the folder is no evaluation, or cannot be written to.
    """
    evaluation = read_evaluation(Path(folder))
    head, tail = _shell(evaluation, title or evaluation.folder.resolve().name)
    count = max(1, len(evaluation.cases))
    total = megabytes * 1e6 if megabytes is not None else min(_LARGEST, max(_USUAL, _PER_PAIR * count))
    # A little is left for what the budget of a pair does not count, such as notes and landmarks.
    budget = min(_MOST_PER_PAIR, max(2e4, (0.98 * total - len(head) - len(tail)) / count))
    target = Path(folder) / PAGE
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(head)
        numbers = {case.id: n for n, case in enumerate(evaluation.cases)}
        made = each(partial(_payload, budget=budget), evaluation.cases)
        # In order and one at a time, so that memory does not grow with the cohort.
        for case, data in zip(track(evaluation.cases), made, strict=True):
            stream.write(_data(f"pair-{numbers[case.id]}", data or _LOST))
        stream.write(tail)
    return target


def _payload(case: Case, budget: float) -> Data:
    from .payload import case_payload  # which loads torch: not needed here where processes do this

    try:
        return case_payload(case, budget)
    except (ArithmeticError, RuntimeError, ValueError, MemoryError) as error:
        # One odd pair must not cost the page of all the others.
        text = " ".join(str(error).split())[:300]
        return {"notes": [f"The images of this pair cannot be shown ({type(error).__name__}: {text})."]}


def _shell(evaluation: Evaluation, title: str) -> tuple[str, str]:
    """The page before and after the data of the pairs."""
    place = resources.files(__package__) / "assets"

    def asset(name: str) -> str:
        return (place / name).read_text(encoding="utf-8")

    page = asset("page.html")
    scripts = '(() => {\n"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS) + "\n})();"
    parts = {
        "TITLE": html.escape(f"{title}: {len(evaluation.cases)} pairs registered"),
        "STYLES": "\n".join(asset(name) for name in _STYLES),
        "COHORT": _data("cohort", cohort_data(evaluation, title)),
        "SCRIPTS": scripts,
    }
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text, 1)
    head, tail = page.split("<!--PAIRS-->")
    return head, tail


def _data(name: str, content: Any) -> str:
    """JSON in an element that no browser runs; nothing in it can end the element."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), default=str)
    for sign in "&<>":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'
