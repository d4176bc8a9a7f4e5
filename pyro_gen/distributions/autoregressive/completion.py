"""Sums over missing features.

In the order of generation, by enumeration, or by weighted particles.

A :class:`Completion` is a setting; :meth:`Completion.bind` makes of it, for one
density and one evidence, a :class:`Completer` that scores and draws.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Size, Tensor

from pyro_gen._arguments import whole_fields
from pyro_gen._transforms import batched
from pyro_gen._weights import level_of_the_user
from pyro_gen.distributions.autoregressive.interfaces import AnyOrder, Conditioner, NetworkDensity
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.misuse import refuse_callers, refuse_tracing

FEW = 2**12
"""Largest number of completions that is listed by default."""
BLOCK = 2**22
"""Numbers of a block of completions."""
UNTRUSTED = 10
"""Effective particles below which an estimate warns."""


class Evidence(NamedTuple):
    """Observed features of flat events.

    Values with 0 where missing, True where a feature was observed.

    Both (..., features), with batch dimensions that broadcast.
    """

    observed: Tensor
    mask: Tensor

    def complete(self, value: Tensor) -> Tensor:
        """Flat events with the observed features put in."""
        return torch.where(self.mask, self.observed, value)

    def rows(self, shape: Size) -> Evidence:
        """One row for each element of a batch."""
        return Evidence(
            *(x.expand(*shape, x.shape[-1]).reshape(shape.numel(), x.shape[-1]) for x in self)
        )


class Completer(ABC):
    """Scores and draws what is missing.

    Batch shapes are those of evidence and context, without expansion.
    """

    exact = True

    @abstractmethod
    def evidence_estimate(self) -> Estimate:
        """Log p(observed)."""

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(missing | observed) of events that carry the evidence, (...) + event_shape."""

    @abstractmethod
    def sample(self, shape: Size) -> tuple[Tensor, Tensor]:
        """Events that carry the evidence, and their log p(missing | observed).

        Events are (*shape, features).
        """


class Completion(ABC):
    """Method of summing over the missing features."""

    @abstractmethod
    def bind(self, density: NetworkDensity, evidence: Evidence) -> Completer:
        """The method bound to one density and one evidence; raises if it does not apply."""


@dataclass(frozen=True)
class Enumeration(Completion):
    """Enumeration of all completions: exact for any features, if few values are missing.

    Args:
        max_completions: the largest number of completions of a row that is
            listed; time and memory grow with it.

    Raises:
        ValueError: it is below 1.
    """

    max_completions: int = FEW

    def __post_init__(self) -> None:
        whole_fields(self, max_completions=1)

    def bind(self, density: NetworkDensity, evidence: Evidence) -> Completer:
        """The list.

        Raises:
            ValueError: a row has too many completions.
        """
        most = most_completions(density, evidence)
        if most > self.max_completions:
            raise ValueError(
                "the observed features do not come first in every row, and up to "
                f"{most:.4g} completions are "
                f"too many to be listed, the limit is {self.max_completions}: give "
                "`completion` as "
                "Importance(num_particles), which is an estimate, as "
                "Enumeration(max_completions), or, for a network "
                "of any order, as ObservedFirst()"
            )
        return _Listed(density, evidence, int(most))


@dataclass(frozen=True)
class ObservedFirst(Completion):
    """Generate each row in an order with its observed features first.

    Exact, for networks of any order.

    The observed features and the missing ones each stay in the network's order.
    The result conditions the density of *that* order, which differs from the
    unconditional density unless the orders agree.
    """

    def bind(self, density: NetworkDensity, evidence: Evidence) -> Completer:
        """The walk in the new orders.

        Raises:
            ValueError: the network has one order only.
        """
        if not isinstance(density.conditioner, AnyOrder):
            raise ValueError(
                "`completion` ObservedFirst() expects a network of any order such as "
                "DeepNADE, got "
                f"{type(density.conditioner).__name__}, which has one: use "
                "Importance(num_particles)"
            )
        return _Walked(density, evidence, density.conditioner, "observed first")


@dataclass(frozen=True)
class Importance(Completion):
    r"""Weighted ancestral draws with the observed features put in.

    An estimate for any features, with its error.

    .. math:: \hat p(x_O) = \frac1S \sum_s w_s, \qquad
              w_s = \prod_{k \in O} p\big(x_k | x^s_{<k}\big)

    p(x_O) is unbiased; its logarithm is too low by about half the squared
    standard error, so no ``log_prob`` is exact. Particles are drawn once, when
    the conditioned distribution is made, so that its methods are consistent and
    pure; after an update of the weights make a new one. Draws are picked from
    the particles in proportion to their weights
    (sampling-importance-resampling): at most as many of them are distinct as
    there are effective particles, and their distribution is right only as the
    number of particles grows. A small effective sample size is a warning; a
    large one is no guarantee, since it ignores explanations of the evidence
    that were not drawn. The estimate is best if few observed features come late
    in the order.

    Args:
        num_particles: draws S for each row.

    Raises:
        ValueError: it is below 1.

    References:
        Rubin (1987), The calculation of posterior distributions by data
        augmentation: comment (the SIR algorithm). Kong, Liu and Wong (1994),
        Sequential imputations and Bayesian missing data problems, JASA 89.
    """

    num_particles: int = 1000

    def __post_init__(self) -> None:
        whole_fields(self, num_particles=1)

    def bind(self, density: NetworkDensity, evidence: Evidence) -> Completer:
        """The particles and their weights.

        Raises:
            ValueError: no particle explains the evidence, an ELBO is being
                traced, or the caller is MCMC.
        """
        refuse_tracing("Importance(...)")
        refuse_callers(
            "Importance(...)",
            ("pyro.infer.mcmc",),
            "gives another estimate at every step: use an exact `completion`",
        )
        shape = Size((self.num_particles, *batch_of(density, evidence)))
        with torch.no_grad():
            walk = _Walked(density, evidence, None, "")
            values, log_weights, _ = walk.draw(shape)
        particles = _ParticleCompleter(density, values, log_weights)
        particles.check()
        return particles


def chosen(density: NetworkDensity, evidence: Evidence) -> Completer:
    """An exact method: the order of generation where it applies, else enumeration."""
    order = density.conditioner.order
    # Under vmap the rows may have other orders.
    if not batched([order]) and comes_first(evidence.mask[..., order]):
        return _Walked(density, evidence, None, "prefix of the order")
    return Enumeration().bind(density, evidence)


def comes_first(mask: Tensor) -> bool:
    """True if in every row no observed feature comes after a missing one.

    Taken for granted on meta.
    """
    return mask.is_meta or not bool((mask[..., 1:] & ~mask[..., :-1]).any())


def batch_of(density: NetworkDensity, evidence: Evidence) -> Size:
    """Batch shape of evidence and context."""
    if density.context is None:
        context_shape = Size()
    else:
        context_shape = density.context.shape[:-1]
    return torch.broadcast_shapes(
        context_shape, evidence.observed.shape[:-1], evidence.mask.shape[:-1]
    )


def most_completions(density: NetworkDensity, evidence: Evidence) -> float:
    """The largest number of completions of a row, infinite where values are."""
    states = density.conditional.num_states(density.features)
    mask = evidence.mask
    if states is None:
        return math.inf
    if mask.is_meta or not mask.numel():
        if mask.is_meta:
            return float(math.prod(states))
        return 1.0
    sizes = torch.tensor(states, dtype=torch.float64, device=mask.device)
    return torch.where(mask, 1.0, sizes).prod(-1).max().item()


class _Walked(Completer):
    """Feature after feature in an order.

    It is exact if the observed features come first in the order.
    """

    def __init__(
        self, density: NetworkDensity, evidence: Evidence, network: AnyOrder | None, method: str
    ) -> None:
        self.density = density
        self.evidence = evidence
        self.network = network
        self.method = method

    def _conditioner(self, evidence: Evidence) -> Conditioner:
        """The network in the order of these rows.

        One for all where the evidence is at the same places.
        """
        conditioner = self.density.conditioner
        if self.network is None:
            return conditioner
        if self.evidence.mask.dim() == 1:
            mask = self.evidence.mask
        else:
            mask = evidence.mask
        missing = (~mask[..., conditioner.order]).to(torch.uint8)
        return self.network.in_orders(conditioner.order[missing.argsort(dim=-1, stable=True)])

    def _scores(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of every feature, and where it was observed.

        Both (..., features), for flat events.
        """
        shape = torch.broadcast_shapes(value.shape[:-1], batch_of(self.density, self.evidence))
        evidence = self.evidence.rows(shape)
        rows = evidence.complete(
            value.expand(*shape, value.shape[-1]).reshape(shape.numel(), value.shape[-1])
        )
        context = self.density._context_rows(shape)
        parameters = self._conditioner(evidence).parameters_of(rows, context)
        scores = self.density.conditional.log_prob(parameters, rows)
        return scores.view(*shape, self.density.features), evidence.mask.view(
            *shape, self.density.features
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probabilities of the missing features, which all come after the observed ones."""
        scores, mask = self._scores(value.flatten(value.dim() - len(self.density.event_shape)))
        return torch.where(mask, 0, scores).sum(-1)

    def evidence_estimate(self) -> Estimate:
        """Log probabilities of the observed features, which do not depend on what is missing."""
        scores, mask = self._scores(self.evidence.observed)
        value = torch.where(mask, scores, 0).sum(-1)
        return Estimate.exact(value, self.method)

    def sample(self, shape: Size) -> tuple[Tensor, Tensor]:
        """Draws of the missing features."""
        value, _, log_prob = self.draw(shape)
        return value, log_prob

    def draw(self, shape: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Events, and log probabilities of what was put in and of what was drawn.

        Events are (*shape, features).
        """
        evidence = self.evidence.rows(shape)
        conditional = self.density.conditional
        conditioner = self._conditioner(evidence)
        order = conditioner.order
        rows = shape.numel()
        example = conditioner.example
        context = self.density._context_rows(shape)
        noise = conditional.noise((self.density.features, rows), example)
        parameters, state = conditioner.begin(rows, context, example)
        observed, mask = (_ordered(x, order) for x in evidence)
        put_in = example.new_zeros(rows)
        log_proposal = example.new_zeros(rows)
        values: list[Tensor] = []
        for position in range(self.density.features):
            if position:
                parameters, state = conditioner.proceed(state, values[-1])
            here = mask[:, position]
            values.append(
                torch.where(
                    here, observed[:, position], conditional.draw(parameters, noise[position])
                )
            )
            score = conditional.log_prob(parameters, values[-1])
            put_in = put_in + torch.where(here, score, 0)
            log_proposal = log_proposal + torch.where(here, 0, score)
        value = _ordered(torch.stack(values, -1), order.argsort(-1))
        return (
            value.view(*shape, self.density.features),
            put_in.view(shape),
            log_proposal.view(shape),
        )


class _Listed(Completer):
    """Every completion of every row, numbered.

    The digits of a number are the values of the missing features.
    """

    def __init__(self, density: NetworkDensity, evidence: Evidence, count: int) -> None:
        self.density = density
        self.evidence = evidence
        self.count = count
        self.batch = batch_of(density, evidence)
        states = torch.tensor(
            density.conditional.num_states(density.features), device=evidence.mask.device
        )
        self.sizes = torch.where(evidence.mask, 1, states)
        products = self.sizes.flip(-1).cumprod(-1).flip(-1)
        self.strides = torch.cat([products[..., 1:], torch.ones_like(products[..., :1])], -1)
        self.own_count = products[..., 0]

    def events(self, number: Tensor) -> Tensor:
        """Flat events whose missing features are the digits of numbers.

        Both with the batch of the mask last.
        """
        digits = number.unsqueeze(-1) // self.strides % self.sizes
        return self.evidence.complete(digits.to(self.evidence.observed.dtype))

    def table(self) -> Tensor:
        """Log p(completed event), (completions,) + batch.

        It is -inf for numbers that a row does not use.
        """
        step = max(1, BLOCK // max(1, self.batch.numel() * self.density.features))
        numbers = torch.arange(self.count, device=self.sizes.device).view(
            -1, *(1,) * len(self.batch)
        )
        return torch.cat([self._block(part) for part in numbers.split(step)])

    def _block(self, number: Tensor) -> Tensor:
        value = self.events(number)
        value = value.expand(len(number), *self.batch, -1)
        log_prob = self.density.log_prob(
            value.reshape(len(number), *self.batch, *self.density.event_shape)
        )
        return log_prob.masked_fill(number >= self.own_count, -math.inf)

    def evidence_estimate(self) -> Estimate:
        """The sum over all completions."""
        return Estimate.exact(self.table().logsumexp(0), "enumeration")

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(event) less that of the evidence."""
        return self.density.log_prob(value) - self.evidence_estimate().value

    def sample(self, shape: Size) -> tuple[Tensor, Tensor]:
        """Draws of completions by their numbers."""
        table = self.table().log_softmax(0)
        index, row = _drawn_row(table, shape)
        log_prob = table.reshape(len(table), -1)[index, row].view(shape)
        return self.events(index.view(shape)).expand(*shape, -1), log_prob


class _ParticleCompleter(Completer):
    """Ancestral draws with the evidence put in, and their log weights.

    Draws are (particles, *batch, features).
    """

    exact = False

    def __init__(self, density: NetworkDensity, values: Tensor, log_weights: Tensor) -> None:
        self.density = density
        self.values = values
        self.log_weights = log_weights

    def check(self) -> None:
        """Raise if no particle explains the evidence, and warn if few do."""
        if self.log_weights.is_meta or not self.log_weights.numel():
            return
        if (self.log_weights == -math.inf).all(0).any():
            raise ValueError(
                "`observed` holds a row that no particle explains: it cannot happen under "
                "the density"
            )
        untrusted = int((self._size() < UNTRUSTED).sum())
        if untrusted:
            warnings.warn(
                f"in {untrusted} rows fewer than {UNTRUSTED} of {len(self.log_weights)} "
                "particles are effective: "
                "neither "
                "log p(observed) nor the draws can be trusted; use more particles, or an "
                "exact `completion`",
                stacklevel=level_of_the_user(),
            )

    def _size(self) -> Tensor:
        return 1 / self.log_weights.softmax(0).square().sum(0)

    def evidence_estimate(self) -> Estimate:
        """The log of the mean weight.

        Its gradient is the mean of the particles' own, by weight.
        """
        count = len(self.log_weights)
        share = self.log_weights.softmax(0)
        value = self.log_weights.logsumexp(0) - math.log(count)
        error = torch.full_like(value, math.inf)
        if count > 1:
            error = ((count * share - 1).square().sum(0) / (count - 1) / count).sqrt()
        if torch.is_grad_enabled():
            joint = self.density.log_prob(
                self.values.view(*self.values.shape[:-1], *self.density.event_shape)
            )
            value = value + (share * (joint - joint.detach())).sum(0)
        return Estimate(value, error, self._size(), "importance")

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(event) less the estimate for the evidence."""
        return self.density.log_prob(value) - self.evidence_estimate().value

    def sample(self, shape: Size) -> tuple[Tensor, Tensor]:
        """Particles, picked by weight."""
        index, row = _drawn_row(self.log_weights, shape)
        value = self.values.flatten(1, -2)[index, row].view(*shape, self.density.features)
        return value, self.log_prob(value.view(*shape, *self.density.event_shape))


def _ordered(x: Tensor, order: Tensor) -> Tensor:
    """Columns of rows in an order, or in one for each row."""
    if order.dim() == 1:
        return x[:, order]
    return x.gather(1, order)


def _drawn_row(log_weights: Tensor, shape: Size) -> tuple[Tensor, Tensor]:
    """Numbers drawn by weights, by inversion, and the rows that they are drawn for.

    The weights are (count, *batch), the results flat.
    """
    batch = log_weights.shape[1:]
    steps = log_weights.reshape(len(log_weights), -1).T.softmax(-1).cumsum(-1)
    row = torch.arange(len(steps), device=steps.device).view(batch).expand(shape).flatten()
    uniform = torch.rand(row.shape, dtype=steps.dtype, device=steps.device)
    by_row = row.argsort(stable=True)  # every row is drawn for equally often
    table = uniform[by_row].view(len(steps), len(row) // max(1, len(steps))) * steps[:, -1:]
    index = torch.searchsorted(steps, table, right=True).clamp(max=len(log_weights) - 1)
    return index.flatten()[by_row.argsort()], row


__all__ = [
    "Completer",
    "Completion",
    "Enumeration",
    "Evidence",
    "Importance",
    "ObservedFirst",
    "chosen",
]
