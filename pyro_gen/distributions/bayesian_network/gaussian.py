"""Networks of discrete and Gaussian nodes, by enumeration of discrete parents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.bayesian_network.elimination import log_sum_exp, safe_log
from pyro_gen.distributions.bayesian_network.evidence import by_name, rows_of
from pyro_gen.distributions.bayesian_network.messages import refuse_rows
from pyro_gen.distributions.bayesian_network.network import BayesianNetwork
from pyro_gen.distributions.bayesian_network.observation import (
    Likelihood,
    missing,
    plain,
    read_observation,
)
from pyro_gen.distributions.bayesian_network.tables import draw_states

MAX_CONFIGURATIONS = 2**16
"""Joint states of the discrete parents that are enumerated."""


@dataclass(frozen=True)
class GaussianNode:
    """A real node, linear in real parents for each configuration of its discrete ones.

    Args:
        discrete: discrete parents.
        real: real parents.
        bias: (states of each discrete parent).
        weight: (states of each discrete parent, real parents).
        log_scale: (states of each discrete parent).
    """

    discrete: tuple[str, ...]
    real: tuple[str, ...]
    bias: Tensor
    weight: Tensor
    log_scale: Tensor


@dataclass(frozen=True)
class _Seen:
    """Evidence of discrete nodes, and of real ones, (rows, real nodes), NaN where missing."""

    discrete: dict[str, int | Tensor | Likelihood]
    values: Tensor
    rows: int | None


class ConditionalGaussianNetwork:
    r"""The joint distribution of discrete nodes and of linear Gaussian ones given them.

    .. math:: p(d, x) = p(d) \prod_v
              \mathrm{N}\bigl(x_v;\ b_{v,d} + w_{v,d} \cdot x_{\mathrm{pa}(v)},\ s_{v,d}^2\bigr)

    Discrete nodes have discrete parents only. Inference is exact: the discrete
    parents of the real nodes that matter are enumerated, all else is
    elimination and linear algebra. Evidence is as for
    :class:`pyro_gen.distributions.BayesianNetwork`; on a real node it is a
    number, or a float tensor (rows,) with NaN where missing. Log probabilities
    of real nodes are those of densities.

    Args:
        discrete: the distribution of the discrete nodes, None where there are
            none.
        gaussians: the real nodes, parents before children.

    Raises:
        ValueError: a parent is unknown.
    """

    def __init__(
        self, discrete: BayesianNetwork | None, gaussians: Mapping[str, GaussianNode]
    ) -> None:
        self.discrete = discrete
        self.gaussians = dict(gaussians)
        self.states: dict[str, tuple[str, ...]] = {}
        if discrete is not None:
            self.states = discrete.states
        placed: set[str] = set()
        for node, distribution in self.gaussians.items():
            for parent in (*distribution.discrete, *distribution.real):
                if parent not in self.states and parent not in placed:
                    raise ValueError(
                        f"node {node!r} has the parent {parent!r}, which is not known before it"
                    )
            placed.add(node)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Discrete nodes, then real ones."""
        return (*self.states, *self.gaussians)

    def log_evidence(self, evidence: Mapping[str, Any] | None = None) -> Tensor:
        """Log density of what was observed, everything else integrated out; differentiable.

        Args:
            evidence: see the class.

        Returns:
            Nats, (rows,), or () for one case.

        Raises:
            ValueError: evidence has probability zero or is malformed, or there
                are too many configurations.
        """
        observed = self._parse(evidence)
        logs, _, _ = self._posterior(observed)
        return self._finished(log_sum_exp(logs, 0), observed)

    def marginals(
        self, evidence: Mapping[str, Any] | None = None, nodes: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Distributions of single nodes given evidence.

        Args:
            evidence: see the class.
            nodes: which; None for all. Observed real nodes are left out.

        Returns:
            For a discrete node the probabilities of its states, (states,) or
            (rows, states). For a real node a distribution of batch shape () or
            (rows,): a mixture of Gaussians, or one alone.
        """
        observed = self._parse(evidence)
        if nodes is None:
            nodes = self.nodes
        queried = list(nodes)
        for node in queried:
            self._check(node)
        real = [node for node in queried if node in self.gaussians]
        logs, parents, conditional = self._posterior(observed, real)
        self._finished(log_sum_exp(logs, 0), observed)
        weights = logs.softmax(0)
        densities: dict[str, Any] = {}
        for node in queried:
            if node not in self.gaussians:
                densities[node] = self._discrete_distribution(node, observed, weights, parents)
                continue
            place = list(self.gaussians).index(node)
            hidden = observed.values[:, place].isnan()
            if hidden.all():
                mean, variance = (x[..., place] for x in conditional)
                densities[node] = self._mixture(weights, mean, variance, observed.rows is None)
            elif hidden.any():
                raise ValueError(
                    f"real node {node!r} is observed in some rows only: ask for other `nodes`"
                )
        return densities

    def sample_posterior(
        self, evidence: Mapping[str, Any] | None = None, num_samples: int = 1
    ) -> dict[str, Tensor]:
        """Exact, independent draws of all nodes given evidence.

        Args:
            evidence: see the class.
            num_samples: how many for each case.

        Returns:
            By node, (num_samples,) for one case, (num_samples, rows) for rows.
        """
        num_samples = whole_number("num_samples", num_samples)
        with torch.no_grad():
            observed = self._parse(evidence)
            logs, parents, _ = self._posterior(observed, list(self.gaussians))
            self._finished(log_sum_exp(logs, 0), observed)
            shape = (num_samples, logs.shape[1])
            configurations = draw_states(logs.softmax(0).mT.expand(*shape, -1))
            result = self._discrete_draws(configurations, observed, parents)
            result |= self._real_draws(configurations, observed, parents)
        if observed.rows is None:
            return {node: draws[:, 0] for node, draws in result.items()}
        return result

    def joint_marginal(self, *_: Any, **__: Any) -> NoReturn:
        """Not there for networks with real nodes."""
        raise NotImplementedError(
            "this query is not there for networks with real nodes: `log_evidence`, "
            "`marginals`, `sample_posterior` are"
        )

    pair_marginals = expected_counts = most_probable = log_prob = sample = do = joint_marginal

    def _check(self, node: str) -> None:
        if node not in self.states and node not in self.gaussians:
            raise ValueError(f"the network has no node {node!r}")

    def _parse(self, evidence: Mapping[str, Any] | None) -> _Seen:
        example = next(iter(self.gaussians.values())).bias
        if isinstance(evidence, Tensor | np.ndarray):
            raise ValueError(
                "`evidence` must be a mapping from nodes to what is observed where there are real "
                f"nodes, got {type(evidence).__name__}"
            )
        discrete: dict[str, int | Tensor | Likelihood] = {}
        real: dict[int, Tensor] = {}
        for node, value in by_name(self.nodes, evidence).items():
            self._check(node)
            if missing(value):
                continue
            if node in self.states:
                discrete[node] = read_observation(
                    self._network().structure, node, value, self._network().tables
                )
            else:
                real[list(self.gaussians).index(node)] = _real_values(node, value, example)
        counts = {len(x) for x in real.values() if x.dim()}
        counts |= {rows for rows in map(rows_of, discrete.values()) if rows is not None}
        if len(counts) > 1:
            raise ValueError(
                f"all evidence must have the same number of rows, got {sorted(counts)}"
            )
        rows = next(iter(counts), None)
        columns = [real.get(i, example.new_tensor(torch.nan)) for i in range(len(self.gaussians))]
        count = next(iter(counts), 1)
        values = torch.stack([x.expand(count) for x in columns], 1)
        return _Seen(discrete, values, rows)

    def _posterior(
        self, evidence: _Seen, targets: Sequence[str] = ()
    ) -> tuple[Tensor, tuple[str, ...], tuple[Tensor, Tensor]]:
        """Log p(configuration, evidence), the enumerated nodes, and means and variances.

        The log is (configurations, rows); means and variances of all real nodes
        given configuration and evidence are (configurations, rows, real nodes).
        """
        relevant = self._relevant(evidence, targets)
        parents = tuple(
            dict.fromkeys(d for node in relevant for d in self.gaussians[node].discrete)
        )
        states = self._configurations(parents)
        logs = self._log_configurations(parents, evidence)
        mean, covariance = self._moments(parents, states)
        density, *conditional = self._conditional(mean, covariance, evidence.values)
        return logs + density, parents, (conditional[0], conditional[1])

    def _relevant(self, evidence: _Seen, targets: Sequence[str]) -> list[str]:
        observed = (~evidence.values.isnan()).any(0)
        relevant = {
            node for node, used in zip(self.gaussians, observed.tolist(), strict=True) if used
        } | set(targets)
        for node in reversed(self.gaussians):
            if node in relevant:
                relevant |= set(self.gaussians[node].real)
        return [node for node in self.gaussians if node in relevant]

    def _configurations(self, parents: Sequence[str]) -> dict[str, Tensor]:
        """State numbers of the enumerated nodes, (configurations,) each."""
        sizes = [len(self.states[parent]) for parent in parents]
        if math.prod(sizes) > MAX_CONFIGURATIONS:
            raise ValueError(
                "the discrete parents of the real nodes that matter have "
                f"{math.prod(sizes):.4g} joint states, and at "
                f"most {MAX_CONFIGURATIONS} are enumerated: {', '.join(map(repr, parents))}"
            )
        device = next(iter(self.gaussians.values())).bias.device
        if not sizes:
            return {}
        axes = torch.meshgrid(*(torch.arange(k, device=device) for k in sizes), indexing="ij")
        return {parent: axis.flatten() for parent, axis in zip(parents, axes, strict=True)}

    def _log_configurations(self, parents: Sequence[str], evidence: _Seen) -> Tensor:
        """Log of p(configuration, discrete evidence), (configurations, rows)."""
        rows = len(evidence.values)
        if self.discrete is None:
            return evidence.values.new_zeros(1, rows)
        log = self.discrete.log_evidence(evidence.discrete)
        distribution = torch.ones_like(log)
        if parents:
            distribution = self.discrete.joint_marginal(parents, evidence.discrete)
        configurations = math.prod(len(self.states[parent]) for parent in parents)
        distribution = distribution.reshape(*log.shape, configurations)
        logs = safe_log(distribution) + log.unsqueeze(-1)
        return logs.reshape(-1, logs.shape[-1]).expand(rows, -1).mT

    def _moments(
        self, parents: Sequence[str], states: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Means (configurations, real nodes) and covariances given each configuration.

        A real node that does not matter may have discrete parents that are not
        enumerated: its first coefficients stand in, and what is said of it is
        not used.
        """
        count = max((len(x) for x in states.values()), default=1)
        names = list(self.gaussians)
        means: list[Tensor] = []
        rows: list[Tensor] = []
        for i, distribution in enumerate(self.gaussians.values()):
            first = torch.zeros((), dtype=torch.int64)
            at = tuple(
                states.get(d, first).to(distribution.bias.device) for d in distribution.discrete
            )
            bias = distribution.bias[at].expand(count)
            weight = distribution.weight[at].expand(count, -1)
            scale = distribution.log_scale.exp()[at].expand(count)
            row = torch.zeros(count, len(names), dtype=bias.dtype, device=bias.device)
            row = row.index_add(1, torch.tensor([i], device=row.device), scale.unsqueeze(1))
            # x_i = bias + sum of weight x_parent + scale noise_i
            for k, parent in enumerate(distribution.real):
                place = names.index(parent)
                bias = bias + weight[:, k] * means[place]
                row = row + weight[:, k, None] * rows[place]
            means.append(bias)
            rows.append(row)
        mixing = torch.stack(rows, 1)
        return torch.stack(means, 1), mixing @ mixing.mT

    def _conditional(
        self, mean: Tensor, covariance: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log density of the observed nodes, and means and variances of all given them."""
        observed = ~values.isnan()
        if not len(values):
            observed = torch.zeros(1, values.shape[1], dtype=torch.bool)  # one pattern, of no rows
        patterns, inverse = torch.unique(observed, dim=0, return_inverse=True)
        inverse = inverse[: len(values)]
        conditionals = []
        order = []
        for k, pattern in enumerate(patterns):
            rows = (inverse == k).nonzero().squeeze(1)
            conditionals.append(_given(mean, covariance, values[rows], pattern))
            order.append(rows)
        back = torch.cat(order).argsort()
        return tuple(torch.cat(xs, 1)[:, back] for xs in zip(*conditionals, strict=True))  # type: ignore[return-value]  # three

    def _mixture(
        self, weights: Tensor, mean: Tensor, variance: Tensor, single: bool
    ) -> dist.TorchDistribution:
        if single:
            weights = weights[:, 0]
            mean = mean[:, 0]
            variance = variance[:, 0]
        mixing = weights.movedim(0, -1)
        mean = mean.movedim(0, -1)
        scale = variance.clamp(min=0).sqrt().movedim(0, -1)
        if mean.shape[-1] == 1:
            return dist.Normal(mean[..., 0], scale[..., 0])
        return dist.MixtureSameFamily(dist.Categorical(probs=mixing), dist.Normal(mean, scale))

    def _discrete_distribution(
        self, node: str, evidence: _Seen, weights: Tensor, parents: tuple[str, ...]
    ) -> Tensor:
        """Sum over configurations of p(node | configuration, seen) p(configuration | seen)."""
        network = self._network()
        rows = weights.shape[1]
        if node in parents:
            shape = [len(self.states[parent]) for parent in parents]
            distribution = weights.mT.reshape(rows, *shape).movedim(1 + parents.index(node), -1)
            distribution = distribution.reshape(
                rows, distribution.shape[1:-1].numel(), distribution.shape[-1]
            ).sum(1)
        else:
            joint = network.joint_marginal((*parents, node), evidence.discrete)
            joint = joint.reshape(-1, weights.shape[0], len(self.states[node]))
            total = joint.sum(-1, keepdim=True)
            distribution = (
                joint / torch.where(total > 0, total, 1.0) * weights.mT.unsqueeze(-1)
            ).sum(1)
        if evidence.rows is None:
            return distribution[0]
        return distribution

    def _network(self) -> BayesianNetwork:
        if self.discrete is None:
            raise RuntimeError("there are no discrete nodes")
        return self.discrete

    def _discrete_draws(
        self, configurations: Tensor, evidence_: _Seen, parents: tuple[str, ...]
    ) -> dict[str, Tensor]:
        if self.discrete is None:
            return {}
        states = self._configurations(parents)
        evidence = {
            node: _repeated(observation, len(configurations))
            for node, observation in evidence_.discrete.items()
        }
        evidence |= {parent: states[parent][configurations].flatten() for parent in parents}
        if all(rows_of(observation) is None for observation in evidence.values()):
            single = self.discrete.sample_posterior(evidence, configurations.numel())
            return {node: x.view(configurations.shape) for node, x in single.items()}
        return {
            node: x[0].view(configurations.shape)
            for node, x in self.discrete.sample_posterior(evidence, 1).items()
        }

    def _real_draws(
        self, configurations: Tensor, evidence: _Seen, parents: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Matheron's rule: a draw from the prior, moved to agree with what was observed."""
        mean, covariance = self._moments(parents, self._configurations(parents))
        scale = torch.linalg.cholesky(covariance)
        noise = torch.randn(
            *configurations.shape, mean.shape[-1], dtype=mean.dtype, device=mean.device
        )
        prior = mean[configurations] + (scale[configurations] @ noise.unsqueeze(-1)).squeeze(-1)
        for pattern in torch.unique(~evidence.values.isnan(), dim=0):
            rows = ((~evidence.values.isnan()) == pattern).all(1).nonzero().squeeze(1)
            if not pattern.any():
                continue
            gain = torch.linalg.solve(
                covariance[:, pattern][:, :, pattern], covariance[:, pattern]
            ).mT
            prior_draws = prior[:, rows]
            misses = evidence.values[rows][:, pattern] - prior_draws[..., pattern]
            moved = prior_draws + (gain[configurations[:, rows]] @ misses.unsqueeze(-1)).squeeze(
                -1
            )
            prior[:, rows] = torch.where(pattern, evidence.values[rows], moved)
        return dict(zip(self.gaussians, prior.unbind(-1), strict=True))

    def _finished(self, log: Tensor, evidence: _Seen) -> Tensor:
        refuse_rows(log.detach() == -torch.inf, evidence.rows is None)
        if evidence.rows is None:
            return log[0]
        return log


def _given(
    mean: Tensor, covariance: Tensor, values: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log density of the seen columns, (configurations, rows), and moments given them."""
    count, width = mean.shape
    rows = len(values)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    if not observed.any():
        shape = (count, rows, width)
        return (
            mean.new_zeros(count, rows),
            mean.unsqueeze(1).expand(shape),
            variance.unsqueeze(1).expand(shape),
        )
    distribution = dist.MultivariateNormal(
        mean[:, None, observed],
        covariance[:, None][..., observed, :][..., observed],
        validate_args=False,
    )
    log = distribution.log_prob(values[:, observed])
    gain = torch.linalg.solve(
        covariance[:, observed][:, :, observed], covariance[:, observed]
    ).mT  # (count, width, seen)
    moved = mean.unsqueeze(1) + torch.einsum(
        "cws,crs->crw", gain, values[:, observed] - mean[:, None, observed]
    )
    left = variance - torch.einsum("cws,csw->cw", gain, covariance[:, observed])
    return log, moved, left.unsqueeze(1).expand(count, rows, width)


def _real_values(node: str, value: Any, like: Tensor) -> Tensor:
    """Evidence on a real node, () or (rows,), NaN where missing."""
    value = plain(value)
    if isinstance(value, list):
        value = [torch.nan if missing(entry) else entry for entry in value]
    try:
        number = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"evidence on real node {node!r} must be a finite number or (rows,), got {value!r}"
        ) from None
    if number.dim() > 1 or number.isinf().any():
        raise ValueError(
            f"evidence on real node {node!r} must be a finite number or (rows,), got {value}"
        )
    return number


def _repeated(observation: int | Tensor | Likelihood, draws: int) -> int | Tensor | Likelihood:
    """Evidence of rows as evidence of (draws, rows), flattened."""
    if rows_of(observation) is None or isinstance(observation, int):
        return observation
    if isinstance(observation, Likelihood):
        return Likelihood(observation.values.repeat(draws, 1))
    return observation.repeat(draws)


__all__ = ["MAX_CONFIGURATIONS", "ConditionalGaussianNetwork", "GaussianNode"]
