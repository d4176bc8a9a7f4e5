"""Components of a posterior are put in order, and everything else stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_gen import arviz, infer


def posterior() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    locs = torch.tensor([-2.0, 2.0]) + 0.1 * torch.randn(2, 50, 2)
    locs[1] = locs[1].flip(-1)
    weights = torch.tensor([0.3, 0.7]).expand(2, 50, 2).clone()
    weights[1] = weights[1].flip(-1)
    return {"locs": locs, "weights": weights, "noise": torch.rand(2, 50)}, infer.order_components(locs)


def test_named_sites_are_in_order_and_others_as_they_were() -> None:
    draws, permutations = posterior()
    data = arviz.from_chains(
        draws, sample_stats={"lp": torch.rand(2, 50)}, dims={"locs": ["component"]}, attrs={"seed": 3}
    )
    axes: dict[str, int | None] = {"locs": -1, "weights": -1}
    result = arviz.relabel(data, permutations, axes)
    assert type(result) is type(data)
    expected = infer.permute_draws(draws, permutations, axes)
    for name, value in expected.items():
        np.testing.assert_array_equal(result["posterior"][name].values, value.numpy())
        assert result["posterior"][name].dims == data["posterior"][name].dims
    assert (result["posterior"]["locs"].values[..., 0] < 0).all()
    assert (data["posterior"]["locs"].values[1, :, 0] > 0).all()  # the input is not changed
    np.testing.assert_array_equal(result["sample_stats"]["lp"].values, data["sample_stats"]["lp"].values)
    assert result["posterior"].attrs["seed"] == 3


def test_bad_input_is_named() -> None:
    draws, permutations = posterior()
    data = arviz.from_chains(draws)
    with pytest.raises(ValueError, match=r"`axes` must name sites among .* got unknown"):
        arviz.relabel(data, permutations, {"means": -1})
    with pytest.raises(ValueError, match=r"`permutations`|shape"):
        arviz.relabel(data, permutations[:, :3], {"locs": -1})
    del data["posterior"]
    with pytest.raises(ValueError, match=r"`data` must have the group 'posterior'"):
        arviz.relabel(data, permutations, {"locs": -1})
