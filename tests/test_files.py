"""JSON that every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gen._files import json_text


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("indent", [None, 1])
def test_what_is_not_known_is_null(indent: int | None) -> None:
    """The standard error of a single row, an infinite k-hat, wherever they stand."""
    single = torch.tensor([1.5]).double()
    with np.errstate(all="ignore"):
        error = single.numpy().std(ddof=1) if len(single) > 1 else np.float64("nan")
    content = {"a": [error, (math.inf, {"b": -math.inf, "c": 2.5})], "d": "NaN", "e": True, "f": None, "g": 10**20}
    expected = {"a": [None, [None, {"b": None, "c": 2.5}]], "d": "NaN", "e": True, "f": None, "g": 10**20}
    assert json.loads(json_text(content, indent), parse_constant=refuse) == expected


def test_plain_content_is_written_as_json_writes_it() -> None:
    content: dict[str, Any] = {"b": [1, 2.5, "ä"], "a": {"c": None}}
    assert json_text(content) == json.dumps(content)
    with pytest.raises(TypeError):
        json_text({"a": torch.zeros(1)})
