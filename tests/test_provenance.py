"""What is told about the origin of results, and what is not."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
from pathlib import Path

import torch

from registration import __version__
from registration.io.provenance import commit, now, provenance, write_provenance


def test_what_is_told(tmp_path: Path) -> None:
    told = provenance(["register", "-f", "a.nii"], now(), {"seed": 3, "loss": float("nan")})
    write_provenance(tmp_path / "provenance.json", told)
    read = json.loads((tmp_path / "provenance.json").read_text())
    assert read["arguments"] == ["register", "-f", "a.nii"] and read["seed"] == 3 and read["loss"] is None
    assert read["started"] <= read["ended"] and read["ended"].endswith("+00:00")
    assert read["versions"]["registration"] == __version__ and read["versions"]["torch"] == torch.__version__
    hardware = read["hardware"]
    assert hardware["cores"] >= hardware["cores_usable"] >= 1 and hardware["memory_bytes"] > 1 << 20
    assert hardware["processor"] and (hardware["gpu"] is None) == (not torch.cuda.is_available())


def test_no_names_of_users_and_computers() -> None:
    told = provenance([], now())
    text = json.dumps({key: told[key] for key in ("hardware", "versions")})
    assert platform.node() not in text.split('"') and getpass.getuser() not in text.split('"')


def test_the_commit_is_that_of_the_checkout() -> None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        assert commit() is None
        return
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert len(head.stdout.strip()) == 40
    assert (commit() or "").rstrip("+") in subprocess.run(
        ["git", "-C", str(root), "rev-list", "-20", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.split()
