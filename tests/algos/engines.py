"""The engines of a CPU and of a GPU, and one update of theirs."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_map

from offrl.engine import Engine
from offrl.graph import AnyEngine, GraphEngine
from offrl.types import AnyAlgorithm, Transition


def launches(algo: AnyAlgorithm, states: Sequence[Any], compile: bool = False) -> GraphEngine:
    """The engine of a GPU without the graph that would replay its launches."""
    return GraphEngine(algo, states, compile=compile, capture=False)


ENGINES = pytest.mark.parametrize("make", [Engine, launches], ids=["in_turns", "vmap"])


def step(engine: AnyEngine, batches: Sequence[Transition], noises: Sequence[Any]) -> list[Any]:
    """One update of every seed with a batch of its own; the Stats of each."""
    table = Transition(*map(torch.cat, zip(*batches, strict=True)))
    rows = torch.arange(len(table.reward)).view(len(batches), 1, -1)
    engine.advance(
        lambda r: Transition(*(x[r] for x in table)),
        list(rows),
        [tree_map(lambda x: x[None], n) for n in noises],
        0,
        lambda part: nullcontext(),
        lambda n: None,
    )
    return engine.take_sums()
