"""Networks that read one feature a step, and strings of varying length."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import AutoregressiveStrings, SymbolConditional


def letters(length: int = 4, symbols: int = 2, **settings: object) -> nn.SequenceAR:
    """A network over short strings, with random weights in float64."""
    torch.manual_seed(0)
    made = nn.SequenceAR(length, symbols, 3, **settings).double()  # type: ignore[arg-type]
    for p in made.parameters():
        torch.nn.init.normal_(p)
    return made


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_strings_and_the_tail_sum_to_one(cell: str, context: int, length: int) -> None:
    made = letters(length, cell=cell, context=context)
    density = made(torch.randn(3, 2, dtype=torch.float64) if context else None)
    rows = density.enumerate_support()
    assert len(rows) == density.num_states == 2 ** (length + 1) - 1
    total = density.log_prob(rows).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_the_tail_is_what_longer_rows_hold() -> None:
    made = letters(3)
    longer = made.of_length(6)()
    rows = longer.enumerate_support()
    of_each: dict[tuple[int, ...], Tensor] = {}
    for row, probability in zip(rows, longer.log_prob(rows).exp(), strict=True):
        key = tuple(row[:3].tolist())
        of_each[key] = of_each.get(key, torch.zeros(()).double()) + probability
    short = made().enumerate_support()
    assert set(of_each) == set(map(tuple, short.tolist()))
    torch.testing.assert_close(made().log_prob(short).exp(), torch.stack([of_each[tuple(r)] for r in short.tolist()]))


def test_a_string_has_the_same_probability_in_rows_of_any_length() -> None:
    made = letters(2)
    strings = [[], [1], [0]]
    expected = made().log_prob(made.padded(strings))
    for length in (3, 10):
        view = made.of_length(length)
        assert torch.equal(view.symbol_bias, made.symbol_bias)
        torch.testing.assert_close(view().log_prob(view.padded(strings)), expected)


def test_what_follows_an_end_is_an_end() -> None:
    density = letters(8)()
    torch.manual_seed(1)
    drawn, log_prob = density.sample_and_log_prob((500,))
    assert drawn.dtype == torch.int64
    assert density.support.check(drawn).all()
    lengths = density.lengths(drawn)
    assert 0 == lengths.min() < lengths.max() == 8
    torch.testing.assert_close(density.log_prob(drawn), log_prob)
    with pytest.raises(ValueError, match="support"):
        density.log_prob(torch.tensor([0, 2, 0, 2, 2, 2, 2, 2]))


def test_samples_are_those_of_full_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    density = letters(6, num_layers=2, context=1)(torch.ones(2, 1, dtype=torch.float64))
    torch.manual_seed(1)
    drawn = density.sample((100,))
    for name in ("first", "after"):
        monkeypatch.setattr(nn.SequenceAR, name, getattr(nn.AutoregressiveNetwork, name))
    torch.manual_seed(1)
    assert torch.equal(density.sample((100,)), drawn)


def test_a_reader_may_begin_a_string() -> None:
    density = letters(4)()
    generation = density.start((50,))
    for symbol in (1, 0, 2):
        generation = density.next(generation, torch.full((50,), symbol))
    assert generation.distribution is not None
    assert generation.distribution.probs[..., 2].eq(1).all()
    rows = density.event_of(density.next(generation))
    assert rows.eq(torch.tensor([1, 0, 2, 2])).all()
    torch.testing.assert_close(density.log_prob(rows), generation.log_prob)


def test_rows_are_padded_and_cut() -> None:
    made = letters(3)
    assert made.padded([[], [1], [0, 1, 1, 1]]).tolist() == [[2, 2, 2], [1, 2, 2], [0, 1, 1]]
    assert made.padded([]).shape == (0, 3)
    assert made().log_prob(made.padded([])).shape == (0,)


def test_a_network_from_data_starts_at_the_shares_of_symbols() -> None:
    x = torch.tensor([[0, 0, 2, 2], [2, 2, 2, 2], [0, 1, 0, 0]])
    made = nn.SequenceAR.from_data(x, 2, 3)
    shares = torch.tensor([5 + 1, 1 + 1, 2 + 1]) / 11
    torch.testing.assert_close(made.symbol_bias.exp(), shares)


def test_svi_with_clipped_gradients_learns_when_to_end() -> None:
    pyro.set_rng_seed(0)
    made = letters(5)
    x = made.padded([[0, 1], [0, 1, 0, 1], []]).repeat(5, 1)

    def model(batch: Tensor) -> None:
        pyro.module("letters", made)
        with pyro.plate("rows", len(batch)):
            pyro.sample("x", made(), obs=batch)

    svi = SVI(model, lambda batch: None, pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 1.0}), Trace_ELBO())
    for _ in range(150):
        svi.step(x)
    reached = made().log_prob(x).mean().item()
    assert -math.log(3) - 0.1 < reached <= -math.log(3)


def test_copies_of_views_keep_their_length() -> None:
    view = letters(2).of_length(3)
    again = copy.deepcopy(view)
    assert isinstance(again(), AutoregressiveStrings)
    assert again().event_shape == (3,)
    x = view().enumerate_support()
    assert torch.equal(again().log_prob(x), view().log_prob(x))
    other = letters(7)
    other.load_state_dict(view.state_dict())  # weights know of no length
    torch.testing.assert_close(other.of_length(3)().log_prob(x), view().log_prob(x))


def test_a_recurrent_step_costs_the_same_at_every_place() -> None:
    made = nn.RecurrentAR(9, 4, 2, cell="lstm")
    _, place = made.begin(3, None, made.example)
    shapes = [x.shape for x in place.state[0]]
    for _ in range(8):
        _, place = made.proceed(place, torch.ones(3))
        assert [x.shape for x in place.state[0]] == shapes


def test_a_transformer_keeps_one_key_and_value_a_step() -> None:
    made = nn.CausalTransformer(5, 8, heads=2, num_layers=3)
    _, place = made.begin(3, None, made.example)
    for step in range(2, 6):
        _, place = made.proceed(place, torch.ones(3))
        assert [tuple(x.shape) for x in place.state[0]] == [(3, 2, step, 4)] * 6


def test_states_may_be_gone_on_from_twice() -> None:
    for made in (nn.MADE(4, [6]), nn.RecurrentAR(4, 3), nn.CausalTransformer(4, 4, 1, 1)):
        density = made()
        with torch.no_grad():
            begun = density.next(density.start((2,)), torch.ones(2))
            once = density.next(begun, torch.zeros(2))
            density.next(begun, torch.ones(2))
            again = density.next(begun, torch.zeros(2))
        for _ in range(2):
            once, again = density.next(once, torch.ones(2)), density.next(again, torch.ones(2))
        assert torch.equal(once.log_prob, again.log_prob)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SequenceAR(0, 2, 3), "`length` must be at least 1, got 0"),
        (lambda: nn.SequenceAR(3, 0, 3), "`num_symbols` must be at least 1, got 0"),
        (lambda: SymbolConditional(0), "`num_symbols` must be at least 1, got 0"),
        (lambda: nn.SequenceAR(3, 2, 0), "`hidden_features` must be at least 1, got 0"),
        (lambda: nn.RecurrentAR(3, 2, 0), "`num_layers` must be at least 1, got 0"),
        (lambda: nn.RecurrentAR(3, 2, cell="rnn"), "`cell` must be 'gru' or 'lstm', got 'rnn'"),  # type: ignore[arg-type]
        (lambda: nn.CausalTransformer(3, 6, 4), "`heads` must divide `hidden_features`, got 4 and 6"),
        (lambda: nn.CausalTransformer(3, 0), "must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("symbol", [30, -1, 1.5, 5, True, "a"])
def test_a_symbol_that_the_network_does_not_know_is_named(symbol: Any) -> None:
    network = nn.SequenceAR(8, 5, 6)
    with pytest.raises(ValueError, match=f"`strings` must hold symbols from 0 to 4, got the symbol {symbol!r}"):
        network.padded([[0, symbol, 2]])
