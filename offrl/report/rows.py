"""The long table: a row per group, with all that there is to know of it."""

import shlex
from collections.abc import Iterable, Sequence

from offrl.errors import UserError
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
    """Raises UserError for a row that the suite's baseline has no match for."""
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
        *((name, True) for name in _difference_columns(options)),
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
            *_differences(g, groups, options),
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


def _difference_columns(options: ReportOptions) -> list[str]:
    k, to = options.last_k, f"difference to {options.baseline}"
    names = [f"{to} ± 95%", *([f"{to}, mean of last {k}"] if k > 1 else [])]
    return names if options.baseline else []


def _differences(g: Group, groups: Sequence[Group], options: ReportOptions) -> list[str]:
    """The texts of these columns."""
    columns = _difference_columns(options)
    if not columns or g.about.algo == options.baseline:
        return [NOTHING for _ in columns]

    def data(other: Group) -> tuple[object, ...]:
        a = other.about
        return a.env, a.dataset, a.buffer_size, a.norm_obs

    found = [o for o in groups if o.about.algo == options.baseline and data(o) == data(g)]
    if len(found) != 1:
        raise UserError(
            f"report.baseline={options.baseline}: {len(found)} rows of it, not one, have the data, "
            f"buffer_size and norm_obs of {g.about.algo} on {g.about.env}-{g.about.dataset}"
        )
    differences = zip(columns, g.minus(found[0]), strict=False)  # of last_k only with its column
    return [interval(d, "+") for _, d in differences]


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
