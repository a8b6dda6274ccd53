"""Command lines that make a run again, or for the first time."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from offrl.report.suite import Suite, SuiteCell


def fill_command(cells: Sequence[SuiteCell], suite: Suite) -> str:
    """The shortest command that runs all these cells of a suite, and at most their product.

    A swept key is named where the cells do not have all its values; the suite sweeps the others.
    What is done already is skipped.
    """
    wanted, whole = (_values(c.overrides for c in part) for part in (cells, suite.cells))
    kept = (k for k in whole if len(whole[k]) == 1 or len(wanted[k]) < len(whole[k]))
    words = (f"{k}={','.join(wanted[k])}" for k in kept)
    said = shlex.split(suite.train)
    return f"{suite.train} {shlex.join([w for w in words if w not in said])}"


def swept_seeds(overrides: Iterable[str], configs: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The overrides of one run, with the seeds of several runs that differ by them alone."""
    seeds = (json.dumps(list(c["seeds"]), separators=(",", ":")) for c in configs)
    return (*without("seeds", overrides), f"seeds={','.join(seeds)}")


def without(key: str, overrides: Iterable[str]) -> tuple[str, ...]:
    return tuple(o for o in overrides if not o.startswith(f"{key}="))


def _values(runs: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """key -> its values in several runs' overrides, each once."""
    values: dict[str, dict[str, None]] = {}
    for overrides in runs:
        for key, _, value in (o.partition("=") for o in overrides):
            values.setdefault(key, {})[value] = None
    return {key: list(found) for key, found in values.items()}
