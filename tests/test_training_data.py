"""Pairs for training: which files are found, what an item holds, what happens to bad files."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from registration.errors import InputError
from registration.image import Image
from registration.io.images import write_image
from registration.preprocessing import CropOrPad, ForegroundMask, Pipeline, Reorient, RobustScale
from registration.space import Space
from registration.training.data import (
    Atlas,
    ByName,
    Cache,
    Chosen,
    Decathlon,
    DiskCache,
    First,
    Folder,
    Fraction,
    Listed,
    MemoryCache,
    NoCache,
    Opposite,
    Ordered,
    PairDataset,
    PairLoader,
    SubjectPairs,
    TablePairs,
    Unordered,
)

PIPELINE = Pipeline([Reorient(), CropOrPad(12), RobustScale()])


def subject(folder: Path, name: str, shape: tuple[int, ...] = (10, 11, 9), labels: bool = True) -> None:
    """An image of its own and a label map in ``images/`` and ``labels/``."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    values = torch.rand(shape, generator=generator)
    space = Space.regular(shape, 2.0)
    write_image(folder / "images" / f"{name}.nii.gz", Image.of(values * 100, space))
    if labels:
        write_image(folder / "labels" / f"{name}.nii.gz", Image.of((values * 3).floor(), space), dtype=np.uint8)


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    for name in "abcde":
        subject(tmp_path / "data", name)
    return tmp_path / "data"


def pairs_of(folder: Path, **settings: Any) -> SubjectPairs:
    defaults: dict[str, Any] = {"files": Folder(folder, labels="labels/*"), "split": First(3, 1), "cache": NoCache()}
    return SubjectPairs(**{**defaults, "validation_pairs": Atlas("a"), **settings})


def train_of(folder: Path, **settings: Any) -> PairDataset:
    train = pairs_of(folder, split=Fraction(0), **settings).datasets(PIPELINE).train
    assert isinstance(train, PairDataset)
    return train


# --- what is found ------------------------------------------------------------------------------------------------


def test_patterns_find_subjects(folder: Path) -> None:
    (folder / "images" / "._a.nii.gz").write_text("what macOS leaves behind")
    (folder / "images" / "README.txt").write_text("about these images")
    subject(folder, "not.an.ending", labels=False)
    found = Folder(folder, labels="labels/*").subjects()
    assert [s.id for s in found] == ["a", "b", "c", "d", "e", "not.an.ending"]
    assert found[1].labels == folder / "labels" / "b.nii.gz" and found[5].labels is None
    nested = folder / "nested"
    for name in ("s1", "s2"):
        (nested / name).mkdir(parents=True)
        shutil.copy(folder / "images" / "a.nii.gz", nested / name / "t1.nii.gz")
        shutil.copy(folder / "labels" / "a.nii.gz", nested / name / "seg.nii.gz")
    found = Folder(nested, "*/t1.nii.gz", "*/seg.nii.gz").subjects()
    assert [(s.id, s.labels and s.labels.name) for s in found] == [("s1", "seg.nii.gz"), ("s2", "seg.nii.gz")]
    listed = Listed([folder / "images" / "b.nii.gz", folder / "images" / "a.nii.gz"]).subjects()
    assert [s.id for s in listed] == ["b", "a"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"root": None}, "data.root: is not given"),
        ({"images": "pictures/*"}, "pictures: there is no such folder for the images; check data.root"),
        ({"labels": "lables/*"}, "lables: there is no such folder for the labels; data.labels=null does without"),
        ({"images": "images/*.mha"}, "no image matches"),
        ({"images": "images"}, "one * was expected"),
        ({"images": 3}, "data.images=3: one * was expected"),
        ({"root": [1]}, "there is no such folder for the images"),
        (
            {"labels": "labels/*_seg.nii.gz"},
            "labels/*_seg.nii.gz: no file matches; the * of data.labels and data.images",
        ),
        ({"images": "images/*.gz"}, "none of 5 files has the name of an image: the first is a, not a.nii"),
        ({"masks": "labels/x*"}, "labels/x*: no file matches"),
        ({"channel": "one"}, "data.channel=one: the number of a volume was expected"),
        ({"label_channel": -1}, "data.label_channel=-1"),
    ],
)
def test_places_that_are_not_there(folder: Path, settings: dict, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Folder(**{"root": folder, "labels": "labels/*", **settings}).subjects()
    assert words in str(caught.value)


def test_patterns_may_lead_out_of_the_root(folder: Path, tmp_path: Path) -> None:
    inside = Folder(folder / "images", "*", "../labels/*").subjects()
    elsewhere = Folder(tmp_path, f"{folder}/images/*", f"{folder}/labels/*").subjects()
    assert [s.id for s in inside] == [s.id for s in elsewhere] == list("abcde")
    assert all(s.labels is not None and s.labels.samefile(folder / "labels" / s.image.name) for s in inside + elsewhere)
    shutil.copytree(folder, tmp_path / "of [2020]")
    assert len(Folder(tmp_path / "of [2020]", labels="labels/*").subjects()) == 5
    for name in "abcde":
        (folder / "images" / f"{name}.nii.gz").rename(folder / "images" / f"{name} [1].nii.gz")
    assert [s.id for s in Folder(folder, "images/* [1].nii.gz", "labels/*").subjects()] == list("abcde")


def test_voxels_beside_a_header_are_no_image_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, compressed in (("a", False), ("b", True)):
        sitk.WriteImage(sitk.Image(8, 9, 10, sitk.sitkFloat32), str(tmp_path / "images" / f"{name}.mhd"), compressed)
    assert len(list((tmp_path / "images").iterdir())) == 4
    assert [s.image.name for s in Folder(tmp_path).subjects()] == ["a.mhd", "b.mhd"]


def test_volumes_are_chosen_by_settings_of_their_own(folder: Path) -> None:
    whole = tmp = folder / "volumes"
    for part, values in (("images", (3.0, 7.0)), ("labels", (1.0, 2.0))):
        (tmp / part).mkdir(parents=True)
        for name in "ab":
            stack = sitk.JoinSeries([sitk.Image(6, 7, 8, sitk.sitkFloat32) + value for value in values])
            sitk.WriteImage(stack, str(tmp / part / f"{name}.nii.gz"))
    files = Folder(whole, labels="labels/*", channel=1, label_channel=0)
    item = SubjectPairs(files, Fraction(0)).datasets(Pipeline()).train[0]
    assert set(item["fixed"].unique().tolist()) == {7.0} and set(item["fixed_labels"].unique().tolist()) == {1}
    for given, words in (
        ({"channel": 0}, r"labels.a\.nii\.gz: holds 2 volumes.*data\.label_channel=0 \.\.\. 1"),
        ({"label_channel": 0}, r"images.a\.nii\.gz: holds 2 volumes.*data\.channel=0 \.\.\. 1 takes one"),
    ):
        with pytest.raises(InputError, match=words):
            SubjectPairs(Folder(whole, labels="labels/*", **given), Fraction(0)).datasets(Pipeline())
    (whole / "pairs.csv").write_text("id,fixed,moving\none,images/a.nii.gz,images/b.nii.gz\n")
    table = TablePairs(whole / "pairs.csv", split=Fraction(0), channel=0).datasets(Pipeline())
    assert set(table.train[0]["moving"].unique().tolist()) == {3.0}


def test_names_that_are_not_unique(folder: Path) -> None:
    shutil.copy(folder / "images" / "a.nii.gz", folder / "images" / "a.nii")
    with pytest.raises(InputError, match="same name without ending"):
        Folder(folder).subjects()
    with pytest.raises(InputError, match="two files that are called a"):
        Listed([folder / "images" / "a.nii.gz", folder / "labels" / "a.nii.gz"]).subjects()
    with pytest.raises(InputError, match="has 1 files, there are 2 images"):
        Listed(["x", "y"], labels=["z"]).subjects()


def test_a_decathlon_task_is_a_folder(folder: Path) -> None:
    task = folder / "Task04_Hippocampus"
    task.mkdir()
    shutil.copytree(folder / "images", task / "imagesTr")
    shutil.copytree(folder / "labels", task / "labelsTr")
    found = Decathlon(folder).subjects()
    assert [s.id for s in found] == list("abcde") and all(s.labels for s in found)
    with pytest.raises(InputError, match=r"data\.download=true"):
        Decathlon(folder, "Task01_BrainTumour").subjects()


# --- pairs and parts ----------------------------------------------------------------------------------------------


def test_pairings() -> None:
    ids = list("abcd")
    ordered = Ordered()(ids)
    assert sorted(ordered) == [(i, j) for i in range(4) for j in range(4) if i != j] and len(ordered) == 12
    assert [ordered[k] for k in range(12)] == list(ordered) and ordered[2:4] == list(ordered)[2:4]
    assert len(Ordered()([str(i) for i in range(100_000)])) == 100_000 * 99_999
    assert len(Unordered()(ids)) == 6
    assert list(Opposite()(ids)) == [(0, 3), (1, 2), (2, 1), (3, 0)] and list(Opposite()("abc")) == [(0, 2), (2, 0)]
    assert list(Atlas("b")(ids)) == [(1, 0), (1, 2), (1, 3)] and Atlas("b", moves=True)(ids)[0] == (0, 1)
    assert list(Chosen([["a", "d"]])(ids)) == [(0, 3)]
    with pytest.raises(InputError, match="two ids per pair were expected"):
        Chosen([1, 2])(ids)  # type: ignore[list-item]
    with pytest.raises(InputError, match="no subject bb; did you mean b"):
        Atlas("bb")(ids)
    for few in ([], ["a"]):
        with pytest.raises(InputError, match="a pair needs two images"):
            Ordered()(few)


def test_splits() -> None:
    ids = [f"s{i:03d}" for i in range(200)]
    train, validation = First(180, 20)(ids)
    assert train == ids[:180] and validation == ids[180:]
    assert First(150, 20)(ids)[1] == ids[180:] and First(150)(ids)[1] == ids[150:]
    train, validation = Fraction(0.1, seed=3)(ids)
    assert len(validation) == 20 and sorted(train + validation) == ids and train == sorted(train)
    assert sorted(Fraction(0.1, seed=3)(ids[::-1])[1]) == validation != Fraction(0.1, seed=4)(ids)[1]
    assert Fraction(0)(ids) == (ids, []) and Fraction(0.01)(["a", "b"])[1] != []
    assert ByName(["s001"])(ids)[1] == ["s001"] and len(ByName(["s001"])(ids)[0]) == 199
    assert ByName(["s001"], ["s002"])(ids) == (["s002"], ["s001"])
    assert ByName([103], [101, 102])(["101", "102", "103"]) == (["101", "102"], ["103"])  # type: ignore[list-item]
    # As many as a pair needs, where there are enough for training as well.
    assert [len(Fraction(0.1)(ids[:n])[1]) for n in (1, 2, 3, 4, 6, 14, 20, 30)] == [0, 1, 1, 2, 2, 2, 2, 3]
    for split, words in (
        (First(190, 20), "wants 190 \\+ 20 subjects, there are 200"),
        (ByName(["x"]), "no subject x"),
        (ByName(["s001"], ["s001"]), "for training and for validation"),
        (Fraction(1.0), "below 1"),
        (Fraction("all"), "below 1 was expected, got all"),  # type: ignore[arg-type]
        (Fraction(0.1, seed=None), "data.split.seed: a whole number was expected, got None"),  # type: ignore[arg-type]
        (First(1.5), "data.split.train: a whole number was expected, got 1.5"),  # type: ignore[arg-type]
        (ByName("s001"), "data.split.validation: a list of names was expected, got s001"),
    ):
        with pytest.raises(InputError, match=words):
            split(ids)


# --- items --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [NoCache(), MemoryCache(), "disk"], ids=["none", "memory", "disk"])
def test_an_item_holds_what_the_contract_says(folder: Path, tmp_path: Path, cache: Cache | str) -> None:
    cache = DiskCache(tmp_path / "cache") if isinstance(cache, str) else cache
    parts = pairs_of(folder, cache=cache).datasets(PIPELINE)
    assert len(parts.train) == 12 and parts.left_out == ()  # type: ignore[arg-type]
    for _ in range(2):  # from the files, then from the cache
        item = parts.train[0]
        assert item["id"] == "b-to-a"
        assert item["fixed"].shape == (1, 12, 12, 12) and item["fixed"].dtype == torch.float32
        assert item["moving_affine"].shape == (4, 4) and item["moving_affine"].dtype == torch.float64
        assert item["fixed_labels"].shape == (1, 12, 12, 12) and item["fixed_labels"].dtype == torch.int16
        assert set(item["fixed_labels"].unique().tolist()) == {0, 1, 2} and "fixed_mask" not in item
        at = torch.linalg.solve(item["fixed_affine"], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64))
        assert float((at[:3] - 5.5).abs().max()) <= 0.5  # the world's origin was the middle of the file


def test_the_atlas_is_in_both_parts(folder: Path) -> None:
    parts = pairs_of(folder, train_pairs=Atlas("a"), split=First(3, 1)).datasets(PIPELINE)
    assert isinstance(parts.train, PairDataset) and isinstance(parts.validation, PairDataset)
    assert [parts.train.name(i) for i in range(3)] == ["b-to-a", "c-to-a", "d-to-a"]
    assert parts.validation.name(0) == "e-to-a" and len(parts.validation) == 1
    with pytest.raises(InputError, match=r"data\.split: leaves no subject for training"):
        SubjectPairs(Listed([folder / "images" / "a.nii.gz"]), train_pairs=Atlas("a")).datasets(PIPELINE)


def test_masks_and_points_come_along(folder: Path) -> None:
    (folder / "masks").mkdir()
    (folder / "points").mkdir()
    for name in "abcde":
        shutil.copy(folder / "labels" / f"{name}.nii.gz", folder / "masks")
        rows = "".join(f"{k},{k},{k + ord(name)}\n" for k in range(4))
        (folder / "points" / f"{name}.csv").write_text(f"# space: RAS\nx,y,z\n{rows}")
    files = Folder(folder, masks="masks/*", points="points/*")
    item = pairs_of(folder, files=files, split=Fraction(0)).datasets(PIPELINE).train[0]
    assert item["fixed_mask"].dtype == torch.bool and 0.2 < float(item["fixed_mask"].float().mean()) < 0.9
    assert not bool(item["fixed_mask"][:, 0].any())  # the padding
    assert item["moving_points"].tolist() == [[k, k, k + ord("b")] for k in range(4)]
    made = pairs_of(folder).datasets(Pipeline([CropOrPad(12), ForegroundMask()])).train[0]
    assert made["moving_mask"].any() and "moving_labels" in made
    (folder / "points" / "b.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match=r"points.b\.csv: does not say whether"):  # before the first step
        pairs_of(folder, files=files, cache=MemoryCache()).datasets(PIPELINE)
    (folder / "points" / "c.csv").unlink()
    with pytest.raises(InputError, match=r"c.nii.gz: has no points, 4 other images have; data.points=null"):
        pairs_of(folder, files=files).datasets(PIPELINE)


def test_pairs_of_a_table(folder: Path) -> None:
    (folder / "pairs.csv").write_text(
        "id,fixed,moving,fixed_labels,moving_labels\n"
        "one,images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,labels/b.nii.gz\n"
        "two,images/c.nii.gz,images/a.nii.gz,,\n"
        "odd,images/c.nii.gz,images/d.nii.gz,labels/c.nii.gz,\n"
    )
    with pytest.raises(InputError, match="pair odd: only one of its images has labels"):
        TablePairs(folder / "pairs.csv", split=Fraction(0)).datasets(PIPELINE)
    parts = TablePairs(folder / "pairs.csv", split=Fraction(0), on_error="skip").datasets(PIPELINE)
    assert parts.train[0]["id"] == "one" and "fixed_labels" in parts.train[0] and parts.validation is None
    assert len(parts.train) == 1 and parts.left_out == (  # type: ignore[arg-type]
        "pair odd: only one of its images has labels",
        "pair two: its images have no labels, those of 1 other pairs have",
    )
    named = TablePairs(folder / "pairs.csv", split=ByName(["two"]), on_error="skip").datasets(PIPELINE)
    assert named.validation is not None and named.validation[0]["id"] == "two"


@pytest.mark.parametrize("what", ["labels", "points"])
def test_all_rows_of_a_table_have_the_same_beside_them(folder: Path, what: str) -> None:
    ending = "nii.gz" if what == "labels" else "csv"
    (folder / "points").mkdir()
    for name in "abcd":
        (folder / "points" / f"{name}.csv").write_text("# space: RAS\nx,y,z\n1,2,3\n")
    row = "{0}{1},images/{0}.nii.gz,images/{1}.nii.gz,{2},{3}\n"
    full = [row.format(*names, *(f"{what}/{name}.{ending}" for name in names)) for names in ("ab", "cd")]
    bare = [row.format(*names, "", "") for names in ("ac", "bd")]
    head = f"id,fixed,moving,fixed_{what},moving_{what}\n"
    (folder / "mixed.csv").write_text(head + full[0] + bare[0] + full[1] + bare[1])
    (folder / "bare.csv").write_text(head + "".join(bare))
    with pytest.raises(InputError, match=rf"pair ac: its images have no {what}, those of 2 other.*bd.*fill the cell"):
        TablePairs(folder / "mixed.csv", split=Fraction(0)).datasets(PIPELINE)
    parts = TablePairs(folder / "mixed.csv", split=Fraction(0), on_error="skip").datasets(PIPELINE)
    assert [item["id"] for item in parts.train] == ["ab", "cd"] and len(parts.left_out) == 2  # type: ignore[attr-defined]
    apart = TablePairs(folder / "bare.csv", split=Fraction(0)).datasets(PIPELINE)
    assert len(apart.train) == 2 and f"fixed_{what}" not in apart.train[0]  # type: ignore[arg-type]
    both = TablePairs(folder / "mixed.csv", split=ByName(["ab", "cd"])).datasets(PIPELINE)
    assert f"fixed_{what}" in both.validation[0] and f"fixed_{what}" not in both.train[0]  # type: ignore[index]


def test_a_table_may_be_json(folder: Path) -> None:
    file = folder / "pairs.json"
    one = {"id": 1, "fixed": "images/a.nii.gz", "moving": "images/b.nii.gz", "fixed_mask": None}
    file.write_text(json.dumps([one, {**one, "id": "x, y", "fixed_mask": "labels/a.nii.gz"}]))
    train = TablePairs(file, split=Fraction(0)).datasets(PIPELINE).train
    assert [train[0]["id"], train[1]["id"]] == ["1", "x, y"] and "moving_mask" in train[0]
    for text, words in (
        ("[{", "is no JSON"),
        ('{"id": 1}', "a list of pairs was expected"),
        ("[]", "the table is empty"),
        ('[{"id": 1, "fixed": ["a"]}]', "pair 1 has no word for fixed"),
        ('[{"id": 1, "fixed": "a.nii"}]', "columns moving are missing"),
        (json.dumps([{**one, "moving": "images/z.nii.gz"}]), "z.nii.gz"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=rf"pairs\.json: .*{re.escape(words)}"):
            TablePairs(file).datasets(PIPELINE)


def test_only_subjects_of_the_parts_are_read(folder: Path) -> None:
    (folder / "images" / "d.nii.gz").write_bytes(b"")
    parts = pairs_of(folder, split=First(2, 1), cache=MemoryCache()).datasets(PIPELINE)  # the atlas, two, and the last
    assert [item["id"] for item in parts.train][:2] == ["b-to-a", "c-to-a"]  # type: ignore[attr-defined]


# --- bad files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [NoCache(), MemoryCache()], ids=["none", "memory"])
def test_a_damaged_file_is_named_or_skipped_and_counted(
    folder: Path, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    bad = folder / "images" / "c.nii.gz"
    bad.write_bytes(bad.read_bytes()[:400])
    with pytest.raises(InputError, match=r"c\.nii\.gz") as caught:
        list(train_of(folder, cache=cache))
    assert "\n" not in str(caught.value)
    train = train_of(folder, cache=cache, on_error="skip")
    names = [item["id"] for item in train]
    assert names and not any("c" in name.split("-to-") for name in names)
    if isinstance(cache, NoCache):
        assert len(names) == 20 and names[0] == "b-to-a" and train.skipped["c"] >= 1
        assert names == [item["id"] for item in train]  # the same pairs in the place of bad ones
    else:
        parts = pairs_of(folder, cache=cache, on_error="skip").datasets(PIPELINE)
        assert len(names) == 12 and len(parts.left_out) == 1 and "c.nii.gz" in parts.left_out[0]
        assert not caplog.records  # whoever asked for the datasets tells what was left out, once


def test_a_file_damaged_in_the_middle_of_an_epoch(folder: Path) -> None:
    train = train_of(folder)
    loader = PairLoader(train, num_workers=1, batch_size=None, sampler=range(20))
    seen = 0
    with pytest.raises(InputError) as caught:
        for item in loader:
            seen += 1
            if seen == 1:
                bad = folder / "images" / "e.nii.gz"
                bad.write_bytes(b"")
            assert item["fixed"].shape == (1, 12, 12, 12)
    assert seen >= 1 and str(caught.value).startswith(str(bad)) and "Traceback" not in str(caught.value)


def test_workers_count_what_they_skip(folder: Path) -> None:
    train = train_of(folder, on_error="skip")
    (folder / "images" / "b.nii.gz").write_bytes(b"")
    loader = PairLoader(train, num_workers=1, batch_size=None, sampler=range(8))
    assert len(list(loader)) == 8 and set(train.skipped) == {"b"}


def test_when_nothing_is_left(folder: Path) -> None:
    for name in "abcde":
        (folder / "images" / f"{name}.nii.gz").write_bytes(b"nothing")
    train = train_of(folder, on_error="skip")
    with pytest.raises(InputError, match=r"hardly a pair that can be used; the first error: .*a.nii.gz"):
        train[0]
    with pytest.raises(InputError, match="a pair needs two images"):
        train_of(folder, cache=MemoryCache(), on_error="skip")
    with pytest.raises(InputError, match="no image matches"):
        (folder / "empty" / "images").mkdir(parents=True)
        train_of(folder, files=Folder(folder / "empty"))


def test_images_of_another_dimension_or_shape(folder: Path) -> None:
    subject(folder, "flat", (10, 11))
    for cache in (NoCache(), MemoryCache()):
        with pytest.raises(InputError, match=r"flat\.nii\.gz.* has 2 axes \(12, 12\)"):
            list(train_of(folder, cache=cache))
    whole = SubjectPairs(Folder(folder), Fraction(0), cache=NoCache(), on_error="skip")
    assert all("flat" not in item["id"] for item in whole.datasets(PIPELINE).train)
    (folder / "images" / "flat.nii.gz").unlink()
    (folder / "labels" / "flat.nii.gz").unlink()
    subject(folder, "large", (20, 11, 9))
    with pytest.raises(InputError, match=r"large\.nii\.gz.*is \(20, 11, 9\) after preprocessing.*CropOrPad"):
        SubjectPairs(Folder(folder), Fraction(0)).datasets(Pipeline([Reorient()]))


def test_labels_that_are_not_there_or_too_large(folder: Path) -> None:
    (folder / "labels" / "b.nii.gz").unlink()
    with pytest.raises(InputError, match=r"b\.nii\.gz: has no labels, 4 other images have; data.labels=null"):
        train_of(folder)
    assert len(train_of(folder, on_error="skip")) == 12 and len(train_of(folder, files=Folder(folder))) == 20
    big = Image.of(torch.full((10, 11, 9), 40000.0), Space.regular((10, 11, 9), 2.0))
    write_image(folder / "labels" / "b.nii.gz", big, dtype=np.uint16)
    with pytest.raises(InputError, match=r"labels.b\.nii\.gz: holds the label 40000, beyond 32767"):
        list(train_of(folder))
    with pytest.raises(InputError, match=r"data.on_error=skipp: there is no such choice; stop or skip"):
        train_of(folder, on_error="skipp")


# --- caches -------------------------------------------------------------------------------------------------------


def test_the_folder_of_a_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settings = {"cache": DiskCache(cache)}
    first = train_of(folder, **settings)[0]
    files = sorted(cache.iterdir())
    assert len(files) == 5 and all(file.suffix == ".pt" for file in files)
    stamps = [file.stat().st_mtime_ns for file in files]
    assert torch.equal(train_of(folder, **settings)[0]["fixed"], first["fixed"])
    assert [file.stat().st_mtime_ns for file in files] == stamps
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].write_bytes(b"")
    again = train_of(folder, **settings)
    assert torch.equal(again[0]["fixed"], first["fixed"]) and len(sorted(cache.iterdir())) == 5
    assert min(file.stat().st_size for file in files) > 1000
    time.sleep(0.01)
    write_image(folder / "images" / "a.nii.gz", Image.of(torch.rand(10, 11, 9), Space.regular((10, 11, 9), 2.0)))
    assert not torch.equal(again[0]["fixed"], first["fixed"])  # the content counts, not the name
    other = pairs_of(folder, split=Fraction(0), **settings).datasets(Pipeline([CropOrPad(14)]))
    assert other.train[0]["fixed"].shape == (1, 14, 14, 14)


def test_voxels_beside_their_header_count_for_the_cache(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        values = np.random.default_rng(ord(name)).random((8, 9, 10), dtype=np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "images" / f"{name}.mhd"))
    files = Folder(tmp_path, "images/*.mhd", None)
    settings = {"files": files, "split": Fraction(0), "cache": DiskCache(tmp_path / "cache")}
    first = pairs_of(tmp_path, **settings).datasets(Pipeline()).train[0]["fixed"]
    voxels = tmp_path / "images" / "a.raw"
    time.sleep(0.01)
    voxels.write_bytes(np.frombuffer(voxels.read_bytes(), "<f4")[::-1].tobytes())
    again = pairs_of(tmp_path, **settings).datasets(Pipeline()).train[0]["fixed"]
    assert torch.equal(again, first.flip(1, 2, 3))


def test_a_cache_runs_no_code(folder: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harm",))

    settings = {"cache": DiskCache(tmp_path / "cache")}
    train = train_of(folder, **settings)
    for file in (tmp_path / "cache").iterdir():
        torch.save({"image": Evil(), "affine": 1}, file)
    pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / "harm").exists()  # it would have done harm
    (tmp_path / "harm").unlink()
    assert train[0]["fixed"].shape == (1, 12, 12, 12) and not (tmp_path / "harm").exists()


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cached_item_is_quick(tmp_path: Path, kind: str) -> None:
    for name in "ab":
        subject(tmp_path, name, (64, 64, 64))
    cache = MemoryCache() if kind == "memory" else DiskCache(tmp_path / "cache")
    data = train_of(tmp_path, cache=cache)
    times = []
    for k in range(21):
        start = time.perf_counter()
        data[k % 2]
        times.append(time.perf_counter() - start)
    assert sorted(times)[10] < (0.001 if kind == "memory" else 0.025)  # on a busy machine; the benchmark says more


@pytest.mark.real
def test_hippocampus_split_of_the_protocol(shared_data: Path) -> None:
    files = Folder(shared_data / "hippocampus", labels="labels/*")
    source = SubjectPairs(files, First(180, 20), cache=NoCache())
    parts = source.datasets(Pipeline([Reorient(), CropOrPad(64), RobustScale()]))
    assert isinstance(parts.train, PairDataset) and isinstance(parts.validation, PairDataset)
    assert len(parts.train) == 180 * 179 and len(parts.validation) == 20
    names = [s.id for s in files.subjects()]
    assert parts.validation.name(0) == f"{names[199]}-to-{names[180]}"
    item = parts.validation[0]
    assert item["fixed"].shape == (1, 64, 64, 64) and set(item["moving_labels"].unique().tolist()) == {0, 1, 2}
