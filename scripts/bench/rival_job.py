"""What one run of a tool is given, and what it leaves behind."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

Chain = list[str]
"""Names of files in the folder, outermost first; a leading "-" asks for the inverse of what the file holds."""


@dataclass(frozen=True)
class Job:
    """Two images, where the results go, and the threads to use."""

    fixed: Path
    moving: Path
    folder: Path
    threads: int


@dataclass
class Record:
    """What one run left behind: seconds of the registration, of the wall and of the processors, and memory in MB.

    ``started`` (UTC) and ``load``, that of the machine at the start, say how far to trust the seconds.
    """

    seconds: float = float("nan")
    processor_seconds: float = float("nan")
    megabytes: float = float("nan")
    megabytes_before: float = float("nan")
    started: str = ""
    load: float = float("nan")
    forward: Chain = field(default_factory=list)
    backward: Chain = field(default_factory=list)


class Clock:
    """Times the registration, and takes the peak memory at its end, before the results are converted and written."""

    def __init__(self) -> None:
        self.record = Record()

    def __enter__(self) -> Record:
        self.record.megabytes_before = peak_megabytes()
        self.record.started, self.record.load = time.strftime("%Y-%m-%d %H:%M", time.gmtime()), os.getloadavg()[0]
        self._began = time.perf_counter(), time.process_time()
        return self.record

    def __exit__(self, *_: object) -> None:
        self.record.seconds = time.perf_counter() - self._began[0]
        self.record.processor_seconds = time.process_time() - self._began[1]
        self.record.megabytes = peak_megabytes()


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    try:
        # What getrusage says after a fork may be the parent's.
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)
