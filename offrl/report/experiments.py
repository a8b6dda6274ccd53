"""Suites from their files: conf/experiment/*.yaml, and those of variants that only tests have."""

import contextlib
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from offrl.cell import Cell
from offrl.errors import UserError
from offrl.plan import plan
from offrl.report.suite import TRAIN, Suite

VARIANTS = "tests/variants/conf"  # of algorithms that exist for an ablation alone


def load_suite(root: Path, name: str) -> Suite:
    """A suite of the project at `root`.  Raises UserError for a name that no experiment has."""
    places = [root / conf / "experiment" for conf in ("conf", VARIANTS)]
    files = {p.stem: p for place in reversed(places) for p in place.glob("*.yaml")}
    if name not in files:
        raise UserError(f"{name}: no such suite; there are {', '.join(sorted(files))}")
    fixed, train = [f"experiment={name}"], TRAIN
    if files[name].parent == places[1]:
        sys.path.append(str(root / "tests"))
        fixed.append(f"hydra.searchpath=[{VARIANTS}]")
        train = f"PYTHONPATH=tests {TRAIN} '{fixed[1]}'"

    @functools.cache
    def cells(*overrides: str) -> Sequence[Cell]:
        with contextlib.chdir(root):  # the search path of a command is relative to it
            return plan([*fixed, *overrides]).cells

    # composed with the experiment, so also those that it inherits from another one
    options = cells()[0].report
    return Suite(name, cells(), options, lambda n: cells(f"n_updates={n}"), train)
