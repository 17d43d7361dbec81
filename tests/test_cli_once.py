"""An option that takes one value is given once; the last of several would stand for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registration.cli import main as command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("register -f a.nii -m b.nii --fixed c.nii -o d", "--fixed was given twice, --moving once; "),
        ("register -f a.nii -m b.nii -o c -o c -o d", "--output was given 3 times; "),
        ("register -f a.nii -m b.nii -t affine --transform tps", "--transform was given twice; "),
        ("apply -t a.h5 -r b.nii -r c.nii -i d.nii -o e.nii", "--reference was given twice; "),
        ("convert -t a.h5 -o b.tfm --output c.txt", "--output was given twice; "),
        ("batch a.csv -o b --seed 1 --seed 2", "--seed was given twice; "),
        ("demo --seed 1 --seed=2", "--seed was given twice; "),
    ],
)
def test_one_value_is_given_once(words: str, told: str, refused: Callable[..., str]) -> None:
    assert told in refused(*words.split())


def test_switches_and_options_of_several_values_are_repeated(refused: Callable[..., str]) -> None:
    words = "-t no.h5 -r b.nii -i c.nii -i d.nii -o e.nii -o f.nii --inverse --inverse -q --quiet"
    assert "no.h5: there is no such file" in refused("apply", *words.split())


def test_help_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["convert", "-o", "a", "-o", "b", "--help"]) == 0
    assert "--output" in capsys.readouterr().out
