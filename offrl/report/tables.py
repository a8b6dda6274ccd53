"""Runs -> Markdown tables that say how their numbers came about."""

import shlex
from collections.abc import Sequence

from offrl.report.caption import caption
from offrl.report.cells import Cell, summarise
from offrl.report.load import Runs
from offrl.report.published import Published, in_column
from offrl.report.stats import Estimate
from offrl.report.suite import ReportOptions, Suite

NOTHING = "–"


def tables(runs: Runs, suite: Suite | None, regenerate: str, last_k: int = 5) -> str:
    """One table per score reference, each with its caption; Markdown, ends with a newline.

    suite: its cells are the rows, done or not; None: a row for every cell that has runs.
    regenerate: the command that makes this text again.
    last_k: without a suite, the evaluations in the second score column (1: no such column).
    Raises UserError for records that contradict each other.
    """
    options = suite.options if suite else ReportOptions(last_k=last_k)
    cells = summarise(runs, suite, options.last_k)
    if not cells:
        return f"No runs.\n\nRegenerate: `{regenerate}`\n"
    common = _common(cells) if suite else frozenset()
    known = {c.about.source: c.reference for c in cells if c.reference is not None}
    groups: dict[str, list[Cell]] = {}
    for c in cells:
        reference = c.reference or known.get(c.about.source) or ""
        groups.setdefault(reference, []).append(c)
    parts = []
    for reference, group in groups.items():
        sources = options.published if any(_is_d4rl(c) for c in group) else ()
        rows = [_row(c, options.last_k, sources, common) for c in group]
        header = _header(reference, options.last_k, sources)
        parts.append(markdown(header, rows))
        parts.append(caption(group, reference, suite, options, regenerate, sources))
    return "\n".join(parts)


def markdown(header: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table whose columns line up in a terminal too; `header` has (name, is a number).

    The last column is not padded: it may be long.
    """
    texts = [[name for name, _ in header], *([c.replace("|", "\\|") for c in r] for r in rows)]
    widths = [max(3, *(len(t[i]) for t in texts)) for i in range(len(header))]
    widths[-1] = 3
    numeric = [n for _, n in header]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True)
        ]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * (w - 1) + ":" if n else "-" * w for w, n in zip(widths, numeric, strict=True)]
    return "".join(map(line, [texts[0], rule, *texts[1:]]))


def _header(reference: str, k: int, sources: Sequence[str]) -> list[tuple[str, bool]]:
    score = f"score ({reference})" if reference else "score"
    return [
        ("algorithm", False),
        ("dataset", False),
        ("buffer", True),
        ("norm_obs", False),
        (f"{score} ± 95%", True),
        *([(f"mean of last {k}", True)] if k > 1 else []),
        ("data mean", True),
        ("data best", True),
        *((f"published: {s}", True) for s in sources),
        ("seeds", False),
        ("steps", True),
        ("episodes", True),
        ("overrides", False),
    ]


def _row(c: Cell, k: int, sources: Sequence[str], common: frozenset[str]) -> list[str]:
    idle = not c.counted and not ({"diverged", "failed"} & c.missing.keys())
    words = [o for o in c.overrides if o not in common]
    text = c.command if idle and c.command else shlex.join(words)
    return [
        c.about.algo,
        f"{c.about.env}-{c.about.dataset}",
        "all" if c.about.buffer_size is None else f"{c.about.buffer_size:,}",
        str(c.about.norm_obs).lower(),
        "not run" if idle else _estimate(c.last),
        *([_estimate(c.last_k)] if k > 1 else []),
        _number(c.run["data_score_mean"] if c.run else None),
        _number(c.run["data_score_best"] if c.run else None),
        *(_published(c, s) for s in sources),
        c.seeds,
        f"{c.about.n_updates:,}",
        str(c.about.eval_episodes),
        f"`{text}`" if text else NOTHING,
    ]


def _common(cells: Sequence[Cell]) -> frozenset[str]:
    """The overrides that every row shares: the suite's own command implies them."""
    return frozenset.intersection(*(frozenset(c.overrides) for c in cells))


def _is_d4rl(c: Cell) -> bool:
    return (c.about.dataset_id or "").startswith("d4rl/")


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _estimate(e: Estimate | None) -> str:
    if e is None:
        return NOTHING
    return f"{e.mean:.1f} (n=1)" if e.half_width is None else f"{e.mean:.1f} ± {e.half_width:.1f}"


def _published(c: Cell, column: str) -> str:
    """`60.37 (std 3.49, n=4)`: their spread is a deviation of seeds, unlike our interval."""
    texts = dict.fromkeys(_printed(p) for p in in_column(c.about, column))
    return " / ".join(texts) or NOTHING


def _printed(p: Published) -> str:
    std = f"std {p.std}, " if p.std else ""
    return f"{p.mean} ({std}n={p.n_seeds or '?'})"
