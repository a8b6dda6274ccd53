"""What stands under a table: protocol, budget, interval, versions and the commands."""

from collections.abc import Iterable, Sequence

from offrl.report.cells import TRAIN, Cell
from offrl.report.published import in_column
from offrl.report.suite import ReportOptions, Suite


def caption(
    cells: Sequence[Cell],
    reference: str,
    suite: Suite | None,
    options: ReportOptions,
    regenerate: str,
    sources: Sequence[str],
) -> str:
    """Markdown, one short paragraph per question a reader may have."""
    parts = [
        f"**{options.caption.rstrip('.')}.**" if options.caption else "",
        _protocol(cells, options),
        _scale(cells, reference),
        *_notes(cells),
        _published(cells, sources) if sources else "",
        _commands(suite, regenerate),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _protocol(cells: Sequence[Cell], options: ReportOptions) -> str:
    k = options.last_k
    counts = [len(c.about.seeds) for c in cells]
    seeds = f"{_range(counts)} seed" + ("s" if max(counts) > 1 else "")
    single = ", (n=1) without one" if any(c.last and c.last.n == 1 for c in cells) else ""
    floor = f" Runs of less than {options.floor:,} steps do not count." if options.floor else ""
    steps = _range(c.about.n_updates for c in cells)
    every = _range(c.about.eval_every for c in cells)
    episodes = _range(c.about.eval_episodes for c in cells)
    also = f"; `mean of last {k}`: each seed's last {k} evaluations averaged first" if k > 1 else ""
    return (
        f"Protocol: score of the last evaluation{also}. Mean over seeds ± half-width of the 95% "
        f"Student-t interval over seeds{single}. Budget: {seeds}, {steps} gradient steps, an "
        f"evaluation every {every} steps on {episodes} episodes.{floor}"
    )


def _scale(cells: Sequence[Cell], reference: str) -> str:
    runs = [c.run for c in cells if c.run is not None]
    if not runs:
        return ""
    envs = dict.fromkeys((r["env_id"], r["ref_min"], r["ref_max"]) for r in runs)
    simulators = " / ".join(sorted({s for c in cells for s in c.simulators}))
    if runs[0]["ref_min"] is None or runs[0]["ref_max"] is None:
        scale = f"Scores and data: undiscounted return on {runs[0]['env_id']}, not normalised"
    else:
        points = "; ".join(f"{env}: {low:.1f} and {high:.1f}" for env, low, high in envs)
        scale = (
            f"Scores and data are normalised by `{reference}`: 0 and 100 are returns of {points}"
        )
    return f"{scale}. Simulator: {simulators}."


def _notes(cells: Sequence[Cell]) -> list[str]:
    notes = [
        f"Note: the seeds of {c.about.algo} on {c.about.env}-{c.about.dataset} were trained on "
        f"{c.digests} different versions of the data."
        for c in cells
        if c.digests > 1
    ]
    if any(c.counted and c.last_k is None for c in cells):
        notes.append("–: fewer evaluations than the column averages.")
    return notes


def _published(cells: Sequence[Cell], sources: Sequence[str]) -> str:
    texts = []
    for column in sources:
        rows = [p for c in cells for p in in_column(c.about, column)]
        where = "; ".join(dict.fromkeys(f"{p.citation}, {p.table}" for p in rows))
        variants = "; ".join(dict.fromkeys(p.variant for p in rows if p.variant))
        detail = f" ({where})" if where else " (nothing for these rows)"
        texts.append(f"`{column}`{detail}" + (f", {variants}" if variants else ""))
    return (
        "Published numbers, for exactly the same version of the data, as printed; std is over "
        f"their seeds and no interval; source/protocol: {'. '.join(texts)}."
    )


def _commands(suite: Suite | None, regenerate: str) -> str:
    if suite is None:
        return f"A row again: `{TRAIN} -m` and its overrides. This text again: `{regenerate}`"
    return (
        f"A row again: `{TRAIN} experiment={suite.name}` and its overrides (all rows: none), "
        f"then `python benchmarks/report.py publish {suite.name} --runs runs`. "
        f"This text again, from the records: `{regenerate}`"
    )


def _range(values: Iterable[int]) -> str:
    low, *rest = sorted(set(values))
    return f"{low:,} to {rest[-1]:,}" if rest else f"{low:,}"
