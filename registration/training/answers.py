"""What the pairwise engine found for pairs: remembered, and kept in files for a training that is resumed."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..io.files import atomic_path
from ..pairwise import Stage

if TYPE_CHECKING:
    from .imitation import Question

_log = logging.getLogger(__name__)


class Answers:
    """Displacements (D, *nodes) in mm, half precision, by the direction of a pair that they belong to.

    Once there is a folder to :meth:`keep` them in, there is a file for each question. It is named by all that the
    answer depends on: the pair with its grids, masks and start, the engine with its settings, the source of this
    package, and torch. So an answer to anything else is never taken, and processes may share a folder.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Tensor] = {}
        self._folder: Path | None = None
        self._engine = b""

    def keep(self, folder: Path, engine: Stage) -> None:
        """Keep what is added from now on in a folder, and look there for what is not known."""
        self._engine = pickle.dumps(engine) + _source()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._folder = folder
        except OSError as error:
            _log.warning("what the engine finds is not kept: %s", error)

    def get(self, question: Question) -> Tensor | None:
        """What was found for a question, if anything."""
        if question.key not in self.known and self._folder is not None:
            # What is missing, or damaged, is asked again.
            with contextlib.suppress(OSError, ValueError), self._file(self._folder, question).open("rb") as stream:
                found = np.lib.format.read_array(stream, allow_pickle=False)
                nodes = question.nodes
                if found.dtype == np.float16 and found.shape[1:] == (nodes.ndim, *nodes.shape):
                    self.known |= dict(zip(question.keys, torch.from_numpy(found), strict=True))
        return self.known.get(question.key)

    def add(self, question: Question, found: dict[bytes, Tensor]) -> None:
        """Remember the answer to a question, by :attr:`Question.keys`."""
        self.known |= found
        if self._folder is None:
            return
        try:
            with atomic_path(self._file(self._folder, question)) as temporary:
                np.save(temporary, np.stack([found[key].numpy() for key in question.keys]))
        except (InputError, OSError) as error:  # such as a full disk, which is no reason to stop
            _log.warning("what the engine finds is not kept any more: %s", error)
            self._folder = None

    def _file(self, folder: Path, question: Question) -> Path:
        digest = hashlib.blake2b(self._engine, digest_size=16)
        digest.update(question.content())
        return folder / f"{digest.hexdigest()}.npy"


@cache
def _source() -> bytes:
    """Changes with this package, of which one version can have many states, and with torch."""
    digest = hashlib.blake2b(torch.__version__.encode())
    for file in sorted(Path(__file__).resolve().parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()
