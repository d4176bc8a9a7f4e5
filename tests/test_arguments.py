"""Whole numbers of every kind pass, and nothing else does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyro_gen._arguments import whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_every_integer_is_taken(value: object) -> None:
    number = whole_number("size", value)
    assert type(number) is int
    assert number == 3


@pytest.mark.parametrize("value", [2.5, 3.0, math.nan, math.inf, "3", None, True, np.float64(3), torch.tensor(3.0)])
def test_what_is_no_whole_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="`size` must be a whole number of at least 1, got"):
        whole_number("size", value)


def test_a_number_below_the_least_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        whole_number("size", 0)
