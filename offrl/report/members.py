"""Which runs are of a suite."""

from collections.abc import Callable, Mapping
from typing import Any

from offrl.errors import UserError
from offrl.report.about import About, about
from offrl.report.suite import Suite, SuiteCell


def group_of(suite: Suite) -> Callable[[Mapping[str, Any]], str | None]:
    """From a row of Runs.runs to the key of the group that it counts for; None if it is no member.

    A suite with a floor takes for a cell also the run that the cell is at another number of
    gradient steps, from the floor on: what has been trained longer, or on a smaller machine.
    """
    described = [describe(suite, cell) for cell in suite.cells]
    known = {c.run_id: a.group for c, a in zip(suite.cells, described, strict=True)}
    own, composed = {a.n_updates for a in described}, set[int]()
    names = {(a.algo, a.env, a.dataset) for a in described}

    def group(r: Mapping[str, Any]) -> str | None:
        steps = r["n_updates"]
        wanted = suite.options.floor and steps >= suite.options.floor
        if (
            wanted
            and {steps} != own
            and steps not in composed
            and (r["algo"], r["env"], r["dataset"]) in names
        ):
            composed.add(steps)
            try:
                others = suite.at(steps)
            except UserError:  # no cell can have so many steps
                others = ()
            if len(others) == len(described):  # else the suite itself sweeps n_updates
                for c, a in zip(others, described, strict=True):
                    known.setdefault(c.run_id, a.group)
        return known.get(r["run_id"])

    return group


def describe(suite: Suite, cell: SuiteCell) -> About:
    return about(cell.config, f"suite {suite.name}, run {cell.run_id}")
