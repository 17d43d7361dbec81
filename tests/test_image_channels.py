"""Images of several volumes, of one side alone: options, columns of the table, and runs of earlier versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_files import AFFINE, volume

from registration.batch.record import Record, Settings, Status, described
from registration.batch.table import read_pairs, write_pairs
from registration.cli import main as command
from registration.cli.judge_pair import JudgePair
from registration.cli.pair_work import HowToRead, register_pair
from registration.cli.settings import compose
from registration.errors import InputError
from registration.evaluation.report.folder import Case, Reading
from registration.evaluation.report.scene import Scene, read_scene
from registration.evaluation.results import ResultFiles
from registration.io.files import sha256
from registration.io.links import Link
from registration.preprocessing import Pipeline
from registration.training.data import Fraction, TablePairs

SHAPE = (12, 10, 8)


@pytest.fixture()
def home(tmp_path: Path) -> Path:
    """A T1 image of one volume, a BOLD series of four whose brightest value is its number, and their table."""
    volume(tmp_path / "t1.nii.gz")
    blob = np.asarray(nib.load(tmp_path / "t1.nii.gz").dataobj)
    series = np.stack([blob / blob.max() * (n + 1) for n in range(4)], axis=-1)
    nib.save(nib.Nifti1Image(series.astype(np.float32), AFFINE), tmp_path / "bold.nii.gz")
    (tmp_path / "pairs.csv").write_text(
        "id,fixed,moving,fixed_channel,moving_channel\na,t1.nii.gz,bold.nii.gz,,1\nb,bold.nii.gz,t1.nii.gz,3,\n"
        "c,t1.nii.gz,bold.nii.gz,,\n"
    )
    return tmp_path


def run(*words: object) -> int:
    return command.run([str(word) for word in words])


def brightest(file: Path) -> float:
    return float(np.asarray(nib.load(file).dataobj).max())


@pytest.mark.parametrize(
    ("words", "value"), [(["--moving-channel", 2], 3), (["--channel", 0, "--moving-channel", 1], 2)]
)
def test_a_volume_onto_an_image_of_one(stub: Path, home: Path, words: list[object], value: int) -> None:
    out = home / "out"
    assert run("register", "-f", home / "t1.nii.gz", "-m", home / "bold.nii.gz", "-o", out, "-q", *words) == 0
    assert brightest(out / "warped.nii.gz") == pytest.approx(value)
    config = (out / "config.yaml").read_text()
    assert all(f"{word.removeprefix('--').replace('-', '_')}: " in config for word in map(str, words[::2]))


def test_what_is_not_there_names_the_option_of_its_side(stub: Path, home: Path, refused: Callable[..., str]) -> None:
    words = ["register", "-f", str(home / "t1.nii.gz"), "-m", str(home / "bold.nii.gz"), "-o", str(home / "out")]
    line = refused(*words)
    assert "bold.nii.gz: holds 4 volumes or channels" in line and "choose with --moving-channel 0 ... 3, or" in line
    line = refused(*words, "--channel", "3")
    assert "t1.nii.gz: has no channel 3; it holds one volume; --moving-channel chooses that of the moving" in line
    assert "has no channel 4; it has 0 ... 3; --fixed-channel" in refused(*words, "--moving-channel", "4")
    assert "--moving-channel 0 ... 3" in refused("check", words[2], words[4])
    assert run("check", words[2], words[4], "--moving-channel", 3) == 0


def test_cells_go_before_options_from_the_table_to_the_page(stub: Path, home: Path) -> None:
    rows = read_pairs(home / "pairs.csv")
    reading = HowToRead(channel=0, moving_channel=2)
    work = register_pair(compose("register", []), [], reading, (), [])
    values = {}
    for row in rows:
        (home / row.id).mkdir()
        if row.id == "b":
            with pytest.raises(InputError, match=r"t1\.nii\.gz: has no channel 2; .* --fixed-channel chooses"):
                work(row, home / row.id)
            row = replace(row, moving_channel=0)
        work(row, home / row.id)
        judged = JudgePair(reading)(row, ResultFiles(warped=home / row.id / "warped.nii.gz"))
        files = {role: Path(path) for role, path in judged.files.items()}
        scene = read_scene(Case(judged.id, judged.status, "", files, (), Reading.of(judged.reading)))
        assert judged.error == "" and isinstance(scene, Scene) and set(scene.images) == {"fixed", "before", "after"}
        assert row.id != "b" or 3 < scene.images["fixed"][2] < 4.1  # the page shows that volume as well
        values[row.id] = (brightest(home / row.id / "warped.nii.gz"), judged.reading)
    assert values == {
        "a": (pytest.approx(2), {"channel": 0, "moving_channel": 1}),
        "b": (brightest(home / "t1.nii.gz"), {"channel": 0, "moving_channel": 0, "fixed_channel": 3}),
        "c": (pytest.approx(3), {"channel": 0, "moving_channel": 2}),
    }


def test_a_choice_of_the_table_is_part_of_the_record(home: Path) -> None:
    rows = read_pairs(home / "pairs.csv")
    assert [row.channels() for row in rows] == [{"moving_channel": 1}, {"fixed_channel": 3}, {}]
    write_pairs(home / "copy.csv", rows)
    assert read_pairs(home / "copy.csv") == rows
    record = Record("a", Status.DONE, 1.0, "", Settings(), described(rows[0], {}))
    assert record.outdated(rows[0], Settings()) is None
    assert record.outdated(rows[2], Settings()) == "moving_channel was 1, is not given"
    (home / "pairs.csv").write_text("id,fixed,moving,moving_channel\na,t1.nii.gz,bold.nii.gz,-1\n")
    with pytest.raises(InputError, match="line 2: moving_channel is '-1', a whole number"):
        read_pairs(home / "pairs.csv")


def test_settings_of_earlier_versions_are_the_same(stub: Path, tmp_path: Path) -> None:
    """Runs that began when images had one option for both are taken up, not done again."""
    reading = HowToRead("ras", 1, (2.0, 3.0), None)
    before = "HowToRead(points_space='ras', channel=1, spacing=(2.0, 3.0), label_channel=None)"
    assert reading.settled() == before
    settings = compose("register", [])
    plain = {"seed": 0, "device": "cpu", "start": "mass", "pipeline": settings.pipeline}
    whole = [{**plain, **{k: dict(settings[k]) for k in ("transform", "loss", "initial")}}, before, None, None]
    whole[0]["pipeline"] = dict(settings.pipeline)
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    assert register_pair(settings, [], reading, (), []).settings.digest == digest
    (tmp_path / "start.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")
    start = Link(tmp_path / "start.txt")
    whole[2] = sha256(start.file)
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    assert register_pair(settings, [], reading, (start,), []).settings.digest == digest
    turned = register_pair(settings, [], reading, (start, Link(start.file, True)), []).settings
    assert turned.digest != digest and f"initial_2=[{start.file},1]" in turned.words
    own = HowToRead("ras", 1, (2.0, 3.0), None, moving_channel=0)
    assert register_pair(settings, [], own, (), []).settings.words == (
        "points_space=ras", "channel=1", "spacing=(2.0, 3.0)", "moving_channel=0",
    )  # fmt: skip
    assert own.settled() == before.removesuffix(")") + ", moving_channel=0)"


def test_a_training_takes_the_volumes_of_the_table(home: Path) -> None:
    pairs = TablePairs(home / "pairs.csv", split=Fraction(0), channel=0).datasets(Pipeline()).train
    values = [(float(pairs[k]["fixed"].max()), float(pairs[k]["moving"].max())) for k in range(3)]
    whole = brightest(home / "t1.nii.gz")
    assert values == [pytest.approx(each) for each in [(whole, 2), (4, whole), (whole, 1)]]


def test_odd_channels_of_cases_are_left_out() -> None:
    assert Reading.of({"fixed_channel": "1", "moving_channel": 2}) == Reading(moving_channel=2)
