"""Systematic resampling: what is even stays, what is heavy is copied in proportion."""

from __future__ import annotations

import torch

from pyro_gen.distributions.log_z.resampling import effective_size, systematic


def test_chains_of_one_weight_are_all_kept_and_heavy_ones_are_copied_in_proportion() -> None:
    place = torch.tensor(0.5).double()
    assert systematic(torch.zeros(8).double(), place).tolist() == list(range(8))
    half = torch.tensor([0, 0.5, 0, 0, 0.25, 0, 0, 0.25]).double()
    assert systematic(half.log(), place).tolist() == [1, 1, 1, 1, 4, 4, 7, 7]


def test_effective_size_counts_chains_of_one_weight() -> None:
    weights = torch.tensor([1.0, 1.0, 0.0, 2.0]).double()
    torch.testing.assert_close(effective_size(weights.log()), torch.tensor(16 / 6).double())
