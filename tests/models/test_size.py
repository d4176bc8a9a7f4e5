"""Rows beyond ``size``: programs and what learns refuse them, what reads takes any number."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from pyro_gen import models
from pyro_gen._plates import AnyRows, counted_plate, rows_plate
from pyro_gen.infer import WakeSleep
from tests.models.public import PROGRAMS, TABLE, bits

SIZE = 10


def sized(name: str) -> bool:
    return "size" in inspect.signature(getattr(models, name.split(" ", maxsplit=1)[0])).parameters


PAIRS = [name for name in TABLE if sized(name)]


def programs(model: Any) -> list[Any]:
    return [getattr(model, program) for program in PROGRAMS if hasattr(model, program)]


def test_every_public_model_with_programs_has_a_size() -> None:
    assert set(TABLE) - set(PAIRS) == {"PCA"}


@pytest.mark.parametrize("name", PAIRS)
def test_programs_refuse_more_rows_than_size_and_take_fewer(name: str) -> None:
    pyro.set_rng_seed(0)
    entry = TABLE[name]
    model = entry.make(SIZE)
    assert programs(model)
    for program in programs(model):
        for count in (SIZE, 4):
            with torch.no_grad():
                poutine.trace(program).get_trace(*entry.rows(count))
        with pytest.raises(ValueError, match=r"`size` must be .* got size=10 and 11 rows"):
            program(*entry.rows(SIZE + 1))
        with torch.no_grad(), AnyRows():
            poutine.trace(program).get_trace(*entry.rows(SIZE + 1))


@pytest.mark.parametrize("name", PAIRS)
def test_what_learns_from_all_rows_refuses_more_than_size(name: str) -> None:
    pyro.set_rng_seed(0)
    for method, learn in TABLE[name].learns.items():
        model = TABLE[name].make(SIZE)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=r"`size` must be .* got size=10 and 11 rows"):
            learn(model, SIZE + 1)
        moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
        assert not moved, f"{method} has moved {moved}"
        learn(model, SIZE)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "size", [2.5, float("nan"), float("inf"), 0, -1, True, "3", torch.tensor(2.0), torch.tensor(True)]
)
def test_a_size_is_a_whole_number(name: str, size: Any) -> None:
    with pytest.raises(ValueError, match="`size`"):
        TABLE[name].make(size)


@pytest.mark.parametrize("name", PAIRS)
def test_numpy_s_and_torch_s_integers_are_sizes(name: str) -> None:
    sizes: list[Any] = [torch.tensor(3), np.array(3), np.int64(3), np.uint8(3)]
    for size in sizes:
        model = TABLE[name].make(size)
        assert model.size == 3
        assert type(model.size) is int


def test_the_plates_scale_minibatches_and_refuse_the_rest() -> None:
    x = bits(4)
    for plate in (rows_plate(8, x), counted_plate(8, 4), counted_plate(None, 4), rows_plate(8, None)):
        with plate as index:
            assert plate.size == (8 if plate.subsample_size != plate.size or len(index) == 8 else 4)
    for make in (lambda: rows_plate(3, x), lambda: counted_plate(3, 4)):
        with pytest.raises(ValueError, match="got size=3 and 4 rows"):
            make()
        with AnyRows():
            make()


def test_more_dreams_than_rows_are_no_rows_of_data() -> None:
    pyro.set_rng_seed(0)
    network = models.SigmoidBeliefNetwork(6, [3], size=4)
    loss = WakeSleep(2, insomnia=0.5, dream=lambda: network.dream(50))
    assert loss.loss_and_grads(network.model, network.guide, bits(4)) > 0
