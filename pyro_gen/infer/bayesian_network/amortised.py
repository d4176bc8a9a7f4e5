"""Amortised inference for any evidence: a network that improves on likelihood weighting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._plates import counted_plate
from pyro_gen._registration import register
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.autoregressive.conditionals import CategoricalConditional
from pyro_gen.distributions.bayesian_network import Evidence
from pyro_gen.distributions.bayesian_network.elimination import safe_log
from pyro_gen.distributions.bayesian_network.evidence import parse
from pyro_gen.distributions.bayesian_network.tables import cells_of, draw_states
from pyro_gen.infer.bayesian_network.problem import Problem, distribution_of
from pyro_gen.infer.bayesian_network.weighting import WeightedMarginals, weighted_marginals
from pyro_gen.nn.autoregressive import MADE

DEFENSIVE = 5
"""One draw in this many is made without the network, to cover modes that it missed."""


class AmortisedPosterior(Module):
    r"""An approximate posterior of all nodes for any evidence: a MADE that corrects the tables.

    .. math:: q(x_v | x_{<v}, e)
              \propto p(x_v | x_{\mathrm{pa}(v)})\, \ell_v(x_v)\, \exp f_v(x_{<v}, e)

    in topological order, with the likelihood :math:`\ell_v` of what is known of
    v, and f a network that sees all evidence. At first f is zero and q is the
    proposal of likelihood weighting; states that are impossible under the
    tables stay impossible. It learns from draws of the network whose cells are
    hidden at random, which needs no posterior and no gradient through draws:

    .. math:: \min_f\ \mathrm{E}_{e}\, \mathrm{KL}\bigl(p(x | e)\,\|\,q(x | e)\bigr)

    Importance weights correct the errors of q, and the result's diagnostics
    show their size. One draw in five leaves f out, so that modes that the
    network misses are still sampled, and no weight is more than five times that
    of likelihood weighting.

    Args:
        network: a Bayesian network, the distribution or the model (which is
            then called again each time).
        hidden_features: units of each hidden layer.
        evidence_nodes: nodes that may be observed, in learning; None for all.

    References:
        Morris (2001), Recognition networks for approximate inference in BN20
        networks. Le, Baydin and Wood (2017), Inference compilation and
        universal probabilistic programming. Hesterberg (1995), Weighted average
        importance sampling and defensive mixture distributions. Germain et al.
        (2015), MADE.

    Example:
        >>> import networkx as nx
        >>> wet = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> tables = {"rain": torch.tensor([0.8, 0.2]), "wet": wet}
        >>> network = BayesianNetwork(nx.DiGraph([("rain", "wet")]), tables)
        >>> posterior = AmortisedPosterior(network, hidden_features=(8,))
        >>> losses = posterior.learn(num_steps=20)
        >>> posterior.marginals({"wet": 1}).marginals["rain"].shape
        torch.Size([2])
    """

    can_see: Tensor

    def __init__(
        self,
        network: BayesianNetwork | nn.Module,
        hidden_features: Sequence[int] = (128,),
        evidence_nodes: Iterable[str] | None = None,
    ) -> None:
        super().__init__()
        # In a tuple: no submodule, its parameters are not learned here.
        self._source = (network,)
        distribution = distribution_of(network)
        structure = self.structure = distribution.structure
        self.made = MADE(
            len(structure.nodes),
            hidden_features,
            context=sum(structure.cardinalities),
            order=structure.order,
            conditional=CategoricalConditional(structure.cardinalities),
            skip=True,
        ).to(distribution.tables)
        if self.made.output is not None:
            nn.init.zeros_(self.made.output)
        if evidence_nodes is None:
            evidence_nodes = structure.nodes
        device = distribution.tables.device
        can_see = torch.zeros(len(structure.nodes), dtype=torch.bool, device=device)
        can_see[[structure.number(node) for node in evidence_nodes]] = True
        self.register_buffer("can_see", can_see)

    def _problem(self, evidence: Evidence | Tensor | None) -> Problem:
        return Problem.of(self._source[0], evidence)

    def _context(self, problem: Problem) -> Tensor:
        """Evidence as the network sees it: normalised likelihoods less even ones, 0 if unknown."""
        inputs = []
        for i, states in enumerate(self.structure.cardinalities):
            unknown = problem.tables.new_ones(1, states)
            likelihood = problem.likelihoods.get(i, unknown)
            tiny = torch.finfo(likelihood.dtype).tiny
            total = likelihood.sum(-1, keepdim=True).clamp_min(tiny)
            excess = likelihood / total - 1 / states
            inputs.append(excess.expand(problem.count, states))
        return torch.cat(inputs, -1)

    def log_prob(self, value: Tensor, evidence: Tensor) -> Tensor:
        """Log q of hidden cells given those that were seen, differentiable.

        Args:
            value: complete rows, (rows, nodes).
            evidence: the same rows with -1 where hidden.

        Returns:
            Shape (rows,), in nats.
        """
        problem = self._problem(evidence)
        correction = self.made.parameters_of(value, self._context(problem))
        states = torch.arange(correction.shape[-1], device=value.device)
        # The first cell in the row of each node's table.
        first = cells_of(self.structure, value) - value
        cells = (first.unsqueeze(-1) + states).clamp_max(self.structure.cells - 1)
        # The correction is -inf at states that a node does not have.
        logits = safe_log(problem.tables)[cells] + correction
        log_probs = logits.log_softmax(-1).gather(-1, value.unsqueeze(-1))
        return torch.where(evidence < 0, log_probs.squeeze(-1), 0.0).sum(-1)

    def loss(self, num_rows: int = 256) -> Tensor:
        """Mean of -log q over draws of the network whose cells are hidden, at a rate for
        each row.

        Args:
            num_rows: how many draws.
        """
        num_rows = whole_number("num_rows", num_rows)
        rows = distribution_of(self._source[0]).sample((num_rows,))
        uniforms = torch.rand(rows.shape, device=rows.device)
        visible = uniforms < torch.rand(num_rows, 1, device=rows.device)
        evidence = rows.masked_fill(~(visible & self.can_see), -1)
        return -self.log_prob(rows, evidence).mean()

    def learn(
        self, num_steps: int = 2000, batch_size: int = 256, learning_rate: float = 2e-3
    ) -> Tensor:
        """Learn by Adam, with a rate that falls linearly to zero.

        Args:
            num_steps: steps.
            batch_size: draws in each.
            learning_rate: of the first step.

        Returns:
            The loss of every step, (num_steps,).
        """
        num_steps = whole_number("num_steps", num_steps)
        batch_size = whole_number("batch_size", batch_size)
        if not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be positive, got {learning_rate}")
        optimizer = torch.optim.Adam(self.parameters(), learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, num_steps)
        losses = []
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss = self.loss(batch_size)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def marginals(
        self,
        evidence: Evidence | Tensor | None = None,
        num_samples: int = 1000,
        nodes: Iterable[str] | None = None,
    ) -> WeightedMarginals:
        """Marginals given evidence from draws of q, corrected by importance weights.

        Args:
            evidence: as in exact inference.
            num_samples: draws for each row.
            nodes: which marginals; None for all.

        Returns:
            Marginals, log evidence with its standard error, and diagnostics of
            the weights.

        Raises:
            ValueError: evidence is malformed, or no draw agrees with it (it
                names the rows).
        """
        problem = self._problem(evidence)
        return weighted_marginals(problem, self._draws, num_samples, nodes)

    def _draws(self, problem: Problem, num_samples: int) -> tuple[dict[int, Tensor], Tensor]:
        """States by number of the node and log weights, each (draws, rows).

        A share a of the draws leaves f out, and all are weighted by the
        mixture: 1 / w = a / w_0 + (1 - a) / w_f.
        """
        shape = num_samples, problem.count
        number = torch.arange(num_samples, device=problem.tables.device)
        without = number < num_samples // DEFENSIVE
        context = self._context(problem).expand(*shape, -1).flatten(0, 1)
        values: dict[int, Tensor] = {}
        plain, corrected = problem.tables.new_zeros(2, *shape)
        parameters, place = self.made.begin(len(context), context, self.made.example)
        for step, i in enumerate(self.structure.order):
            states = self.structure.cardinalities[i]
            correction = parameters[:, :states].view(*shape, states)
            target = self._target(problem, i, values)
            logits = target + correction
            used = torch.where(without[:, None, None], target, logits)
            probs = (used - used.amax(-1, keepdim=True)).exp().nan_to_num(0.0)
            values[i] = draw_states(probs)
            log_correction = correction.gather(-1, values[i].unsqueeze(-1))
            plain = plain + target.logsumexp(-1)
            corrected = corrected + logits.logsumexp(-1) - log_correction.squeeze(-1)
            if step + 1 < len(self.structure.order):
                parameters, place = self.made.proceed(place, values[i].flatten())
        share = without.to(plain).mean()
        log_plain = share.log() - plain
        log_corrected = (1 - share).log() - corrected
        return values, -torch.logaddexp(log_plain, log_corrected)

    def _target(self, problem: Problem, i: int, values: Mapping[int, Tensor]) -> Tensor:
        """Log of a node's table at its parents, and of its likelihood."""
        logits = safe_log(problem.rows_of(i, dict(values)))
        if i in problem.likelihoods:
            logits = logits + safe_log(problem.likelihoods[i])
        return logits

    def forward(self, *args: object, **kwargs: object) -> NoReturn:
        """Refusal: the density is that of nodes given evidence.

        Args:
            *args: ignored.
            **kwargs: ignored.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "AmortisedPosterior has no density without evidence: take "
            "`log_prob(value, evidence)`, `marginals` or `guide`"
        )

    def guide(self, data: Any = None) -> None:
        """A Pyro program that draws nodes with missing cells: a guide of the network's model.

        ``SVI(network.model, posterior.guide, ..., Trace_ELBO())`` trains it
        further on the evidence at hand, by KL(q | p); single cells that were
        observed stand.

        Args:
            data: as for the network's ``model``.
        """
        register("amortised_posterior", self)
        problem = self._problem(data)
        observed = parse(self.structure, data, problem.tables).numbers
        size = getattr(self._source[0], "size", None)
        context = self._context(problem)
        values: dict[int, Tensor] = {}
        with counted_plate(size, problem.count):
            parameters, place = self.made.begin(problem.count, context, self.made.example)
            for step, i in enumerate(self.structure.order):
                states = observed.get(i, -1)
                column = torch.as_tensor(states, device=problem.tables.device)
                if (column < 0).any():
                    correction = parameters[:, : self.structure.cardinalities[i]]
                    logits = self._target(problem, i, values) + correction
                    # Rows against the evidence, whose log p will be -inf.
                    lost = (logits == -torch.inf).all(-1, keepdim=True)
                    proposal = dist.Categorical(logits=torch.where(lost, 0.0, logits))
                    values[i] = pyro.sample(self.structure.nodes[i], proposal)
                else:
                    values[i] = column.expand(problem.count)
                if step + 1 < len(self.structure.order):
                    parameters, place = self.made.proceed(place, values[i])


__all__ = ["AmortisedPosterior"]
