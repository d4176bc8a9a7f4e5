"""Mixtures of binary and of categorical rows: latent class analysis."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from pyro_gen._arguments import whole_number
from pyro_gen._rows import RowsLike
from pyro_gen.models.mixture.base import GuideDistribution, Mixture, Objective, Site
from pyro_gen.models.mixture.distribution import Parameters, take
from pyro_gen.models.mixture.weights import WeightDistribution, like_of
from pyro_gen.models.rows import Rows, make_rows, single


class DiscreteMixture(Mixture):
    """Components under which features are independent, with the site ``probs``."""

    alpha: Tensor
    values: int
    """Number of values of a feature."""

    @classmethod
    def from_data(
        cls,
        x: RowsLike,
        components: int,
        *,
        mask: Tensor | None = None,
        smoothing: float = 1.0,
        **settings: Any,
    ) -> Self:
        """A mixture whose prior shrinks every component towards the rates of the columns'
        values.

        Args:
            x: all rows, (rows, features), NaN where a cell is missing.
            components: number of components.
            mask: as for :meth:`Mixture.model`.
            smoothing: how many rows the prior adds to every component, at the
                columns' rates.
            **settings: further arguments of the class.

        Returns:
            The mixture, its point set by k-means++.

        Raises:
            ValueError: there are fewer rows than components, or other values,
                or ``smoothing`` is below 0.
        """
        rows = single(make_rows(x, mask))
        mixture = cls._shrunk(rows, components, smoothing, settings)
        mixture.initialise(x, mask)
        return mixture

    @classmethod
    @abstractmethod
    def _shrunk(
        cls, rows: Rows, components: int, smoothing: float, settings: dict[str, Any]
    ) -> Self:
        """The mixture of :meth:`from_data`, at its first point."""

    def rows(self, x: object, mask: Tensor | None = None) -> Rows:
        """Check rows, which hold the numbers 0 to values - 1; see :meth:`Mixture.rows`."""
        return _check_states(super().rows(x, mask), self.values)

    @property
    def num_parameters(self) -> int:
        """Free parameters of the weights and the probabilities."""
        return self.components - 1 + self.components * self.features * (self.values - 1)

    def _register(self, alpha: Tensor) -> None:
        """Keep the prior's pseudo-counts, (..., values); start near the prior's mean."""
        if not (alpha > 0).all() or not alpha.isfinite().all():
            raise ValueError(
                f"the prior's pseudo-counts must be finite and above 0, got {alpha.min().item():g}"
            )
        self.register_buffer("alpha", alpha)
        mean = alpha / alpha.sum(-1, keepdim=True)
        place = torch.linspace(-1, 1, self.components + 2).to(alpha)[1:-1]
        value = torch.arange(alpha.shape[-1]).to(alpha)
        tilted = mean * (0.5 * place.view(-1, 1, 1) * (value - value.mean())).exp()
        tilted = tilted / tilted.sum(-1, keepdim=True)
        weights = alpha.new_full((self.components,), 1 / self.components)
        self.set_point({"weights": weights, "probs": self._probs(tilted)})

    @abstractmethod
    def _probs(self, table: Tensor) -> Tensor:
        """The value of the site from probabilities of all values, (..., features, values)."""

    @abstractmethod
    def _counts(self, rows: Rows, responsibilities: Tensor) -> Tensor:
        """Expected rows of each component that have each value, (components, features, values)."""

    def canonical(self, values: Parameters) -> dict[str, Tensor]:
        """Probabilities as they are."""
        return {"probs": values["probs"]}

    def check_mode(self) -> None:
        """Raise unless the prior has a mode: pseudo-counts below 1 pull towards 0 and 1."""
        super().check_mode()
        if not (self.alpha >= 1).all():
            raise ValueError(
                "the prior's pseudo-counts must be at least 1 for the posterior to have a mode, "
                "got "
                f'{self.alpha.min().item():g}: use objective="likelihood", or SVI'
            )

    def m_step(
        self, rows: Rows, responsibilities: Tensor, point: Parameters, objective: Objective
    ) -> Parameters:
        """Probabilities that the expected complete data make most probable."""
        counts = self._counts(rows, responsibilities)
        if objective == "posterior":
            counts = counts + self.alpha.clamp_min(1) - 1
        total = counts.sum(-1, keepdim=True)
        tiny = torch.finfo(counts.dtype).tiny
        even = torch.full_like(counts, 1 / counts.shape[-1])
        # Without a prior, an empty component has no estimate.
        return {
            "probs": self._probs(torch.where(total > tiny, counts / total.clamp_min(tiny), even))
        }

    def conditional_draw(
        self, rows: Rows, responsibilities: Tensor, point: Parameters
    ) -> Parameters:
        """Probabilities given the components of all rows, from their Dirichlet distributions."""
        return {
            "probs": self._probs(
                dist.Dirichlet(self._counts(rows, responsibilities) + self.alpha).sample()
            )
        }

    def floor_reached(self, rows: Rows, point: Parameters) -> bool:
        """False: the likelihood of discrete rows is bounded."""
        return False


class BernoulliMixture(DiscreteMixture):
    r"""A mixture of rows of independent zeros and ones, under Beta priors.

    .. math:: p(x) = \sum_k \pi_k \prod_d p_{kd}^{x_d} (1 - p_{kd})^{1 - x_d}, \qquad
              p_{kd} \sim \mathrm{Beta}(a_d, b_d)

    The sites are ``weights`` (``sticks`` of a Dirichlet process) and ``probs``
    (components, features). See :class:`Mixture` for the programs and methods.

    Args:
        components: number of components; of a Dirichlet process the truncation.
        features: columns of a row.
        size: rows of the whole data set, which scales minibatches.
        weights: "dirichlet", or "dirichlet process" (truncated).
        concentration: alpha of every weight, or of the process.
        ones: a, (features,) or a number; above 1 it smooths what EM finds.
        zeros: b, the same.
        guide: "normal" or "delta".
        dtype: of the parameters, where ``ones`` and ``zeros`` are numbers.

    Raises:
        ValueError: an argument is not one of its choices, or out of range, or
            of another shape.

    References:
        Lazarsfeld and Henry (1968), Latent structure analysis. Bishop (2006),
        Pattern recognition and machine learning, section 9.3.3.

    Example:
        >>> x = torch.bernoulli(torch.tensor([[0.9, 0.9, 0.1], [0.1, 0.2, 0.8]]).repeat(50, 1))
        >>> mixture = BernoulliMixture.from_data(x, components=2)
        >>> mixture.fit(x).converged
        True
        >>> mixture.predict(x).shape
        torch.Size([100])
    """

    values = 2

    def __init__(
        self,
        components: int,
        features: int,
        size: int,
        *,
        weights: WeightDistribution = "dirichlet",
        concentration: float = 1.0,
        ones: Tensor | float = 1.5,
        zeros: Tensor | float = 1.5,
        guide: GuideDistribution = "normal",
        dtype: torch.dtype | None = None,
    ) -> None:
        like = like_of((ones, zeros), dtype)
        super().__init__(components, features, size, weights, concentration, guide, like)
        columns = []
        for name, value in (("zeros", zeros), ("ones", ones)):
            tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
            if tensor.shape not in ((), (features,)):
                raise ValueError(
                    f"`{name}` must have shape ({features},) or be a number, got "
                    f"{tuple(tensor.shape)}"
                )
            columns.append(tensor.expand(features))
        self._register(torch.stack(columns, -1))

    @classmethod
    def _shrunk(
        cls, rows: Rows, components: int, smoothing: float, settings: dict[str, Any]
    ) -> Self:
        zeros, ones = _shrinkage(rows, 2, smoothing).unbind(-1)
        prior = {"ones": ones, "zeros": zeros}
        return cls(components, rows.x.shape[-1], len(rows.x), **{**prior, **settings})

    def component_sites(self) -> dict[str, Site]:
        """The site of the probabilities."""
        support = constraints.unit_interval
        return {"probs": Site(support, (self.features,), True, biject_to(support))}

    def sample_components(self) -> dict[str, Tensor]:
        """Sample the probabilities."""
        with self._plate():
            return {
                "probs": pyro.sample(
                    "probs", dist.Beta(self.alpha[:, 1], self.alpha[:, 0]).to_event(1)
                )
            }

    @property
    def row_support(self) -> constraints.Constraint:
        """Zeros and ones."""
        return constraints.independent(constraints.boolean, 1)

    @property
    def means(self) -> Tensor:
        """Probabilities of a one at the guide's point, (components, features)."""
        return self.point()["probs"]

    @property
    def covariances(self) -> Tensor:
        """Covariances of the components at the guide's point, diagonal matrices."""
        probs = self.means
        return (probs * (1 - probs)).diag_embed()

    def _probs(self, table: Tensor) -> Tensor:
        return table[..., 1]

    def log_table(self, rows: Rows, parameters: Parameters) -> Tensor:
        """Log probability of the observed cells of every row under every component, (...,
        rows, components).

        Args:
            rows: checked rows.
            parameters: the canonical ones.
        """
        eps = torch.finfo(rows.x.dtype).eps
        probs = parameters["probs"].clamp(eps, 1 - eps)
        log_p = probs.log()
        log_q = torch.log1p(-probs)
        of_ones = rows.x @ (log_p - log_q).mT
        if rows.mask is None:
            return of_ones + log_q.sum(-1).unsqueeze(-2)
        return of_ones + rows.mask.to(rows.x) @ log_q.mT

    def _counts(self, rows: Rows, responsibilities: Tensor) -> Tensor:
        ones = responsibilities.mT @ rows.x
        if rows.mask is None:
            totals = responsibilities.sum(0).unsqueeze(-1)
        else:
            totals = responsibilities.mT @ rows.mask.to(rows.x)
        return torch.stack([(totals - ones).clamp_min(0), ones], -1)

    def draw(self, z: Tensor, parameters: Parameters) -> Tensor:
        """Rows given their components.

        Args:
            z: components, (..., rows).
            parameters: the canonical ones.
        """
        return torch.bernoulli(take(parameters["probs"], z, 1))


class CategoricalMixture(DiscreteMixture):
    r"""A mixture of rows of independent categories, under Dirichlet priors.

    .. math:: p(x) = \sum_k \pi_k \prod_d p_{k d x_d}, \qquad p_{kd} \sim
        \mathrm{Dirichlet}(\alpha_d)

    The sites are ``weights`` (``sticks`` of a Dirichlet process) and ``probs``
    (components, features, values). Rows hold the numbers 0 to values - 1 in a
    floating dtype, so that NaN can stand for a missing cell. See
    :class:`Mixture` for the programs and methods.

    A feature that has fewer values than another shares the prior with those
    that it never takes: ``from_data`` leaves them about 1 of (rows of the
    component + values) in draws of the posterior and next to nothing in its
    mode. They count as free parameters in AIC and BIC.

    Args:
        components: number of components; of a Dirichlet process the truncation.
        features: columns of a row.
        values: number of values of a feature, the same for all: the largest.
        size: rows of the whole data set, which scales minibatches.
        weights: "dirichlet", or "dirichlet process" (truncated).
        concentration: alpha of every weight, or of the process.
        alpha: pseudo-counts of the values, (features, values), (values,) or a
            number; above 1 they smooth EM.
        guide: "normal" or "delta".
        dtype: of the parameters, where ``alpha`` is a number.

    Raises:
        ValueError: an argument is not one of its choices, or out of range, or
            of another shape.

    References:
        Goodman (1974), Exploratory latent structure analysis using both
        identifiable and unidentifiable models.

    Example:
        >>> x = torch.tensor([[0.0, 2.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).repeat(20, 1)
        >>> mixture = CategoricalMixture.from_data(x, components=2)
        >>> mixture.fit(x).converged
        True
        >>> mixture.responsibilities(x).shape
        torch.Size([80, 2])
    """

    def __init__(
        self,
        components: int,
        features: int,
        values: int,
        size: int,
        *,
        weights: WeightDistribution = "dirichlet",
        concentration: float = 1.0,
        alpha: Tensor | float = 1.5,
        guide: GuideDistribution = "normal",
        dtype: torch.dtype | None = None,
    ) -> None:
        like = like_of((alpha,), dtype)
        super().__init__(components, features, size, weights, concentration, guide, like)
        values = whole_number("values", values, 2)
        tensor = torch.as_tensor(alpha, dtype=like.dtype, device=like.device)
        if tensor.shape not in ((), (values,), (features, values)):
            raise ValueError(
                f"`alpha` must have shape ({features}, {values}), ({values},) or be a number, "
                f"got {tuple(tensor.shape)}"
            )
        self.values = values
        self._register(tensor.expand(features, values).clone())

    @classmethod
    def _shrunk(
        cls, rows: Rows, components: int, smoothing: float, settings: dict[str, Any]
    ) -> Self:
        values = max(2, int(rows.x.max().item()) + 1)
        prior = {"alpha": _shrinkage(rows, values, smoothing)}
        return cls(components, rows.x.shape[-1], values, len(rows.x), **{**prior, **settings})

    def component_sites(self) -> dict[str, Site]:
        """The site of the probabilities."""
        shape = (self.features, self.values)
        return {"probs": Site(constraints.simplex, shape, True, biject_to(constraints.simplex))}

    def sample_components(self) -> dict[str, Tensor]:
        """Sample the probabilities."""
        with self._plate():
            return {"probs": pyro.sample("probs", dist.Dirichlet(self.alpha).to_event(1))}

    @property
    def row_support(self) -> constraints.Constraint:
        """The numbers 0 to values - 1."""
        return constraints.independent(constraints.integer_interval(0, self.values - 1), 1)

    @property
    def means(self) -> Tensor:
        """Means of the values, as numbers, at the guide's point, (components, features)."""
        return self._moment(1)

    @property
    def covariances(self) -> Tensor:
        """Covariances of the values, as numbers, diagonal, (components, features, features)."""
        return (self._moment(2) - self._moment(1).square()).diag_embed()

    def _moment(self, power: int) -> Tensor:
        probs = self.point()["probs"]
        return probs @ torch.arange(self.values).to(probs).pow(power)

    def _probs(self, table: Tensor) -> Tensor:
        return table

    def log_table(self, rows: Rows, parameters: Parameters) -> Tensor:
        """Log probability of the observed cells of every row under every component, (...,
        rows, components).

        Args:
            rows: checked rows.
            parameters: the canonical ones.
        """
        log_p = parameters["probs"].clamp_min(torch.finfo(rows.x.dtype).tiny).log()
        return _one_hot(rows, self.values).flatten(-2) @ log_p.flatten(-2).mT

    def _counts(self, rows: Rows, responsibilities: Tensor) -> Tensor:
        return (responsibilities.mT @ _one_hot(rows, self.values).flatten(-2)).unflatten(
            -1, (-1, self.values)
        )

    def encoded(self, rows: Rows) -> Tensor:
        """One-hot columns; a missing cell has the rates of its column."""
        table = _one_hot(rows, self.values)
        if rows.mask is not None:
            rate = table.sum(0) / rows.mask.sum(0).clamp_min(1).unsqueeze(-1)
            table = torch.where(rows.mask.unsqueeze(-1), table, rate)
        return table.flatten(-2)

    def draw(self, z: Tensor, parameters: Parameters) -> Tensor:
        """Rows given their components.

        Args:
            z: components, (..., rows).
            parameters: the canonical ones.
        """
        probs = take(parameters["probs"], z, 2)
        return torch.distributions.Categorical(probs=probs).sample().to(probs.dtype)


def _one_hot(rows: Rows, values: int) -> Tensor:
    """Indicators of the values, zero in missing cells, (..., rows, features, values)."""
    table = rows.x.unsqueeze(-1) == torch.arange(values, device=rows.x.device)
    return (table if rows.mask is None else table & rows.mask.unsqueeze(-1)).to(rows.x.dtype)


def _check_states(rows: Rows, values: int) -> Rows:
    if not ((rows.x >= 0) & (rows.x < values) & (rows.x == rows.x.floor())).all():
        if values == 2:
            states = "zeros and ones"
        else:
            states = f"the numbers 0 to {values - 1}"
        raise ValueError(f"`x` must hold {states}, and NaN for missing cells, got other values")
    return rows


def _shrinkage(rows: Rows, values: int, smoothing: float) -> Tensor:
    """Pseudo-counts (features, values) of so many rows at the rates of the columns' values."""
    _check_states(rows, values)
    if not 0 <= smoothing < math.inf:
        raise ValueError(f"`smoothing` must be finite and at least 0, got {smoothing}")
    if rows.mask is None:
        observed = torch.ones_like(rows.x, dtype=torch.bool)
    else:
        observed = rows.mask
    counts = torch.stack(
        [((rows.x == value) & observed).sum(0) for value in range(values)], -1
    ).to(rows.x.dtype)
    # One more row, shared by all values, keeps a column that is constant from
    # having a rate of 0 or 1.
    return 1 + smoothing * (counts + 1 / values) / (counts.sum(-1, keepdim=True) + 1)


__all__ = ["BernoulliMixture", "CategoricalMixture"]
