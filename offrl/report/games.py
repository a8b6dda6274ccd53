"""The table of Atari games, as the seed project shows them: a row per game and buffer size.

Columns are the online agent that made the data, the data, and every learner; under each row stand
the numbers that the seed project has published for as many transitions.
"""

import json
from collections.abc import Sequence
from typing import Any

from offrl.data.atari import record_path, training_command
from offrl.errors import UserError
from offrl.report.commands import missing
from offrl.report.groups import Group
from offrl.report.markdown import NOT_RUN, NOTHING, code, interval, markdown, number
from offrl.report.published import published
from offrl.report.rows import buffer
from offrl.report.stats import Estimate
from offrl.report.suite import ReportOptions, Suite

OWN = "atari/qrdqn"  # the data that the suite's own agent makes
SOURCE = "tianshou_seed"  # of the published numbers
NOTE = (
    "Returns of whole games, unclipped, and in brackets the human-normalised score. `online "
    "expert`: the agent that made the suite's data, without its random actions; `behaviour`: the "
    "mean of the data's whole games, – where it holds none. Rows `published`: "
    "examples/offline/README.md of thu-ml/tianshou, PR #996, on data of its own of that size; "
    "neither seeds nor protocol are stated, most likely each number is the best of several "
    "evaluations of a single run."
)


def table(
    groups: Sequence[Group],
    reference: str,
    suite: Suite | None,
    options: ReportOptions,
    sources: Sequence[str],
) -> str:
    learners = list(dict.fromkeys(g.about.algo for g in groups))
    data: dict[tuple[str, str, int | None], dict[str, Group]] = {}
    for g in groups:
        about = g.about
        by_learner = data.setdefault((about.env, about.dataset, about.buffer_size), {})
        if about.algo in by_learner:
            raise UserError(
                f"report.layout: games has one column for {about.algo}, which has several settings "
                f"on {about.env}-{about.dataset}; choose rows or grid"
            )
        by_learner[about.algo] = g
    rows = []
    for (game, dataset, size), by_learner in data.items():
        rows.append(
            [
                f"{game}-{dataset}",
                buffer(by_learner.values()),
                expert(game) if dataset == OWN else NOTHING,
                number(_behaviour(by_learner)),
                *(_cell(by_learner.get(c)) for c in learners),
                _parameters(by_learner),
                _missing(game, dataset, missing(by_learner.values(), suite)),
            ]
        )
        n = size or _transitions(by_learner)
        theirs = [_published(game, c, n) for c in ("behavior", *learners)] if n else []
        if any(t != NOTHING for t in theirs):
            agent = _published(game, "qrdqn_online")
            rows.append(["published", f"{n:,}", agent, *theirs, NOTHING, NOTHING])
    header = [
        ("game", False),
        ("transitions", True),
        ("online expert", True),
        ("behaviour", True),
        *((c, True) for c in learners),
        ("parameters", False),
        ("what is missing", False),
    ]
    return f"{markdown(header, rows)}\n{NOTE}\n"


def _missing(game: str, dataset: str, commands: str) -> str:
    """The row's commands, where data must be gathered first after the one for its policy."""
    if commands == NOTHING or dataset != OWN or record_path(game).is_file():
        return commands
    return f"{code(training_command(game))}, then {commands}"


def expert(game: str) -> str:
    """The online agent's return, from its provenance record."""
    path = record_path(game)
    if not path.is_file():
        return NOTHING
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return number(record["policy"]["return_mean"])


def _behaviour(by_learner: dict[str, Group]) -> float | None:
    means = {g.run["data_return_mean"] for g in by_learner.values() if g.run}
    return means.pop() if len(means) == 1 else None


def _transitions(by_learner: dict[str, Group]) -> int | None:
    """Of the whole data, where a run has seen it."""
    seen = {int(g.run["n_transitions"]) for g in by_learner.values() if g.run}
    return seen.pop() if len(seen) == 1 else None


def _cell(g: Group | None) -> str:
    """`19.8 ± 1.0 (115), 2/3 (1 diverged)`."""
    if g is None:
        return NOTHING
    if g.idle:
        return NOT_RUN
    if g.last is None or g.run is None:
        return g.seeds
    text = interval(g.last)
    if g.normalised:
        low, high = g.run["ref_min"], g.run["ref_max"]
        unit = (high - low) / 100
        half = None if g.last.half_width is None else g.last.half_width * unit
        text = f"{interval(Estimate(low + unit * g.last.mean, half, g.last.n))} ({g.last.mean:.0f})"
    return text if g.whole else f"{text}, {g.seeds}"


def _parameters(by_learner: dict[str, Group]) -> str:
    """What differs from one row to another: steps, and the weights that are tuned."""
    steps = " / ".join(
        f"{n:,}" for n in dict.fromkeys(g.about.n_updates for g in by_learner.values())
    )
    weights: dict[float, list[str]] = {}
    for name, g in by_learner.items():
        weight = g.cells[0].config["algo"].get("min_q_weight") if g.cells else None
        if weight:
            weights.setdefault(weight, []).append(name)
    tuned = [f"min_q_weight {w:g} ({', '.join(names)})" for w, names in weights.items()]
    return "; ".join([f"{steps} steps", *tuned])


def _published(game: str, column: str, size: int | None = None) -> str:
    """The seed project's number, of data with `size` transitions if that matters."""
    name = f"{game.title().replace('_', '')}NoFrameskip-v4"
    found = [
        p.mean
        for p in published(name, column, metric="raw_return")
        if p.source == SOURCE and (size is None or f"buffer_size={size}," in f"{p.variant},")
    ]
    return " / ".join(dict.fromkeys(found)) or NOTHING
