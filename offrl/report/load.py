"""Run directories and published suites -> three frames of the same shape."""

import io
import os
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from offrl.errors import UserError
from offrl.report.about import RUN_COLUMNS, parse, row
from offrl.report.stats import per_evaluation

INTEGERS = ("seed", "step", "episode", "length", "episodes")
EPISODE_COLUMNS = ("run_id", "seed", "step", "episode", "return", "length", "score")
EVALUATION_COLUMNS = (
    "run_id",
    *("seed", "step", "episodes", "return_mean", "return_std"),
    "score_mean",
)


@dataclass(frozen=True, eq=False)
class Runs:
    """Records of runs.

    runs: one row per run, of any status (columns: RUN_COLUMNS of offrl.report.about).
    evaluations: one row per (run_id, seed, step) of complete runs (EVALUATION_COLUMNS).
    episodes: one row per episode of complete runs (EPISODE_COLUMNS); of a published suite only
    those of the last evaluations.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    episodes: pd.DataFrame


def no_runs() -> Runs:
    """Of a suite that has no record yet."""
    return Runs(
        pd.DataFrame(columns=list(RUN_COLUMNS), dtype=object),
        _concat([], EVALUATION_COLUMNS, []),
        _concat([], EPISODE_COLUMNS, []),
    )


def load_runs(root: Path, only: Callable[[Mapping[str, Any]], bool] = lambda row: True) -> Runs:
    """Every run directory and published suite at or below `root`, or those whose row `only` wants.

    Raises UserError for a missing root, for a manifest or table that cannot be read (naming the
    file), and for two complete runs of one group whose evaluations of a seed differ (naming both).
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such directory; --runs wants the `out` of train.py")
    rows: list[dict[str, Any]] = []
    known: dict[str, Mapping[str, Any]] = {}  # complete; suites share runs
    evaluations: list[pd.DataFrame] = []
    episodes: list[pd.DataFrame] = []
    for file in _record_files(root):
        found = [row(parse(text, where), where) for text, where in _manifests(file)]
        found = [r for r in found if only(r) and known.get(r["run_id"]) != r["manifest"]]
        complete = {str(r["run_id"]) for r in found if r["status"] == "complete"}
        known |= {r["run_id"]: r["manifest"] for r in found if r["status"] == "complete"}
        rows += found
        if not complete:
            continue
        if file.name == "runs.jsonl":
            table = _published(file, "evaluations.csv", EVALUATION_COLUMNS, complete)
            evaluations.append(_whole(table, found, file.with_name("evaluations.csv")))
            episodes.append(_published(file, "episodes.csv", EPISODE_COLUMNS, complete))
        else:
            table = read_csv(file.with_name("eval.csv"), EPISODE_COLUMNS[1:])
            table.insert(0, "run_id", next(iter(complete)))
            _check_keys(table, ["seed", "step", "episode"], file.with_name("eval.csv"))
            evaluations.append(_whole(per_evaluation(table), found, file.with_name("eval.csv")))
            episodes.append(table)
    runs = pd.DataFrame(rows, columns=list(RUN_COLUMNS), dtype=object)
    runs = runs.astype(object).where(runs.notna(), None)
    runs = runs.sort_values(["run_id", "path"], kind="stable", ignore_index=True)
    table = _concat(evaluations, EVALUATION_COLUMNS, ["run_id", "seed", "step"])
    _check_duplicates(runs, table)
    return Runs(
        runs,
        table,
        _concat(episodes, EPISODE_COLUMNS, ["run_id", "seed", "step", "episode"]),
    )


def read_csv(path: Path, columns: Collection[str]) -> pd.DataFrame:
    """A table with exactly these columns; floats come back as they were written, bit for bit.

    Raises UserError, naming the file.
    """
    types = {c: "int64" if c in INTEGERS else "float64" for c in columns} | {"run_id": "str"}
    try:
        text = path.read_text(encoding="utf-8")
        table = pd.read_csv(
            io.StringIO(text),
            dtype={c: types[c] for c in columns},
            float_precision="round_trip",
            keep_default_na=False,
        )
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (ValueError, OverflowError) as e:
        raise UserError(f"{path}: damaged: {e}. Restore it, or remove its run.") from e
    if list(table.columns) != list(columns):
        raise UserError(f"{path}: columns {list(table.columns)}, expected {list(columns)}")
    if not np.isfinite(table.select_dtypes("number").to_numpy()).all():
        raise UserError(f"{path}: a value is not finite. Restore it, or remove its run.")
    return table


def _record_files(root: Path) -> Iterator[Path]:
    """manifest.json of run directories and runs.jsonl of published suites, in a fixed order."""
    for folder, below, files in os.walk(root):
        below.sort()
        for name in ("manifest.json", "runs.jsonl"):
            if name in files:
                yield Path(folder) / name


def _manifests(file: Path) -> list[tuple[str, str]]:
    """(text, where) of every manifest in a file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{file}: cannot be read: {e}") from e
    if file.name == "manifest.json":
        return [(text, str(file))]
    lines = text.splitlines()
    return [(line, f"{file}:{i}") for i, line in enumerate(lines, start=1) if line]


def _published(file: Path, name: str, columns: Collection[str], ids: set[str]) -> pd.DataFrame:
    table = read_csv(file.with_name(name), columns)
    keys = [c for c in columns if c in ("run_id", "seed", "step", "episode")]
    _check_keys(table, keys, file.with_name(name))
    return table[table["run_id"].isin(list(ids))]


def _whole(
    evaluations: pd.DataFrame, runs: Sequence[Mapping[str, Any]], file: Path
) -> pd.DataFrame:
    """The evaluations, if complete runs have all of every seed, and whole ones alone."""
    for r in (r for r in runs if r["status"] == "complete"):
        own = evaluations[evaluations["run_id"] == r["run_id"]]
        steps = {seed: sorted(rows["step"]) for seed, rows in own.groupby("seed")}
        due = [*range(r["eval_every"], r["n_updates"], r["eval_every"]), r["n_updates"]]
        short = own[own["episodes"] != r["eval_episodes"]]
        if steps != dict.fromkeys(r["seeds"], due) or len(short):
            raise UserError(
                f"{file}: of run {r['run_id']}, which is complete, rows are missing or too many: "
                f"every seed is evaluated each {r['eval_every']} steps and at {r['n_updates']}, "
                f"on {r['eval_episodes']} episodes. Restore it, or remove its run."
            )
    return evaluations


def _check_keys(table: pd.DataFrame, keys: list[str], path: Path) -> None:
    twice = table[table.duplicated(keys)]
    if len(twice):
        raise UserError(f"{path}: two rows for {twice[keys].iloc[0].to_dict()}; remove its run")


def _check_duplicates(runs: pd.DataFrame, evaluations: pd.DataFrame) -> None:
    """Two runs may have trained the same seed, `seeds=[0,1]` and `[0,1,2]`, if they agree."""

    def rows(r: Mapping[Hashable, Any], seed: int) -> pd.DataFrame:
        own = (evaluations["run_id"] == r["run_id"]) & (evaluations["seed"] == seed)
        found: pd.DataFrame = evaluations[own].drop(columns="run_id").reset_index(drop=True)
        return found

    seen: dict[tuple[str, int], Mapping[Hashable, Any]] = {}
    for r in runs[runs["status"] == "complete"].to_dict("records"):
        for seed in r["seeds"]:
            other = seen.setdefault((r["group"], seed), r)
            if other is r:
                continue
            if other["run_id"] == r["run_id"] or not rows(other, seed).equals(rows(r, seed)):
                raise UserError(
                    f"{other['path']} and {r['path']} are both complete runs of seed {seed} of "
                    f"{r['algo']} on {r['env']} {r['dataset']}; move one of them away"
                )


def _concat(tables: list[pd.DataFrame], columns: Collection[str], keys: list[str]) -> pd.DataFrame:
    if not tables:
        types = {c: "int64" if c in INTEGERS else "float64" for c in columns} | {"run_id": "str"}
        return pd.DataFrame({c: pd.Series(dtype=types[c]) for c in columns})
    return pd.concat(tables).sort_values(keys, kind="stable", ignore_index=True)
