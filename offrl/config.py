"""From composed YAML to typed objects: names and types live in dataclasses, values in YAML."""

import math
from dataclasses import fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from offrl.envs.atari import rom_id
from offrl.errors import UserError
from offrl.types import AnyAlgorithm, Spec

OmegaConf.register_new_resolver("stem", lambda path: Path(path).stem, replace=True)
OmegaConf.register_new_resolver("rom", rom_id, replace=True)
OmegaConf.register_new_resolver("share", lambda part, n: round(part * n), replace=True)
OmegaConf.register_new_resolver(
    "least", lambda *sizes: min(n for n in sizes if n is not None), replace=True
)


def target_class(node: DictConfig, where: str) -> type[Any]:
    """The dataclass that `node` names; raises UserError where it cannot be imported."""
    try:
        cls = get_class(node["_target_"])
    except (ImportError, ValueError, OmegaConfBaseException) as e:
        raise UserError(f"{where}._target_: {' '.join(str(e).split())}") from e
    if not is_dataclass(cls):
        raise UserError(f"{where}._target_: {node['_target_']} is not a dataclass")
    return cls


def algorithm_class(node: DictConfig) -> type[Any]:
    return target_class(node, "algo")


def build(node: DictConfig, spec: Spec) -> AnyAlgorithm:
    """The algorithm that `node` (keys: name, _target_, hyperparameters) describes, for `spec`."""
    cls = algorithm_class(node)
    algo: AnyAlgorithm = cls(spec=spec, **typed(node, cls, "algo"))
    return algo


def typed(node: DictConfig, cls: type[Any], where: str) -> dict[str, Any]:
    """The values of `node` for the annotated fields of dataclass `cls`, lists as tuples.

    `where` is the path of `node` in the config.  Raises UserError, naming the key, for an unknown
    key, a wrong type, a missing value, and a cell that a tuned table does not have.
    """
    key: Any = cls  # mypy does not know that classes are hashable
    schema = _schema(key)
    names = [str(name) for name in schema]
    try:
        given = OmegaConf.to_container(node, resolve=True)
        assert isinstance(given, dict)
        # name and _target_ stand in every group's YAML; not every class wants to know its name
        own = {k: v for k, v in given.items() if k in names or k not in ("name", "_target_")}
        values = OmegaConf.to_container(OmegaConf.merge(schema, own), throw_on_missing=True)
    except OmegaConfBaseException as e:
        raise UserError(explain(e, where, names)) from e
    assert isinstance(values, dict)
    for key, value in values.items():
        if wrong := _out_of_range(str(key), value):
            raise UserError(f"{_path(where, key)}={value}: {wrong}")
    return {str(k): tuple(v) if isinstance(v, list) else v for k, v in values.items()}


# what these hyperparameters count is divided by, or drawn
_COUNTS = (
    *("period", "decay_steps", "eps_steps", "n_actions", "n_quantiles"),
    *("candidates", "latent_per_action"),
)
_SHARES = ("tau", "expectile", "eps_start", "eps_end", "eps_test")
_SIZES = ("lr", "policy_noise", "noise_clip", "phi", "latent_clip", "bc_steps")
_POSITIVE = ("kappa", "adam_eps", "initial_alpha", "max_weight", "max_grad_norm")


def _out_of_range(key: str, value: object) -> str:
    """What is wrong with the value of a hyperparameter, or ""."""
    if key.endswith("hidden") and isinstance(value, list):
        return "layers have at least one unit" if any(width < 1 for width in value) else ""
    if not isinstance(value, int | float):
        return ""
    if not math.isfinite(value):
        return "must be a finite number"
    rules = (
        (_COUNTS, value >= 1, "must be at least 1"),
        (_SHARES, 0 <= value <= 1, "must lie in [0, 1]"),
        (_SIZES, value >= 0, "must be at least 0"),
        (_POSITIVE, value > 0, "must be more than 0"),
    )
    return next((said for keys, fine, said in rules if key.endswith(keys) and not fine), "")


@cache
def _schema(cls: type[Any]) -> DictConfig:
    """The fields of a dataclass without values; to be merged, not changed."""
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls) if f.name != "spec"]  # spec is not configuration
    empty = make_dataclass(cls.__name__, [(n, hints[n]) for n in names])
    schema: DictConfig = OmegaConf.structured(empty)
    return schema


def _path(*keys: object) -> str:
    return ".".join(str(k) for k in keys if k)


def explain(e: OmegaConfBaseException, where: str, names: list[str]) -> str:
    """One sentence for one of OmegaConf's errors: the key, what is wrong, what is allowed."""
    inner = str(e.full_key or e.key or "")
    # what is interpolated is known by its place in the whole config already
    key = inner if where and inner.startswith(f"{where}.") else _path(where, inner)
    first_line = str(e).splitlines()[0]
    _, from_resolver, said = first_line.partition(
        "UserError raised while resolving interpolation: "
    )
    if from_resolver:
        return said.removeprefix(" interpolation: ")
    match e:
        case ConfigKeyError():
            return f"{key}: unknown key; {where} has {', '.join(names)}"
        case InterpolationToMissingValueError():
            missing = first_line.rpartition(" ")[2]
            return f"{missing}: no value; set {missing}=..."
        case MissingMandatoryValue():
            return f"{key}: no value; set {key}=..."
        case InterpolationKeyError():
            why = "; a tuned table without this cell? Add the row to conf/tuned, or"
            return (
                f"{key}: {first_line}{why if 'tuned' in first_line else ';'} set the value itself "
                f"on the command line, {key}=..."
            )
        case ValidationError() if "to Integer" in first_line:
            return f"{key}: {first_line}; write integers in full, 1000000 and not 1e6"
        case ValidationError() if "is not a ListConfig" in first_line:
            return f"{key}: must be a list, written as {key}=[...]"
    return f"{key}: {first_line}"
