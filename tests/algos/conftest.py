"""What a test gets by naming it: `algo`, each algorithm in turn, and `tolerance`."""

from collections.abc import Iterator

import pytest
import torch
from problem import CASES, algorithm

from offrl.types import AnyAlgorithm


@pytest.fixture(params=CASES)
def algo(request: pytest.FixtureRequest) -> AnyAlgorithm:
    return algorithm(request.param)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def tolerance(request: pytest.FixtureRequest) -> Iterator[float]:
    """float64 shows a wrong equation; float32, what training uses, rounds more."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)  # of every draw and every module
    yield 1e-10 if request.param == torch.float64 else 1e-5
    torch.set_default_dtype(before)
