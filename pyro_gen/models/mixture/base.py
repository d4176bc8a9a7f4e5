"""Shared parts of all mixtures: the programs, the guide, and learning."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import one_hot

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._plates import check_rows, rows_plate
from pyro_gen._points import check_agrees, check_point
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike
from pyro_gen.models.em import FitResult, best_of
from pyro_gen.models.mixture.distribution import Parameters, RowDistribution
from pyro_gen.models.mixture.initialisation import assign
from pyro_gen.models.mixture.sites import ROWS, SERVES, Site, weight_sites, without_plates
from pyro_gen.models.mixture.weights import (
    CONDITIONALS,
    WeightDistribution,
    log_weights,
    sample_weights,
    sticks_of,
)
from pyro_gen.models.mixture.weights import conditional_draw as draw_of_weights
from pyro_gen.models.mixture.weights import mode as mode_of_weights
from pyro_gen.models.rows import RowDensity, Rows, check_like, make_rows, single

GuideDistribution = Literal["normal", "delta"]
Objective = Literal["posterior", "likelihood"]
SPREAD = 0.05
"""Initial standard deviation of the guide, in its unconstrained coordinates."""


class Mixture(RowDensity, Module):
    r"""A mixture of rows, :math:`p(x) = \sum_k \pi_k\, p(x | \theta_k)`, with priors.

    Base of the families.

    ``model`` enumerates the components z of the rows (``SVI`` with
    ``TraceEnum_ELBO``, NUTS, ``infer_discrete``); ``marginal`` is the same
    joint density with z summed out (``Trace_ELBO``, NUTS: faster). The sites
    are the parameters of the components in the plate ``components``, the
    weights, and ``z`` and ``x`` in the plate ``rows``. Methods that describe
    the mixture use by default the guide's ``point``, which ``fit``,
    ``initialise`` and SVI move; each also takes draws of a sampler as
    ``parameters``.

    Args:
        components: number of components; of a Dirichlet process the truncation.
        features: columns of a row.
        size: rows of the whole data set, which scales minibatches.
        weights: the prior of the weights, "dirichlet" or "dirichlet process"
            (truncated stick-breaking).
        concentration: alpha of every weight, or of the process.
        guide: "normal" (independent normals in unconstrained coordinates) or
            "delta" (the posterior's mode).
        like: a tensor whose dtype and device the parameters get.

    Raises:
        ValueError: a size is below 1, or an argument is not one of its choices.
    """

    concentration: Tensor

    def __init__(
        self,
        components: int,
        features: int,
        size: int,
        weights: WeightDistribution,
        concentration: float,
        guide: GuideDistribution,
        like: Tensor,
    ) -> None:
        super().__init__()
        self.components = whole_number("components", components)
        self.features = whole_number("features", features)
        self.size = whole_number("size", size)
        if weights not in CONDITIONALS or guide not in ("normal", "delta"):
            raise ValueError(
                '`weights` must be "dirichlet" or "dirichlet process" and '
                f'`guide` "normal" or "delta", got {weights!r} and {guide!r}'
            )
        if not concentration > 0:
            raise ValueError(f"`concentration` must be above 0, got {concentration}")
        self.weight_distribution = weights
        self.guide_distribution = guide
        self.register_buffer("concentration", like.new_tensor(concentration))
        self.location = nn.ParameterDict()
        self.log_spread = nn.ParameterDict()

    def forward(self) -> RowDistribution:
        """The density of a row at the guide's point, components summed out, for
        ``pyro.sample("x", mixture(), obs=x)``.

        Returns:
            A distribution of event shape (features,); cells that are NaN are
            summed out.
        """
        return RowDistribution(self, self.completed(self.point()), None)

    @property
    def weights(self) -> Tensor:
        """Weights of the components at the guide's point, (components,)."""
        return self.point()["weights"]

    @property
    @abstractmethod
    def means(self) -> Tensor:
        """Means of the components at the guide's point, (components, features)."""

    @property
    @abstractmethod
    def covariances(self) -> Tensor:
        """Covariances of the components at the guide's point, (components, features, features)."""

    # ---- the programs

    def model(self, x: RowsLike | None = None, mask: Tensor | None = None) -> Tensor:
        """The generative program: parameters, a component for each row, the row.

        Args:
            x: rows to observe, (rows, features), NaN where a cell is missing;
                None draws ``size`` rows.
            mask: True where a cell is observed, same shape; None for wherever
                there is no NaN.

        Returns:
            The rows.
        """
        parameters = self._sampled()
        rows = self._given(x, mask)
        with rows_plate(self.size, None if rows is None else rows.x):
            distribution = dist.Categorical(logits=parameters["log_weights"])
            z = pyro.sample("z", distribution, infer={"enumerate": "parallel"})
            return self._observe(parameters, z, rows)

    def marginal(self, x: RowsLike | None = None, mask: Tensor | None = None) -> Tensor:
        """Program with the components of the rows summed out.

        Args:
            x: as for ``model``.
            mask: as for ``model``.

        Returns:
            The rows.
        """
        parameters = self._sampled()
        rows = self._given(x, mask)
        with rows_plate(self.size, None if rows is None else rows.x):
            return self._observe(parameters, None, rows)

    def guide(self, x: RowsLike | None = None, mask: Tensor | None = None) -> None:
        """The distributions of the continuous sites; the components of the rows are enumerated.

        Args:
            x: rows, which are only counted: at most ``size``.
            mask: ignored.
        """
        check_rows(self.size, 0 if x is None else len(x))
        register("mixture", self)
        plate = self._plate()
        for name, site in self.sites().items():
            with plate if site.per_component else nullcontext():
                pyro.sample(name, self._guide_distribution(name, site))

    def _plate(self) -> AbstractContextManager[Any]:
        plate: AbstractContextManager[Any] = pyro.plate("components", self.components)
        return plate

    def _guide_distribution(self, name: str, site: Site) -> TorchDistribution:
        location = self.location[name]
        if self.guide_distribution == "delta":
            return dist.Delta(site.transform(location), event_dim=site.event_dim)
        flat = site.transform.domain.event_dim + site.event_dim - site.transform.codomain.event_dim
        base = dist.Normal(location, self.log_spread[name].exp()).to_event(flat)
        return dist.TransformedDistribution(base, [site.transform])

    def _given(self, x: RowsLike | None, mask: Tensor | None) -> Rows | None:
        if x is None and mask is not None:
            raise ValueError("`mask` must come with `x`, got a mask alone")
        if x is None:
            return None
        return single(self.rows(x, mask))

    def _all_rows(self, x: RowsLike, mask: Tensor | None = None) -> Rows:
        """Checked rows to learn from, at most ``size``."""
        rows = single(self.rows(x, mask))
        check_rows(self.size, len(rows.x))
        return rows

    def _observe(self, parameters: Parameters, z: Tensor | None, rows: Rows | None) -> Tensor:
        if rows is None:
            return pyro.sample("x", RowDistribution(self, parameters, z))
        if rows.mask is None:
            value = rows.x
        else:
            value = torch.where(rows.mask, rows.x, torch.nan)
        observed = replace(rows, source=value)
        return pyro.sample("x", RowDistribution(self, parameters, z, observed), obs=value)

    def _sampled(self) -> dict[str, Tensor]:
        """Sample all continuous sites; the canonical parameters."""
        log_w = sample_weights(self.weight_distribution, self.components, self.concentration)
        if log_w.dim() == 1:
            log_w = log_w.unsqueeze(0)
        return {"log_weights": log_w, **self.sample_components()}

    # ---- what a family defines

    @abstractmethod
    def log_table(self, rows: Rows, parameters: Parameters) -> Tensor:
        """Log density of the observed cells of every row under every component.

        Args:
            rows: checked rows.
            parameters: the canonical ones.

        Returns:
            Shape (..., rows, components).
        """

    @abstractmethod
    def draw(self, z: Tensor, parameters: Parameters) -> Tensor:
        """Rows given their components, shape of ``z`` + (features,)."""

    @abstractmethod
    def sample_components(self) -> dict[str, Tensor]:
        """Sample the components' parameters, in the plate where they have one; canonical ones."""

    @abstractmethod
    def component_sites(self) -> dict[str, Site]:
        """The sites of the components' parameters."""

    @abstractmethod
    def canonical(self, values: Parameters) -> dict[str, Tensor]:
        """The canonical parameters, (..., components or 1) + event, from values of the sites."""

    @abstractmethod
    def m_step(
        self, rows: Rows, responsibilities: Tensor, point: Parameters, objective: Objective
    ) -> Parameters:
        """Values of the components' sites that the expected complete data make most probable.

        Args:
            rows: checked rows.
            responsibilities: (rows, components).
            point: the values before.
            objective: with or without the prior.
        """

    @abstractmethod
    def conditional_draw(
        self, rows: Rows, responsibilities: Tensor, point: Parameters
    ) -> Parameters:
        """Values of the components' sites given the components of all rows, drawn."""

    @property
    def row_support(self) -> constraints.Constraint:
        """The values that a row may take."""
        return constraints.independent(constraints.real, 1)

    @abstractmethod
    def floor_reached(self, rows: Rows, point: Parameters) -> bool:
        """True if a component has reached the lower bound of its width: it is degenerate."""

    def rows(self, x: object, mask: Tensor | None = None) -> Rows:
        """Check rows, and separate missing cells from observed ones.

        Args:
            x: (rows, features), NaN where a cell is missing.
            mask: True where a cell is observed, same shape; None for wherever
                there is no NaN.

        Returns:
            The rows.

        Raises:
            ValueError: they do not fit this mixture.
        """
        rows = make_rows(x, mask, self.features, self.concentration)
        check_like(rows, self.concentration, "mixture")
        return rows

    # ---- the guide's point

    def sites(self) -> dict[str, Site]:
        """The continuous sites by name, in the order of the model."""
        weight_site = weight_sites(self.components)[self._weight_site]
        return {
            **({self._weight_site: weight_site} if self.components > 1 else {}),
            **self.component_sites(),
        }

    def derived_sites(self) -> dict[str, Site]:
        """Functions of the sites that values may hold too: weights of sticks, the family's own."""
        weights = weight_sites(self.components)["weights"]
        if "weights" in self.sites():
            return {}
        return {"weights": weights}

    @property
    def _weight_site(self) -> str:
        if self.weight_distribution == "dirichlet":
            return "weights"
        return "sticks"

    def point(self) -> dict[str, Tensor]:
        """The values of all continuous sites at the guide's centre, its medians;
        ``weights`` too.

        Returns:
            Values by site.
        """
        values = {name: site.transform(self.location[name]) for name, site in self.sites().items()}
        return {**values, **self.derived(values)}

    def derived(self, values: Parameters) -> dict[str, Tensor]:
        """Deterministic values of the program's sites: ``weights`` from sticks, and the
        family's own.

        Args:
            values: values or draws by site, (...) + event.

        Returns:
            By name.
        """
        if self.components == 1:
            return {"weights": self.concentration.new_ones(1)}
        if self.weight_distribution == "dirichlet process" and "sticks" in values:
            return {"weights": log_weights(values["sticks"], self.weight_distribution).exp()}
        return {}

    def implied(self, values: Parameters) -> dict[str, Tensor]:
        """Sites that checked values hold in another form only."""
        if "sticks" in self.sites() and "sticks" not in values and "weights" in values:
            return {"sticks": sticks_of(values["weights"])}
        return {}

    def checked(
        self, argument: str, values: Parameters, batched: bool = False
    ) -> dict[str, Tensor]:
        """Values or draws of the sites in the dtype of the mixture, after a check of every one.

        Args:
            argument: name of the argument, for messages.
            values: by name; ``z`` and ``x`` of a draw are ignored.
            batched: whether draws may be batched.

        Raises:
            ValueError: as for :meth:`set_point`.
        """
        sites = self.sites()
        derived = self.derived_sites()
        expected = {
            name: site.expected(self.components) for name, site in {**sites, **derived}.items()
        }
        served = {site for name in derived if name in values for site in SERVES[name]}
        check_point(argument, values, expected, {*derived, *served, *ROWS}, batched)
        converted = {
            name: value.to(self.concentration.dtype)
            for name, value in values.items()
            if name not in ROWS
        }
        bare = without_plates(converted, {**sites, **derived})
        implied = self.derived({name: value for name, value in bare.items() if name in sites})
        for name in implied.keys() & bare.keys():
            check_agrees(
                f"`{argument}` of {name!r}", bare[name], implied[name], derived[name].support
            )
        return converted

    @torch.no_grad()
    def set_point(self, values: Parameters) -> None:
        """Move the guide's centre.

        Args:
            values: the values of all continuous sites; ``weights`` serves for
                ``sticks``, and ``covariances`` for ``scales`` and
                ``correlations``. Weights may miss a sum of 1 by rounding
                (1e-4), and are divided by it.

        Raises:
            ValueError: a site is missing, unknown, of another shape or outside
                its support, or what derives from the sites contradicts them. No
                parameter changes then.
        """
        point = self.checked("values", values)
        point = {**self.implied(point), **point}
        places = {name: site.coordinates(name, point[name]) for name, site in self.sites().items()}
        for name, location in places.items():
            self._place(name, location)

    def _place(self, name: str, location: Tensor) -> None:
        if name in self.location:
            self.location[name].copy_(location)
            return
        self.location[name] = nn.Parameter(location.clone())
        if self.guide_distribution == "normal":
            self.log_spread[name] = nn.Parameter(torch.full_like(location, SPREAD).log())

    # ---- learning

    @torch.no_grad()
    def initialise(
        self, x: RowsLike, mask: Tensor | None = None, method: str = "k-means++"
    ) -> None:
        """Move the guide's centre to where one M step from a hard clustering of rows leads.

        Args:
            x: rows, NaN where a cell is missing.
            mask: as for :meth:`model`.
            method: "k-means++" (seeds and Lloyd's steps, in columns of unit
                variance) or "random" assignments.

        Raises:
            ValueError: there are fewer rows than components, or ``method`` is
                neither.

        References:
            Arthur and Vassilvitskii (2007), k-means++: the advantages of
            careful seeding.
        """
        rows = self._all_rows(x, mask)
        self.set_point(self.start(rows, "posterior", method))

    def start(
        self, rows: Rows, objective: Objective, method: str = "k-means++"
    ) -> dict[str, Tensor]:
        """Values of the sites from a hard clustering, as EM starts.

        Args:
            rows: checked rows.
            objective: of the M step.
            method: of :meth:`initialise`.
        """
        if len(rows.x) < self.components:
            raise ValueError(
                f"`components` must be at most the number of rows, got {self.components} and "
                f"{len(rows.x)}"
            )
        labels = assign(self.encoded(rows), self.components, method)
        responsibilities = nn.functional.one_hot(labels, self.components).to(rows.x.dtype)
        return self.maximised(rows, responsibilities, self.point(), objective)

    def encoded(self, rows: Rows) -> Tensor:
        """The table in which rows are clustered, complete, (rows, ...)."""
        return rows.imputed()

    def maximised(
        self, rows: Rows, responsibilities: Tensor, point: Parameters, objective: Objective
    ) -> dict[str, Tensor]:
        """The M step of :meth:`m_step` for all sites, the weights too."""
        values = dict(self.m_step(rows, responsibilities, point, objective))
        if self.components > 1:
            counts = responsibilities.sum(0)
            posterior = objective == "posterior"
            values[self._weight_site] = mode_of_weights(
                counts, self.weight_distribution, self.concentration, posterior
            )
        return {**values, **self.derived(values)}

    def check_mode(self) -> None:
        """Weights of Dirichlet distributions below 1 have no mode.

        Raises:
            ValueError: ``concentration`` is below 1.
        """
        if self.components > 1 and not self.concentration >= 1:
            raise ValueError(
                f"`concentration` must be at least 1 for the posterior to have a mode, got "
                f'{self.concentration.item():g}: use objective="likelihood", or SVI'
            )

    def log_prior(self, values: Parameters) -> Tensor:
        """Log density of the continuous sites, as the program scores them.

        Args:
            values: by site.

        Returns:
            A scalar.

        Raises:
            ValueError: as for :meth:`set_point`.
        """
        point = self.checked("values", values)
        return self.log_prior_of({**self.implied(point), **point})

    @torch.no_grad()
    def log_prior_of(self, point: Parameters) -> Tensor:
        """Log density of values that :meth:`checked` has returned."""
        trace = poutine.trace(poutine.condition(self._sampled, data=dict(point))).get_trace()
        total: Tensor = torch.as_tensor(trace.log_prob_sum()).to(self.concentration)
        return total

    @torch.no_grad()
    def fit(
        self,
        x: RowsLike,
        mask: Tensor | None = None,
        *,
        objective: Objective = "posterior",
        num_starts: int = 5,
        num_steps: int = 1000,
        tolerance: float = 1e-7,
    ) -> FitResult:
        """Expectation maximisation with exact steps, from several starts.

        The best is kept as the guide's centre.

        Args:
            x: rows, (rows, features), NaN where a cell is missing (at random:
                the others are what is fitted).
            mask: True where a cell is observed; None for wherever there is no
                NaN.
            objective: "posterior" (its mode, in the coordinates of the sites)
                or "likelihood" (maximum likelihood).
            num_starts: starts by k-means++; 0 goes on from the present point.
            num_steps: steps of each start, at most.
            tolerance: stop where a step gains less than this, in nats a row.

        Returns:
            The result, with the objective of every step.

        Raises:
            ValueError: the rows do not fit this mixture, fewer than components,
                or the prior has no mode.

        References:
            Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete
            data via the EM algorithm. Ghahramani and Jordan (1994), Supervised
            learning from incomplete data via an EM approach (missing cells).
        """
        if objective == "posterior":
            self.check_mode()
        rows = self._all_rows(x, mask)
        if objective not in ("posterior", "likelihood"):
            raise ValueError(f'`objective` must be "posterior" or "likelihood", got {objective!r}')
        num_starts = whole_number("num_starts", num_starts, 0)
        num_steps = whole_number("num_steps", num_steps)
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must not be negative, got {tolerance}")
        starts: Iterable[dict[str, Tensor]] = [self.point()]
        if num_starts:
            starts = (self.start(rows, objective) for _ in range(num_starts))
        climbs = [self._climb(rows, start, objective, num_steps, tolerance) for start in starts]
        result, values = best_of(climbs)
        self.set_point(values)
        return result

    def _climb(
        self,
        rows: Rows,
        values: dict[str, Tensor],
        objective: Objective,
        num_steps: int,
        tolerance: float,
    ) -> tuple[FitResult, dict[str, Tensor]]:
        """EM from one start: the result and the values of the sites."""
        history: list[float] = []
        converged = False
        for step in range(num_steps + 1):
            parameters = self.completed(values)
            joint = self.log_table(rows, parameters) + parameters["log_weights"]
            evidence = joint.logsumexp(-1, keepdim=True)
            log_likelihood = evidence.double().sum().item()
            history.append(log_likelihood)
            if objective == "posterior":
                history[-1] += self.log_prior_of(values).item()
            converged = step > 0 and history[-1] - history[-2] < tolerance * len(rows.x)
            if converged or step == num_steps:
                break
            values = self.maximised(rows, (joint - evidence).exp_(), values, objective)
        path = torch.tensor(history, dtype=torch.float64)
        degenerate = self.floor_reached(rows, values)
        return FitResult(log_likelihood, path, converged, degenerate, path[-1:]), values

    @torch.no_grad()
    def gibbs_sweep(self, x: RowsLike, values: Parameters) -> dict[str, Tensor]:
        """One sweep of the blocked Gibbs sampler: all components of rows given the
        parameters, then these given those.

        Both conditionals are exact, by conjugacy; labels may switch.

        Args:
            x: rows, complete unless they are discrete.
            values: of the continuous sites, without batch, such as ``point()``
                or those of the sweep before.

        Returns:
            New values, and ``z``.

        Raises:
            ValueError: the priors are not conjugate, or a Gaussian row misses
                cells.

        References:
            Ishwaran and James (2001), Gibbs sampling methods for stick-breaking
            priors, section 5.2.
        """
        return self._sweep(self._all_rows(x), self.checked("values", values))

    def _sweep(self, rows: Rows, values: Parameters) -> dict[str, Tensor]:
        parameters = self.completed(values)
        z = torch.distributions.Categorical(
            logits=self.log_table(rows, parameters) + parameters["log_weights"]
        ).sample()
        assignment = nn.functional.one_hot(z, self.components).to(rows.x.dtype)
        draws = dict(self.conditional_draw(rows, assignment, values))
        if self.components > 1:
            draws[self._weight_site] = draw_of_weights(
                assignment.sum(0), self.weight_distribution, self.concentration
            )
        return {**draws, **self.derived(draws), "z": z}

    @torch.no_grad()
    def gibbs(
        self,
        x: RowsLike,
        num_samples: int,
        *,
        warmup_steps: int = 0,
        num_chains: int = 1,
        thin: int = 1,
    ) -> dict[str, Tensor]:
        """Chains of :meth:`gibbs_sweep`, each from the guide's point.

        Args:
            x: rows, complete unless they are discrete.
            num_samples: draws of each chain.
            warmup_steps: sweeps before the first draw.
            num_chains: chains, one after the other.
            thin: sweeps from draw to draw.

        Returns:
            Draws of all sites, of ``z`` and of what derives from them, (chain,
            draw, ...).

        Raises:
            ValueError: a number is out of range, or as for :meth:`gibbs_sweep`.

        Example:
            >>> from pyro_gen.models import GaussianMixture
            >>> x = torch.randn(20, 2)
            >>> draws = GaussianMixture.from_data(x, components=3).gibbs(x, 10,
            ...     warmup_steps=5, num_chains=2)
            >>> draws["locs"].shape
            torch.Size([2, 10, 3, 2])
        """
        rows = self._all_rows(x)
        num_samples = whole_number("num_samples", num_samples)
        num_chains = whole_number("num_chains", num_chains)
        thin = whole_number("thin", thin)
        warmup_steps = whole_number("warmup_steps", warmup_steps, 0)
        draws: list[dict[str, Tensor]] = []
        for _ in range(num_chains):
            values = self.point()
            for step in range(1 - warmup_steps, num_samples * thin + 1):
                values = self._sweep(rows, values)
                if step > 0 and step % thin == 0:
                    draws.append(values)
        shape = num_chains, num_samples
        return {
            name: torch.stack([draw[name] for draw in draws]).unflatten(0, shape)
            for name in draws[0]
        }

    def completed(self, values: Parameters) -> dict[str, Tensor]:
        """The canonical parameters and ``log_weights`` (..., 1, components), from
        values or draws of the sites.

        Args:
            values: by site, as :meth:`checked` returns them.
        """
        values = {**values, **self.derived(values)}
        values = without_plates(values, {**self.sites(), **self.derived_sites()})
        log_w = log_weights(values["weights"], "dirichlet").unsqueeze(-2)
        return {"log_weights": log_w, **self.canonical(values)}

    # ---- densities, components of rows, draws

    def log_joint(
        self, x: RowsLike, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """Log p(x, z) of every row and component, in nats; missing cells are summed out.

        Args:
            x: rows, (rows, features), NaN where a cell is missing.
            mask: as for :meth:`model`.
            parameters: values or draws of the sites, (...) + their shapes; None
                for the guide's point.

        Returns:
            Shape (..., rows, components).

        Raises:
            ValueError: the rows do not fit this mixture, or a site is missing,
                unknown or outside its support.
        """
        values = self._canonical(parameters)
        return self.log_table(self.rows(x, mask), values) + values["log_weights"]

    def _canonical(self, parameters: Parameters | None) -> dict[str, Tensor]:
        """The canonical parameters at the guide's point, or from values that a user gives."""
        if parameters is None:
            return self.completed(self.point())
        return self.completed(self.checked("parameters", parameters, batched=True))

    def responsibilities(
        self, x: RowsLike, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """Probabilities of the components given the rows, p(z | x).

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
            parameters: as for :meth:`log_joint`.

        Returns:
            Shape (..., rows, components).
        """
        return self.log_joint(x, mask, parameters).softmax(-1)

    def predict(
        self, x: RowsLike, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """The most probable component of every row.

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
            parameters: as for :meth:`log_joint`.

        Returns:
            Components, (..., rows).
        """
        return self.log_joint(x, mask, parameters).argmax(-1)

    def log_likelihood(
        self, x: RowsLike, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """Log density of every row, in nats; that of the observed cells where some are missing.

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
            parameters: as for :meth:`log_joint`.

        Returns:
            Shape (..., rows).
        """
        return self.log_joint(x, mask, parameters).logsumexp(-1)

    def sample(self, num_samples: int, parameters: Parameters | None = None) -> Tensor:
        """Draw rows.

        Args:
            num_samples: rows to draw.
            parameters: as for :meth:`sample_joint`.

        Returns:
            Rows (..., num_samples, features).

        Raises:
            ValueError: as for :meth:`sample_joint`.
        """
        return self.sample_joint(num_samples, parameters)[0]

    @torch.no_grad()
    def sample_joint(
        self, num_samples: int, parameters: Parameters | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw rows and their components, (x, z).

        Args:
            num_samples: rows to draw.
            parameters: values of the sites; None for the guide's point. Draws
                (...) give rows of each.

        Returns:
            Rows (..., num_samples, features) and components (..., num_samples).

        Raises:
            ValueError: ``num_samples`` is no whole number of at least 1, or as
                for :meth:`log_joint`.
        """
        num_samples = whole_number("num_samples", num_samples)
        values = self._canonical(parameters)
        log_w = values["log_weights"]
        z = torch.distributions.Categorical(
            logits=log_w.expand(*log_w.shape[:-2], num_samples, -1)
        ).sample()
        return self.draw(z, values), z

    @torch.no_grad()
    def occupied(self, x: RowsLike, parameters: Parameters, mask: Tensor | None = None) -> Tensor:
        """Number of components that hold rows, in a draw of z for each draw of the
        parameters: the posterior of K.

        Args:
            x: rows.
            parameters: draws of the sites, (...) + their shapes.
            mask: as for :meth:`log_joint`.

        Returns:
            Counts, (...), int64.
        """
        z = torch.distributions.Categorical(logits=self.log_joint(x, mask, parameters)).sample()
        return one_hot(z, self.components).amax(-2).sum(-1)


__all__ = ["GuideDistribution", "Mixture", "Objective", "Site"]
