"""The table of an ablation: each pair of groups that differ by norm_obs alone, and what it does."""

from collections.abc import Sequence

from offrl.errors import UserError
from offrl.report.groups import Group
from offrl.report.markdown import NOT_RUN, NOTHING, code, interval, markdown, number
from offrl.report.published import in_column
from offrl.report.rows import again, printed
from offrl.report.suite import ReportOptions, Suite

FLAGS = (True, False)
_NO_PAIRS = (
    "report.layout: norm_obs wants a suite that sweeps norm_obs: true,false and nothing else but "
    "algo, env, dataset, buffer_size and seeds; choose rows or grid"
)


def table(
    groups: Sequence[Group],
    reference: str,
    suite: Suite | None,
    options: ReportOptions,
    sources: Sequence[str],
) -> str:
    """Raises UserError for groups that make no pairs."""
    k = options.last_k
    scale = f" ({reference})" if reference else ""
    header = [
        ("algorithm", False),
        ("dataset", False),
        *((f"norm_obs={str(flag).lower()}{scale} ± 95%", True) for flag in FLAGS),
        ("difference ± 95%", True),
        *([(f"difference, mean of last {k}", True)] if k > 1 else []),
        ("data mean", True),
        ("data best", True),
        *((f"published: {s}", True) for s in sources),
        ("seeds", False),
        ("steps", True),
        ("episodes", True),
        ("overrides", False),
    ]
    rows = [_row(pair, suite, k, sources) for pair in _pairs(groups)]
    return markdown(header, rows)


def _row(pair: list[Group], suite: Suite | None, k: int, sources: Sequence[str]) -> list[str]:
    on, off = pair
    differences = on.minus(off)
    run = on.run or off.run
    return [
        on.about.algo,
        f"{on.about.env}-{on.about.dataset}",
        *(NOT_RUN if g.idle else interval(g.last) for g in pair),
        interval(differences[0], "+"),
        *([interval(differences[1], "+")] if k > 1 else []),
        number(run["data_score_mean"] if run else None),
        number(run["data_score_best"] if run else None),
        *(_published(pair, s) for s in sources),
        " / ".join(dict.fromkeys(g.seeds for g in pair)),
        " / ".join(dict.fromkeys(f"{g.about.n_updates:,}" for g in pair)),
        str(on.about.eval_episodes),
        code(again(pair, suite)),
    ]


def _published(pair: Sequence[Group], source: str) -> str:
    """`88.23 (n=?) / 86.78 (n=?)`: only numbers that say which of the two they are."""
    texts = [
        printed(
            [
                p
                for p in in_column(g.about, source)
                if f"norm_obs={g.about.norm_obs}".lower() in p.variant
            ]
        )
        for g in pair
    ]
    return NOTHING if set(texts) == {NOTHING} else " / ".join(texts)


def _pairs(groups: Sequence[Group]) -> list[list[Group]]:
    found: dict[tuple[str, str, int | None], dict[bool, Group]] = {}
    for g in groups:
        halves = found.setdefault(
            (g.about.algo, f"{g.about.env}-{g.about.dataset}", g.about.buffer_size), {}
        )
        if g.about.norm_obs in halves:
            raise UserError(_NO_PAIRS)
        halves[g.about.norm_obs] = g
    if any(set(halves) != set(FLAGS) for halves in found.values()):
        raise UserError(_NO_PAIRS)
    return [[halves[flag] for flag in FLAGS] for halves in found.values()]
