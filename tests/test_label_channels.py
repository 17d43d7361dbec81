"""Label files of several volumes, and how files were read, from the table of pairs to the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cli_files import AFFINE, volume

from registration.batch.record import Record, Settings, Status, described
from registration.batch.table import read_pairs, write_pairs
from registration.cli import main as command
from registration.cli.case import label_map
from registration.errors import InputError
from registration.evaluation.report.folder import Reading, read_evaluation
from registration.evaluation.report.scene import Scene, read_scene
from registration.io.volumes import count_volumes

SHAPE = (12, 10, 8)


def boxes(path: Path, affine: np.ndarray, volumes: int = 2) -> Path:
    """Binary structures in volumes of their own: number n has n + 3 voxels along the first axis."""
    data = np.zeros((*SHAPE, volumes), dtype=np.float64)
    for n in range(volumes):
        data[3 : 6 + n, 3:7, 2:6, n] = 1
    nib.save(nib.Nifti1Image(data if volumes > 1 else data[..., 0], affine), path)
    return path


@pytest.fixture()
def table(tmp_path: Path) -> Path:
    """One pair whose label files have two volumes; the moving image lies 4 mm, two voxels, to the right."""
    moved = AFFINE.copy()
    moved[0, 3] = 4.0
    volume(tmp_path / "f.nii.gz")
    volume(tmp_path / "m.nii.gz", affine=moved)
    boxes(tmp_path / "fl.nii.gz", AFFINE)
    boxes(tmp_path / "ml.nii.gz", moved)
    path = tmp_path / "pairs.csv"
    path.write_text("id,fixed,moving,fixed_labels,moving_labels\na,f.nii.gz,m.nii.gz,fl.nii.gz,ml.nii.gz\n")
    return path


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


def batch(table: Path, *words: object) -> int:
    run_folder = table.parent / "run"
    return run("batch", table, "-o", run_folder, "-j", 1, "-q", "pipeline.offset=4.0", *words)


def evaluate(table: Path, *words: object) -> int:
    places = ["-r", table.parent / "run", "-o", table.parent / "eval"]
    return run("evaluate", table, *places, "-j", 1, "-q", "--overwrite", "--no-report", *words)


def told(table: Path, name: str) -> Any:
    return json.loads((table.parent / name).read_text())


@pytest.mark.parametrize(("channel", "length"), [(0, 3), (1, 4)])
def test_register_takes_the_volume_it_is_told(stub: Path, table: Path, channel: int, length: int) -> None:
    home, out = table.parent, table.parent / "out"
    named = {"--fixed-labels": "fl.nii.gz", "--moving-labels": "ml.nii.gz", "-f": "f.nii.gz", "-m": "m.nii.gz"}
    files = [word for option, name in named.items() for word in (option, home / name)]
    assert run("register", *files, "-o", out, "-q", "--label-channel", channel, "pipeline.offset=4.0") == 0
    assert told(table, "out/metrics.json")["dice"]["after"]["mean"] == 1
    assert np.asarray(nib.load(out / "warped_labels.nii.gz").dataobj).sum() == length * 16
    assert f"label_channel: {channel}" in (out / "config.yaml").read_text()


def test_without_a_choice_the_number_and_the_option_are_named(
    stub: Path, table: Path, refused: Callable[..., str]
) -> None:
    home = table.parent
    words = ["-f", home / "f.nii.gz", "-m", home / "m.nii.gz", "-o", home / "out"]
    words += ["--fixed-labels", home / "fl.nii.gz", "--moving-labels", home / "ml.nii.gz"]
    line = refused("register", *map(str, words))
    assert "fl.nii.gz: holds 2 volumes, a label map is one; choose with --label-channel 0 ... 1" in line
    assert "has no label channel 2; it has 0 ... 1" in refused("register", *map(str, words), "--label-channel", "2")
    boxes(home / "fl.nii.gz", AFFINE, volumes=1)
    assert "no --label-channel reads it" in refused("register", *map(str, words), "--label-channel", "1")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
def test_a_batch_does_not_begin_without_the_volume(
    stub: Path, table: Path, refused: Callable[..., str], ending: str
) -> None:
    home = table.parent
    if ending == ".nrrd":
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.Image([*SHAPE, 2], sitk.sitkUInt8), str(home / "ml.nrrd"))
    else:
        boxes(home / f"ml{ending}", AFFINE)
    table.write_text(table.read_text().replace("ml.nii.gz", f"ml{ending}"))
    words = ["batch", str(table), "-o", str(home / "run"), "-q"]
    line = refused(*words, "--label-channel", "7")
    assert "fl.nii.gz: has no label channel 7; it has 0 ... 1" in line and "1 more" in line
    assert not (home / "run").exists()
    boxes(home / "fl.nii.gz", AFFINE, volumes=8)
    assert f"ml{ending}: has no label channel 7; it has 0 ... 1" in refused(*words, "--label-channel", "7")
    assert "fl.nii.gz: holds 8 volumes, a label map is one; choose with" in refused(*words)


def test_what_a_header_does_not_tell_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("no image")
    (tmp_path / "text.mha").write_text("no image")
    assert [count_volumes(tmp_path / name) for name in ("text.nii.gz", "text.mha", "none.nii", "")] == [None] * 4
    assert count_volumes(volume(tmp_path / "one.nii.gz")) == 1


def test_a_table_chooses_for_each_pair_before_the_option(
    stub: Path, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = table.read_text().splitlines()
    own = f"{lines[0]},label_channel\n{lines[1]},\nb{lines[1][1:]},1\n"
    table.write_text(own)
    assert batch(table, "--label-channel", 0) == 0
    sizes = {
        name: int(np.asarray(nib.load(table.parent / "run" / name / "warped_labels.nii.gz").dataobj).sum())
        for name in "ab"
    }
    assert sizes == {"a": 48, "b": 64}
    assert [row.label_channel for row in read_pairs(table.parent / "run" / "pairs.csv")] == [None, 1]
    assert evaluate(table, "--label-channel", 0) == 0
    assert [case["reading"]["label_channel"] for case in told(table, "eval/cases.json")] == [0, 1]
    assert told(table, "eval/summary.json")["metrics"]["dice"]["after"]["low"] == 1
    # Another choice is another result.
    table.write_text(own.replace(",1\n", ",0\n"))
    capfd.readouterr()
    assert batch(table, "--label-channel", 0) == 2
    assert "b (label_channel was 1, is 0)" in capfd.readouterr().err


def test_results_of_the_chosen_volume_alone_are_read(stub: Path, table: Path) -> None:
    """The warped labels of a batch have one volume, those of another program may have all."""
    assert batch(table, "--label-channel", 1) == 0
    assert evaluate(table, "--label-channel", 1) == 0
    assert told(table, "eval/summary.json")["metrics"]["dice"]["after"]["mean"] == 1
    every = boxes(table.parent / "all.nii.gz", AFFINE)
    assert evaluate(table, "--label-channel", 1, "--warped-labels", str(every).replace("all", "{id}ll")) == 0
    assert told(table, "eval/summary.json")["metrics"]["dice"]["after"]["mean"] == 1
    boxes(table.parent / "ml.nii.gz", AFFINE, volumes=1)
    assert evaluate(table, "--label-channel", 1) == 4
    assert "has no label channel 1" in told(table, "eval/summary.json")["failed"][0]["error"]


def test_the_page_reads_as_the_figures_were_read(stub: Path, tmp_path: Path) -> None:
    """Volume, voxel spacing and space of landmarks are those that evaluate was given."""
    grid = np.eye(4)
    for name in ("f", "m"):
        data = np.stack([np.zeros(SHAPE), np.random.default_rng(0).random(SHAPE)], axis=-1)
        nib.save(nib.Nifti1Image(data.astype(np.float32), grid), tmp_path / f"{name}.nii.gz")
        boxes(tmp_path / f"{name}l.nii.gz", grid)
        (tmp_path / f"{name}p.csv").write_text("x,y,z\n1,2,3\n4,4,4\n")
    table = tmp_path / "pairs.csv"
    table.write_text(
        "id,fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points\n"
        "a,f.nii.gz,m.nii.gz,fl.nii.gz,ml.nii.gz,fp.csv,mp.csv\n"
    )
    how = ["--channel", 1, "--label-channel", 1, "--spacing", "2,3,4", "--points-space", "VOXEL"]
    assert run("batch", table, "-o", tmp_path / "run", "-j", 1, "-q", *how) == 0
    assert evaluate(table, *how) == 0
    reading = {"channel": 1, "label_channel": 1, "spacing": [2.0, 3.0, 4.0], "points_space": "voxel"}
    assert told(table, "eval/cases.json")[0]["reading"] == reading
    case = read_evaluation(tmp_path / "eval").cases[0]
    assert case.reading == Reading(1, 1, (2.0, 3.0, 4.0), "voxel")
    scene = read_scene(case)
    assert isinstance(scene, Scene) and scene.notes == []
    assert scene.view.space.spacing.tolist() == [2, 3, 4] and scene.images["fixed"][0].std() > 0.1
    assert scene.points is not None and scene.points[0].tolist() == [[2, 6, 12], [8, 12, 16]]
    assert {name: float(image.data.sum()) for name, image in scene.labels.items()} == {
        "fixed": 64, "before": 64, "after": 64,
    }  # fmt: skip
    assert set(scene.images) == {"fixed", "before", "after"}


@pytest.mark.parametrize("text", ["-1", "first", "1.0"])
def test_odd_cells_are_refused(table: Path, text: str) -> None:
    lines = table.read_text().splitlines()
    table.write_text(f"{lines[0]},label_channel\n{lines[1]},{text}\n")
    with pytest.raises(InputError, match=f"line 2: label_channel is '{text}', a whole number"):
        read_pairs(table)
    table.write_text(table.read_text().replace("label_channel", "label_chanel"))
    with pytest.raises(InputError, match="did you mean label_channel"):
        read_pairs(table)


def test_a_choice_survives_writing_and_is_part_of_the_record(table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text(f"{lines[0]},label_channel\n{lines[1]},0\n")
    (row,) = read_pairs(table)
    write_pairs(tmp_path / "copy.csv", [row])
    assert read_pairs(tmp_path / "copy.csv") == [row] and row.label_channel == 0
    assert "label_channel" not in row.files()
    record = Record("a", Status.DONE, 1.0, "", Settings(), described(row, {}))
    assert record.outdated(row, Settings()) is None
    table.write_text("\n".join(lines) + "\n")
    assert record.outdated(read_pairs(table)[0], Settings()) == "label_channel was 0, is not given"


@pytest.mark.parametrize("entry", [None, 3, {"channel": "1", "spacing": ["2"], "points_space": 4}])
def test_odd_entries_of_cases_are_left_out(entry: Any) -> None:
    assert Reading.of(entry) == Reading()


@pytest.mark.real
def test_prostates_have_their_gland_first(shared_data: Path) -> None:
    """Of eight real pairs some have label files of several volumes, others of one; --label-channel 0 reads them all."""
    for number in range(8):
        maps = [shared_data / "prostate" / kind / f"case00000{number}.nii.gz" for kind in ("mr_labels", "us_labels")]
        found = [label_map(path, 0, None).image for path in maps]
        assert all(1_000 < int(image.data.sum()) < 60_000 and image.ndim == 3 for image in found)
        volumes = len(nib.load(maps[0]).shape) > 3
        if volumes:
            with pytest.raises(InputError, match=r"volumes, a label map is one; choose with --label-channel 0 \.\.\. "):
                label_map(maps[0], None, None)
