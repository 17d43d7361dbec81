"""Settings: Hydra configurations from the folder ``configs``, with errors that name the nearest valid word."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import InputError

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def config_dir() -> Path:
    """The folder of configurations: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent / "configs"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "configs"


def quoted(text: object) -> str:
    """A word as the value of a setting, whatever characters it holds."""
    escaped = str(text).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def choices(group: str, folder: Path | None = None) -> list[str]:
    """The options of a group, such as ``transform``: its files."""
    return sorted(file.stem for file in ((folder or config_dir()) / group).glob("*.yaml"))


def nearest(word: str, words: Iterable[str]) -> str:
    """What to do about a wrong word: the nearest right one, or all when they are few."""
    import difflib

    known = sorted(set(words))
    # A key deep in the tree is often given by its last name alone, or with a wrong way to it.
    tails = [key for key in known if "." in key and key.rpartition(".")[2] == word.rpartition(".")[2]]
    close = difflib.get_close_matches(word, tails or known, n=1, cutoff=0.0 if tails else 0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known)}" if len(known) <= 12 else "see config.yaml of an earlier run for all keys"


def choose(option: str, word: str, words: Iterable[str]) -> str:
    """``word`` if it is one of ``words``; ``option`` is what stands before it, such as ``--loss `` or ``loss=``.

    Raises
    ------
    InputError
        With the nearest of them, if it is not.
    """
    words = list(words)
    if word not in words:
        raise InputError(f"{option}{word}", "there is no such choice", nearest(word, words))
    return word


def compose(name: str, overrides: Sequence[str] = (), folder: Path | None = None) -> DictConfig:
    """The configuration ``name`` with Hydra overrides (``key=value``, ``group=option``).

    Raises
    ------
    InputError
        If an override is no ``key=value``, its key or option is unknown, or its value is of another kind than before.
    """
    folder = folder or config_dir()
    if not (folder / f"{name}.yaml").is_file():
        raise InputError(folder / f"{name}.yaml", "the settings are missing", "install the package again")
    parsed = [_parse(text) for text in overrides]
    groups = [o for o in parsed if (folder / o.key_or_group).is_dir()]
    for override in groups:
        word = override.value()
        word = "null" if word is None else str(word)
        choose(f"{override.key_or_group}=", word, choices(override.key_or_group, folder))
    base = _compose(folder, name, [str(o.input_line) for o in groups])
    keys, parts = set(_keys(base)), set(_parts(base))
    for override in parsed:
        if override not in groups and not override.is_add() and override.key_or_group not in keys:
            known = keys | {entry.name for entry in folder.iterdir() if entry.is_dir()}
            raise InputError(override.key_or_group, "there is no such setting", nearest(override.key_or_group, known))
    if len(groups) == len(parsed):
        return base
    settings = _compose(folder, name, list(overrides))
    for override in parsed:
        left_out = override.key_or_group in parts and override.value() is None
        if override not in groups and not left_out:
            _same_kind(override, OmegaConf.select(base, override.key_or_group), settings)
    return settings


def build(settings: DictConfig) -> Any:
    """The object that a configuration with ``_target_`` describes.

    Raises
    ------
    InputError
        If its parts refuse the values: names the innermost setting that was refused.
    """
    given = copy.deepcopy(settings._get_root())  # Hydra puts what references stand for in their place
    try:
        return hydra.utils.instantiate(settings, _convert_="all")
    except (HydraException, OmegaConfBaseException) as error:
        root = _root(error)
        if isinstance(root, InputError):  # it names its setting or file itself
            raise root from error
        raise InputError(_refused(given, error, _line(root)), _line(root)) from error


def _refused(settings: Any, error: Exception, problem: str) -> str:
    """The setting that Hydra was at, by the key it is given with."""
    told = re.search(r"full_key: ([\w.\[\]]+)", str(error))
    if told is None:
        return "settings"
    names = re.sub(r"\[(\d+)\]", r".\1", told[1]).split(".")  # Hydra writes stages.0 as stages[0] or as stages0
    return followed(settings, names, problem)


def followed(settings: Any, names: Sequence[str], problem: str) -> str:
    """The key that a place is given with: ``data.source.split`` refers to ``data.split``.

    Parameters
    ----------
    settings
        Any node of them, with its references.
    names
        The way to the place from the root.
    problem
        What is said of it: "radius is a whole number" is said of the radius there.
    """
    node, key = settings._get_root(), ""
    for name in [*names, *re.findall(r"^(\w+) (?:is|are|takes?) ", problem)]:
        known = not isinstance(node, DictConfig) or name in node
        for part in [name] if known else re.split(r"(?<=\D)(?=\d+$)", name):
            inner = _inner(node, part)
            if inner is None:
                return key
            node, key = inner, f"{key}.{part}".removeprefix(".")
            while node._is_interpolation() and (reference := _REFERENCE.fullmatch(node._value())):
                node, key = node._dereference_node(), reference[1]
    return key


def _inner(node: Any, name: str) -> Any:
    """The node of that name or number inside another; None where there is none."""
    if isinstance(node, ListConfig):
        return node._get_node(int(name)) if name.isdigit() and int(name) < len(node) else None
    return node._get_node(name) if isinstance(node, DictConfig) and name in node else None


def _parse(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        override = None
    if override is None or not override.key_or_group:
        raise InputError(text, "is no setting", "settings are given as key=value after the options")
    return override


def _compose(folder: Path, name: str, overrides: list[str]) -> DictConfig:
    try:
        with hydra.initialize_config_dir(config_dir=str(folder), version_base="1.3"):
            settings = hydra.compose(config_name=name, overrides=overrides)
        OmegaConf.to_container(settings, resolve=True)  # finds references that lead nowhere
        return settings
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError("settings", _line(error)) from None


def _keys(node: Any, prefix: str = "") -> Iterable[str]:
    """All dotted keys, inner nodes too; missing and interpolated values are not resolved."""
    if not isinstance(node, (DictConfig, ListConfig)) or node._is_none() or node._is_missing():
        return
    names: Iterable[Any] = node.keys() if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        yield f"{prefix}{name}"
        inner: Any = node
        yield from _keys(inner._get_node(name), f"{prefix}{name}.")


def _parts(node: Any) -> Iterable[str]:
    """Keys that lists refer to by ``${key}``: such an element may be null, which leaves it out."""
    if not isinstance(node, (DictConfig, ListConfig)) or node._is_none() or node._is_missing():
        return
    names: Iterable[Any] = node.keys() if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        inner: Any = node
        inner = inner._get_node(name)
        if isinstance(node, ListConfig) and inner._is_interpolation():
            yield str(inner._value()).removeprefix("${").removesuffix("}")
        elif not inner._is_interpolation():
            yield from _parts(inner)


def _same_kind(override: Override, default: Any, settings: DictConfig) -> None:
    """Refuse a word where a number stands: no YAML type would notice before the run is under way."""
    if override.is_delete():
        raise InputError(f"~{override.key_or_group}", "a setting can be changed but not taken away")
    if override.is_add():
        return
    key, value = override.key_or_group, OmegaConf.select(settings, override.key_or_group)
    # Inner numbers may be switched off by null, if their object takes that; nothing else may.
    needed = "." not in key or isinstance(default, (bool, DictConfig, ListConfig))
    if default is None or (value is None and not needed) or (isinstance(default, str) and "." in key):
        return
    kinds: tuple[tuple[tuple[type, ...], str], ...] = (
        ((bool,), "true or false"),
        ((int, float), "a number"),
        ((str,), "a word"),
        ((ListConfig,), "a list"),
        ((DictConfig,), "a group of settings"),
    )
    for types, words in kinds:
        if isinstance(default, types):
            fits = isinstance(value, types) and isinstance(value, bool) == isinstance(default, bool)
            if not fits:
                given = "null" if value is None else value
                example = "" if "{" in str(default) else f", such as {default}"
                weighed = value is None and isinstance(default, DictConfig) and "weight" in default
                cure = f"{key}.weight=0 leaves it out" if weighed else ""
                raise InputError(f"{key}={given}", f"{words} was expected{example}", cure)
            return


def _root(error: BaseException) -> BaseException:
    """Where a chain of errors began: Hydra wraps what a constructor says in several layers of its own."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _line(error: BaseException) -> str:
    return " ".join(str(error).replace("set env var HYDRA_FULL_ERROR=1 to see chained exception", "").split())[:400]
