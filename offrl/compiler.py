"""Whether a run's update is compiled."""

import os
import shutil

from offrl.cell import Cell

COMPILE_FROM = 20_000  # updates from which on compiling pays what it costs
HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None


def compiles(cell: Cell) -> bool:
    """Decided once, from the whole length of the run."""
    return wants_compiler(cell) and HAS_COMPILER  # eager is the fallback


def wants_compiler(cell: Cell) -> bool:
    long = cell.settings.n_updates >= COMPILE_FROM
    return cell.runtime.compile == "true" or (cell.runtime.compile == "auto" and long)
