"""Gibbs sampling of a Bayesian network: all chains and rows at once, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pyro_gen._arguments import whole_number
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network import Evidence
from pyro_gen.distributions.bayesian_network.elimination import safe_log
from pyro_gen.distributions.bayesian_network.tables import draw_states
from pyro_gen.infer.bayesian_network.problem import Problem
from pyro_gen.infer.bayesian_network.weighting import weighted_draws

TOGETHER = 256
"""States of nodes that are drawn together, at most."""
RARE = 0.05
"""Probability below which a family is drawn together: its nodes would move slowly alone."""
STARTS = 100
"""Weighted draws from which a chain's start is picked."""


class GibbsMarginals(NamedTuple):
    """Marginals from Gibbs chains, with diagnostics: the worst over states, (rows,) or ().

    Args:
        marginals: by node, (rows, states), or (states,) for one case.
        r_hat: split R-hat; about 1 where chains agree, infinite if they are
            stuck at different states.
        effective_sample_size: of all chains together.
    """

    marginals: dict[str, Tensor]
    r_hat: dict[str, Tensor]
    effective_sample_size: dict[str, Tensor]


class Factor(NamedTuple):
    """Log table of a family given the nodes outside a block, (configurations, block states)."""

    outside: tuple[tuple[int, int], ...]
    """Numbers of the nodes outside, and their strides."""
    logs: Tensor


@dataclass(frozen=True)
class NodeBlock:
    """Nodes that are drawn together from their conditional given all other nodes.

    Args:
        nodes: their numbers.
        states: the states of each node in every state of the block, (states of
            the block, nodes).
        factors: the families that they are in.
        likelihood: log likelihood of evidence on them, (rows or 1, states of
            the block).
    """

    nodes: tuple[int, ...]
    states: Tensor
    factors: tuple[Factor, ...]
    likelihood: Tensor

    def update(self, values: dict[int, Tensor]) -> None:
        """Redraw the nodes in place."""
        logits = self.likelihood
        for factor in self.factors:
            code: Tensor | int = 0
            for i, stride in factor.outside:
                code = code + values[i] * stride
            logits = logits + factor.logs[code]
        shape = values[self.nodes[0]].shape
        probs = (logits - logits.amax(-1, keepdim=True)).exp()
        index = draw_states(probs.expand(*shape, probs.shape[-1]))
        new_states = self.states[index]
        for i, state in zip(self.nodes, new_states.unbind(-1), strict=True):
            values[i] = state


@torch.no_grad()
def gibbs_marginals(
    network: BayesianNetwork | nn.Module,
    evidence: Evidence | Tensor | None = None,
    num_samples: int = 1000,
    num_chains: int = 4,
    warmup_steps: int = 200,
    nodes: Iterable[str] | None = None,
) -> GibbsMarginals:
    r"""Marginals given evidence by Gibbs sampling, chains and rows in parallel.

    .. math:: p(x_B | \text{rest})
              \propto \prod_{v:\, (\{v\} \cup \mathrm{pa}(v)) \cap B \ne \emptyset}
              p(x_v | x_{\mathrm{pa}(v)})

    Blocks B are single nodes, and the families of nodes whose tables hold a
    probability of at most 0.05 (an "or" cannot change unless its cause does),
    up to 256 states. Near-deterministic dependence over several nodes can still
    separate chains, which R-hat shows. Chains start at draws of likelihood
    weighting.

    For models in which a network is only a part, use ``Gibbs([(DiscreteGibbs(),
    nodes)], network.model)``, which takes any Pyro program but runs all of it
    for every state of every node.

    Args:
        network: a Bayesian network, the distribution or the model.
        evidence: as in exact inference.
        num_samples: draws of each chain that are kept.
        num_chains: chains.
        warmup_steps: sweeps before them.
        nodes: which marginals; None for all.

    Returns:
        Marginals, R-hat and effective sample sizes.

    Raises:
        ValueError: evidence is malformed, or no start agrees with it (it names
            the rows).

    References:
        Pearl (1987), Evidential reasoning using stochastic simulation of causal
        models. Jensen, Kong and Kjaerulff (1995), Blocking Gibbs sampling in
        very large probabilistic expert systems.

    Example:
        >>> import networkx as nx
        >>> wet = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> tables = {"rain": torch.tensor([0.8, 0.2]), "wet": wet}
        >>> network = BayesianNetwork(nx.DiGraph([("rain", "wet")]), tables)
        >>> result = gibbs_marginals(network, {"wet": 1}, num_samples=500)
        >>> bool((result.marginals["rain"][1] - 2 / 3).abs() < 0.1 and result.r_hat["rain"] < 1.1)
        True
    """
    num_samples = whole_number("num_samples", num_samples, 4)
    num_chains = whole_number("num_chains", num_chains)
    warmup_steps = whole_number("warmup_steps", warmup_steps, 0)
    problem = Problem.of(network, evidence)
    queried = problem.wanted(nodes)
    values = _start_states(problem, num_chains)
    plan = [_block_of(problem, nodes_) for nodes_ in _blocks_of_nodes(problem)]
    draws_of: dict[int, list[Tensor]] = {i: [] for i in queried}
    for sweep in range(warmup_steps + num_samples):
        for block in plan:
            block.update(values)
        if sweep >= warmup_steps:
            for i in queried:
                draws_of[i].append(values[i].to(torch.int16))
    stacked = {i: torch.stack(draws, 1) for i, draws in draws_of.items()}
    return _result(problem, stacked)


def _start_states(problem: Problem, num_chains: int) -> dict[int, Tensor]:
    """States (chains, rows), picked among weighted draws."""
    values, log_weight = weighted_draws(problem, STARTS * num_chains)
    top = log_weight.amax(0)
    problem.refuse(
        top == -torch.inf,
        f"no start of {len(log_weight)} agrees with the evidence: it is impossible, "
        "or too improbable for this method",
    )
    weights = (log_weight - top).exp().mT
    index = torch.multinomial(weights, num_chains, replacement=True).mT
    shape = log_weight.shape
    return {i: value.expand(shape).gather(0, index) for i, value in values.items()}


def _blocks_of_nodes(problem: Problem) -> list[tuple[int, ...]]:
    """Nodes that are drawn together, those that are observed in all rows left out."""
    structure = problem.structure
    likelihoods = problem.likelihoods.items()
    fixed = {i for i, x in likelihoods if ((x > 0).sum(-1) == 1).all()}
    blocks = []
    for i in structure.order:
        block = tuple(j for j in structure.families[i] if j not in fixed)
        states = math.prod(structure.cardinalities[j] for j in block)
        is_rare = (problem.parts[i] <= RARE).any()
        if is_rare and len(block) > 1 and states <= TOGETHER:
            blocks.append(block)
    covered = fixed.union(*blocks)
    return blocks + [(i,) for i in structure.order if i not in covered]


def _block_of(problem: Problem, nodes: tuple[int, ...]) -> NodeBlock:
    structure = problem.structure
    sizes = [structure.cardinalities[i] for i in nodes]
    axes = [torch.arange(size, device=problem.tables.device) for size in sizes]
    states = torch.cartesian_prod(*axes).view(-1, len(nodes))
    families = sorted({j for i in nodes for j in (i, *structure.children[i])})
    likelihood = problem.tables.new_zeros(1, len(states))
    for i, node_states in zip(nodes, states.unbind(1), strict=True):
        if i in problem.likelihoods:
            log_likelihood = safe_log(problem.likelihoods[i])
            likelihood = likelihood + log_likelihood[:, node_states]
    factors = tuple(_factor(problem, nodes, j) for j in families)
    return NodeBlock(nodes, states, factors, likelihood)


def _factor(problem: Problem, nodes: tuple[int, ...], j: int) -> Factor:
    """The log table of a family, the block's nodes last and all of them there."""
    family = problem.structure.families[j]
    cardinalities = problem.structure.cardinalities
    table = problem.parts[j].view([cardinalities[i] for i in family])
    outside = [i for i in family if i not in nodes]
    inside = [i for i in nodes if i in family]
    table = table.permute([family.index(i) for i in (*outside, *inside)])
    sizes = [cardinalities[i] for i in nodes]
    own_sizes = [cardinalities[i] if i in family else 1 for i in nodes]
    table = table.reshape(-1, *own_sizes).expand(-1, *sizes).flatten(1)
    places = []
    for number, i in enumerate(outside, 1):
        places.append((i, math.prod(cardinalities[j] for j in outside[number:])))
    return Factor(tuple(places), safe_log(table))


def _result(problem: Problem, draws: dict[int, Tensor]) -> GibbsMarginals:
    """From draws by node, (chains, draws, rows)."""
    result = GibbsMarginals({}, {}, {})
    for i, node_draws in draws.items():
        node = problem.structure.nodes[i]
        states = problem.structure.cardinalities[i]
        hits = one_hot(node_draws.long(), states).to(problem.tables.dtype)
        result.marginals[node] = problem.given(hits.mean((0, 1)))
        r_hat, size = _diagnostics(hits)
        result.r_hat[node] = problem.given(r_hat)
        result.effective_sample_size[node] = problem.given(size)
    return result


def _diagnostics(hits: Tensor) -> tuple[Tensor, Tensor]:
    """Largest R-hat and smallest effective sample size over the states, (rows,) each.

    From indicators of the states of draws, (chains, draws, rows, states).
    """
    chains, number = hits.shape[:2]
    if not hits.numel():
        return hits.new_ones(0), hits.new_zeros(0)
    still = (hits == hits[:, :1]).all(1).all(0)
    same = (hits == hits[:1, :1]).flatten(0, 1).all(0)
    # Any numbers that vary will do where nothing moves: they are replaced below.
    moving = torch.where(still, torch.rand_like(hits), hits)
    r_hat = torch.where(still, torch.inf, split_gelman_rubin(moving, 0, 1))
    r_hat = torch.where(same, 1.0, r_hat)
    total = float(chains * number)
    size = effective_sample_size(moving, 0, 1).clamp(max=total)
    size = torch.where(still, float(chains), size)
    size = torch.where(same, total, size)
    return r_hat.amax(-1), size.amin(-1)


__all__ = ["GibbsMarginals", "NodeBlock", "gibbs_marginals"]
