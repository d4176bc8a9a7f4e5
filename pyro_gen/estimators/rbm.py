"""The RBM as a scikit-learn transformer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from pyro_gen import distributions, nn
from pyro_gen._arguments import whole_number
from pyro_gen.infer import AIS, NegativePhase, Partition, PersistentChains, contrastive_gradient
from pyro_gen.infer import log_likelihood as log_likelihood_of
from pyro_gen.infer.energy.likelihood import LogLikelihood
from pyro_gen.kernels import rbm_gibbs

ROWS = 1024  # of a block whose pseudo-likelihood is worked out at once


class RBMTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""A Bernoulli RBM trained by `pyro_gen` behind the interface of
    `sklearn.neural_network.BernoulliRBM`.

    `transform` gives the hidden probabilities :math:`P(h_j = 1 | v) =
    \sigma(b_j + \sum_i v_i W_{ij})`. Training is the gradient of
    `contrastive_gradient` with the negative phase of your choice, on batches in
    a fresh order each iteration; the visible biases start at the data's rates.
    Positive and negative statistics are means over their own numbers of rows,
    and the chains go on over batches of any size.

    What the units see is decided by `binarize`. Rows of zeros and ones are
    themselves under every choice (under a threshold in [0, 1)). A number makes
    1 of what lies above it, as in `sklearn.naive_bayes.BernoulliNB`, with a
    `DataConversionWarning` where values outside [0, 1] show that the data were
    not scaled. ``"sample"`` takes values in [0, 1] as probabilities of a 1:
    training redraws each batch, `score_samples`, `log_likelihood` and `gibbs`
    draw once, and `transform` works with the probabilities as they are, as
    BernoulliRBM does with whatever comes. None takes zeros and ones only.

    All draws come from `random_state`; torch's own generators stay as they are.
    `fit` computes in float64 for float64 rows and in float32 for float32 rows;
    truth values, whole numbers and float16 take torch's default data type
    there, and that of the weights wherever a fitted estimator reads them,
    `partial_fit` included. `rbm_` is the trained `pyro_gen.nn.RBM`, and
    `components_`, `intercept_hidden_` and `intercept_visible_` are its weights
    in scikit-learn's layout; pickles of a fitted estimator carry its chains,
    the optimiser and the generator, so that `partial_fit` goes on bit for bit.

    Args:
        n_components: hidden units.
        learning_rate: rate of the gradient step, for the mean over a batch.
        batch_size: rows of a batch; the last batch of an iteration may have
            fewer.
        n_iter: passes of `fit` over the data.
        schedule: ``"linear"`` lowers the rate of `fit` from `learning_rate`
            towards 0, ``"constant"`` keeps it.
        momentum: momentum of the step, in [0, 1).
        l1: strength of a Laplace prior on the weights (not on the biases).
        weight_decay: strength of a Gaussian prior on the weights (not on the
            biases).
        negative_phase: ``ContrastiveDivergence(...)``,
            ``PersistentChains(...)``, ...; None means
            ``PersistentChains(num_chains=100, num_steps=5)``.
        centring: whether the parameters that learn are centred, see
            `pyro_gen.nn.RBM`.
        binarize: a threshold, ``"sample"`` or None; see above.
        shuffle: whether `fit` takes the rows in a fresh order each iteration.
        device: where to train, such as ``"cuda"``.
        verbose: whether `fit` prints the mean pseudo-log-likelihood of the data
            after each iteration.
        random_state: an integer, a `numpy.random.RandomState`, or None for
            numpy's global generator.

    Attributes:
        rbm_: the module with the weights.
        optimizer_: the torch optimiser, with its momenta.
        random_state_: the generator.
        n_features_in_: visible units.

    References:
        Tieleman (2008), Training restricted Boltzmann machines using
        approximations to the likelihood gradient. Pedregosa et al. (2011),
        Scikit-learn: machine learning in Python, JMLR 12.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> x, y = np.repeat(np.eye(8), 20, axis=0), np.repeat(np.arange(8) % 2, 20)
        >>> pipeline = make_pipeline(RBMTransformer(n_components=16, random_state=0),
        ...     LogisticRegression(C=100))
        >>> pipeline.fit(x, y).score(x, y)
        1.0
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float = 0.1,
        batch_size: int = 10,
        n_iter: int = 20,
        schedule: Literal["linear", "constant"] = "linear",
        momentum: float = 0.0,
        l1: float = 0.0,
        weight_decay: float = 0.0,
        negative_phase: NegativePhase | None = None,
        centring: bool = False,
        binarize: float | Literal["sample"] | None = 0.5,
        shuffle: bool = True,
        device: str | torch.device = "cpu",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.schedule = schedule
        self.momentum = momentum
        self.l1 = l1
        self.weight_decay = weight_decay
        self.negative_phase = negative_phase
        self.centring = centring
        self.binarize = binarize
        self.shuffle = shuffle
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> RBMTransformer:
        """Train on rows from the start.

        Args:
            X: rows, dense or sparse, (n_samples, n_features).
            y: ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: a parameter is out of place, or `X` has values that
                `binarize` does not allow.
            FloatingPointError: the weights became infinite.
        """
        _check_settings(self)
        probs = self._probabilities(X, reset=True)
        self._start(probs)
        batch_size = int(self.batch_size)
        batches = math.ceil(len(probs) / batch_size)
        for iteration in range(self.n_iter):
            if self.shuffle:
                order = self.random_state_.permutation(len(probs))
            else:
                order = np.arange(len(probs))
            for batch, rows in enumerate(torch.from_numpy(order).split(batch_size)):
                done = (iteration * batches + batch) / (self.n_iter * batches)
                self._step(
                    probs[rows],
                    self.learning_rate * (1 - done if self.schedule == "linear" else 1),
                )
            self._check_weights(f"iteration {iteration + 1}")
            if self.verbose:
                score = self._pseudo_log_likelihood(
                    self._states(probs, deepcopy(self.random_state_))
                ).mean()
                print(f"[RBM] iteration {iteration + 1}, mean pseudo-log-likelihood {score:.2f}")
        return self

    def partial_fit(self, X: Any, y: Any = None) -> RBMTransformer:
        """Make one gradient step with the rows as one batch.

        The first call starts the weights, whose data type stays.

        Args:
            X: rows, dense or sparse, (n_samples, n_features).
            y: ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: a parameter is out of place, or `X` has values that
                `binarize` does not allow.
            FloatingPointError: the weights became infinite.
        """
        _check_settings(self)
        first = not hasattr(self, "rbm_")
        probs = self._probabilities(X, reset=first)
        if first:
            self._start(probs)
        self._step(probs.to(self.rbm_.weight), self.learning_rate)
        self._check_weights("this step")
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Hidden probabilities P(h_j = 1 | v).

        Args:
            X: rows, (n_samples, n_features).

        Returns:
            Features, (n_samples, n_components), in the precision of `X`, or of
            the weights where `X` has none.
        """
        check_is_fitted(self)
        probs = self._probabilities(X)
        weight, _, hbias = self._weights(probs)
        return torch.sigmoid(probs @ weight + hbias).cpu().numpy()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Visible probabilities P(v_i = 1 | h), the mean of the rows that hidden values
        stand for.

        Args:
            X: hidden values in [0, 1], (n_samples, n_components).

        Returns:
            Probabilities, (n_samples, n_features), in the precision of `X`, or
            of the weights where `X` has none.

        Raises:
            ValueError: `X` has another number of columns.
        """
        check_is_fitted(self)
        hidden = np.asarray(X)
        if hidden.ndim != 2 or hidden.shape[1] != self._n_features_out:
            raise ValueError(
                f"`X` must have shape (n_samples, {self._n_features_out}), got {hidden.shape}"
            )
        kept = hidden.dtype in (np.float32, np.float64)
        values = torch.tensor(
            hidden if kept else hidden.astype(self._data_type(False)), device=self.device
        )
        weight, vbias, _ = self._weights(values)
        return torch.sigmoid(values @ weight.mT + vbias).cpu().numpy()

    def gibbs(self, v: Any, num_steps: int = 1) -> np.ndarray:
        """Run Gibbs sweeps from visible rows.

        Args:
            v: rows to start from, (n_samples, n_features).
            num_steps: sweeps, each of both layers.

        Returns:
            Zeros and ones, in the shape of `v` and its precision, or that of
            the weights where `v` has none.
        """
        check_is_fitted(self)
        num_steps = whole_number("num_steps", num_steps, 0)
        start = self._states(self._probabilities(v), self.random_state_)
        seed = _draw_key(self.random_state_)
        return (
            rbm_gibbs(start, *self._weights(start), num_steps, seed=seed, step=0)[0].cpu().numpy()
        )

    def score_samples(self, X: Any) -> np.ndarray:
        r"""Pseudo-log-likelihood of each row, exactly.

        .. math:: \sum_i \log P(v_i | v_{-i}) = \sum_i \log \sigma(F(v^{(i)}) - F(v))

        where :math:`v^{(i)}` is the row with unit i flipped.
        `BernoulliRBM.score_samples` estimates the same sum by one unit drawn at
        random. It is no log likelihood, and mostly far above it:
        `log_likelihood` is the one.

        Args:
            X: rows, (n_samples, n_features).

        Returns:
            Nats, (n_samples,).

        References:
            Besag (1975), Statistical analysis of non-lattice data, The
            Statistician 24.
        """
        check_is_fitted(self)
        states = self._states(self._probabilities(X), check_random_state(self.random_state))
        return self._pseudo_log_likelihood(states).cpu().numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, by which a grid search without labels chooses.

        Args:
            X: rows, (n_samples, n_features).
            y: ignored.

        Returns:
            Nats a row.
        """
        return float(self.score_samples(X).mean())

    def log_likelihood(self, X: Any, partition: Partition | None = None) -> LogLikelihood:
        """Log likelihood of the rows, with its standard errors.

        For a statement on both sides of log Z see
        `pyro_gen.infer.log_partition_bracket`, of ``rbm_``.

        Args:
            X: rows, (n_samples, n_features).
            partition: how log Z is known; exactly up to 20 units on the smaller
                side and else by ``AIS()`` by default.

        Returns:
            Value, errors and the rows' log likelihoods.
        """
        check_is_fitted(self)
        states = self._states(self._probabilities(X), check_random_state(self.random_state))
        if partition is None and min(self.rbm_.weight.shape) > 20:
            partition = AIS(base_rates=self.rbm_.base_rates.to(states.dtype))
        with torch.no_grad(), _own_generator(check_random_state(self.random_state)):
            return log_likelihood_of(distributions.RBM(*self._weights(states), partition), states)

    @property
    def components_(self) -> np.ndarray:
        """Weights in scikit-learn's layout, (n_components, n_features)."""
        return _copied(self.rbm_.weight.mT)

    @property
    def intercept_hidden_(self) -> np.ndarray:
        """Hidden biases, (n_components,)."""
        return _copied(self.rbm_.uncentred[2])

    @property
    def intercept_visible_(self) -> np.ndarray:
        """Visible biases, (n_features,)."""
        return _copied(self.rbm_.uncentred[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _probabilities(self, X: Any, reset: bool = False) -> Tensor:
        """Check rows; give each unit's probability of a 1, on the device, in the precision
        of `X`.

        Truth values and whole numbers have none: where `reset` they take the
        default data type, else the model's.
        """
        # other types become the first of these
        dtypes = (
            self._data_type(reset),
            np.float64,
            np.float32,
        )
        rows = validate_data(self, X, accept_sparse="csr", dtype=dtypes, reset=reset)
        if hasattr(rows, "toarray"):
            rows = rows.toarray()
        if self.binarize is None and not np.isin(rows, (0, 1)).all():
            raise ValueError(
                "`X` must hold zeros and ones only, or `binarize` must say what other values mean"
            )
        if rows.min() < 0 or rows.max() > 1:
            problem = (
                f"`X` must lie between 0 and 1, got values from {rows.min():g} to {rows.max():g}"
            )
            if self.binarize == "sample":
                raise ValueError(f"{problem}, which are no probabilities")
            warnings.warn(
                f"{problem}; what lies above {self.binarize} becomes 1",
                DataConversionWarning,
                stacklevel=3,
            )
        if self.binarize is not None and self.binarize != "sample":
            rows = (rows > self.binarize).astype(rows.dtype)
        return torch.tensor(rows, device=self.device)

    def _data_type(self, fresh: bool) -> type[np.generic]:
        """Data type of rows that are neither float32 nor float64, by the rule of
        `pyro_gen._rows`.
        """
        dtype = torch.get_default_dtype() if fresh else self.rbm_.weight.dtype
        if dtype == torch.float64:
            return np.float64
        return np.float32

    def _states(self, probs: Tensor, random_state: np.random.RandomState) -> Tensor:
        if self.binarize != "sample":
            return probs
        return (
            torch.from_numpy(random_state.random_sample(probs.shape)).to(probs.device) < probs
        ).to(probs.dtype)

    def _start(self, probs: Tensor) -> None:
        """Fresh weights, chains, optimiser and generator."""
        self.random_state_ = check_random_state(self.random_state)
        phase = self.negative_phase or PersistentChains(num_chains=100, num_steps=5)
        with _own_generator(self.random_state_):
            states = self._states(probs, self.random_state_)
            self.rbm_ = nn.RBM.from_data(
                states, int(self.n_components), negative_phase=phase, centring=self.centring
            )
        groups: list[dict[str, Any]] = [
            {"params": [self.rbm_.weight], "weight_decay": self.weight_decay},
            {"params": [self.rbm_.vbias, self.rbm_.hbias]},
        ]
        self.optimizer_ = torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum)
        self._n_features_out = int(self.n_components)

    def _step(self, probs: Tensor, rate: float) -> None:
        states = self._states(probs, self.random_state_)
        if not all(bool(parameter.isfinite().all()) for parameter in self.rbm_.parameters()):
            return  # for the check of the weights, which says when
        contrastive_gradient(self.rbm_, states)
        weight = self.rbm_.weight
        if self.l1 and weight.grad is not None:
            weight.grad += self.l1 * weight.detach().sign()
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        self.optimizer_.step()

    def _check_weights(self, when: str) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self.rbm_.parameters()):
            raise FloatingPointError(
                f"the weights became infinite in {when}: `learning_rate` is too high"
            )

    def _weights(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The module's weights, detached, in the precision of `like`."""
        weight, vbias, hbias = (p.detach().to(like.dtype) for p in self.rbm_.uncentred)
        return weight, vbias, hbias

    def _pseudo_log_likelihood(self, states: Tensor) -> Tensor:
        rbm = distributions.RBM(*self._weights(states), validate_args=False)
        return torch.cat([rbm.pseudo_log_likelihood(rows) for rows in states.split(ROWS)])


@contextmanager
def _own_generator(random_state: np.random.RandomState) -> Iterator[None]:
    """Inside, torch's CPU generator is seeded from `random_state`; afterwards it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_draw_key(random_state))
        yield


def _draw_key(random_state: np.random.RandomState) -> int:
    return int(random_state.randint(2**31 - 1))


def _copied(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def _check_settings(estimator: RBMTransformer) -> None:
    """Scikit-learn's rule: parameters are looked at by `fit`, not by the constructor."""
    least_values = {"n_components": 1, "batch_size": 1, "n_iter": 0}
    for name, least in least_values.items():
        whole_number(name, getattr(estimator, name), least)
    upper = {"learning_rate": math.inf, "momentum": 1.0, "l1": math.inf, "weight_decay": math.inf}
    for name, below in upper.items():
        rate: Any = getattr(estimator, name)
        if (
            not isinstance(rate, Real)
            or not 0 <= float(rate) < below
            or (name == "learning_rate" and rate == 0)
        ):
            interval = f"{'(' if name == 'learning_rate' else '['}0, {below})"
            raise ValueError(f"`{name}` must be a number in {interval}, got {rate!r}")
    if estimator.schedule not in ("linear", "constant"):
        raise ValueError(f"`schedule` must be 'linear' or 'constant', got {estimator.schedule!r}")
    if not isinstance(estimator.negative_phase, NegativePhase | None):
        raise ValueError(
            "`negative_phase` must be one of pyro_gen.infer or None, got "
            f"{estimator.negative_phase!r}"
        )
    threshold: Any = estimator.binarize
    is_number = isinstance(threshold, Real) and math.isfinite(threshold)
    if not (threshold is None or threshold == "sample" or is_number):
        raise ValueError(f"`binarize` must be a number, 'sample' or None, got {threshold!r}")


__all__ = ["RBMTransformer"]
