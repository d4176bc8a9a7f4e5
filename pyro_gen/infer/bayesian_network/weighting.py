"""Marginals from weighted draws, with diagnostics: likelihood weighting, and what others share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen._weights import warn_of_weights
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network import Evidence
from pyro_gen.distributions.bayesian_network.tables import draw_states
from pyro_gen.infer.bayesian_network.problem import Problem
from pyro_gen.infer.elbo.pareto import pareto_k

CELLS = 2**24
"""Draws times rows times nodes that are held at a time."""


class WeightedMarginals(NamedTuple):
    r"""Marginals from draws with weights w, and diagnostics, (rows,) or () for one case.

    Args:
        marginals: by node, (rows, states), or (states,) for one case.
        log_evidence: :math:`\log \frac1S \sum_s w_s`, in nats; the mean itself
            is unbiased.
        standard_error: of ``log_evidence``, by the delta method; not valid if
            k-hat is above 0.7.
        effective_sample_size: :math:`(\sum w)^2 / \sum w^2`.
        pareto_k: k-hat of the weights' tail; below 0.7 they are reliable;
            infinite if a few draws carry all the weight.
    """

    marginals: dict[str, Tensor]
    log_evidence: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor


class Weighed(NamedTuple):
    """Result of a block of rows: marginals by number of the node, four diagnostics, (rows,)."""

    marginals: dict[int, Tensor]
    diagnostics: tuple[Tensor, Tensor, Tensor, Tensor]


def weigh(
    problem: Problem, values: dict[int, Tensor], log_weight: Tensor, nodes: list[int]
) -> Weighed:
    """Marginals of nodes from draws by number of the node and log weights, (draws, rows) each.

    Raises:
        ValueError: all weights of a row are zero.
    """
    top = log_weight.amax(0)
    problem.refuse(
        top == -torch.inf,
        f"none of {len(log_weight)} draws agrees with the evidence: it is impossible, "
        "or too improbable for this",
    )
    ratio = (log_weight - top).exp()
    mean = ratio.mean(0)
    weight = ratio / ratio.sum(0)
    marginals = {}
    for i in nodes:
        states = problem.structure.cardinalities[i]
        index = values[i].expand(weight.shape)
        sums = weight.new_zeros(states, weight.shape[1])
        marginals[i] = sums.scatter_add(0, index, weight).mT
    draws = len(ratio)
    variance = torch.full_like(mean, math.nan)
    if draws > 1:
        variance = (ratio - mean).square().sum(0) / (draws - 1)
    error = (variance / draws).sqrt() / mean
    size = 1 / weight.square().sum(0)
    return Weighed(marginals, (top + mean.log(), error, size, pareto_k(log_weight)))


Draws = Callable[[Problem, int], tuple[dict[int, Tensor], Tensor]]
"""Function of rows of a problem and a number of draws.

It returns states by number of the node, and log weights, (draws, rows) each.
"""


def weighted_marginals(
    problem: Problem, draws: Draws, num_samples: int, nodes: Iterable[str] | None
) -> WeightedMarginals:
    """Marginals from weighted draws, for as many rows at a time as fit into memory.

    It warns of uneven weights, and raises if all weights of a row are zero.
    """
    num_samples = whole_number("num_samples", num_samples)
    queried = problem.wanted(nodes)
    size = max(1, CELLS // (num_samples * len(problem.structure.nodes)))
    weighed = []
    for start in range(0, max(problem.count, 1), size):
        block = problem.slice(start, min(start + size, problem.count))
        weighed.append(weigh(block, *draws(block, num_samples), queried))
    result = _gathered(problem, weighed, queried)
    consequence = (
        "neither marginals nor log evidence need be near. Take more draws, or exact inference"
    )
    sizes = result.effective_sample_size
    warn_of_weights(sizes, num_samples, None, consequence)
    return result


def _gathered(problem: Problem, blocks: list[Weighed], nodes: list[int]) -> WeightedMarginals:
    """The answer for all rows."""
    diagnostics = zip(*(block.diagnostics for block in blocks), strict=True)
    log_evidence, error, size, k = map(torch.cat, diagnostics)
    marginals = {}
    for i in nodes:
        marginal = torch.cat([block.marginals[i] for block in blocks])
        marginals[problem.structure.nodes[i]] = problem.given(marginal)
    log_evidence = log_evidence + problem.log_scale
    columns = map(problem.given, (log_evidence, error, size, k))
    return WeightedMarginals(marginals, *columns)


@torch.no_grad()
def likelihood_weighting(
    network: BayesianNetwork | nn.Module,
    evidence: Evidence | Tensor | None = None,
    num_samples: int = 1000,
    nodes: Iterable[str] | None = None,
) -> WeightedMarginals:
    r"""Marginals given evidence from weighted draws of the network.

    .. math:: x_v \sim \frac{p(x_v | x_{\mathrm{pa}(v)})\, \ell_v(x_v)}{c_v}, \qquad
              c_v = \sum_{x_v} p(x_v | x_{\mathrm{pa}(v)})\, \ell_v(x_v), \qquad w = \prod_v c_v

    where :math:`\ell_v` is the likelihood of what is known of node v: it is one
    everywhere without evidence, so that the node is drawn from its table, and
    one at the observed state only, so that this state is fixed and its
    probability is a weight. Draws do not take later evidence into account: with
    improbable evidence below many nodes the weights become uneven, as the
    result's diagnostics and a warning show.

    Args:
        network: a Bayesian network, the distribution or the model.
        evidence: as in exact inference.
        num_samples: draws for each row.
        nodes: which marginals; None for all.

    Returns:
        Marginals, log evidence with its standard error, and diagnostics of the
        weights.

    Raises:
        ValueError: evidence is malformed, or no draw agrees with it (it names
            the rows).

    References:
        Fung and Chang (1990), Weighing and integrating evidence for stochastic
        simulation in Bayesian networks. Shachter and Peot (1990), Simulation
        approaches to general probabilistic inference on belief networks.

    Example:
        >>> import networkx as nx
        >>> wet = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> tables = {"rain": torch.tensor([0.8, 0.2]), "wet": wet}
        >>> network = BayesianNetwork(nx.DiGraph([("rain", "wet")]), tables)
        >>> result = likelihood_weighting(network, {"rain": 1}, num_samples=100)
        >>> # evidence at a root: all weights are equal
        >>> result.log_evidence.exp(), result.effective_sample_size
        (tensor(0.2000), tensor(100.0000))
    """
    return weighted_marginals(Problem.of(network, evidence), weighted_draws, num_samples, nodes)


def weighted_draws(problem: Problem, num_samples: int) -> tuple[dict[int, Tensor], Tensor]:
    """States by number of the node and log weights, each (draws, rows)."""
    shape = num_samples, problem.count
    values: dict[int, Tensor] = {}
    log_weight = problem.tables.new_zeros(shape)
    for i in problem.structure.order:
        probs = problem.rows_of(i, values)
        if i in problem.likelihoods:
            probs = probs * problem.likelihoods[i]
            log_weight = log_weight + probs.sum(-1).log()
        values[i] = draw_states(probs.expand(*shape, probs.shape[-1]))
    return values, log_weight


__all__ = [
    "Draws",
    "Weighed",
    "WeightedMarginals",
    "likelihood_weighting",
    "weigh",
    "weighted_draws",
    "weighted_marginals",
]
