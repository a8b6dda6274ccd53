"""What is printed for a reader that leaves early."""

import os
import subprocess
import sys

import pytest
from harness import ROOT

from offrl.pipe import CLOSED


@pytest.mark.parametrize(
    "command",
    [
        "train.py experiment=demo dry_run=true",
        "train.py experiment=demo status=true",
        "report.py stats demo",
        "report.py tables --runs results/demo",
    ],
)
def test_a_reader_that_has_left_is_no_error(command: str) -> None:
    script, *args = command.split()
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *args],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(write)
    assert done.returncode == CLOSED
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
