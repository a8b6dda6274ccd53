"""SLURM's queue, as far as a sweep has to know it."""

import subprocess
import sys
import time
from pathlib import Path

POLL_S = 5.0


def used() -> bool:
    """Whether this process has launched by submitit."""
    return "submitit" in sys.modules


def wait(sweep_dir: Path) -> None:
    """Until no job of a sweep is in the queue or at work.  submitit keeps a folder for each."""
    while queued(sweep_dir):
        time.sleep(POLL_S)


def queued(sweep_dir: Path) -> set[str]:
    """The numbers of a sweep's array jobs that are not over yet; none where there is no SLURM.

    All of them where it does not answer: then it is not known.
    """
    folders = {p.name for p in (sweep_dir / ".submitit").glob("*")}
    try:
        squeue = ["squeue", "--me", "--noheader", "--format=%F"]
        listed = subprocess.run(squeue, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return set()
    except subprocess.CalledProcessError:
        return folders
    return folders & set(listed.split())
