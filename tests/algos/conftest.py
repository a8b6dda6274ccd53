"""What a test gets by naming it: `algo`, each algorithm in turn."""

import pytest
from problem import CASES, algorithm

from offrl.types import AnyAlgorithm


@pytest.fixture(params=CASES)
def algo(request: pytest.FixtureRequest) -> AnyAlgorithm:
    return algorithm(request.param)
