"""The page of an evaluation: what it holds, that nothing in it can break out of its place, and how large it is."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from report_files import HOSTILE, small_evaluation, spaces, write_case, write_folder

from registration.errors import InputError
from registration.evaluation.metrics import jacobian_determinants
from registration.evaluation.report import write_report
from registration.evaluation.report.encode import exact, mosaic, smooth
from registration.evaluation.report.folder import read_evaluation
from registration.evaluation.report.payload import case_payload
from registration.evaluation.report.upright import upright, within
from registration.io.images import read_image, read_labels
from registration.io.transforms import read_transform
from registration.space import Space


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation whose page is written."""
    place = small_evaluation(tmp_path_factory.mktemp("evaluation"))
    write_report(place)
    return place


def payloads(folder: Path) -> dict[str, Any]:
    """The data elements of the page by name."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in found}


def inflate(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def summed(steps: np.ndarray) -> np.ndarray:
    """Values from their differences along the last three axes."""
    for axis in (-1, -2, -3):
        steps = np.cumsum(steps, axis=axis, dtype=steps.dtype)
    return steps


def picture(volume: dict[str, Any], shape: list[int]) -> np.ndarray:
    """(X, Y, Z) grey values of a mosaic."""
    from PIL import Image as Picture

    nx, ny, nz = shape
    sheet = np.asarray(Picture.open(io.BytesIO(base64.b64decode(volume["data"]))).convert("L"))
    columns = volume["columns"]
    places = [(z // columns * ny, z % columns * nx) for z in range(nz)]
    return np.stack([sheet[y : y + ny, x : x + nx].T for y, x in places], axis=-1)


def test_page_stands_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    code = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S)
    assert not re.search(r"(src|href)=[\"'](?!#)", code) and "url(" not in code and "@import" not in code
    addresses = set(re.findall(r"https?://[^\s\"')]+", code))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", code)


def test_hostile_names_stay_text(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page and "<script>alert" not in page and "<b>" not in page
    found = payloads(folder)
    assert set(found) == {"cohort", *(f"pair-{n}" for n in range(5))}
    assert found["cohort"]["cases"][1]["id"] == HOSTILE
    assert found["cohort"]["provenance"] == {"arguments": "</script><b>bold</b>"}


def test_figures_are_those_of_the_table(folder: Path) -> None:
    evaluation, cohort = read_evaluation(folder), payloads(folder)["cohort"]
    figures = cohort["figures"]
    told = zip(*(figures[name] for name in ("case", "metric", "label", "when", "value")), strict=True)
    labels = [*cohort["labels"], ""]
    rows = [
        (cohort["cases"][c]["id"], cohort["metrics"][m]["name"], labels[label], ("before", "after")[w], value)
        for c, m, label, w, value in told
    ]
    assert rows == [(row.case, row.metric, row.label, row.when, row.value) for row in evaluation.rows]
    assert any(row[4] is None for row in rows)


def test_what_is_missing_is_said(folder: Path) -> None:
    found = payloads(folder)
    assert "no fixed image is named" in found["pair-3"]["notes"][0].lower()
    assert "cannot be shown" in found["pair-4"]["notes"][0] and "no such file" in found["pair-4"]["notes"][0]
    assert found["pair-0"]["notes"] == []


@pytest.mark.parametrize(
    ("roles", "word"),
    [
        (["transform"], "deformation and Jacobian are not shown"),
        (["moving"], "no view before registration"),
        (["fixed_labels", "moving_labels"], "no outlines"),
        (["warped", "transform"], "no warped image"),
        (["moving_labels"], "one side only"),
    ],
)
def test_parts_may_be_missing(tmp_path: Path, roles: list[str], word: str) -> None:
    entry, lines = write_case(tmp_path, "a", 2)
    write_folder(tmp_path, [{key: value for key, value in entry.items() if key not in roles}], lines)
    content = case_payload(read_evaluation(tmp_path).cases[0], 1e6)
    assert any(word in note for note in content["notes"]), content["notes"]
    assert "fixed" in content["images"]


def test_damaged_files_are_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    entry, lines = write_case(tmp_path, "a", 2)
    (tmp_path / entry["transform"]).write_bytes(b"\x89HDF\r\n\x1a\nxx")
    write_folder(tmp_path, [entry], lines)
    content = case_payload(read_evaluation(tmp_path).cases[0], 1e6)
    assert any("Transform cannot be read" in note for note in content["notes"])
    assert set(content["images"]) == {"fixed", "before", "after"} and "field" not in content


def test_another_dimension_is_refused(tmp_path: Path) -> None:
    entry, lines = write_case(tmp_path, "a", 2)
    other, _ = write_case(tmp_path, "b", 3, place="deep")
    write_folder(tmp_path, [{**entry, "warped": other["warped"], "transform": other["transform"]}], lines)
    content = case_payload(read_evaluation(tmp_path).cases[0], 1e6)
    assert sum("fixed image" in note for note in content["notes"]) == 2
    assert set(content["images"]) == {"fixed", "before"} or "after" not in content["images"]


def test_views_hold_the_images(folder: Path) -> None:
    """The fixed image on its upright grid: the grey of a voxel is the intensity of the file at its world point."""
    evaluation = read_evaluation(folder)
    content = case_payload(evaluation.cases[0], 9e6)
    fixed = read_image(evaluation.cases[0].files["fixed"])
    volume = content["images"]["fixed"]
    grey = picture(volume, content["shape"])
    world = np.array(content["affine"])
    index = np.array([20, 30, 11])
    back = torch.linalg.inv(fixed.space.affine).numpy()
    voxel = np.rint((back @ np.append(world @ np.append(index, 1), 1))[:3]).astype(int)
    expected = (float(fixed.data[0, 0][tuple(voxel)]) - volume["low"]) / (volume["high"] - volume["low"])
    assert abs(grey[tuple(index)] / 255 - np.clip(expected, 0, 1)) < 0.06
    labels = read_labels(evaluation.cases[0].files["fixed_labels"])
    codes = inflate(content["labels"]["maps"]["fixed"]).reshape(content["shape"][::-1]).T
    values = [0, *content["labels"]["values"]]
    assert values[codes[tuple(index)]] == int(labels.data[0, 0][tuple(voxel)])
    counts = {v: int((labels.data == v).sum()) for v in values}
    assert {v: int((codes == n).sum()) for n, v in enumerate(values)} == counts


def test_deformation_is_that_of_the_transform(folder: Path) -> None:
    case = read_evaluation(folder).cases[0]
    content = case_payload(case, 9e6)
    transform = read_transform(case.files["transform"])[0]
    field = content["field"]
    halves = inflate(field["data"]).astype(np.uint16)
    codes = (halves[: len(halves) // 2] << 8) | halves[len(halves) // 2 :]
    codes = summed(codes.reshape(3, *field["shape"][::-1]))
    shift = np.moveaxis(codes, 0, -1)[0, 0, 0] * field["step"] + np.array(field["low"])
    affine = np.array(content["affine"])
    corner = affine @ np.array([-0.5, -0.5, -0.5, 1])
    moved = transform(torch.tensor(corner[None])).numpy()[0] - corner
    expected = np.linalg.inv(affine[:, :3] / np.linalg.norm(affine[:, :3], axis=0)) @ moved
    assert np.abs(shift - expected).max() <= field["step"]
    space = upright(read_image(case.files["fixed"]).space).space
    determinants = jacobian_determinants(transform, space)
    assert content["jacobian"]["range"] == pytest.approx([float(v) for v in determinants.aminmax()], rel=1e-4)


def test_no_folded_voxel_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folded voxel among thousands is seen on a map that is coarser than the image."""

    def determinants(_transform: object, space: Space) -> torch.Tensor:
        values = torch.ones(space.shape)
        values[21, 30, 11] = -0.1
        return values

    monkeypatch.setattr("registration.evaluation.report.payload.jacobian_determinants", determinants)
    entry, lines = write_case(tmp_path, "a", 3)
    write_folder(tmp_path, [entry], lines)
    jacobian = case_payload(read_evaluation(tmp_path).cases[0], 40_000)["jacobian"]
    codes = summed(inflate(jacobian["data"]).reshape(jacobian["shape"][::-1]))
    # The blocks of a coarser grid may share voxels.
    assert codes.size < 44 * 52 * 24 / 2 and 1 <= (codes == 0).sum() <= 8


@pytest.mark.parametrize("budget", [12_000, 120_000, 1_000_000])
def test_pairs_keep_within_their_budget(folder: Path, budget: int) -> None:
    content = case_payload(read_evaluation(folder).cases[0], budget)
    assert len(json.dumps(content)) < 1.1 * budget + 4000
    assert budget < 1e6 or content["shape"] == [44, 52, 24]
    assert budget > 1e5 or "to keep the page small" in content["notes"][0]


def test_upright_grids_keep_every_voxel_in_place() -> None:
    for space in (*spaces(2), *spaces(3)):
        turned = upright(space).space
        axes = turned.affine[: space.ndim, : space.ndim] / turned.spacing
        assert bool((axes.diagonal() > 0.9).all())
        assert torch.allclose(turned.centre, space.centre) and sorted(turned.shape) == sorted(space.shape)
        assert turned.spacing.prod() == pytest.approx(float(space.spacing.prod()))
    assert upright(spaces(3)[0]).tilt == pytest.approx(9, abs=1)


def test_coarse_grids_are_no_finer_and_isotropic() -> None:
    space = Space.regular((100, 100, 20), (1.0, 1.0, 5.0))
    coarse = within(space, 20_000)
    assert 15_000 < np.prod(coarse.shape) <= 20_000 and coarse.shape[2] == 20
    assert torch.allclose(coarse.extent, space.extent)


def test_volumes_survive_their_encoding() -> None:
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (small == inflate(exact(small)).reshape(3, 7, 5).T).all()
    assert (small == summed(inflate(smooth(small)).reshape(3, 7, 5)).T).all()
    soft = np.add.outer(np.add.outer(np.arange(30), np.arange(40)), np.arange(11)).astype(np.uint8) * 2
    assert np.abs(picture(mosaic(soft, 90), [30, 40, 11]).astype(int) - soft).max() < 12


def table(place: Path, *lines: str) -> None:
    """Other lines for metrics.csv."""
    (place / "metrics.csv").write_text("\n".join(["id,metric,label,when,value,unit", *lines]) + "\n")


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (lambda p: (p / "metrics.csv").unlink(), "holds no metrics.csv"),
        (lambda p: (p / "cases.json").write_text("{"), "is no JSON"),
        (lambda p: (p / "cases.json").write_text("{}"), "a list was expected"),
        (lambda p: (p / "cases.json").write_text("[{}]"), "without id"),
        (lambda p: (p / "cases.json").write_text('[{"id": "a"}, {"id": "a"}]'), "twice"),
        (lambda p: (p / "cases.json").write_text("[]"), "does not list"),
        (lambda p: (p / "metrics.csv").write_text("id,metric\na,b\n"), "no column label"),
        (lambda p: (p / "metrics.csv").write_text("id,metric,label,when,value,unit\na,b,,after,x,\n"), "no number"),
        (lambda p: table(p, "a,dice,1,after,0.5,", "a,dice,1,after,0.7,"), "line 3 gives dice 1 after of 'a' a second"),
        (lambda p: table(p, "a,dice,1,later,0.5,"), "line 2: 'later' is neither before nor after"),
        (lambda p: table(p, "a,dice,1,after"), "line 2 has not as many cells"),
        (lambda p: table(p, "a,dice,1,after,0.5,,more"), "line 2 has not as many cells"),
        (lambda p: shutil.rmtree(p), "no such folder"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, break_it: Callable[[Path], None], word: str) -> None:
    place = write_folder(tmp_path / "eval", [{"id": "a"}], [("a", "dice", "1", "after", 0.5, "")])
    break_it(place)
    with pytest.raises(InputError, match=word):
        write_report(place)
    assert not (place / "report.html").exists()


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "eval", [{"id": "a"}], [("a", "dice", "1", "after", 0.5, "")])
    text = (place / "metrics.csv").read_text()
    (place / "metrics.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert [row.value for row in read_evaluation(place).rows] == [0.5]


def test_one_odd_pair_does_not_cost_the_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"id": "a"}, {"id": "b"}]
    write_folder(tmp_path, entries, [("a", "dice", "1", "after", float("nan"), "")])

    def fail(case: Any, budget: float) -> dict[str, Any]:
        raise RuntimeError("odd")

    monkeypatch.setattr("registration.evaluation.report.payload.case_payload", fail)
    write_report(tmp_path)
    assert "RuntimeError: odd" in payloads(tmp_path)["pair-1"]["notes"][0]
