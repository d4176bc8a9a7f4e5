"""Likelihood weighting: draws from parents to children with observed nodes fixed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network import Evidence
from pyro_gen.distributions.bayesian_network.tables import draw_states
from pyro_gen.infer.bayesian_network.problem import Problem
from pyro_gen.infer.bayesian_network.weighting import WeightedMarginals, weighted_marginals


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
    everywhere without evidence, so that the node is drawn from its table, and one at
    the observed state only, so that this state is fixed and its probability is a
    weight. Draws do not take later evidence into account: with improbable evidence
    below many nodes the weights become uneven, as the result's diagnostics and a
    warning show.

    Args:
        network: a Bayesian network, the distribution or the model.
        evidence: as in exact inference.
        num_samples: draws for each row.
        nodes: which marginals; None for all.

    Returns:
        Marginals, log evidence with its standard error, and diagnostics of the weights.

    Raises:
        ValueError: evidence is malformed, or no draw agrees with it (it names the rows).

    References:
        Fung and Chang (1990), Weighing and integrating evidence for stochastic
        simulation in Bayesian networks. Shachter and Peot (1990), Simulation approaches
        to general probabilistic inference on belief networks.

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


__all__ = ["likelihood_weighting", "weighted_draws"]
