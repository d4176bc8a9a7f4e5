"""Label switching undone: on draws whose labels were shuffled on purpose, and on a posterior known by enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gen.infer import (
    order_components,
    permute_assignments,
    permute_components,
    permute_draws,
    relabel_by_probabilities,
    relabel_iteratively,
)
from pyro_gen.models import GaussianMixture

CHAINS, DRAWS, ROWS, K = 3, 40, 30, 4
Draws = dict[str, Tensor]


def clean() -> Draws:
    """Draws of a mixture of four well separated components, every label in its place."""
    locs = torch.arange(K) * 10 + torch.randn(CHAINS, DRAWS, K)
    weights = torch.distributions.Dirichlet(torch.full((K,), 50.0)).sample((CHAINS, DRAWS))
    truth = torch.arange(ROWS) % K
    x = truth * 10 + torch.randn(ROWS)
    log_joint = weights.log().unsqueeze(-2) - (x.unsqueeze(-1) - locs.unsqueeze(-2)).square() / 2
    probs = log_joint.softmax(-1)
    z = torch.distributions.Categorical(probs).sample()
    return {"locs": locs, "weights": weights, "z": z, "probs": probs}


def shuffled(draws: Draws) -> tuple[Draws, Tensor]:
    """The same draws under random labels, and the permutations that undo these."""
    mixed = torch.rand(CHAINS, DRAWS, K).argsort(-1)
    own = permute_draws({k: v for k, v in draws.items() if k != "z"}, mixed, {"locs": None, "weights": 2, "probs": -1})
    return {**own, "z": permute_assignments(draws["z"], mixed)}, mixed.argsort(-1)


METHODS: dict[str, Callable[[Draws, Draws], Tensor]] = {
    "ordering": lambda mixed, _: order_components(mixed["locs"]),
    "iterative": lambda mixed, own: relabel_iteratively(mixed["z"], K),
    "probabilities": lambda mixed, own: relabel_by_probabilities(mixed["probs"]),
}
every_method = pytest.mark.parametrize("name", METHODS)


@every_method
def test_random_permutations_of_separated_draws_are_undone_exactly(name: str) -> None:
    own = clean()
    mixed, undo = shuffled(own)
    found = METHODS[name](mixed, own)
    # Ordering knows the labels; the others find them up to one permutation of all draws.
    fixed = permute_components(undo.argsort(-1), found)
    assert (fixed == fixed[0, 0]).all()
    if name == "ordering":
        assert torch.equal(found, undo)
        assert torch.equal(permute_components(mixed["locs"], found), own["locs"])
        assert torch.equal(permute_assignments(mixed["z"], found), own["z"])


@every_method
def test_relabelling_what_is_relabelled_changes_nothing(name: str) -> None:
    own = clean()
    mixed, _ = shuffled(own)
    found = METHODS[name](mixed, own)
    again = {key: permute_components(mixed[key], found, axis) for key, axis in AXES.items()}
    again["z"] = permute_assignments(mixed["z"], found)
    assert (METHODS[name](again, own) == torch.arange(K)).all()


AXES = {"locs": 2, "weights": 2, "probs": 3}


@every_method
def test_quantities_without_labels_stay_as_they_were(name: str) -> None:
    x = torch.randn(ROWS, 1).double()
    mixture = GaussianMixture.from_data(x, K, "diagonal")
    own = clean()
    mixed, _ = shuffled(own)
    draws = {
        "weights": mixed["weights"].double(),
        "locs": mixed["locs"].double().unsqueeze(-1),
        "covariances": mixed["locs"].double().exp().unsqueeze(-1),
    }
    relabelled = permute_draws(draws, METHODS[name](mixed, own), dict.fromkeys(draws, 2))
    before, after = (mixture.log_likelihood(x, parameters=own) for own in (draws, relabelled))
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)


@every_method
def test_relabelled_means_are_those_of_the_posterior_of_labelled_components(name: str) -> None:
    # Draws of means m_k of N(+-3, 0.5^2), labels by coin: the means of 5000 draws within 5 standard errors, 2e-6.
    count = 5000
    locs = torch.tensor([-3.0, 3.0]) + torch.randn(count, 2) / 2
    x = torch.tensor([-3.1, -2.9, 2.8, 3.0, 3.3])
    probs = (-(x.unsqueeze(-1) - locs.unsqueeze(-2)).square() / 2).softmax(-1)
    flip = (torch.rand(count, 1) < 0.5).long()
    order = torch.cat([flip, 1 - flip], -1)
    mixed = {
        "locs": permute_components(locs, order),
        "z": permute_assignments(torch.distributions.Categorical(probs).sample(), order),
        "probs": permute_components(probs, order, 2),
    }
    methods = {**METHODS, "iterative": lambda mixed, _: relabel_iteratively(mixed["z"], 2)}
    found = permute_components(mixed["locs"], methods[name](mixed, mixed)).mean(0).sort().values
    assert ((found - torch.tensor([-3.0, 3.0])).abs() < 5 * 0.5 / count**0.5).all()


def test_the_iterated_pivot_and_stephens_choose_the_best_of_all_permutations() -> None:
    z = torch.randint(3, (50, 8))
    found = relabel_iteratively(z, 3)
    relabelled = permute_assignments(z, found)
    pivot = torch.stack([(relabelled == k).sum(0) for k in range(3)], -1).argmax(-1)
    agreement = (relabelled == pivot).sum(-1)
    orders = torch.tensor(list(itertools.permutations(range(3))))
    every = torch.stack([(permute_assignments(z, o.expand(50, 3)) == pivot).sum(-1) for o in orders])
    assert torch.equal(agreement, every.amax(0))
    p = torch.rand(50, 8, 3).double().softmax(-1)
    fixed = permute_components(p, relabel_by_probabilities(p), 2)
    q = fixed.mean(0)
    loss = (fixed * (fixed / q).log()).sum((-1, -2))
    others = torch.stack([(p[..., o] * (p[..., o] / q).log()).sum((-1, -2)) for o in orders])
    torch.testing.assert_close(loss, others.amin(0))


def test_arrays_give_arrays_and_any_leading_shape_serves() -> None:
    own = clean()
    locs = own["locs"].numpy()
    found = order_components(locs)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(permute_components(locs, found), np.sort(locs, -1))
    tied = own["probs"].unsqueeze(-1).expand(-1, -1, -1, -1, 2)
    assert permute_components(tied, torch.as_tensor(found), 3).shape == tied.shape
    assert relabel_by_probabilities(own["probs"][0, 0]).shape == (K,)
    assert relabel_iteratively(own["z"].reshape(-1, ROWS), K).shape == (CHAINS * DRAWS, K)
    start = order_components(own["locs"])
    assert torch.equal(relabel_iteratively(own["z"], K, start), relabel_iteratively(own["z"], K))


def test_one_component_stays_one() -> None:
    assert (relabel_iteratively(torch.zeros(5, 3, dtype=torch.long), 1) == 0).all()
    assert (relabel_by_probabilities(torch.ones(5, 3, 1)) == 0).all()


def test_bad_input_is_named() -> None:
    z, order = torch.zeros(5, 3, dtype=torch.long), torch.arange(2).expand(5, 2)
    faults: list[tuple[Callable[[], object], str]] = [
        (lambda: order_components(torch.tensor([torch.nan, 1.0])), "`key`"),
        (lambda: relabel_iteratively(z + 2, 2), "`assignments` must be integers"),
        (lambda: relabel_iteratively(z.float(), 2), "`assignments` must be integers"),
        (lambda: relabel_iteratively(z, 2, order[:2]), "`start` must have shape"),
        (lambda: relabel_by_probabilities(torch.ones(5, 3, 2)), "`responsibilities` must be probabilities"),
        (lambda: permute_components(torch.ones(4, 2), order), "`values` must have shape"),
        (lambda: permute_components(torch.ones(5, 3), order), "`values` must have shape"),
        (lambda: permute_components(torch.ones(5, 2), order, 0), "`values` must have shape"),
        (lambda: permute_components(torch.ones(5, 2), torch.zeros(5, 2).long()), "`permutations` must hold"),
        (lambda: permute_assignments(z[:2], order), "`assignments` must have shape"),
        (lambda: permute_draws({"a": torch.ones(5, 2)}, order, {"b": None}), "`axes` must name sites"),
    ]
    for fault, message in faults:
        with pytest.raises(ValueError, match=message):
            fault()
