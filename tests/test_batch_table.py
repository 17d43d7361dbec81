"""The table of pairs: what it means, and that everything wrong with it is told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registration.batch.table import COLUMNS, PairRow, check_partners, read_columns, read_pairs, write_pairs
from registration.errors import InputError


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a.nii", "b.nii", "c.nii"):
        (tmp_path / "images" / name).write_bytes(b"x")
    return tmp_path


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_paths_are_relative_to_the_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(folder, "moving,id,fixed,age,fixed_labels\nimages/b.nii,one,images/a.nii,71,images/c.nii\n")
    monkeypatch.chdir(folder.parent)
    (row,) = read_pairs(Path(folder.name) / path.name)
    images = folder / "images"
    assert row == PairRow("one", images / "a.nii", images / "b.nii", images / "c.nii")
    assert list(row.files()) == ["fixed", "moving", "fixed_labels"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_tables_of_spreadsheets(folder: Path, separator: str, ending: str) -> None:
    lines = ["ID,fixed,moving,moving_mask", "1, images/a.nii ,images/b.nii,", "", ",,,", "2,images/b.nii,images/c.nii"]
    text = "\ufeff" + ending.join(lines).replace(",", separator) + ending
    rows = read_pairs(table(folder, text))
    assert [(row.id, row.fixed.name, row.moving_mask) for row in rows] == [("1", "a.nii", None), ("2", "b.nii", None)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\n\n", "the table is empty"),
        ("id,fixed,moving\n", "has no pairs"),
        ("name,fixed\n1,images/a.nii\n", "the columns id, moving are missing, it has name, fixed"),
        ("id,fixed,moving,moving\n", "moving stands there twice"),
        ("id,fixed,moving,fixed_label\n1,images/a.nii,images/b.nii,images/c.nii\n", "did you mean fixed_labels?"),
        ("id,fixed,moving\n1,images/a.nii\n", "line 2 has no moving"),
        ("id,fixed,moving\n1,images/a.nii,images/b.nii,extra\n", "line 2 has 4 cells"),
        ("id,fixed,moving\n1,images/a.nii,images/b.nii\n\n1,images/a.nii,images/b.nii\n", "1 stands in lines 2 and 4"),
        ("id,fixed,moving\nA,images/a.nii,images/b.nii\na,images/a.nii,images/b.nii\n", "ids must differ"),
        ('id,fixed,moving\n1,"images/a.nii,images/b.nii\n', "is no CSV"),
        (b"id,fixed,moving\n\xff\xfe\n", "no text file"),
        ("id,fixed,moving\nbatch.csv,images/a.nii,images/b.nii\n", "name of a file of the run"),
        ("id,fixed,moving\nbids-derivatives,images/a.nii,images/b.nii\n", "name of a file of the run"),
    ],
)
def test_what_is_refused(folder: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(InputError) as error:
        read_pairs(table(folder, text))
    assert told in str(error.value) and "pairs.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("column", ["fixed_labels", "moving_points"])
def test_labels_and_landmarks_come_in_pairs(folder: Path, column: str) -> None:
    file = table(folder, f"id,fixed,moving,{column}\n1,images/a.nii,images/b.nii,images/c.nii\n")
    with pytest.raises(InputError, match=f"pair 1 has {column}, but no "):
        check_partners(file, read_pairs(file))
    alone = table(folder, "id,fixed,moving,moving_labels\n1,images/a.nii,images/b.nii,images/c.nii\n")
    check_partners(alone, read_pairs(alone))


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "x.", "a\\b", "c:", "a*", "tab\there", "ä" * 61, "a?"])
def test_ids_are_safe_names_of_folders(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match="no safe name for a folder"):
        read_pairs(table(folder, f"id,fixed,moving\n{name},images/a.nii,images/b.nii\n"))


def test_missing_files_are_told_at_once(folder: Path) -> None:
    (folder / "images" / "empty.nii").touch()
    text = (
        "id,fixed,moving\n1,images/x.nii,images/a.nii\n2,images/x.nii,images/y.nii\n3,images/empty.nii,images/a.nii\n"
    )
    with pytest.raises(InputError) as error:
        read_pairs(table(folder, text))
    told = str(error.value)
    assert "3 files" in told and told.count("x.nii") == 1 and "y.nii (moving of 2)" in told and "empty)" in told


def test_a_series_may_be_a_folder(folder: Path) -> None:
    (row,) = read_pairs(table(folder, "id,fixed,moving\n1,images,images/a.nii\n"))
    assert row.fixed == folder / "images"


@given(
    st.lists(
        st.text("abcXYZ019-_ äß,;'", min_size=1).map(str.strip).filter(bool),
        min_size=1,
        max_size=5,
        unique_by=str.casefold,
    )
)
def test_writing_and_reading_give_the_same(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    image = folder / 'im;age, "1".nii'
    image.write_bytes(b"x")
    rows = [PairRow(name, image, image, moving_points=image if k % 2 else None) for k, name in enumerate(names)]
    write_pairs(folder / "copy.csv", rows)
    assert read_pairs(folder / "copy.csv") == rows
    header = (folder / "copy.csv").read_text().splitlines()[0].split(",")
    assert set(header) <= set(COLUMNS)


def test_further_columns_are_text_by_id(folder: Path) -> None:
    path = table(
        folder, "id,fixed,moving,transform,age\none,images/a.nii,images/b.nii,t.h5,3\ntwo,images/a.nii,images/b.nii"
    )
    assert read_columns(path, ("transform", "inverse")) == {"one": {"transform": "t.h5"}, "two": {}}
    path = table(folder, "id,fixed,moving,field,Field\none,images/a.nii,images/b.nii,t.nii,u.nii\n")
    with pytest.raises(InputError, match="the column field stands there twice"):
        read_columns(path, ("transform", "field"))


def test_a_pair_says_everything_once(folder: Path) -> None:
    pair = '{"id": "one", "fixed": "images/a.nii", "moving": "images/b.nii", "fixed": "images/b.nii"}'
    (folder / "pairs.json").write_text(f"[{pair}]")
    with pytest.raises(InputError, match=r"pairs\.json: pair one gives fixed twice"):
        read_pairs(folder / "pairs.json")


def test_lists_without_end_are_no_table(folder: Path) -> None:
    (folder / "pairs.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="lists in lists"):
        read_pairs(folder / "pairs.json")
