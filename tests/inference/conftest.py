from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.inference.squares import square_model

from fledge.inference.predictor import Predictor


@pytest.fixture
def finder() -> Callable[..., Predictor]:
    """A predictor over ``square_model``, given its arguments."""

    def make(batch_size: int = 4, **settings: Any) -> Predictor:
        return Predictor(square_model(**settings), batch_size)

    return make
