"""Workers of a Dask scheduler: processes, machines, or a queueing system through dask-jobqueue."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Generator, Sequence
from typing import Any

from ..errors import InputError
from .attempt import Attempt, Report, failed, one_line
from .table import PairRow


class Cluster:
    """Runs pairs on the workers of a Dask scheduler; a pair whose worker dies is done again by another.

    Workers need this package and the same files under the same paths.

    Parameters
    ----------
    address
        Such as ``tcp://host:8786``, or the path of a scheduler file (``.json``).
    seconds
        How long to wait for the scheduler.
    """

    def __init__(self, address: str, seconds: float = 10.0) -> None:
        self.address, self.seconds = address, seconds

    def __call__(self, task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
        """Every row once with its report, as they finish. Closing the iterator takes back what is not finished.

        Raises
        ------
        InputError
            If Dask is not installed or the scheduler does not answer.
        """
        client = self._connect()
        try:
            from dask.distributed import as_completed

            run = uuid.uuid4().hex[:8]
            futures: dict[Any, PairRow] = {
                client.submit(task, row, key=f"{row.id}-{run}", pure=False): row for row in rows
            }
            for future in as_completed(list(futures), loop=client.loop):
                row = futures.pop(future)
                error = future.exception() if future.status != "finished" else None
                yield row, future.result() if error is None else failed(row, task.work.settings, 0.0, _told(error))
                future.release()
        finally:
            client.close()

    def _connect(self) -> Any:
        try:
            from dask.distributed import Client
        except ImportError:
            raise InputError(
                f"--scheduler {self.address}", "Dask is not installed", "pip install '.[cluster]' in the checkout"
            ) from None
        file = self.address.endswith(".json")
        where = {"scheduler_file": self.address} if file else {"address": self.address}
        quiet = logging.getLogger("distributed")
        level = quiet.level
        quiet.setLevel(logging.CRITICAL)
        try:
            return Client(timeout=self.seconds, set_as_default=False, **where)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f"--scheduler {self.address}", f"does not answer ({one_line(error)})",
                "start one with `dask scheduler` and give the address it prints",
            ) from None  # fmt: skip
        finally:
            quiet.setLevel(level)


def _told(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return "every worker that took it died, most likely because memory ran out"
    return one_line(error)
