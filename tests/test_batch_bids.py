"""Names of BIDS for the results of a batch."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from registration.batch.bids import DATASET, dataset_names, names, write_dataset
from registration.batch.folders import RunFolder
from registration.batch.record import Record, Settings, Status
from registration.batch.table import PairRow
from registration.errors import InputError

RAW = Path("/data/raw")


@pytest.mark.parametrize(
    ("fixed", "moving", "warped", "transform"),
    [
        (  # one person, two contrasts
            "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
            "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-1_bold.nii.gz",
            "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-1_space-T1w_desc-warped_boldref.nii.gz",
            "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-1_from-bold_to-T1w_mode-image_xfm.h5",
        ),
        (  # one person, two visits
            "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
            "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
            "sub-01/ses-b/anat/sub-01_ses-b_space-sesaT1w_desc-warped_T1w.nii.gz",
            "sub-01/ses-b/anat/sub-01_ses-b_from-sesbT1w_to-sesaT1w_mode-image_xfm.h5",
        ),
        (  # two people
            "sub-02/anat/sub-02_T1w.nii.gz",
            "sub-01/anat/sub-01_space-orig_desc-preproc_T1w.nii.gz",
            "sub-01/anat/sub-01_space-sub02T1w_desc-warped_T1w.nii.gz",
            "sub-01/anat/sub-01_from-sub01T1w_to-sub02T1w_mode-image_xfm.h5",
        ),
        (  # onto a template
            "tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_res-01_T1w.nii.gz",
            "sub-01/anat/sub-01_T1w.nii.gz",
            "sub-01/anat/sub-01_space-MNI152NLin6Asym_desc-warped_T1w.nii.gz",
            "sub-01/anat/sub-01_from-sub01T1w_to-MNI152NLin6Asym_mode-image_xfm.h5",
        ),
        (  # onto an image that is in a template's space itself
            "fmriprep/sub-02/anat/sub-02_space-MNI152NLin6Asym_desc-preproc_T1w.nii.gz",
            "sub-01/anat/sub-01_T1w.nii.gz",
            "sub-01/anat/sub-01_space-MNI152NLin6Asym_desc-warped_T1w.nii.gz",
            "sub-01/anat/sub-01_from-sub01T1w_to-MNI152NLin6Asym_mode-image_xfm.h5",
        ),
        (  # two runs of one visit
            "sub-01/anat/sub-01_run-1_T1w.nii.gz",
            "sub-01/anat/sub-01_run-2_T1w.nii.gz",
            "sub-01/anat/sub-01_run-2_space-sub01run1T1w_desc-warped_T1w.nii.gz",
            "sub-01/anat/sub-01_run-2_from-sub01run2T1w_to-sub01run1T1w_mode-image_xfm.h5",
        ),
        (  # names of no standard
            "before/patient_7.mha",
            "after/patient_7.mha",
            "sub-pair1/anat/sub-pair1_space-subpatient7image_desc-warped_image.nii.gz",
            "sub-pair1/anat/sub-pair1_from-subpair1image_to-subpatient7image_mode-image_xfm.h5",
        ),
    ],
)
def test_names(fixed: str, moving: str, warped: str, transform: str) -> None:
    found = names(PairRow("pair-1", RAW / fixed, RAW / moving))
    assert found["warped.nii.gz"] == warped and found["transform.h5"] == transform
    assert found["warped_labels.nii.gz"] == warped.rpartition("_")[0] + "_dseg.nii.gz"


def test_names_are_those_of_the_schema(tmp_path: Path) -> None:
    """Every file stands in BIDS's own rules for derivatives, or in ``.bidsignore``."""
    rules, schema = pytest.importorskip("bidsschematools.rules"), pytest.importorskip("bidsschematools.schema")
    known = schema.load_schema()
    found = [
        re.compile(rule["regex"])
        for group in (known.rules.files.deriv, known.rules.files.common)
        for rule in rules.regexify_filename_rules(group, known, level=2)
    ]
    pairs = [
        ("sub-9_T1w.nii.gz", "sub-01/ses-a/anat/sub-01_ses-a_acq-mp_run-1_T1w.nii.gz"),
        ("tpl-MNI152NLin6Asym_res-01_T1w.nii.gz", "sub-02/anat/sub-02_desc-brain_T2w.nii.gz"),
        ("sub-9_T1w.nii.gz", "sub-03/func/sub-03_task-rest_bold.nii.gz"),
        ("fixed.nii.gz", "moving.mha"),
    ]
    rows = [PairRow(f"pair{n}", RAW / fixed, tmp_path / moving) for n, (fixed, moving) in enumerate(pairs)]
    side = tmp_path / "sub-01/ses-a/anat"
    side.mkdir(parents=True)
    (side / "sub-01_ses-a_acq-mp_run-1_T1w.json").write_text('{"SkullStripped": false}')
    folder, records = RunFolder(tmp_path / "run"), {}
    with folder.opened():
        for row in rows:
            folder.pair(row.id).mkdir()
            for name in names(row):
                (folder.pair(row.id) / name).write_bytes(b"x")
            records[row.id] = Record(row.id, Status.DONE, 1.0, "", Settings())
        root = write_dataset(folder, rows, records)
    paths = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {".bidsignore"}
    ignored = (root / ".bidsignore").read_text().split()
    odd = {path for path in paths if not any(rule.fullmatch(path) for rule in found)}
    assert len(paths) == 4 * 8 + 2 and odd == {p for p in odd if any(fnmatch(Path(p).name, i) for i in ignored)}
    assert {Path(path).name.rpartition("_")[2].partition(".")[0] for path in odd} == {"xfm", "boldref", "image"}
    assert "sub-03/func/sub-03_task-rest_space-sub9T1w_desc-warped_boldref.nii.gz" in paths
    stripped = [
        json.loads(file.read_text()).get("SkullStripped") for file in sorted(root.rglob("*_desc-warped_T?w.json"))
    ]
    assert stripped == [False, True]


def test_names_that_coincide_are_refused() -> None:
    row = PairRow("a", RAW / "sub-01_T1w.nii.gz", RAW / "sub-01_T2w.nii.gz")
    other = PairRow("b", RAW / "x" / "sub-01_T1w.nii.gz", RAW / "sub-01_T2w.nii.gz")
    with pytest.raises(InputError, match="the pairs a and b would both write sub-01/anat/"):
        dataset_names([row, other])


def test_the_dataset(tmp_path: Path) -> None:
    rows = [PairRow(name, RAW / "sub-9_T1w.nii.gz", RAW / f"sub-{name}_T1w.nii.gz") for name in ("a", "b")]
    folder = RunFolder(tmp_path / "run")
    records = {
        "a": Record("a", Status.DONE, 1.0, "", Settings()), "b": Record("b", Status.FAILED, 1.0, "no", Settings())
    }  # fmt: skip
    with folder.opened():
        for name in ("a", "b"):
            folder.pair(name).mkdir()
        (folder.pair("a") / "warped.nii.gz").write_bytes(b"warped")
        (folder.pair("a") / "transform.h5").write_bytes(b"transform")
        for _ in range(2):  # an earlier one is replaced
            root = write_dataset(folder, rows, records)
    assert root == tmp_path / "run" / DATASET
    anat = root / "sub-a" / "anat"
    assert sorted(entry.name for entry in anat.iterdir()) == [
        "sub-a_from-subaT1w_to-sub9T1w_mode-image_xfm.h5",
        "sub-a_from-subaT1w_to-sub9T1w_mode-image_xfm.json",
        "sub-a_space-sub9T1w_desc-warped_T1w.json",
        "sub-a_space-sub9T1w_desc-warped_T1w.nii.gz",
    ]
    told = json.loads((anat / "sub-a_space-sub9T1w_desc-warped_T1w.json").read_text())
    assert told["SpatialReference"] == str(RAW / "sub-9_T1w.nii.gz")
    assert json.loads((root / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert not (root / "sub-b").exists() and not folder.unfinished.exists()
