"""One manifest -> one row: checked, flat, with the data's returns on the score's scale too."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from offrl.data.dataset import ScoreRef
from offrl.errors import UserError
from offrl.manifest import SCHEMA

STATUSES = ("running", "complete", "failed", "diverged", "interrupted")


BUDGET = ("buffer_size", "n_updates", "eval_every", "eval_episodes")


class About(NamedTuple):
    """What a scientific config says, in the words of a table."""

    algo: str
    env: str
    source: str
    dataset: str  # "source/quality"
    data: tuple[str, ...]  # all that the config says of the data: "n_transitions=100000"
    dataset_id: str | None  # with its version, "d4rl/hopper-medium-v2"; None if the config has none
    buffer_size: int | None  # transitions; None means all
    norm_obs: bool
    n_updates: int  # gradient steps
    eval_every: int
    eval_episodes: int
    seeds: tuple[int, ...]
    group: str  # 12 hex digits: equal for runs that differ by their seeds alone
    setting: str  # of hyperparameters: equal for groups that differ by data and budget alone


# the columns of Runs.runs: those of About, and these
RUN_COLUMNS = (
    *("run_id", "path", "status", "step", *About._fields),
    *("digest", "n_transitions", "score_name", "env_id", "ref_min", "ref_max"),
    *("data_return_mean", "data_score_mean", "data_score_best"),
    *("overrides", "config", "manifest"),
)


def about(config: Mapping[str, Any], where: str) -> About:
    """Raises UserError, naming `where` and the key, for a config that lacks something."""
    try:
        dataset = config["dataset"]
        return About(
            algo=config["algo"]["name"],
            env=config["env"]["name"],
            source=dataset["source"],
            dataset=f"{dataset['source']}/{dataset.get('quality') or dataset['name']}",
            data=_parameters(config["env"], "env.") + _parameters(dataset),
            dataset_id=dataset.get("id"),
            buffer_size=config["buffer_size"],
            norm_obs=config["norm_obs"],
            n_updates=config["n_updates"],
            eval_every=config["eval_every"],
            eval_episodes=config["eval_episodes"],
            seeds=tuple(config["seeds"]),
            group=key(config),
            setting=key(config, "env", "dataset", *BUDGET),
        )
    except KeyError as e:
        raise UserError(f"{where}: the config has no {e.args[0]!r}; remove the run") from e
    except (TypeError, AttributeError) as e:
        raise UserError(f"{where}: not the config of a run: {e}; remove the run") from e


def _parameters(node: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """`n_transitions=100000` for every key but the place of a file, in the config's words."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in node.items() if k != "path"}
    return tuple(f"{prefix}{k}={text}" for k, text in sorted(texts.items()))


def key(config: Mapping[str, Any], *without: str) -> str:
    """The hash of a scientific config without its seeds, where a file lies, and some keys."""
    kept = {k: v for k, v in config.items() if k not in ("seeds", *without)}
    if "dataset" in kept:
        kept["dataset"] = {k: v for k, v in config["dataset"].items() if k != "path"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse(text: str, where: str) -> dict[str, Any]:
    """A manifest from its JSON.  Raises UserError, naming `where`."""
    try:
        manifest = json.loads(text)
    except ValueError as e:
        raise UserError(f"{where}: not JSON ({e}); remove the run") from e
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise UserError(
            f"{where}: schema {schema!r}, but this version reads {SCHEMA}; move it away"
        )
    assert isinstance(manifest, dict)
    if manifest.get("status") not in STATUSES:
        raise UserError(f"{where}: status {manifest.get('status')!r} is none of {STATUSES}")
    return manifest


def row(manifest: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The values of RUN_COLUMNS.  Raises UserError, naming `path`, if a key is missing.

    Only a complete run must know its data and score reference: others may have ended before.
    """
    try:
        if manifest["status"] != "complete":
            known = {"dataset": manifest.get("dataset"), "score": manifest.get("score")}
        else:
            known = {"dataset": manifest["dataset"], "score": manifest["score"]}
        data = _data(known["dataset"], known["score"])
        base = {k: manifest[k] for k in ("run_id", "status", "step", "config")}
        overrides = tuple(manifest["overrides"])
    except (KeyError, TypeError) as e:
        raise UserError(f"{path}: the manifest lacks something: {e!r}; remove the run") from e
    described = about(manifest["config"], path)._asdict()
    return {
        **base,
        **described,
        **data,
        "path": path,
        "overrides": overrides,
        "manifest": dict(manifest),
    }


def _data(dataset: Mapping[str, Any] | None, score: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a manifest says of the data and the score; all None where it says nothing yet."""
    if dataset is None or score is None:
        return {}
    ref = ScoreRef(score["name"], score["ref_min"], score["ref_max"])
    mean, best = dataset["return_mean"], dataset["return_best"]
    return {
        "dataset_id": dataset["id"],
        "digest": dataset["digest"],
        "n_transitions": dataset["n_transitions"],
        "score_name": ref.name,
        "env_id": score["env_id"],
        "ref_min": ref.ref_min,
        "ref_max": ref.ref_max,
        "data_return_mean": mean,
        "data_score_mean": _score(ref, mean),
        "data_score_best": _score(ref, best),
    }


def _score(ref: ScoreRef, value: float | None) -> float | None:
    return None if value is None else float(ref.normalise(np.array([value], dtype=np.float64))[0])
