"""Mixtures of Gaussians."""

from __future__ import annotations

from typing import Literal, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import AffineTransform, ComposeTransform, Transform

from pyro_gen._arguments import whole_number
from pyro_gen._rows import RowsLike
from pyro_gen._transforms import batched
from pyro_gen.distributions.inverse_wishart import CovarianceTransform, InverseWishart
from pyro_gen.models.mixture.base import GuideDistribution, Mixture, Objective, Site
from pyro_gen.models.mixture.distribution import Parameters, take
from pyro_gen.models.mixture.initialisation import standardised
from pyro_gen.models.mixture.moments import Moments, columnwise, crosswise
from pyro_gen.models.mixture.normal import Update, block, columns, floored, outer, parts
from pyro_gen.models.mixture.weights import WeightDistribution, like_of, record
from pyro_gen.models.rows import Rows, check_varied_rows, make_rows, single

Covariance = Literal["full", "tied", "diagonal", "spherical"]
COVARIANCES: tuple[Covariance, ...] = ("full", "tied", "diagonal", "spherical")
MATRICES = ("full", "tied")
FLOOR = 1e-6
"""Least variance of a component under maximum likelihood, in any direction, as a
share of the columns' variances.
"""


class GaussianMixture(Mixture):
    r"""A mixture of Gaussian components under conjugate priors, or under LKJ priors of
    correlations.

    .. math:: p(x) = \sum_k \pi_k\, N(x;\, \mu_k, \Sigma_k), \qquad
              \Sigma_k \sim \mathrm{IW}(\nu, \mathrm{diag}(s^2)), \quad
              \mu_k \,|\, \Sigma_k \sim N(m, \Sigma_k / \kappa)

    The sites are ``weights`` (``sticks`` of a Dirichlet process), ``locs``
    (components, features) and ``covariances`` in scikit-learn's shapes:
    (components, features, features) full, (features, features) tied,
    (components, features) diagonal, (components,) spherical; the last two are
    variances under inverse gamma distributions of nu / 2 and s^2 / 2 (its mean
    over the columns if spherical). With ``prior="lkj"`` there are instead
    ``scales``, log-normal about s with a spread of 1, ``correlations``,
    Cholesky factors, and ``locs`` of deviation :math:`s / \sqrt\kappa`;
    ``covariances`` is then deterministic. See :class:`Mixture` for the programs
    and methods.

    Args:
        components: number of components; of a Dirichlet process the truncation.
        features: columns of a row.
        size: rows of the whole data set, which scales minibatches.
        covariance: "full", "tied", "diagonal" or "spherical".
        weights: "dirichlet", or "dirichlet process" (truncated).
        concentration: alpha of every weight, or of the process.
        prior: "conjugate" or "lkj" (full and tied only).
        loc: m, the centre of the means, (features,) or a number.
        kappa: weight of the prior of a mean, in rows.
        scale: s, the deviation that a component is expected to have,
            (features,) or a number.
        df: nu, above features - 1; None for features + 2.
        eta: of the LKJ distribution; 1 for uniform correlations.
        guide: "normal" or "delta".
        dtype: of the parameters, where ``loc`` and ``scale`` are numbers.

    Raises:
        ValueError: an argument is not one of its choices, or out of range, or
            of another shape.

    References:
        Fraley and Raftery (2007), Bayesian regularization for normal mixture
        estimation and model-based clustering, Journal of Classification 24,
        section 3 (the defaults of ``from_data``). Ishwaran and James (2001),
        Gibbs sampling methods for stick-breaking priors (the truncation).
        Lewandowski, Kurowicka and Joe (2009), Generating random correlation
        matrices based on vines and extended onion method.

    Example:
        >>> from pyro.infer import SVI, TraceEnum_ELBO
        >>> x = torch.cat([torch.randn(50, 2), torch.randn(50, 2) + 6])
        >>> mixture = GaussianMixture.from_data(x, components=2)
        >>> mixture.fit(x).converged
        True
        >>> svi = SVI(mixture.model, mixture.guide, pyro.optim.Adam({"lr": 0.01}),
        ...     TraceEnum_ELBO())
        >>> _ = svi.step(x[::2])
        >>> mixture.responsibilities(x).shape
        torch.Size([100, 2])
    """

    loc: Tensor
    scale: Tensor
    kappa: Tensor
    df: Tensor
    eta: Tensor

    def __init__(
        self,
        components: int,
        features: int,
        size: int,
        covariance: Covariance = "full",
        *,
        weights: WeightDistribution = "dirichlet",
        concentration: float = 1.0,
        prior: Literal["conjugate", "lkj"] = "conjugate",
        loc: Tensor | float = 0.0,
        kappa: float = 0.01,
        scale: Tensor | float = 1.0,
        df: float | None = None,
        eta: float = 1.0,
        guide: GuideDistribution = "normal",
        dtype: torch.dtype | None = None,
    ) -> None:
        like = like_of((loc, scale), dtype)
        super().__init__(components, features, size, weights, concentration, guide, like)
        features = self.features
        if covariance not in COVARIANCES or prior not in ("conjugate", "lkj"):
            raise ValueError(
                f'`covariance` must be among {COVARIANCES} and `prior` "conjugate" or "lkj", '
                f"got {covariance!r} and {prior!r}"
            )
        if prior == "lkj" and covariance not in MATRICES:
            raise ValueError(
                f'`prior` "lkj" needs covariance "full" or "tied", got {covariance!r}'
            )
        df = features + 2.0 if df is None else df
        if not (kappa > 0 and eta > 0 and df > features - 1):
            raise ValueError(
                f"`kappa` and `eta` must be above 0 and `df` above {features - 1}, got {kappa}, "
                f"{eta} and {df}"
            )
        self.covariance = covariance
        self.prior = prior
        for name, value in (("loc", loc), ("scale", scale)):
            tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
            if (
                tensor.dim() > 1
                or (tensor.dim() == 1 and len(tensor) != features)
                or not tensor.isfinite().all()
            ):
                raise ValueError(
                    f"`{name}` must be finite, ({features},) or a number, got "
                    f"{tuple(tensor.shape)}"
                )
            self.register_buffer(name, tensor.expand(features).clone())
        if not (self.scale > 0).all():
            raise ValueError(f"`scale` must be above 0, got {self.scale.min().item():g}")
        for name, number in (("kappa", kappa), ("df", df), ("eta", eta)):
            self.register_buffer(name, like.new_tensor(number))
        self.set_point(self._first_point())

    @classmethod
    def from_data(
        cls,
        x: RowsLike,
        components: int,
        covariance: Covariance = "full",
        *,
        mask: Tensor | None = None,
        **settings: object,
    ) -> Self:
        """A mixture whose priors and first point fit the data.

        The means' prior is centred at the columns' means; ``scale`` is their
        deviation over components^(1 / features).

        Args:
            x: all rows, (rows, features), NaN where a cell is missing; (rows,)
                for one feature.
            components: number of components.
            covariance: "full", "tied", "diagonal" or "spherical".
            mask: True where a cell is observed; None for wherever there is no
                NaN.
            **settings: further arguments of the class.

        Returns:
            The mixture, its point set by k-means++.

        Raises:
            ValueError: there are fewer rows than components, a column is
                constant or wholly missing, or as the class.
        """
        rows = single(make_rows(x, mask))
        features = rows.x.shape[-1]
        components = whole_number("components", components)
        if components > len(rows.x):
            raise ValueError(
                f"`components` must be at most the number of rows, got {components} and "
                f"{len(rows.x)}"
            )
        check_varied_rows(rows)
        mean, variance = rows.column_moments()
        guess = {"loc": mean, "scale": variance.sqrt() / components ** (1 / features)}
        mixture = cls(components, features, len(rows.x), covariance, **{**guess, **settings})
        mixture.initialise(x, mask)
        return mixture

    def _first_point(self) -> dict[str, Tensor]:
        """The centre of the priors, means spread over it: gradients tell components apart."""
        place = torch.linspace(-1, 1, self.components + 2).to(self.loc)[1:-1].unsqueeze(-1)
        full = self.scale.square().diag()
        shapes = {
            "full": full.expand(self.components, -1, -1),
            "tied": full,
            "diagonal": self.scale.square().expand(self.components, -1),
            "spherical": self.scale.square().mean().expand(self.components),
        }
        values = {"locs": self.loc + place * self.scale, "covariances": shapes[self.covariance]}
        return {
            "weights": self.loc.new_full((self.components,), 1 / self.components),
            **values,
            **self._parts(values),
        }

    def _parts(self, values: Parameters) -> dict[str, Tensor]:
        """Scales and correlations of covariances, where these are the sites."""
        if self.prior == "conjugate":
            return {}
        scales = values["covariances"].diagonal(dim1=-2, dim2=-1).sqrt()
        correlations = torch.linalg.cholesky(values["covariances"]) / scales.unsqueeze(-1)
        if self.features > 1:
            return {"scales": scales, "correlations": correlations}
        return {"scales": scales}

    def component_sites(self) -> dict[str, Site]:
        """The sites of the components, in coordinates that are free of units."""
        per_component = self.covariance != "tied"
        spread = self.scale / self.kappa.sqrt() if self.prior == "lkj" else self.scale
        event = (self.features,)
        matrix = (self.features, self.features)
        locs = Site(constraints.real, event, True, AffineTransform(self.loc, spread))
        if self.prior == "lkj":
            to_scales = ComposeTransform(
                [AffineTransform(self.scale.log(), 1.0), biject_to(constraints.positive)]
            )
            sites = {
                "scales": Site(constraints.positive, event, per_component, to_scales),
                "locs": locs,
            }
            if self.features > 1:
                factor = constraints.corr_cholesky
                sites["correlations"] = Site(factor, matrix, per_component, biject_to(factor))
            return sites
        positive: Transform = biject_to(constraints.positive)
        variance = self.scale.square()
        transforms: dict[str, tuple[tuple[int, ...], Transform]] = {
            "full": (matrix, CovarianceTransform(self.scale)),
            "tied": (matrix, CovarianceTransform(self.scale)),
            "diagonal": (event, ComposeTransform([positive, AffineTransform(0.0, variance)])),
            "spherical": ((), ComposeTransform([positive, AffineTransform(0.0, variance.mean())])),
        }
        shape, transform = transforms[self.covariance]
        is_matrix = self.covariance in MATRICES
        support = constraints.positive_definite if is_matrix else constraints.positive
        return {"covariances": Site(support, shape, per_component, transform), "locs": locs}

    @property
    def means(self) -> Tensor:
        """Means of the components at the guide's point, (components, features)."""
        return self.point()["locs"]

    @property
    def covariances(self) -> Tensor:
        """Covariances of the components at the guide's point, as matrices of every kind."""
        values = self.point()["covariances"]
        if self.covariance == "spherical":
            values = values.unsqueeze(-1).expand(-1, self.features)
        if self.covariance not in MATRICES:
            values = values.diag_embed()
        return values.expand(self.components, -1, -1)

    def derived_sites(self) -> dict[str, Site]:
        """Weights, and covariances where scales and correlations are the sites."""
        sites = super().derived_sites()
        if self.prior == "lkj":
            matrix = (self.features, self.features)
            transform = CovarianceTransform(self.scale)
            per_component = self.covariance != "tied"
            sites["covariances"] = Site(
                constraints.positive_definite, matrix, per_component, transform
            )
        return sites

    def implied(self, values: Parameters) -> dict[str, Tensor]:
        """Sticks from weights, scales and correlations from covariances."""
        scales = self._parts(values) if "covariances" in values and "scales" not in values else {}
        return {**super().implied(values), **scales}

    def sample_components(self) -> dict[str, Tensor]:
        """Sample covariances, then means; means and factors (or deviations)."""
        if self.covariance == "tied":
            shared = self._sample_shape()
            factor = shared["scale_tril"]
            with self._plate():
                locs = self._sample_locs(shared)
            # with the dimension that the plate gives others
            return {"locs": locs, "scale_tril": factor[None] if factor.dim() == 2 else factor}
        with self._plate():
            shape_values = self._sample_shape()
            return {"locs": self._sample_locs(shape_values), **shape_values}

    def _sample_shape(self) -> dict[str, Tensor]:
        """Sample the site of the covariances: ``scale_tril``, or ``deviations``."""
        if self.prior == "lkj":
            return {"scale_tril": self._sample_factor()}
        variance = self.scale.square()
        if self.covariance in MATRICES:
            value = pyro.sample("covariances", InverseWishart(self.df, variance.diag()))
            return {"scale_tril": torch.linalg.cholesky(value)}
        if self.covariance == "diagonal":
            distribution = dist.InverseGamma(self.df / 2, variance / 2).to_event(1)
            return {"deviations": pyro.sample("covariances", distribution).sqrt()}
        value = pyro.sample("covariances", dist.InverseGamma(self.df / 2, variance.mean() / 2))
        return {"deviations": value.sqrt().unsqueeze(-1)}

    def _sample_factor(self) -> Tensor:
        """Cholesky factor of the covariances, a deterministic site, from samples of its parts."""
        scales = pyro.sample(
            "scales", dist.LogNormal(self.scale.log(), torch.ones_like(self.scale)).to_event(1)
        )
        if self.features == 1:
            factor = scales.unsqueeze(-1)
        else:
            correlations = pyro.sample("correlations", dist.LKJCholesky(self.features, self.eta))
            factor = scales.unsqueeze(-1) * correlations
        record("covariances", factor @ factor.mT, 2)
        return factor

    def _sample_locs(self, shape: dict[str, Tensor]) -> Tensor:
        if self.prior == "lkj":
            distribution = dist.Normal(self.loc, self.scale / self.kappa.sqrt()).to_event(1)
        elif "scale_tril" in shape:
            distribution = dist.MultivariateNormal(
                self.loc, scale_tril=shape["scale_tril"] / self.kappa.sqrt()
            )
        else:
            spread = (shape["deviations"] / self.kappa.sqrt()).expand(
                *shape["deviations"].shape[:-1], self.features
            )
            distribution = dist.Normal(self.loc, spread).to_event(1)
        locs: Tensor = pyro.sample("locs", distribution)
        return locs

    def canonical(self, values: Parameters) -> dict[str, Tensor]:
        """Means, and Cholesky factors or deviations."""
        locs = values["locs"]
        if self.covariance not in MATRICES:
            deviations = values["covariances"].sqrt()
            return {
                "locs": locs,
                "deviations": deviations
                if self.covariance == "diagonal"
                else deviations.unsqueeze(-1),
            }
        factor = self._factor(values)
        return {
            "locs": locs,
            "scale_tril": factor.unsqueeze(-3) if self.covariance == "tied" else factor,
        }

    def _factor(self, values: Parameters) -> Tensor:
        if "covariances" in values:
            factor, singular = torch.linalg.cholesky_ex(values["covariances"])
            if batched([singular]):  # no error can be raised for one of them
                return torch.where(singular[..., None, None] > 0, torch.nan, factor)
            if singular.any():
                raise ValueError("`covariances` must be positive definite, got singular ones")
            return factor
        scales = values["scales"].unsqueeze(-1)
        if "correlations" in values:
            return scales * values["correlations"]
        return scales

    def derived(self, values: Parameters) -> dict[str, Tensor]:
        """Covariances from scales and correlations too."""
        derived = super().derived(values)
        if self.prior == "lkj" and "covariances" not in values and "scales" in values:
            factor = self._factor(values)
            derived["covariances"] = factor @ factor.mT
        return derived

    def log_table(self, rows: Rows, parameters: Parameters) -> Tensor:
        """Log density of the observed cells of every row under every component,
        (..., rows, components).

        Args:
            rows: checked rows.
            parameters: the canonical ones.
        """
        locs = parameters["locs"]
        if "deviations" in parameters:
            return torch.cat(
                [columns(part, locs, parameters["deviations"]) for part in parts(rows, locs)], -1
            ).mT
        factor = parameters["scale_tril"]
        if rows.mask is None:
            return torch.cat([block(part.x, locs, factor) for part in parts(rows, locs)], -1).mT
        covariances = factor @ factor.mT
        tables = []
        for pattern in rows.patterns:
            observed = pattern.observed
            root = torch.linalg.cholesky(covariances[..., observed[:, None], observed])
            tables.append(block(rows.x[pattern.rows][:, observed], locs[..., observed], root))
        place = torch.cat([pattern.rows for pattern in rows.patterns]).argsort()
        return torch.cat(tables, -1)[..., place].mT

    def draw(self, z: Tensor, parameters: Parameters) -> Tensor:
        """Rows given their components.

        Args:
            z: components, (..., rows).
            parameters: the canonical ones.
        """
        locs = parameters["locs"]
        noise = torch.randn(*z.shape, self.features, dtype=locs.dtype, device=locs.device)
        centre = take(locs, z, 1)
        if "deviations" in parameters:
            return centre + take(parameters["deviations"].expand(locs.shape), z, 1) * noise
        factor = parameters["scale_tril"]
        factor = factor.expand(*factor.shape[:-3], self.components, -1, -1)
        return centre + (take(factor, z, 2) @ noise.unsqueeze(-1)).squeeze(-1)

    def encoded(self, rows: Rows) -> Tensor:
        """Columns of unit variance."""
        return standardised(rows.imputed())

    def check_mode(self) -> None:
        """Raise if the M step has no closed form, as under the LKJ prior.

        Raises:
            ValueError: the prior is that, or ``concentration`` is below 1.
        """
        super().check_mode()
        if self.prior == "lkj":
            raise ValueError(
                'EM needs `prior="conjugate"` for objective="posterior", got "lkj": '
                'use objective="likelihood", or SVI with `guide="delta"`'
            )

    def m_step(
        self, rows: Rows, responsibilities: Tensor, point: Parameters, objective: Objective
    ) -> Parameters:
        """Means and covariances that the expected complete data make most probable.

        Args:
            rows: checked rows.
            responsibilities: (rows, components).
            point: the values before.
            objective: with or without the prior.

        Raises:
            ValueError: a column is constant and there is no prior.
        """
        posterior = objective == "posterior"
        floor = None
        if not posterior:
            check_varied_rows(rows)
            floor = FLOOR * rows.column_moments()[1]
        update = self._update(self._moments(rows, responsibilities, point), posterior)
        # The joint mode of mean and covariance: the normal distribution of each
        # mean adds its own power of the covariance.
        degrees = {
            "full": 2,
            "tied": 1 + self.components,
            "diagonal": 3,
            "spherical": 2 + self.features,
        }[self.covariance]
        degrees = degrees + self.features if self.covariance in MATRICES else degrees
        free = update.df + (degrees if posterior else 0)
        covariances = torch.where(
            free > 0, update.scale / free.clamp_min(_tiny(free)), point["covariances"]
        )
        values = {"locs": update.locs, "covariances": self._widened(covariances, floor)}
        return {**values, **self._parts(values)}

    def _widened(self, covariances: Tensor, floor: Tensor | None) -> Tensor:
        if floor is None:
            return covariances
        if self.covariance in MATRICES:
            return floored(covariances, floor)
        return torch.maximum(covariances, floor if self.covariance == "diagonal" else floor.mean())

    def conditional_draw(
        self, rows: Rows, responsibilities: Tensor, point: Parameters
    ) -> Parameters:
        """Means and covariances given the components of all rows, from their
        normal-inverse-Wishart distribution.

        Args:
            rows: complete rows.
            responsibilities: one-hot components, (rows, components).
            point: the values before, about which sums are taken.

        Raises:
            ValueError: the prior is not conjugate, or cells are missing.
        """
        if self.prior != "conjugate" or rows.mask is not None:
            raise ValueError(
                '`gibbs_sweep` needs `prior="conjugate"` and rows without missing cells'
            )
        update = self._update(self._moments(rows, responsibilities, point), True)
        noise = torch.randn_like(update.locs) / update.kappa.sqrt()
        if self.covariance in MATRICES:
            distribution = InverseWishart(update.df.reshape(update.scale.shape[:-2]), update.scale)
            covariances = distribution.sample()
            noise = (torch.linalg.cholesky(covariances) @ noise.unsqueeze(-1)).squeeze(-1)
        else:
            covariances = dist.InverseGamma(update.df / 2, update.scale / 2).sample()
            deviations = covariances.sqrt()
            noise = noise * (
                deviations.unsqueeze(-1) if self.covariance == "spherical" else deviations
            )
        return {"covariances": covariances, "locs": update.locs + noise}

    def _update(self, moments: Moments, posterior: bool) -> Update:
        """The conjugate update by sums over rows; without the prior its parts are zero."""
        share = float(posterior)
        kappa = share * self.kappa
        prior = share * self.scale.square()
        counts = moments.counts
        total = counts + kappa
        locs = moments.mean + kappa / total.clamp_min(_tiny(total)) * (self.loc - moments.mean)
        off = moments.mean - locs
        shift = self.loc - locs
        if self.covariance in MATRICES:
            counts = counts.unsqueeze(-1)
            scale = moments.scatter + counts * outer(off) + kappa * outer(shift)
            if self.covariance == "tied":
                scale = scale.sum(0)
                counts = counts.sum(0)
            return Update(locs, total, scale + prior.diag(), counts + share * self.df)
        scale = moments.scatter + counts * off.square() + kappa * shift.square()
        if self.covariance == "spherical":
            return Update(
                locs, total, scale.sum(-1) + prior.mean(), counts.sum(-1) + share * self.df
            )
        return Update(locs, total, scale + prior, counts + share * self.df)

    def _moments(self, rows: Rows, responsibilities: Tensor, point: Parameters) -> Moments:
        if self.covariance not in MATRICES:
            return columnwise(rows, responsibilities, point["locs"])
        covariances = point["covariances"]
        covariances = covariances.unsqueeze(0) if self.covariance == "tied" else covariances
        return crosswise(rows, responsibilities, point["locs"], covariances)

    def floor_reached(self, rows: Rows, point: Parameters) -> bool:
        """True if a component has reached the lower bound of its width.

        Args:
            rows: checked rows.
            point: values of the sites.
        """
        variance = rows.column_moments()[1].clamp_min(torch.finfo(self.scale.dtype).tiny)
        spread = point["covariances"]
        if self.covariance in MATRICES:
            spread = torch.linalg.eigvalsh(
                spread / (variance.sqrt().unsqueeze(-1) * variance.sqrt())
            )
        else:
            spread = spread / (variance if self.covariance == "diagonal" else variance.mean())
        return bool(spread.min() <= 1.01 * FLOOR)

    @property
    def num_parameters(self) -> int:
        """Free parameters of the weights, the means and the covariances."""
        features = self.features
        components = self.components
        matrix = features * (features + 1) // 2
        of_shape = {"full": components * matrix, "tied": matrix, "diagonal": components * features}
        return components - 1 + components * features + of_shape.get(self.covariance, components)


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


__all__ = ["GaussianMixture"]
