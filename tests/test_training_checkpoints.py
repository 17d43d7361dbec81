"""Checkpoints: what is wrong with a file is said, and only the last are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from registration.errors import InputError
from registration.training.checkpoints import Shelf, read_checkpoint, write_checkpoint


def content(step: int = 3) -> dict[str, Any]:
    return {"config": {}, "plan": {}, "model": {"w": torch.ones(2)}, "metrics": {}, "step": step}


def test_checkpoints_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    good = tmp_path / "a.pt"
    write_checkpoint(good, content())
    assert read_checkpoint(good)["step"] == 3

    class Harm:
        def __reduce__(self) -> Any:
            return print, ("code was run",)

    cases = {
        "missing.pt": (None, "no such file"),
        "empty.pt": (b"", "empty"),
        "text.pt": (b"hello", "no checkpoint"),
        "cut.pt": (good.read_bytes()[:-200], "no checkpoint or damaged"),
        "code.pt": ({"format": 1, "versions": {}, "x": Harm()}, "more than numbers"),
        "other.pt": ({"weights": torch.ones(1)}, "no checkpoint of registration"),
        "old.pt": ({"format": 99, "versions": {"registration": "9.9"}}, "format 99 .registration 9.9"),
        "half.pt": ({"format": 1, "versions": {}}, "incomplete"),
        "odd.pt": ({**content(), "format": 1, "versions": {}, "plan": []}, "damaged checkpoint: plan"),
        "long.pt": (b"root:x:0:0:root:/root:/bin/bash\n" * 20, "no checkpoint"),
        "more.pt": (b"a" * 500, "no checkpoint"),
    }
    for name, (what, words) in cases.items():
        file = tmp_path / name
        if isinstance(what, bytes):
            file.write_bytes(what)
        elif what is not None:
            torch.save(what, file)
        with pytest.raises(InputError, match=words) as caught:
            read_checkpoint(file)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, keep=2)
    for step in (1, 2, 3):
        shelf.put(content(step))
    assert [f.name for f in shelf.all()] == ["step-00000002.pt", "step-00000003.pt"]
    (tmp_path / "checkpoints" / ".partial-x.pt").write_bytes(b"half")
    shelf.clear_partial()
    assert not list((tmp_path / "checkpoints").glob(".partial*"))
