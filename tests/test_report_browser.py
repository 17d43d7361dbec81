"""The page of an evaluation in a real Chromium: what is drawn, what keys and pointer do, paper, many pairs."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_files import HOSTILE, small_evaluation, write_case, write_folder

from registration.evaluation.report import write_report
from registration.evaluation.report.folder import read_evaluation
from registration.evaluation.report.payload import case_payload

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this computer (apt-get install chromium)")

# A number that changes with any pixel of any canvas; 0 for black.
INK = """() => [...document.querySelectorAll('canvas')].map((c) => {
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let s = 0;
  for (let n = 0; n < d.length; n += 4) s = (s * 31 + d[n] + 256 * d[n + 1] + 65536 * d[n + 2]) % 1000000007;
  return s;
})"""
GREYS = """() => [...document.querySelectorAll('canvas')].map((c) =>
  new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"""


RIM = """() => {
  const e = document.activeElement;
  return e === document.body ? "" : getComputedStyle(e.type === "radio" ? e.parentElement : e).outlineStyle;
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = small_evaluation(tmp_path_factory.mktemp("evaluation"))
    write_report(place)
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page in the browser, which must neither complain nor ask for anything but itself."""

    def __init__(self, browser: Any, file: Path, place: str = "", **settings: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **settings})
        self.page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url.partition("#")[0]))
        self.page.goto(file.as_uri() + place)
        self.page.wait_for_selector("html[data-ready]")

    def _heard(self, message: Any) -> None:
        # The tests themselves read pixels back, which Chromium comments on.
        if "willReadFrequently" not in message.text:
            self.said.append(message.text)

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, kind: Any, *_rest: Any) -> None:
        others = [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]
        self.context.close()
        if kind is None:
            assert self.said == [] and others == [] and len({u for u in self.asked if u.startswith("file:")}) == 1


def settled(page: Any) -> list[int]:
    """Sums over the canvases once drawing has come to rest."""
    page.wait_for_selector("canvas")
    page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    return page.evaluate(INK)


def test_tables_hold_the_figures(browser: Any, folder: Path) -> None:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = {(r["id"], r["when"]): float(r["value"]) for r in rows if r["metric"] == "tre"}
    with Opened(browser, folder / "report.html") as page:
        assert page.locator("#cohort-view h2").all_text_contents()[0] == "1 of 5 pairs failed"
        cells = page.locator("[aria-label='All pairs'] tbody tr").evaluate_all(
            "(rows) => rows.map((r) => [...r.cells].map((c) => c.textContent))"
        )
        heads = page.locator("[aria-label='All pairs'] thead tr").first.locator("th").all_text_contents()
        assert heads[:2] == ["Dice", "TRE, mean (mm)"]
        shown = {(row[0], when): row[4 + n] for row in cells for n, when in enumerate(("before", "after"))}
        for (case, when), value in wanted.items():
            assert shown[case, when] == f"{value:.2f}"
        assert [row[0] for row in cells][:2] == ["broken", "gone"]
        assert "0.979" in page.locator("[aria-label='Summary of all metrics']").text_content()
        assert page.locator("text=<b>truncated</b>").count() == 1
        assert page.locator("svg circle.afill").count() == 3


def test_sorting_filtering_and_another_metric(browser: Any, folder: Path) -> None:
    names = "(rows) => rows.map((r) => r.cells[0].textContent)"
    with Opened(browser, folder / "report.html") as page:
        table = page.locator("[aria-label='All pairs']")
        table.locator("th button", has_text="pair").press("Enter")
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
        assert table.locator("tbody tr").evaluate_all(names)[-3:] == ["gone", "phantom-1", "slice"]
        page.get_by_label("Show pairs whose name holds").fill("PHANTOM")
        assert table.locator("tbody tr").evaluate_all(names) == ["phantom-1"]
        page.locator("#metric").select_option(label="NCC")
        assert page.locator("h2", has_text="NCC of every pair").count() == 1


def test_a_pair_is_drawn_and_every_view_differs(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "report.html", "#pair=phantom-1") as page:
        seen = [settled(page)]
        assert len(seen[0]) == 3 and min(page.evaluate(GREYS)) > 60
        for name in ("Checkerboard", "Edges", "Difference", "Flicker", "Grid", "Jacobian"):
            page.locator("label", has_text=re.compile(f"^{name}$")).click()
            seen.append(settled(page))
        assert len({tuple(s) for s in seen}) == 7
        page.keyboard.press("2")
        after = settled(page)
        page.keyboard.press("b")
        assert settled(page) != after
        page.keyboard.press("l")
        without = settled(page)
        page.keyboard.press("l")
        assert settled(page) != without


def test_the_crosshair_is_linked(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "report.html", "#pair=phantom-1") as page:
        start = settled(page)
        canvas = page.locator("canvas").first
        canvas.focus()
        page.keyboard.press("PageUp")
        assert (settled(page)[0] != start[0]) and "axial 15/24" in canvas.get_attribute("aria-label")
        where = page.locator(".readout").text_content()
        page.keyboard.press("ArrowLeft")
        moved = settled(page)
        assert all(a != b for a, b in zip(moved, start, strict=True))
        assert page.locator(".readout").text_content() != where
        captions = page.locator("figcaption").all_text_contents()
        page.locator("canvas").nth(1).click(position={"x": 40, "y": 40})
        settled(page)
        now = page.locator("figcaption").all_text_contents()
        assert now[0] != captions[0] and now[1] == captions[1] and now[2] != captions[2]


def test_slider_divides_before_and_after(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "report.html", "#pair=phantom-1") as page:
        middle = settled(page)
        page.locator("#amount").focus()
        page.keyboard.press("End")
        before = settled(page)
        page.keyboard.press("Home")
        after = settled(page)
        assert len({tuple(middle), tuple(before), tuple(after)}) == 3
        box = page.locator("canvas").first.bounding_box()
        page.mouse.move(box["x"] + 2, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50, steps=4)
        page.mouse.up()
        assert abs(float(page.locator("#amount").input_value()) - 50) < 3 and settled(page) != after


def test_sides_can_be_swapped_and_letters_follow(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "report.html", "#pair=phantom-1") as page:
        radiological = settled(page)
        page.get_by_label("Which side of the patient").select_option("l")
        neurological = settled(page)
        assert radiological[0] != neurological[0] and radiological[2] == neurological[2]


def test_planes_keep_their_proportions(browser: Any, folder: Path) -> None:
    """44 x 52 x 24 voxels of 4 x 3.5 x 7 mm, drawn at one scale in mm."""
    with Opened(browser, folder / "report.html", "#pair=phantom-1") as page:
        settled(page)
        boxes = [page.locator("canvas").nth(n).bounding_box() for n in range(3)]
        scale = boxes[0]["width"] / (44 * 4)
        sizes = [(44 * 4, 52 * 3.5), (44 * 4, 24 * 7), (52 * 3.5, 24 * 7)]
        for box, (wide, tall) in zip(boxes, sizes, strict=True):
            assert box["width"] == pytest.approx(wide * scale, abs=1.5)
            assert box["height"] == pytest.approx(tall * scale, abs=1.5)


def test_flat_images_hostile_names_and_gaps(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "report.html", "#pair=slice") as page:
        assert len(settled(page)) == 1 and page.evaluate(GREYS)[0] > 60
        page.locator("#pick").select_option(label=HOSTILE)
        page.wait_for_function("(t) => document.querySelector('#pair-view h2')?.textContent === t", arg=HOSTILE)
        assert len(settled(page)) == 3 and page.locator("#pair-view script").count() == 0
        page.locator("#pick").select_option("3")
        page.wait_for_selector("text=There are no pictures of this pair")
        assert "copy it again" in page.locator("#pair-view").text_content()
        page.locator("#pick").select_option("4")
        page.wait_for_selector("text=The fixed image cannot be shown")
        page.keyboard.press("Escape")
        page.wait_for_selector("#cohort-view:not([hidden])")


def test_everything_is_reached_by_keys(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "report.html", "#pair=phantom-1") as page:
        settled(page)
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.tagName + (document.activeElement.name || '')"))
            # The rim of a segment is drawn around its label; between the last and the first stands the document.
            rim = page.evaluate(RIM)
            assert rim != "none"
        assert {"CANVAS", "SELECT", "BUTTON", "INPUTmode", "SUMMARY"} <= reached


def test_dark_and_light(browser: Any, folder: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with Opened(browser, folder / "report.html", color_scheme="dark") as page:
        dark = page.evaluate(paper)
        page.locator("#theme").select_option("light")
        light = page.evaluate(paper)
        assert sum(map(int, re.findall(r"\d+", dark))) < 120 and sum(map(int, re.findall(r"\d+", light))) > 600
        page.reload()
        assert page.evaluate(paper) == light


def test_narrow_windows_and_paper(browser: Any, folder: Path) -> None:
    narrow = {"viewport": {"width": 400, "height": 800}}
    with Opened(browser, folder / "report.html", "#pair=phantom-1", **narrow) as page:
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF") and len(printed) > 20_000
        page.goto((folder / "report.html").as_uri() + "#cohort")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.emulate_media(media="print")
        assert not page.locator("#theme").is_visible()


def test_two_hundred_pairs_open_at_once(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, lines = write_case(tmp_path, "pair-000", 3)
    names = [f"pair-{n:03d}" for n in range(200)]
    write_folder(tmp_path, [{**entry, "id": n} for n in names], [(n, *line[1:]) for n in names for line in lines])
    # All are one pair, which need not be read two hundred times.
    content = case_payload(read_evaluation(tmp_path).cases[0], 1e5)
    monkeypatch.setattr("registration.evaluation.report.payload.case_payload", lambda case, budget: content)
    assert write_report(tmp_path).stat().st_size > 6e6
    with Opened(browser, tmp_path / "report.html") as page:
        ready = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
        assert ready < 4000, f"interactive only after {ready:.0f} ms"
        assert page.locator("[aria-label='All pairs'] tbody tr").count() == 200
        page.locator("#pick").select_option("199")
        assert len(settled(page)) == 3 and min(page.evaluate(GREYS)) > 60
