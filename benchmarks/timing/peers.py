"""Other libraries beside ours, where they are installed: d3rlpy and tianshou.

Each has the networks, the batch size and the numbers of samples of our algorithm, in float32, and
does what its own training loop does at a step: it samples from its own buffer and updates.  Their
progress bars, logs and evaluations are left out, in their favour.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.timing.clock import Work
from benchmarks.timing.problem import Problem

MODULES = {"d3rlpy": "benchmarks.timing.peer_d3rlpy", "tianshou": "benchmarks.timing.peer_tianshou"}


def installed() -> dict[str, str]:
    """The versions of the peers that are there."""
    found = {}
    for name in MODULES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peer(name: str, p: Problem) -> Work | None:
    """An installed peer's training of the same algorithm; None where it has none like it."""
    module: Any = import_module(MODULES[name])
    make = module.ALGORITHMS.get(p.name)
    work: Work | None = None if make is None else module.training(p, make)
    return work
