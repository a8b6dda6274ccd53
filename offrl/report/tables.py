"""Runs -> Markdown tables that say how their numbers came about."""

from dataclasses import replace

from offrl.report import games, grid, pairs, rows
from offrl.report.caption import caption
from offrl.report.groups import Group, by_reference, summarise
from offrl.report.load import Runs
from offrl.report.published import columns_of
from offrl.report.suite import Suite, report_options

LAYOUTS = {"rows": rows.table, "grid": grid.table, "norm_obs": pairs.table, "games": games.table}


def tables(runs: Runs, suite: Suite | None, regenerate: str, last_k: int = 5) -> str:
    """One table per score reference, each with its caption; Markdown, ends with a newline.

    suite: its cells make the rows, done or not; None: a row for every group that has runs.
    regenerate: the command that makes this text again.
    last_k: without a suite, the evaluations in the second score column (1: no such column).
    Raises UserError for records that contradict each other.
    """
    options = suite.options if suite else report_options(last_k=last_k)
    groups = summarise(runs, suite, options.last_k)
    if not groups:
        return f"No runs.\n\nRegenerate: `{regenerate}`\n"
    parts = []
    for reference, group in by_reference(groups).items():
        sources = options.published if any(_is_d4rl(g) for g in group) else ()
        parts.append(LAYOUTS[options.layout](group, reference, suite, options, sources))
        parts.append(caption(group, reference, suite, options, regenerate, sources))
    return "\n".join(parts)


def long_tables(runs: Runs, suite: Suite, regenerate: str) -> str:
    """A Markdown page: per algorithm all rows of a suite, beside all that others have published."""
    options = suite.options
    groups = summarise(runs, suite, options.last_k)
    parts = [f"# {options.title or suite.name}\n"]
    for reference, group in by_reference(groups).items():
        known: list[str] = []
        for algo in dict.fromkeys(g.about.algo for g in group):
            of_algo = [g for g in group if g.about.algo == algo]
            sources = columns_of([g.about for g in of_algo])
            known += [s for s in sources if s not in known]
            parts.append(f"## {algo}\n")
            parts.append(rows.table(of_algo, reference, suite, options, sources))
        as_rows = replace(options, layout="rows")
        parts.append("## How to read it\n")
        parts.append(caption(group, reference, suite, as_rows, regenerate, known))
    return "\n".join(parts)


def _is_d4rl(g: Group) -> bool:
    return (g.about.dataset_id or "").startswith("d4rl/")
