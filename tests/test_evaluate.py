"""evaluate: results of any program judged, and what is missing or wrong said rather than counted."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cli_files import AFFINE, volume

from registration.batch import processes
from registration.batch.record import Record, Settings, Status
from registration.batch.table import PairRow
from registration.batch.workers import Workers
from registration.cli import main as command
from registration.cli.figure_tables import number, span
from registration.cli.judge_pair import JudgePair
from registration.cli.judge_pairs import default_jobs, judge_pairs
from registration.cli.pair_work import HowToRead
from registration.evaluation.cohort import Judged
from registration.evaluation.report.folder import read_evaluation
from registration.evaluation.report.scene import Scene, read_scene
from registration.evaluation.results import ResultFiles
from registration.evaluation.statistics import holm, interval, paired_test, summarise
from registration.io.exports import write_ants_warp
from registration.io.flirt import flirt_matrix
from registration.io.transforms import write_transform
from registration.space import Space
from registration.transforms.linear import Linear

GRID = Space((12, 10, 8), torch.from_numpy(AFFINE))
# The moving image lies 4 mm to the right by its header: two fixed voxels.
SHIFT = Linear.translation(torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64))


def labels(path: Path, affine: np.ndarray = AFFINE, names: tuple[int, ...] = (1, 5)) -> Path:
    data = np.zeros((12, 10, 8), dtype=np.uint8)
    for n, name in enumerate(names):
        data[3:8, 2 + 3 * n : 5 + 3 * n, 2:6] = name
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def points(path: Path, shift: float, rows: int = 4) -> Path:
    table = [f"{3.0 + n + shift},{4.0 + 2 * n},{5.0 + n}" for n in range(rows)]
    path.write_text("# space: RAS\nx,y,z\n" + "\n".join(table) + "\n")
    return path


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Three pairs ``a, b, c`` of the same files, and a run with their right transform."""
    moved = AFFINE.copy()
    moved[0, 3] += 4
    volume(tmp_path / "f.nii.gz")
    volume(tmp_path / "m.nii.gz", affine=moved)
    labels(tmp_path / "fl.nii.gz")
    labels(tmp_path / "ml.nii.gz", moved)
    points(tmp_path / "fp.csv", 0)
    points(tmp_path / "mp.csv", 4)
    columns = "id,fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points"
    rows = [f"{name},f.nii.gz,m.nii.gz,fl.nii.gz,ml.nii.gz,fp.csv,mp.csv" for name in "abc"]
    (tmp_path / "pairs.csv").write_text("\n".join([columns, *rows]) + "\n")
    for name in "abc":
        (tmp_path / "RUN" / name).mkdir(parents=True)
        write_transform(tmp_path / "RUN" / name / "transform.h5", SHIFT, GRID, GRID)
    return tmp_path


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


def evaluate(folder: Path, *words: object, results: bool = True) -> int:
    where = ["--results", folder / "RUN"] if results else []
    return run("evaluate", folder / "pairs.csv", *where, "-o", folder / "EVAL", "--no-report", "-j", 1, *words)


def figures(folder: Path) -> dict[tuple[str, str, str, str], float | None]:
    with (folder / "EVAL" / "metrics.csv").open() as stream:
        return {
            (row["id"], row["metric"], row["label"], row["when"]): float(row["value"]) if row["value"] else None
            for row in csv.DictReader(stream)
        }


def told(folder: Path, name: str) -> Any:
    return json.loads((folder / "EVAL" / name).read_text())


def test_the_right_transform_is_found_right(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "RUN" / "batch.csv").write_text("id,status,seconds,error\na,done,2.5,\nb,kept-initial,3.5,\nc,done,1,\n")
    assert evaluate(folder) == 0
    found = figures(folder)
    for label in ("", "1", "5"):
        assert found["a", "dice", label, "after"] == found["a", "jaccard", label, "after"] == 1
        assert found["a", "dice", label, "before"] == pytest.approx(3 / 5)
        assert found["a", "assd", label, "after"] == found["a", "hd95", label, "after"] == 0
        assert found["a", "hd95", label, "before"] == 4
    assert found["a", "tre", "", "before"] == found["a", "tre_max", "", "before"] == 4
    assert found["a", "tre", "", "after"] == pytest.approx(0, abs=1e-6)
    assert found["a", "ncc", "", "after"] == pytest.approx(1, abs=1e-5)
    assert found["a", "mse", "", "after"] == pytest.approx(0, abs=1e-6)
    assert found["a", "folding", "", "after"] == found["a", "folding_simplex", "", "after"] == 0
    assert (found["a", "seconds", "", "after"], found["b", "seconds", "", "after"]) == (2.5, 3.5)
    assert found["a", "l2r_dice", "", "after"] == 1 and found["a", "l2r_tre", "", "before"] == 4
    summary, cases = told(folder, "summary.json"), told(folder, "cases.json")
    assert summary["counts"] == {"pairs": 3, "judged": 3, "done": 2, "kept-initial": 1}
    assert summary["metrics"]["seconds"]["after"]["mean"] == pytest.approx(7 / 3)
    assert summary["per_label"]["dice"]["5"]["after"] == {
        "mean": 1, "median": 1, "std": 0, "min": 1, "max": 1, "n": 3, "low": 1, "high": 1, "confidence": 0.95,
    }  # fmt: skip
    assert set(summary["definitions"]) == {key[1] for key in found}
    assert [case["status"] for case in cases] == ["done", "kept-initial", "done"]
    for role in ("fixed", "moving", "transform", "fixed_labels", "moving_points"):
        assert not os.path.isabs(cases[0][role]) and (folder / "EVAL" / cases[0][role]).is_file()
    assert told(folder, "provenance.json")["inputs"]["a"]["fixed"]["sha256"]
    shown = capsys.readouterr().out
    assert "3 of 3 pairs" in shown and "0.600" in shown and "1.000 to 1.000" in shown


def test_the_page_is_made(folder: Path) -> None:
    words = ("evaluate", folder / "pairs.csv", "-r", folder / "RUN", "-o", folder / "EVAL", "-q", "-j", 1)
    assert run(*words) == 0
    assert "<html" in (folder / "EVAL" / "report.html").read_text()
    assert run(*words) == 2 and run(*words, "--overwrite", "--no-report") == 0


def test_a_pair_without_result_does_not_stop_the_rest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "RUN" / "a" / "transform.h5").unlink()
    (folder / "RUN" / "b" / "transform.h5").write_text("x")
    assert evaluate(folder) == 4
    failed = {pair["id"]: pair["error"] for pair in told(folder, "summary.json")["failed"]}
    assert "holds neither transform.h5" in failed["a"] and "cannot be read as a transform" in failed["b"]
    assert {key[0] for key in figures(folder)} == {"c"}
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "2 of 3 pairs" in error
    assert [case["status"] for case in told(folder, "cases.json")] == ["failed", "failed", "done"]


def test_errors_of_the_batch_are_passed_on(folder: Path) -> None:
    (folder / "RUN" / "batch.csv").write_text("id,status,seconds,error\na,failed,1,no contrast\nb,done,1,\nc,done,1,\n")
    assert evaluate(folder) == 4
    assert told(folder, "summary.json")["failed"] == [{"id": "a", "error": "the registration failed: no contrast"}]


def test_points_of_unequal_number(folder: Path) -> None:
    points(folder / "mp.csv", 4, rows=3)
    assert evaluate(folder) == 4
    errors = [pair["error"] for pair in told(folder, "summary.json")["failed"]]
    assert len(errors) == 3 and "has 3 points" in errors[0] and "\n" not in errors[0]


def test_labels_on_another_grid(folder: Path) -> None:
    shifted = AFFINE.copy()
    shifted[1, 3] = 3
    labels(folder / "fl.nii.gz", shifted)
    assert evaluate(folder) == 4
    error = told(folder, "summary.json")["failed"][0]["error"]
    assert "is on another grid" in error and error.count("12 x 10 x 8 voxels of 2 x 3 x 4 mm, centre") == 2
    assert "--resample-labels" in error
    assert evaluate(folder, "--resample-labels", "--overwrite") == 0
    assert figures(folder)["a", "dice", "1", "after"] == pytest.approx(2 / 3)
    assert any("nearest voxel" in text for text in told(folder, "cases.json")[0]["notices"])


def test_labels_of_several_volumes(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8, 2), dtype=np.uint8), AFFINE), folder / "fl.nii.gz")
    assert evaluate(folder) == 4
    error = told(folder, "summary.json")["failed"][0]["error"]
    assert "holds 2 volumes, a label map is one; choose with --label-channel 0 ... 1" in error


def test_a_label_of_one_image_is_missing_not_zero(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels(folder / "fl.nii.gz", names=(1, 7))
    assert evaluate(folder) == 0
    found = figures(folder)
    for metric in ("dice", "jaccard", "hd95", "assd"):
        for when in ("before", "after"):
            assert found["a", metric, "5", when] is None and found["a", metric, "7", when] is None
    assert found["a", "dice", "", "after"] == 1
    missing = told(folder, "summary.json")["missing"]
    assert [m for m in missing if m["id"] == "a"] == [
        {"id": "a", "label": 5, "in": "fixed"},
        {"id": "a", "label": 7, "in": "moving"},
    ]
    assert "labels in one of two images only: 5 of a, 7 of a" in capsys.readouterr().out


def test_a_label_lost_by_warping_counts(folder: Path) -> None:
    far = Linear.translation(torch.tensor([500.0, 0.0, 0.0], dtype=torch.float64))
    write_transform(folder / "RUN" / "a" / "transform.h5", far, GRID, GRID)
    assert evaluate(folder) == 0
    found = figures(folder)
    assert found["a", "dice", "1", "after"] == 0 and found["a", "hd95", "1", "after"] is None
    assert found["a", "ncc", "", "after"] is None and found["a", "l2r_dice", "", "after"] == 0
    assert told(folder, "summary.json")["lost"] == [{"id": "a", "label": 1}, {"id": "a", "label": 5}]


def test_results_of_other_programs(folder: Path) -> None:
    """A field, warped files and a matrix: by columns of the table and by templates."""
    vectors = np.zeros((8, 10, 12, 3))
    vectors[..., 0] = -4
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.SetSpacing((2.0, 3.0, 4.0))
    field.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(field, str(folder / "field.mha"))
    labels(folder / "wl_b.nii.gz")
    volume(folder / "w_b.nii.gz")
    np.savetxt(folder / "c.txt", SHIFT.matrix.numpy())
    lines = (folder / "pairs.csv").read_text().split()
    extra = (
        "field,warped,warped_labels,transform,seconds",
        "field.mha,,,,7",
        ",w_b.nii.gz,wl_b.nii.gz,,",
        ",,,c.txt,nan",
    )
    (folder / "pairs.csv").write_text("\n".join(f"{line},{more}" for line, more in zip(lines, extra, strict=True)))
    assert evaluate(folder, results=False) == 0
    found = figures(folder)
    assert all(found[name, "dice", "", "after"] == 1 for name in "abc")
    assert found["a", "tre", "", "after"] == pytest.approx(0, abs=1e-5) and ("b", "tre", "", "after") not in found
    assert found["b", "ncc", "", "after"] == pytest.approx(1) and found["b", "l2r_dice", "", "after"] == 1
    assert ("b", "folding", "", "after") not in found and found["a", "seconds", "", "after"] == 7
    assert ("c", "seconds", "", "after") not in found
    template = folder / "wl_{id}.nii.gz"
    assert evaluate(folder, "--warped-labels", template, "--overwrite", results=False) == 4
    errors = {pair["id"]: pair["error"] for pair in told(folder, "summary.json")["failed"]}
    assert set(errors) == {"a", "c"} and "wl_a.nii.gz: there is no such file" in errors["a"]


def test_another_transform_takes_nothing_else_from_the_run(folder: Path) -> None:
    labels(folder / "RUN" / "a" / "warped_labels.nii.gz", names=(7, 8))
    (folder / "RUN" / "batch.csv").write_text("id,status,seconds,error\na,kept-initial,2.5,\nb,done,1,\nc,done,1,\n")
    for name in "abc":
        write_transform(folder / f"{name}.h5", SHIFT, GRID, GRID)
    assert evaluate(folder, "--transform", folder / "{id}.h5") == 0
    found = figures(folder)
    assert found["a", "dice", "", "after"] == 1 and ("a", "seconds", "", "after") not in found
    assert told(folder, "summary.json")["counts"]["done"] == 3


def test_programs_that_leave_two_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warp and an affine map, the second the other way round, by templates and by columns; the page reads them so."""
    write_ants_warp(folder / "a_1Warp.nii.gz", Linear.translation(torch.tensor([5.0, 0, 0]).double()), GRID)
    np.savetxt(folder / "a_0.txt", Linear.translation(torch.tensor([1.0, 0, 0]).double()).matrix)
    lines = (folder / "pairs.csv").read_text().split()
    (folder / "pairs.csv").write_text("\n".join(lines[:2]))
    names = ["--transform", folder / "{id}_1Warp.nii.gz", "--transform", f"[{folder}/{{id}}_0.txt,1]"]
    assert evaluate(folder, *names, "--inverse", folder / "{id}_0.txt", "--inverse", folder / "{id}_0.txt") == 0
    found, case = figures(folder), told(folder, "cases.json")[0]
    assert found["a", "tre", "", "after"] == pytest.approx(0, abs=1e-5) and found["a", "dice", "", "after"] == 1
    assert found["a", "inverse_consistency", "", "after"] == pytest.approx(6)
    assert [Path(case[role]).name for role in ("transform", "transform_2", "inverse", "inverse_2")] == [
        "a_1Warp.nii.gz", "a_0.txt", "a_0.txt", "a_0.txt",
    ]  # fmt: skip
    assert case["reading"] == {"inverted": ["transform_2"]}
    scene = read_scene(read_evaluation(folder / "EVAL").cases[0])
    assert isinstance(scene, Scene) and scene.transform is not None
    assert scene.transform(torch.zeros(1, 3)).tolist() == [[pytest.approx(4), 0, 0]]
    columns = [f"{lines[0]},field,transform_2", f'{lines[1]},a_1Warp.nii.gz,"[a_0.txt,1]"']
    (folder / "pairs.csv").write_text("\n".join(columns))
    assert evaluate(folder, "--overwrite", results=False) == 0
    assert figures(folder)["a", "tre", "", "after"] == pytest.approx(0, abs=1e-5)
    # One that is named for all pairs replaces the whole row of a pair.
    assert evaluate(folder, "--overwrite", "--transform", folder / "RUN" / "{id}" / "transform.h5", results=False) == 0
    assert "transform_2" not in told(folder, "cases.json")[0]
    (folder / "pairs.csv").write_text("\n".join([f"{lines[0]},transform_3", f"{lines[1]},a_0.txt"]))
    capsys.readouterr()
    assert evaluate(folder, "--overwrite") == 2
    assert "transform_3 is named without those before it" in capsys.readouterr().err


def test_matrices_of_fsl(folder: Path) -> None:
    """They count in the voxels of the pair, which the page knows as well."""
    moving = Space(GRID.shape, SHIFT.matrix @ GRID.affine)
    np.savetxt(folder / "a.mat", flirt_matrix(SHIFT, GRID, moving))
    (folder / "pairs.csv").write_text("\n".join((folder / "pairs.csv").read_text().split()[:2]))
    link = f"[{folder}/{{id}}.mat,fsl]"
    assert evaluate(folder, "--transform", link, "--inverse", link.replace("]", ",1]"), results=False) == 0
    found, case = figures(folder), told(folder, "cases.json")[0]
    assert found["a", "tre", "", "after"] == pytest.approx(0, abs=1e-5)
    assert found["a", "inverse_consistency", "", "after"] == pytest.approx(0, abs=1e-5)
    assert case["reading"] == {"inverted": ["inverse"], "fsl": ["transform", "inverse"]}
    scene = read_scene(read_evaluation(folder / "EVAL").cases[0])
    assert isinstance(scene, Scene) and scene.transform is not None
    there = scene.transform(torch.zeros(1, 3).double())
    torch.testing.assert_close(there, SHIFT(torch.zeros(1, 3).double()), atol=1e-5, rtol=0)
    assert evaluate(folder, "--transform", link, "--overwrite", "--spacing", "2", results=False) == 4


def test_the_record_of_a_pair_outlives_its_row(folder: Path) -> None:
    """batch.csv is that of a later and shorter table."""
    (folder / "RUN" / "batch.csv").write_text("id,status,seconds,error\na,done,2.5,\n")
    Record("b", Status.KEPT_INITIAL, 4.0, "", Settings()).write(folder / "RUN" / "b")
    Record("c", Status.FAILED, 1.0, "no luck", Settings()).write(folder / "RUN" / "c")
    assert evaluate(folder) == 4
    assert figures(folder)["b", "seconds", "", "after"] == 4
    summary = told(folder, "summary.json")
    assert summary["counts"]["kept-initial"] == 1 and "no luck" in summary["failed"][0]["error"]


def test_the_way_back_is_measured(folder: Path) -> None:
    back = Linear.translation(torch.tensor([-4.0, 0.5, 0.0], dtype=torch.float64))
    write_transform(folder / "RUN" / "a" / "transform_inverse.h5", back, GRID, GRID)
    assert evaluate(folder) == 0
    found = figures(folder)
    assert found["a", "inverse_consistency", "", "after"] == pytest.approx(0.5, abs=1e-6)
    assert found["a", "inverse_consistency_p95", "", "after"] == pytest.approx(0.5, abs=1e-6)
    assert ("b", "inverse_consistency", "", "after") not in found


@pytest.mark.parametrize(("words", "says"), [
    ([], "nothing says where the results are"),
    (["--results", "nowhere"], "there is no such folder"),
    (["--transform", "t.h5"], "has no {id}"),
    (["--results", ".", "--points-space", "mars"], "--points-space mars"),
])  # fmt: skip
def test_bad_options(folder: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder, *words, results=False) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (folder / "EVAL").exists()


@pytest.mark.parametrize(("lines", "says"), [
    ("a,done,1,\na,failed,1,no luck\n", "the pair a stands there twice"),
    (",done,1,\n", "has a line without id"),
    ("a,done,soon,\n", "seconds of a are no number"),
])  # fmt: skip
def test_a_damaged_table_of_the_run(folder: Path, lines: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "RUN" / "batch.csv").write_text(f"id,status,seconds,error\n{lines}")
    assert evaluate(folder) == 2
    error = capsys.readouterr().err
    assert says in error and "batch.csv" in error and error.count("\n") == 1


def test_a_mask_restricts_similarity(folder: Path) -> None:
    mask = np.zeros((12, 10, 8), dtype=np.uint8)
    mask[:, :, 4:] = 1
    nib.save(nib.Nifti1Image(mask, AFFINE), folder / "mask.nii.gz")
    assert evaluate(folder) == 0
    free = figures(folder)
    text = (folder / "pairs.csv").read_text().split()
    masked = [f"{line},{'mask.nii.gz' if n else 'fixed_mask'}" for n, line in enumerate(text)]
    (folder / "pairs.csv").write_text("\n".join(masked))
    assert evaluate(folder, "--overwrite") == 0
    assert figures(folder)["a", "ncc", "", "before"] != free["a", "ncc", "", "before"]
    assert figures(folder)["a", "dice", "", "before"] == free["a", "dice", "", "before"]


# --- processes ---


class Fatal(JudgePair):
    """Dies on pair b."""

    def __call__(self, row: Any, result: ResultFiles) -> Judged:
        if row.id == "b":
            os._exit(3)
        return Judged(row.id, "done")


def test_a_dying_process_takes_only_its_pair() -> None:
    tasks = [(PairRow(name, Path("f"), Path("m")), ResultFiles()) for name in "abc"]
    with Workers(2) as workers:
        found = {judged.id: judged for judged in judge_pairs(Fatal(HowToRead()), tasks, workers)}
    assert {name: judged.status for name, judged in found.items()} == {"a": "done", "b": "failed", "c": "done"}
    assert "died" in found["b"].error


def process_of(item: int) -> tuple[int, int]:
    """The item and the process it came to; the earlier ones take longer, -1 ends its process."""
    if item < 0:
        os._exit(3)
    time.sleep(0.05 * (3 - item % 4))
    return item, os.getpid()


def test_workers_stay_for_further_work_and_answer_in_order() -> None:
    with Workers(2) as workers:
        first = [found for found in workers.in_order(process_of, range(8)) if found]
        second = [found for found in workers.in_order(process_of, range(8)) if found]
        lost = list(workers.in_order(process_of, [0, -1, 2]))
        third = [found for found in workers.in_order(process_of, range(4)) if found]
    assert [item for item, _ in first] == [item for item, _ in second] == list(range(8))
    assert {pid for _, pid in first} == {pid for _, pid in second} and os.getpid() not in {pid for _, pid in first}
    assert lost[1] is None and [found and found[0] for found in lost] == [0, None, 2]
    assert [item for item, _ in third] == list(range(4))


def test_the_page_of_several_processes_is_that_of_one(folder: Path) -> None:
    pages = []
    for jobs in (1, 2):
        words = ("-r", folder / "RUN", "-o", folder / str(jobs) / "EVAL", "-q", "-j", jobs)
        assert run("evaluate", folder / "pairs.csv", *words) == 0
        text = (folder / str(jobs) / "EVAL" / "report.html").read_text(encoding="utf-8")
        pages.append(re.findall(r'id="(pair-\d)">(.*?)</script>', text, re.S))
    assert pages[0] == pages[1] and [name for name, _ in pages[0]] == ["pair-0", "pair-1", "pair-2"]
    assert '"jacobian"' in pages[0][2][1] and '"images"' in pages[0][2][1]


def test_a_worker_does_not_outlive_its_parent() -> None:
    script = (
        "import os, time\n"
        "from registration.batch.processes import Worker\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker(1)\n"
        "    print(worker.submit(os.getpid).result(), flush=True)\n"
        "    worker.submit(time.sleep, 100)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError("it lives on")


def _alive(pid: int) -> bool:
    """Whether there is such a process; one that nobody has waited for yet is none."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_interruption_does_not_wait_for_the_pairs_at_work() -> None:
    began = time.perf_counter()
    with Workers(1) as workers:
        found = workers.as_finished(time.sleep, [(0.0,), (60.0,)])
        next(found)
        found.close()
    assert time.perf_counter() - began < 30


def test_memory_of_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/slurm/job\n")
    (tmp_path / "slurm" / "job").mkdir(parents=True)
    (tmp_path / "memory.max").write_text("max\n")
    assert processes.memory_limits(tmp_path, tmp_path / "own") == []
    (tmp_path / "slurm" / "memory.max").write_text("4096\n")
    assert processes.memory_limits(tmp_path, tmp_path / "own") == [4096]
    assert processes.memory_limits(tmp_path, tmp_path / "nothing") == []


def test_few_pairs_need_no_processes() -> None:
    assert default_jobs(3) == 1 and default_jobs(10_000) == processes.default_jobs()


# --- statistics ---


def test_summaries() -> None:
    values = np.random.default_rng(0).normal(3, 2, 200)
    told = summarise(values.tolist())
    assert told["mean"] == pytest.approx(values.mean()) and told["std"] == pytest.approx(values.std(ddof=1))
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert told["low"] == pytest.approx(values.mean() - half, abs=0.06)
    assert told["high"] == pytest.approx(values.mean() + half, abs=0.06)
    assert summarise(values.tolist()) == told
    assert summarise([])["n"] == 0 and summarise([])["mean"] is None
    assert summarise([4.0])["std"] is None and summarise([4.0])["low"] is None
    assert interval(np.array([2.0, 2.0]), np.median) == (2, 2)


def test_paired_tests() -> None:
    differences = np.array([1.0, 2.0, 3.0, 4.0, 5.0, -6.0, 0.0])
    found = paired_test(differences)
    assert found.n == 7 and found.median == 2
    assert found.effect == pytest.approx((15 - 6) / 21)
    assert found.p == pytest.approx(28 / 64)  # of 2^6 signings, those with a rank sum as small as 6 on either side
    few = paired_test(differences[:5])
    assert few.p is None and "too few" in few.note and few.effect == 1
    none = paired_test(np.zeros(8))
    assert none.p is None and none.effect is None and none.note == "no difference"


def test_holm_equals_the_definition() -> None:
    assert holm([0.01, None, 0.04, 0.03, 0.9]) == pytest.approx([0.04, None, 0.09, 0.09, 0.9])
    assert holm([None]) == [None]


@pytest.mark.parametrize(("value", "digits", "text"), [
    (None, 3, "-"), (0.0, 3, "0"),
    (0.12345, 3, "0.123"), (1e-5, 3, "1e-05"), (1234.5, 2, "1,234"), (319.0553, 4, "319.1"), (2e9, 1, "2e+09"),
])  # fmt: skip
def test_numbers_for_people(value: float | None, digits: int, text: str) -> None:
    assert number(value, digits) == text
    assert span(None, 1.0, 2) == "-" and span(1.0, 2.0, 1) == "1.0 to 2.0"
