"""What stands under a table: protocol, budget, interval, versions and the commands."""

from collections.abc import Iterable, Sequence
from string import ascii_lowercase
from typing import Any

from offrl.report.grid import means
from offrl.report.groups import Group
from offrl.report.published import CAVEATS, NOTES, in_column
from offrl.report.suite import TRAIN, ReportOptions, Suite


def caption(
    groups: Sequence[Group],
    reference: str,
    suite: Suite | None,
    options: ReportOptions,
    regenerate: str,
    sources: Sequence[str],
) -> str:
    """Markdown, one short paragraph per question a reader may have."""
    parts = [
        f"**{options.caption.rstrip('.')}.**" if options.caption else "",
        _protocol(groups, options),
        _scale(groups, reference),
        *_notes(groups, options),
        _published(groups, sources, options) if sources else "",
        _commands(suite, options, regenerate),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _protocol(groups: Sequence[Group], options: ReportOptions) -> str:
    counts = [len(g.about.seeds) for g in groups]
    seeds = f"{_range(counts)} seed" + ("s" if max(counts) > 1 else "")
    single = ", (n=1) without one" if any(g.last and g.last.n == 1 for g in groups) else ""
    mean = (
        "; `mean`: over the rows, for algorithms that have them all; its (n=...) is "
        "the fewest seeds of a row, where seeds are missing"
        if options.layout == "grid" and means(groups)
        else ""
    )
    floor = f" Runs of less than {options.floor:,} steps do not count." if options.floor else ""
    steps = _range(g.about.n_updates for g in groups)
    every = _range(g.about.eval_every for g in groups)
    episodes = _range(g.about.eval_episodes for g in groups)
    return (
        f"Protocol: score of the last evaluation{_other_columns(options)}. Mean over seeds ± "
        f"half-width of the 95% Student-t interval over seeds{single}{mean}. Budget: {seeds}, "
        f"{steps} gradient steps, an evaluation every {every} steps on {episodes} episodes.{floor}"
    )


def _other_columns(options: ReportOptions) -> str:
    k = options.last_k
    also = f"`mean of last {k}`: each seed's last {k} evaluations averaged first" if k > 1 else ""
    if options.layout == "norm_obs":
        pairs = "`difference`: norm_obs=true minus norm_obs=false of a seed, over the seeds of both"
        return f"; {pairs}" + (f"; {also}" if also else "")
    if options.layout in ("grid", "games"):
        return ""
    to = f"difference to {options.baseline}"
    less = f"`{to}`: a seed's score minus that of the same seed, over the seeds of both"
    best = "`best*`: each seed's best evaluation, optimistic, as choosing it needs online access"
    shown = [also, best if options.best else "", less if options.baseline else ""]
    return "".join(f"; {text}" for text in shown if text)


def _scale(groups: Sequence[Group], reference: str) -> str:
    runs = [g.run for g in groups if g.run is not None]
    if not runs:
        return ""
    envs = dict.fromkeys((r["env_id"], r["ref_min"], r["ref_max"]) for r in runs)
    simulators = " / ".join(sorted({_simulator(r["manifest"]) for g in groups for r in g.used}))
    if runs[0]["ref_min"] is None or runs[0]["ref_max"] is None:
        scale = f"Scores and data: undiscounted return on {runs[0]['env_id']}, not normalised"
    else:
        points = "; ".join(f"{env}: {low:.1f} and {high:.1f}" for env, low, high in envs)
        scale = (
            f"Scores and data are normalised by `{reference}`: 0 and 100 are returns of {points}"
        )
    return f"{scale}. Simulator: {simulators}."


def _simulator(manifest: dict[str, Any]) -> str:
    """What the episodes were played on, not what else was installed."""
    numerics = manifest.get("numerics") or {}
    played = ("ale-py" if "ale-py" in numerics else "mujoco", "gymnasium")
    known = [f"{p} {numerics[p]}" for p in played if p in numerics]
    return ", ".join(known) or "simulator version not recorded"


def _notes(groups: Sequence[Group], options: ReportOptions) -> list[str]:
    data: dict[tuple[str, int | None], set[str]] = {}
    for g in groups:
        data.setdefault((f"{g.about.env}-{g.about.dataset}", g.about.buffer_size), set()).update(
            g.digests
        )
    notes = [
        f"Note: the numbers of {dataset} are of {len(digests)} different versions of the data, and "
        "cannot be compared."
        for (dataset, _), digests in data.items()
        if len(digests) > 1
    ]
    tried: dict[str, int] = {}
    for g in groups:
        for n in (n for r in g.used for n in r["manifest"].get("searches", {}).values()):
            learner = f"{g.about.algo} on {g.about.env}-{g.about.dataset}"
            tried[learner] = max(n, tried.get(learner, 0))
    notes += [
        f"Note: {learner} was searched, {n} configurations with these same evaluations; the best "
        "of them is a selected number. What such a budget buys: `report.py eop`."
        for learner, n in tried.items()
    ]
    if options.layout != "grid" and any(g.counted and g.last_k is None for g in groups):
        notes.append("–: fewer evaluations than the column averages.")
    return notes


def _published(groups: Sequence[Group], sources: Sequence[str], options: ReportOptions) -> str:
    grid = options.layout == "grid"
    texts = []
    for letter, column in zip(ascii_lowercase, sources, strict=False):
        rows = [p for g in groups for p in in_column(g.about, column)]
        where = [NOTES.get(p.source, f"{p.citation}, {p.table}") for p in rows]
        variants = [p.variant for p in rows if p.variant and p.source not in NOTES]
        detail = "; ".join(dict.fromkeys(where)) or "nothing for these rows"
        caveats = [CAVEATS[p.source] for p in rows if p.source in CAVEATS]
        text = ", ".join([f"`{column}` ({detail})", *dict.fromkeys((*variants, *caveats))])
        texts.append(f"{letter}: {text}" if grid else text)
    shown = "Published numbers"
    if grid:
        shown = "In brackets: the published number of the first of these sources that has one"
    return (
        f"{shown}, for exactly the same version of the data, normalised by D4RL's references, as "
        "printed; played on their authors' simulators and not on ours, which alone can move a "
        "score; std is over their seeds and no interval; source/protocol: "
        f"{'. '.join(texts)}."
    )


def _commands(suite: Suite | None, options: ReportOptions, regenerate: str) -> str:
    if suite is None:
        return f"A row again: `{TRAIN} -m` and its overrides. This text again: `{regenerate}`"
    publish = f"`python benchmarks/report.py publish {suite.name} --runs runs`"
    train = f"`{suite.train} experiment={suite.name}`"
    run = (
        f"All of it: {train}, in full or in parts"
        if options.layout in ("grid", "games")
        else f"A row again: {train} and its overrides (all rows: none)"
    )
    return f"{run}, then {publish}. This text again, from the records: `{regenerate}`"


def _range(values: Iterable[int]) -> str:
    low, *rest = sorted(set(values))
    return f"{low:,} to {rest[-1]:,}" if rest else f"{low:,}"
