"""Densities of real columns as scikit-learn estimators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from pyro_gen import models
from pyro_gen._arguments import whole_number


class _RowDensity(DensityMixin, BaseEstimator):
    """Density over rows of real columns, with missing cells."""

    _model: str
    _min_features = 1

    def score_samples(self, X: Any) -> np.ndarray:
        """Log likelihood of each row.

        Args:
            X: shape (n, n_features); NaN where a cell is missing.

        Returns:
            Shape (n,), in nats, of the cells that are seen.

        Raises:
            ValueError: the rows do not fit.
        """
        rows = self._rows(X)
        with torch.no_grad():
            values: Tensor = getattr(self, self._model).log_likelihood(rows)
        return np.asarray(values)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log likelihood of the rows, in nats.

        Args:
            X: shape (n, n_features).
            y: ignored.

        Returns:
            The mean.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """Draw rows; the same ones for the same `random_state`.

        Args:
            n_samples: how many.

        Returns:
            Shape (n_samples, n_features).

        Raises:
            ValueError: `n_samples` is no whole number of at least 1.
        """
        check_is_fitted(self)
        count = whole_number("n_samples", n_samples)
        with _seeded(self.random_state), torch.no_grad():
            return np.asarray(getattr(self, self._model).sample(count))

    def bic(self, X: Any) -> float:
        """Bayesian information criterion of the rows, smaller where it is better.

        Args:
            X: shape (n, n_features).

        Returns:
            The criterion, in nats times two as in scikit-learn.
        """
        return float(getattr(self, self._model).bic(self._rows(X)))

    def _rows(self, X: Any, reset: bool = False) -> Tensor:
        """Checked rows in double precision."""
        if not reset:
            check_is_fitted(self)
        array = validate_data(
            self,
            X,
            reset=reset,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
            ensure_min_features=self._min_features if reset else 1,
        )
        return torch.tensor(array)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class GaussianMixture(_RowDensity):
    """A mixture of Gaussians fitted by expectation maximisation, with missing cells.

    Unlike `sklearn.mixture.GaussianMixture` it takes NaN as a missing cell, and
    maximises the posterior of `pyro_gen.models.GaussianMixture` or, with
    ``objective="likelihood"``, the likelihood. `mixture_` is the model.

    Args:
        n_components: number of components.
        covariance_type: of the components.
        objective: what is maximised.
        n_init: number of starts; the best is kept.
        max_iter: number of steps at most.
        tol: relative gain of a step below which a start ends.
        random_state: of starts and draws.

    Example:
        >>> X = np.array([[0.0, 0.1], [0.2, np.nan], [5.0, 5.2], [5.1, 4.9], [0.1, 0.3], [4.8, 5]])
        >>> mixture = GaussianMixture(2, covariance_type="spherical", random_state=0).fit(X)
        >>> labels = mixture.predict(X)
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    _model = "mixture_"

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: Literal["full", "tied", "diagonal", "spherical"] = "full",
        objective: Literal["posterior", "likelihood"] = "posterior",
        n_init: int = 5,
        max_iter: int = 1000,
        tol: float = 1e-7,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.objective = objective
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> GaussianMixture:
        """Fit the mixture.

        Args:
            X: shape (n, n_features); NaN where a cell is missing.
            y: ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: a setting is out of range, or the rows are not such.
        """
        components = whole_number("n_components", self.n_components)
        starts = whole_number("n_init", self.n_init)
        steps = whole_number("max_iter", self.max_iter)
        rows = self._rows(X, reset=True)
        with _seeded(self.random_state):
            self.mixture_ = models.GaussianMixture.from_data(
                rows, components, self.covariance_type
            )
            result = self.mixture_.fit(
                rows,
                objective=self.objective,
                num_starts=starts,
                num_steps=steps,
                tolerance=self.tol,
            )
        self.converged_ = result.converged
        self.n_iter_ = max(1, len(result.objective) - 1)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Most probable component of each row, shape (n,)."""
        rows = self._rows(X)
        return np.asarray(self.mixture_.predict(rows))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the components, shape (n, n_components)."""
        rows = self._rows(X)
        with torch.no_grad():
            return np.asarray(self.mixture_.responsibilities(rows))

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, then the most probable component of each row.

        Args:
            X: shape (n, n_features).
            y: ignored.

        Returns:
            Shape (n,).
        """
        return self.fit(X).predict(X)

    @property
    def weights_(self) -> np.ndarray:
        """Weights of the components, shape (n_components,)."""
        return _array(self.mixture_.weights)

    @property
    def means_(self) -> np.ndarray:
        """Means of the components, shape (n_components, n_features)."""
        return _array(self.mixture_.means)

    @property
    def covariances_(self) -> np.ndarray:
        """Covariances, shape (n_components, n_features, n_features) for every type."""
        return _array(self.mixture_.covariances)


class PPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _RowDensity):
    """Probabilistic principal component analysis, with missing cells.

    `ppca_` is the `pyro_gen.models.PPCA`, fitted in closed form where no cell is
    missing and by expectation maximisation where some are.

    Args:
        n_components: latent dimensions, fewer than features.
        max_iter: number of steps at most.
        tol: relative gain of a step below which the fit ends.
        random_state: of draws.

    References:
        Tipping and Bishop (1999), Probabilistic principal component analysis.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(50, 1)) @ [[1.0, 2.0, 3.0]]
        >>> X = X + np.random.default_rng(1).normal(size=X.shape)
        >>> PPCA(1).fit_transform(X).shape
        (50, 1)
    """

    _model = "ppca_"
    _min_features = 2

    def __init__(
        self,
        n_components: int = 1,
        *,
        max_iter: int = 2000,
        tol: float = 1e-9,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> PPCA:
        """Fit the model.

        Args:
            X: shape (n, n_features); NaN where a cell is missing.
            y: ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: a setting is out of range, or the rows are not such.
        """
        latent = whole_number("n_components", self.n_components)
        steps = whole_number("max_iter", self.max_iter)
        rows = self._rows(X, reset=True)
        with _seeded(self.random_state):
            self.ppca_ = models.PPCA.from_data(rows, latent)
            result = self.ppca_.fit(rows, num_steps=steps, tolerance=self.tol)
        self.converged_ = result.converged
        self.n_iter_ = max(1, len(result.objective) - 1)
        self._n_features_out = latent
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Means of the latent variables, shape (n, n_components)."""
        rows = self._rows(X)
        with torch.no_grad():
            return np.asarray(self.ppca_.latent_means(rows))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Means of rows given latent variables.

        Args:
            X: shape (n, n_components).

        Returns:
            Shape (n, n_features).

        Raises:
            ValueError: the columns are not as many as components.
        """
        check_is_fitted(self)
        z = np.asarray(X, np.float64)
        if z.ndim != 2 or z.shape[1] != self.n_components:
            raise ValueError(f"`X` must have shape (n, {self.n_components}), got {z.shape}")
        with torch.no_grad():
            return np.asarray(self.ppca_.decode(torch.tensor(z)).mean)


@contextmanager
def _seeded(random_state: int | np.random.RandomState | None) -> Iterator[None]:
    """Draws of torch by a scikit-learn `random_state`; torch's own generators stay."""
    seed = int(check_random_state(random_state).randint(2**31))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


__all__ = ["PPCA", "GaussianMixture"]
