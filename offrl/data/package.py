"""The package's files of a robot's behaviour: weights, actions, and the record that names them."""

import json
from importlib.resources import as_file, files
from typing import Any

from torch import Tensor

from offrl.checkpoint import load_tensors
from offrl.data.digest import sha256_file
from offrl.errors import UserError


def behaviour_record(robot: str) -> dict[str, Any]:
    """The provenance record of a robot's behaviour policies.  UserError if it has none."""
    path = files("offrl") / "policies" / f"{robot}.json"
    if not path.is_file():
        raise UserError(f"env={robot}: the suite has no behaviour policies of its own for it")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def policy_tensors(robot: str, name: str, sha256: str) -> dict[str, Tensor]:
    """What offrl/policies/<robot>-<name>.safetensors holds.

    Raises UserError where it is not the file with the recorded digest.
    """
    with as_file(files("offrl") / "policies" / f"{robot}-{name}.safetensors") as path:
        tensors, _ = load_tensors(path)
        if sha256_file(path) != sha256:
            raise UserError(f"offrl/policies/{path.name}: not the file that {robot}.json records")
    return tensors
