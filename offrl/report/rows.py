"""The long table: a row per group, with all that there is to know of it."""

import shlex
from collections.abc import Iterable, Sequence

from offrl.report.commands import fill_command
from offrl.report.groups import Group
from offrl.report.markdown import NOT_RUN, NOTHING, code, interval, markdown, number
from offrl.report.published import Published, in_column
from offrl.report.suite import ReportOptions, Suite


def table(
    groups: Sequence[Group],
    reference: str,
    suite: Suite | None,
    options: ReportOptions,
    sources: Sequence[str],
) -> str:
    k = options.last_k
    score = f"score ({reference})" if reference else "score"
    header = [
        ("algorithm", False),
        ("dataset", False),
        ("buffer", True),
        ("norm_obs", False),
        (f"{score} ± 95%", True),
        *([(f"mean of last {k}", True)] if k > 1 else []),
        *([("best*", True)] if options.best else []),
        ("data mean", True),
        ("data best", True),
        *((f"published: {s}", True) for s in sources),
        ("seeds", False),
        ("steps", True),
        ("episodes", True),
        ("overrides", False),
    ]
    rows = [
        [
            g.about.algo,
            f"{g.about.env}-{g.about.dataset}",
            buffer([g]),
            str(g.about.norm_obs).lower(),
            NOT_RUN if g.idle else interval(g.last),
            *([interval(g.last_k)] if k > 1 else []),
            *([interval(g.best)] if options.best else []),
            number(g.run["data_score_mean"] if g.run else None),
            number(g.run["data_score_best"] if g.run else None),
            *(printed(in_column(g.about, s)) for s in sources),
            g.seeds,
            f"{g.about.n_updates:,}",
            str(g.about.eval_episodes),
            code(again([g], suite)),
        ]
        for g in groups
    ]
    return markdown(header, rows)


def again(groups: Sequence[Group], suite: Suite | None) -> str:
    """What fills a row: a command if one of its groups never ran, else what the overrides add.

    Overrides that every run of the suite has are left out: the suite's own command implies them.
    """
    cells = [c for g in groups for c in g.cells]
    if suite is not None and any(g.idle for g in groups):
        return fill_command(cells, suite)
    shared = [frozenset(c.overrides) for c in suite.cells] if suite else []
    common = frozenset.intersection(*shared) if shared else frozenset()
    of_all = frozenset.intersection(*(frozenset(g.overrides) for g in groups))
    words = [o for o in groups[0].overrides if o in of_all and o not in common]
    return shlex.join(words)


def buffer(groups: Iterable[Group]) -> str:
    """Transitions of groups that differ in their learner alone: asked for, and used if fewer."""
    groups = list(groups)
    size = groups[0].about.buffer_size
    if size is None:
        return "all"
    used = {r["n_transitions"] for g in groups for r in g.used}
    return f"{size:,}" + (f" (has {max(used):,})" if used and max(used) < size else "")


def printed(numbers: Sequence[Published]) -> str:
    """`60.37 (std 3.49, n=4)`: their spread is a deviation of seeds, unlike our interval."""
    texts = (f"{p.mean} ({f'std {p.std}, ' if p.std else ''}n={p.n_seeds or '?'})" for p in numbers)
    return " / ".join(dict.fromkeys(texts)) or NOTHING
