"""``registration preprocess``: whole files, only what is left to do, bad files by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from registration.cli import main as command
from registration.errors import InputError
from registration.image import Image
from registration.io.images import read_image, read_labels, write_image
from registration.phantom import oblique_space
from registration.preprocessing import CropOrPad, ForegroundMask, Pipeline, Reorient, Resample
from registration.training.data import Folder, Fraction, NoCache, SubjectPairs
from registration.training.data.prepare import Preparation

SHAPE = "preprocessing.shape=[12,12,12]"


@pytest.fixture()
def raw(tmp_path: Path) -> Path:
    """Three labelled subjects on an oblique grid."""
    space = oblique_space((10, 14, 9), (1.0, 0.8, 1.5), 20, flips=(0,))
    for part in ("images", "labels"):
        (tmp_path / "raw" / part).mkdir(parents=True)
    for seed, name in enumerate("abc"):
        values = torch.rand(space.shape, generator=torch.Generator().manual_seed(seed))
        write_image(tmp_path / "raw" / "images" / f"{name}.nii.gz", Image.of(values, space))
        write_image(
            tmp_path / "raw" / "labels" / f"{name}.nii.gz", Image.of((values * 3).floor(), space), dtype="uint8"
        )
    return tmp_path / "raw"


def run(raw: Path, *words: str) -> int:
    return command.run(["preprocess", str(raw), "-o", str(raw.parent / "out"), "--jobs", "1", SHAPE, *words])


def test_what_the_verb_writes(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raw) == 0
    out = raw.parent / "out"
    assert capsys.readouterr().out.startswith("3 images: 3 preprocessed\nresults in")
    assert sorted(p.name for p in out.iterdir()) == ["images", "labels", "preprocessing.json"]
    image, labels = read_image(out / "images" / "b.nii.gz"), read_labels(out / "labels" / "b.nii.gz")
    assert image.space.shape == (12, 12, 12) and image.space.same_as(labels.space)
    steps = json.loads((out / "preprocessing.json").read_text())["steps"]
    again = Pipeline.from_config(steps)(read_image(raw / "images" / "b.nii.gz"))
    assert float((again.data - image.data).abs().max()) < 1e-6 and again.space.same_as(image.space)
    assert set(labels.data.unique().tolist()) == {0, 1, 2}


def test_only_what_is_missing_or_older_is_done(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raw) == 0
    files = {name: raw.parent / "out" / "images" / f"{name}.nii.gz" for name in "abc"}
    first = {name: file.stat().st_mtime_ns for name, file in files.items()}
    files["b"].unlink()
    later = files["c"].stat().st_mtime + 10
    os.utime(raw / "labels" / "c.nii.gz", (later, later))
    capsys.readouterr()
    assert run(raw) == 0
    assert "3 images: 2 preprocessed, 1 were done already" in capsys.readouterr().out
    assert files["a"].stat().st_mtime_ns == first["a"] and files["b"].exists()
    assert files["c"].stat().st_mtime_ns > first["c"]


def test_a_file_that_can_no_longer_be_used_keeps_no_older_result(raw: Path) -> None:
    work = Preparation(Pipeline([CropOrPad(12)]), raw.parent / "out")
    subjects = Folder(raw, labels="labels/*").subjects()
    assert [work(subject) for subject in work.begin(subjects)] == [None, None, None]
    (raw / "images" / "b.nii.gz").write_bytes(b"")
    later = (raw.parent / "out" / "images" / "b.nii.gz").stat().st_mtime + 10
    os.utime(raw / "images" / "b.nii.gz", (later, later))
    left = work.begin(subjects)
    assert [subject.id for subject in left] == ["b"] and "b.nii.gz" in str(work(left[0]))
    assert not list((raw.parent / "out").glob("*/b.nii.gz")) and len(list((raw.parent / "out").glob("*/*.nii.gz"))) == 4


def test_results_of_another_folder_are_made_again(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raw) == 0
    other = raw.parent / "other"
    (other / "images").mkdir(parents=True)
    shape = (10, 14, 9)
    write_image(other / "images" / "a.nii.gz", Image.of(torch.full(shape, 3.0).index_fill(0, torch.tensor([2]), 5.0)))
    for file in other.rglob("*.nii.gz"):
        os.utime(file, (1, 1))  # older than the results
    capsys.readouterr()
    words = ["preprocess", str(other), "-o", str(raw.parent / "out"), "--jobs", "1", SHAPE]
    assert command.run(words) == 0
    assert "1 images: 1 preprocessed" in capsys.readouterr().out
    out = raw.parent / "out"
    assert not (out / "labels" / "a.nii.gz").exists() and (out / "labels" / "b.nii.gz").exists()
    assert command.run(words) == 0 and "1 were done already" in capsys.readouterr().out


def test_links_to_images_are_not_replaced(raw: Path, refused: Callable[..., str]) -> None:
    away = raw.parent / "away"
    away.mkdir()
    for file in (raw / "images").iterdir():
        file.rename(away / file.name)
        file.symlink_to(away / file.name)
    before = (raw / "labels" / "a.nii.gz").read_bytes()
    words = ("preprocess", str(raw), "-o", str(raw), "--overwrite", "--jobs", "1", SHAPE)
    assert "holds the images themselves" in refused(*words)
    assert (raw / "labels" / "a.nii.gz").read_bytes() == before


def test_other_settings_are_refused_or_replace(raw: Path, refused: Callable[..., str]) -> None:
    assert run(raw, "-q") == 0
    words = ["preprocess", str(raw), "-o", str(raw.parent / "out"), "--jobs", "1", "-q", "preprocessing.shape=[8,8,8]"]
    assert "preprocessing.json: was written with other settings" in refused(*words)
    assert command.run([*words, "--overwrite"]) == 0
    assert read_image(raw.parent / "out" / "images" / "a.nii.gz").space.shape == (8, 8, 8)
    assert "holds the images themselves" in refused("preprocess", str(raw), "-o", str(raw))
    (raw.parent / "mine").mkdir()
    (raw.parent / "mine" / "thesis.tex").write_text("years of work")
    assert "mine: is not empty" in refused("preprocess", str(raw), "-o", str(raw.parent / "mine"))
    assert "there is no such folder" in refused("preprocess", str(raw / "imgs"), "-o", str(raw.parent / "x"))
    assert "did you mean brain" in refused("preprocess", str(raw), "-o", str(raw.parent / "x"), "preprocessing=brian")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_bad_files_are_named_and_the_rest_is_done(raw: Path, jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = raw / "images" / "b.nii.gz"
    bad.write_bytes(bad.read_bytes()[:300])
    (raw / "labels" / "c.nii.gz").write_bytes(b"")
    out = raw.parent / "out"
    assert command.run(["preprocess", str(raw), "-o", str(out), "--jobs", jobs, SHAPE]) == 4
    seen = capsys.readouterr()
    lines = seen.err.strip().splitlines()
    assert len(lines) == 2 and str(bad) in lines[0] and str(raw / "labels" / "c.nii.gz") in lines[1]
    assert "3 images: 1 preprocessed, 2 left out" in seen.out
    assert [file.name for file in (out / "images").iterdir()] == ["a.nii.gz"]


def test_nothing_half_written_is_taken_for_done(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline([Reorient(), Resample(1.0), CropOrPad(12)])
    work = Preparation(pipeline, raw.parent / "out")
    subjects = Folder(raw, labels="labels/*").subjects()
    work.begin(subjects)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("registration.io.images.write_nifti", dies)
    with pytest.raises(KeyboardInterrupt):
        work(subjects[0])
    monkeypatch.undo()
    assert not any((raw.parent / "out" / "images").iterdir()) and len(work.begin(subjects)) == 3


def test_flat_folders_and_masks(raw: Path) -> None:
    out = raw.parent / "out"
    pipeline = Pipeline([ForegroundMask(), CropOrPad(16)])
    flat = Folder(raw / "images", "*")
    work = Preparation(pipeline, out)
    assert [work(s) for s in work.begin(flat.subjects())] == [None] * 3
    work.end()
    assert sorted(p.name for p in out.iterdir()) == ["images", "masks", "preprocessing.json"]
    found = Folder(out).subjects()
    assert all(s.mask is not None for s in found)
    direct = SubjectPairs(flat, Fraction(0), cache=NoCache()).datasets(pipeline).train[0]
    prepared = SubjectPairs(Folder(out), Fraction(0), cache=NoCache()).datasets(pipeline).train[0]
    for name, value in direct.items():
        if isinstance(value, torch.Tensor):
            np.testing.assert_allclose(prepared[name].double(), value.double(), atol=1e-5)


def test_a_training_knows_what_was_done(raw: Path) -> None:
    assert run(raw, "-q") == 0
    out = raw.parent / "out"
    same = Pipeline.from_config(json.loads((out / "preprocessing.json").read_text())["steps"])
    files = Folder(out, labels="labels/*")
    item = SubjectPairs(files, Fraction(0), cache=NoCache()).datasets(same).train[0]
    assert torch.equal(item["moving"], read_image(out / "images" / "b.nii.gz").data[0])  # nothing is done twice
    with pytest.raises(InputError, match="preprocessed with other settings"):
        SubjectPairs(files, Fraction(0)).datasets(Pipeline())
    (out / "preprocessing.json").write_text("{")
    with pytest.raises(InputError, match=r"preprocessing\.json: is damaged"):
        SubjectPairs(files, Fraction(0)).datasets(same)
