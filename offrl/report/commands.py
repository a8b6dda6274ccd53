"""Command lines that make a run again, or for the first time."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from offrl.report.markdown import NOTHING, code
from offrl.report.suite import Suite, SuiteCell

if TYPE_CHECKING:
    from offrl.report.groups import Group

STOPPED = "stopped by divergence"  # what became of a seed whose run ended because another diverged


def missing(groups: Iterable["Group"], suite: Suite | None) -> str:
    """The commands that give these groups the seeds and the gradient steps that they lack.

    A row goes on at its own length if that is the suite's or longer. A seed that diverged would
    only do so again, and stop the others of its run again.
    """
    if suite is None:
        return NOTHING
    wanted: dict[int | None, list[SuiteCell]] = {}
    for g in groups:
        steps = g.cells[0].config["n_updates"]
        short = bool(g.counted) and g.about.n_updates < steps
        if short or g.missing.keys() - {"diverged", STOPPED}:
            length = g.about.n_updates if g.about.n_updates > steps else None
            wanted.setdefault(length, []).extend(g.cells)
    commands = [code(fill_command(cells, suite, length)) for length, cells in wanted.items()]
    return ", then ".join(commands) or NOTHING


def fill_command(cells: Sequence[SuiteCell], suite: Suite, n_updates: int | None = None) -> str:
    """The shortest command that runs all these cells of a suite, and at most their product.

    A swept key is named where the cells do not have all its values; the suite sweeps the others.
    n_updates: gradient steps, if not the cells' own.
    What is done already is skipped.
    """
    wanted, whole = (_values(c.overrides for c in part) for part in (cells, suite.cells))
    kept = (k for k in whole if len(whole[k]) == 1 or len(wanted[k]) < len(whole[k]))
    words = [f"{k}={','.join(wanted[k])}" for k in kept]
    if n_updates is not None:
        words = [*without("n_updates", words), f"n_updates={n_updates}"]
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
