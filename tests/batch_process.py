"""A batch of tests/batch_work.py as a process of its own, to be killed: TABLE OUTPUT JOBS."""

from __future__ import annotations

import sys
from pathlib import Path

from batch_work import Told

from registration.batch.folders import RunFolder
from registration.batch.run import plan, run_batch
from registration.batch.table import read_pairs
from registration.batch.workers import Processes

if __name__ == "__main__":
    rows, folder, work = read_pairs(sys.argv[1]), RunFolder(Path(sys.argv[2])), Told(pause=0.1)
    folder.check(rows)
    with folder.opened():
        run_batch(folder, rows, plan(folder, rows, work.settings), work, Processes(int(sys.argv[3])))
