"""What a README says of one suite: curves, tables, aggregates; and the files that it shows."""

import os
from pathlib import Path

from offrl.report.comparison import block, comparisons
from offrl.report.figures import curves
from offrl.report.groups import by_reference, summarise
from offrl.report.load import Runs
from offrl.report.look import by_method
from offrl.report.profiles import profiles
from offrl.report.suite import Suite
from offrl.report.tables import long_tables, tables


def section(
    runs: Runs, suite: Suite, folder: Path, readme: Path, regenerate: str
) -> tuple[str, dict[Path, str]]:
    """The Markdown of a suite for `readme`, and the files in `folder` that it links."""
    title = suite.options.title or suite.name
    files: dict[Path, str] = {}
    parts: list[str] = []

    def link(name: str, content: str) -> str:
        files[folder / name] = content
        return Path(os.path.relpath(folder / name, readme.parent)).as_posix()

    figure = curves(runs, suite)
    if figure is not None:
        parts.append(f"![{title}: learning curves]({link('curves.svg', figure)})\n")
    parts.append(tables(runs, suite, regenerate))
    if suite.options.layout in ("grid", "games"):
        page = link("table.md", long_tables(runs, suite, regenerate))
        text = "Every row by itself, with its command and all numbers that others have published"
        parts.append(f"{text}: [{page}]({page})\n")
    groups = summarise(runs, suite, suite.options.last_k)
    for reference, comparison in comparisons(groups).items():
        # tasks of one robot alone are no suite to generalise over
        if len({task.partition("-")[0] for task in comparison.tasks}) > 1 and comparison.scores:
            looks = by_method(by_reference(groups)[reference])
            svg = profiles(comparison, looks, reference)
            name = f"profile-{reference}.svg"
            parts.append(f"![{title}: performance profiles, {reference}]({link(name, svg)})\n")
            parts.append(block(comparison, suite.options.last_k))
    return "\n".join(parts), files
