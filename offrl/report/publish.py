"""Complete runs -> results/<suite>/, small diffable text from which every table is made."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from offrl.atomic import write_atomic
from offrl.errors import UserError
from offrl.report.figures import curves
from offrl.report.load import Runs, load_runs
from offrl.report.members import group_of
from offrl.report.suite import Suite

# bytes of a suite, of which git keeps every version: a small one whole, a large one by its runs
LIMIT = 2_000_000
PER_RUN = 30_000  # 200 evaluations, and 10 x 10 episodes
KEPT_EVALUATIONS = 10  # of which every episode is kept
FINAL = ("complete", "diverged")  # a diverged run is a result too; its numbers are not kept

_PRIVATE = frozenset(("host", "hostname", "user", "cwd", "pid"))
# an absolute path at the start of a text, or after what may stand before one; URLs do not match
_PATH = re.compile(r"(?:(?<=^)|(?<=[\s='\"(\[,]))(?:~?/|[A-Za-z]:\\)[^\s'\",)\]]*")


@dataclass(frozen=True)
class Publication:
    """What a call of publish did; run directories' names or run ids."""

    folder: Path
    added: tuple[str, ...]  # run ids, new or replaced
    kept: tuple[str, ...]  # run ids that were there
    dropped: tuple[str, ...]  # run ids that were there and are no longer of the suite
    left_out: tuple[str, ...]  # "path (why)": not ended, or diverged where a complete one stands


def publish(suite: Suite, runs_root: Path, results_root: Path) -> Publication:
    """Copies the suite's complete and diverged runs below `runs_root` to `results_root/<name>`.

    A run that is there already is replaced, others stay, those that are no cells any more go.
    Every file is written whole, runs.jsonl last. Raises UserError, and has written nothing, if
    there is nothing to publish, records contradict each other, or it would be over its limit.
    """
    folder = results_root / suite.name
    group = group_of(suite)
    new = load_runs(runs_root, only=lambda row: group(row) is not None)
    ended = new.runs["status"].isin(FINAL)
    final = new.runs[ended].drop_duplicates(["run_id", "status"])
    if final.empty:
        raise UserError(f"{runs_root}: no complete run of suite {suite.name}; nothing to publish")
    old = load_runs(folder) if folder.is_dir() else None
    there = {} if old is None else {r["run_id"]: group(r) for r in _records(old.runs)}
    stay = frozenset(run_id for run_id, key in there.items() if key is not None)
    # what was trained to its end counts, whatever became of it elsewhere
    whole = _complete(new) | (_complete(old) if old else set())
    beaten = (final["status"] == "diverged") & final["run_id"].isin(whole)
    final, later = final[~beaten], final[beaten]
    added = frozenset(final["run_id"])
    parts = [Runs(final, new.evaluations, new.episodes)]
    if old is not None:
        parts.append(_only(old, stay - added))
    _write(folder, suite, _merge(parts))
    return Publication(
        folder,
        added=tuple(sorted(added)),
        kept=tuple(sorted(stay - added)),
        dropped=tuple(sorted(there.keys() - stay)),
        left_out=(
            *(f"{r['path']} ({r['status']})" for r in _records(new.runs[~ended])),
            *(f"{r['path']} (diverged; complete in {folder})" for r in _records(later)),
        ),
    )


def _complete(runs: Runs) -> set[str]:
    return set(runs.runs["run_id"][runs.runs["status"] == "complete"])


def scrub(value: Any) -> Any:
    """A manifest without what tells of the machine's users: paths shrink to their last part."""
    if isinstance(value, dict):
        return {k: scrub(v) for k, v in value.items() if k not in _PRIVATE}
    if isinstance(value, list | tuple):
        return [scrub(v) for v in value]
    if isinstance(value, str):
        return _PATH.sub(lambda m: re.split(r"[/\\]", m.group().rstrip("/\\"))[-1], value)
    return value


def _write(folder: Path, suite: Suite, runs: Runs) -> None:
    manifests = [json.dumps(scrub(r["manifest"]), sort_keys=True) for r in _records(runs.runs)]
    texts = {
        "evaluations.csv": _csv(runs.evaluations),
        "episodes.csv": _csv(_last_episodes(runs.episodes)),
        "curves.svg": curves(runs, suite),
        "runs.jsonl": "".join(f"{m}\n" for m in manifests),  # last: it names the rows that count
    }
    files = {name: text.encode() for name, text in texts.items() if text is not None}
    size = sum(map(len, files.values()))
    limit = max(LIMIT, PER_RUN * len(manifests))
    if size > limit:
        sizes = ", ".join(f"{name} {len(data):,}" for name, data in files.items())
        raise UserError(
            f"{folder} would have {size:,} bytes ({sizes}), more than {limit:,}; "
            "split the suite, or evaluate less often or on fewer episodes"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{folder}: cannot be made: {e.strerror or e}") from e
    for name, data in files.items():
        write_atomic(folder / name, data)


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")  # floats by repr: exact


def _last_episodes(episodes: pd.DataFrame) -> pd.DataFrame:
    keys = ["run_id", "seed"]
    steps = episodes[[*keys, "step"]].drop_duplicates().sort_values([*keys, "step"])
    last = steps.groupby(keys, sort=False).tail(KEPT_EVALUATIONS)
    return episodes.merge(last, on=[*keys, "step"], how="inner")


def _only(runs: Runs, ids: Collection[str]) -> Runs:
    """The records of some runs."""
    frames = (runs.runs, runs.evaluations, runs.episodes)
    return Runs(*(f[f["run_id"].isin(list(ids))] for f in frames))


def _merge(parts: Sequence[Runs]) -> Runs:
    """One set of records, in the order of run ids, seeds, steps and episodes."""

    def joined(frames: list[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
        kept = [f for f in frames if len(f)] or frames[:1]
        return pd.concat(kept).sort_values(keys, kind="stable", ignore_index=True)

    return Runs(
        joined([p.runs for p in parts], ["run_id"]),
        joined([p.evaluations for p in parts], ["run_id", "seed", "step"]),
        joined([p.episodes for p in parts], ["run_id", "seed", "step", "episode"]),
    )


def _records(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in r.items()} for r in runs.to_dict("records")]
