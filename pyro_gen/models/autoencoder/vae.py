"""Variational autoencoders: a latent vector for each row, a decoder to
distributions of rows, an encoder as guide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import kl_divergence

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen._evaluation import evaluating, reading
from pyro_gen._plates import check_rows
from pyro_gen._rows import RowsLike, as_floating, as_tensor
from pyro_gen.distributions import (
    Conditional,
    Factorised,
    GaussianConditional,
    RealConditional,
)
from pyro_gen.infer import AnnealedImportance
from pyro_gen.infer.elbo.annealed import (
    AnnealingPath,
    SimulatedGap,
    anneal_backward,
    anneal_forward,
    step_sizes,
)
from pyro_gen.infer.elbo.importance_sampling import ImportanceLogLikelihood, estimate, summed
from pyro_gen.models.autoencoder.blocks import (
    draws_at_a_time,
    let_malloc_reuse_blocks,
    log_standard_normal,
    row_batches,
)
from pyro_gen.models.autoencoder.latent_use import LatentUse
from pyro_gen.models.autoencoder.networks import (
    BERNOULLI,
    RowLikelihood,
    as_parameters,
    check_in_support,
    check_likelihood,
    check_outputs,
    default_decoder,
    default_encoder,
    described,
    joined,
    latent_prior,
    start_decoder,
)
from pyro_gen.models.latent import LatentModel
from pyro_gen.nn import AutoregressiveNetwork, StandardNormal, VampPrior
from pyro_gen.nn.standardisation import Standardisation, standardisation

GAUSSIAN = GaussianConditional()


class VAE(LatentModel):
    r"""A variational autoencoder.

    .. math:: p(x, z) = p(z)\, p\big(x \,\big|\, f(z)\big), \qquad q(z | x) = \prod_j
        q_j\big(z_j; g(x)_j\big)

    The decoder f and the encoder g are networks. Sites are ``z`` and ``x`` in
    the plate ``rows``. Every ELBO of Pyro works: ``TraceMeanField_ELBO`` takes
    the divergence in closed form where there is one;
    :class:`pyro_gen.infer.ImportanceWeightedELBO`, ``DoublyReparametrizedELBO``
    and ``StickingTheLandingELBO`` are bounds under minibatches too. Discrete
    latent variables learn by :class:`pyro_gen.infer.WakeSleep` or Pyro's
    ``Trace_ELBO``; where they are few, exactly, by ``TraceEnum_ELBO`` of
    ``config_enumerate(vae.model)`` with an empty guide.

    ``beta`` weights the divergence and ``free_bits`` exempts some of it, in
    training mode and under ELBOs only; both may be set between steps.
    Evaluations do not use them.

    Args:
        features: number of features of a row, or the shape of an event.
        latent: number of latent variables.
        size: rows of the whole data set, which scales minibatches.
        hidden: units of each hidden layer of the default dense networks.
        network: kind of those networks; convolutional ones need an event
            (height, width) or (colours, height, width), and take no ``hidden``.
        likelihood: the family of the features' distributions, or an
            autoregressive network of such events with a context, which is then
            the decoder's output.
        latent_distribution: the family of the latent variables.
        prior: a module whose call returns the distribution of z, such as
            ``nn.RBM`` for binary ones; or ``nn.VampPrior``; None for standard
            normal numbers, or independent ones of another family.
        encoder: from inputs to the parameters of the distributions of z, (rows,
            latent, parameters of a distribution), the last two in one dimension
            if you like; for Gaussian ones it may return a pair (loc, scale).
            Inputs are rows as :meth:`inputs` gives them: (rows,) + event shape,
            with a dimension behind where a feature has several numbers (one-hot
            labels). Real rows are standardised by the location and scale that
            :meth:`from_data` measured; without it they are unchanged.
        decoder: from z, (rows, latent), to (rows, features, parameters of a
            distribution), all but the rows in any shape; of real rows to the
            parameters of standardised ones, in the units of the encoder's
            inputs; for an autoregressive likelihood to (rows, context).
        beta: weight of the divergence in training, a number above 0.
        free_bits: nats of the divergence in each latent dimension, on average
            over a batch, below which the loss does not fall.

    Raises:
        ValueError: a size is below 1, or parts do not fit each other.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes. Higgins et
        al. (2017), beta-VAE. Kingma, Salimans, Jozefowicz, Chen, Sutskever and
        Welling (2016), Improving variational inference with inverse
        autoregressive flow, equation 16 (free bits). Gulrajani et al. (2017),
        PixelVAE (autoregressive likelihood).

    Example:
        >>> from pyro.infer import SVI, TraceMeanField_ELBO
        >>> _ = pyro.set_rng_seed(0)
        >>> x = torch.eye(6).repeat(10, 1)
        >>> vae = VAE.from_data(x, 2, hidden=(8,))
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), TraceMeanField_ELBO())
        >>> _ = svi.step(x[:20])
        >>> found = vae.test_log_likelihood(x[:6], num_samples=500)
        >>> found.rows.shape, vae.sample(3).shape
        (torch.Size([6]), torch.Size([3, 6]))
    """

    generator = "decoder"
    recogniser = "encoder"

    encoder: nn.Module
    decoder: nn.Module
    like: Tensor
    standard: Standardisation | None
    """Location and scale of real features under a :class:`Conditional`.

    An autoregressive likelihood has its own.
    """

    def __init__(
        self,
        features: int | Sequence[int],
        latent: int,
        size: int,
        *,
        hidden: Sequence[int] = (400, 400),
        network: Literal["dense", "convolutional"] = "dense",
        likelihood: RowLikelihood = BERNOULLI,
        latent_distribution: Conditional = GAUSSIAN,
        prior: nn.Module | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
    ) -> None:
        event = Size(whole_numbers("features", features))
        latent = whole_number("latent", latent)
        super().__init__(event.numel(), size, latent_prior(prior, latent, latent_distribution))
        self.event_shape = event
        self.latent = latent
        self.latent_distribution = latent_distribution
        self.likelihood = likelihood
        self.register_buffer("like", torch.empty(0), persistent=False)
        check_likelihood(likelihood, event)
        self.standard = standardisation(likelihood, event.numel())
        self.encoder = self._encoder(network, hidden) if encoder is None else encoder
        if decoder is None:
            decoder = default_decoder(network, hidden, self._coded, event, likelihood)
        self.decoder = decoder
        self.beta = beta
        self.free_bits = free_bits
        self._check_weights()

    @classmethod
    def from_data(cls, x: RowsLike, latent: int, size: int | None = None, **settings: Any) -> Self:
        """A model that starts near the marginal distributions of the features, its
        pseudo-inputs at rows of data.

        Real features are standardised: the encoder sees (x - location) / scale,
        the decoder gives the parameters of that, and the density is that of the
        rows as they are. A small readout makes it start at their marginals.

        The random readout of discrete features stays as it is, over biases at
        the marginals. Behind hidden layers it costs little: under 0.1 nats a
        row on NLTCS (16 columns) and plants (69), 0.4 on AlphaDigits (320); a
        linear decoder starts up to 0.5 nats off on the first two. An
        autoregressive likelihood with hidden units is further off (NADE and
        MADE: up to 0.4, 2 and 17 nats on the three), and a convolutional
        decoder of discrete features does not start at the data at all.

        Args:
            x: rows of data, (rows,) + event shape.
            latent: number of latent variables.
            size: rows of the whole data set; None for those given.
            **settings: further arguments of the constructor.

        Returns:
            The model. Networks that are passed in are left unchanged; they take
            and return standardised real features.

        Raises:
            ValueError: there are no rows, one lies outside the support, or a
                column is constant whose scale is learned.
        """
        x = as_floating(x)
        if not isinstance(x, Tensor) or x.dim() < 2 or not len(x):
            raise ValueError(
                "`x` must hold rows of data, of shape (n, ...) with n at least 1, got "
                f"{described(x)}"
            )
        vae = cls(
            x.shape[1] if x.dim() == 2 else tuple(x.shape[1:]),
            latent,
            len(x) if size is None else size,
            **settings,
        )
        vae.check(x)
        check_rows(vae.size, len(x))
        vae.to(x)
        if isinstance(vae.likelihood, AutoregressiveNetwork):
            vae.likelihood.start_at(x)
        else:
            start_decoder(vae.decoder, vae.likelihood, vae.standard, x.to(vae.example))
        if isinstance(vae.prior, VampPrior):
            vae.prior.start_at(vae.inputs(x), real=isinstance(vae.conditional, RealConditional))
        return vae

    @property
    def example(self) -> Tensor:
        """Any of the weights: their dtype, and where they are."""
        return next(self.parameters(), self.like)  # weights with priors are no parameters

    @property
    def conditional(self) -> Conditional:
        """The family of the features' distributions."""
        if isinstance(self.likelihood, AutoregressiveNetwork):
            return self.likelihood.conditional
        return self.likelihood

    def inputs(self, x: Tensor) -> Tensor:
        """Encoder's input for rows: standardised where they are real, and as the
        likelihood encodes them.

        Args:
            x: rows, (...) + event shape.

        Returns:
            (...) + event shape, with one dimension behind where a feature has
            several numbers.
        """
        if x.shape[-len(self.event_shape) :] != self.event_shape:
            raise ValueError(
                f"`{self.site}` must have shape (...) + {tuple(self.event_shape)}, got "
                f"{tuple(x.shape)}"
            )
        batch = x.shape[: x.dim() - len(self.event_shape)]
        flat = x.reshape(*batch, -1)
        if isinstance(self.likelihood, AutoregressiveNetwork):
            standard = self.likelihood.standard
        else:
            standard = self.standard
        standardised = flat if standard is None else standard().seen(flat)
        code = self.conditional.encode(standardised).to(self.example.dtype)
        width = code.shape[-1:] if code.shape[-1] > 1 else ()
        return code.reshape(*batch, *self.event_shape, *width)

    def check(self, x: RowsLike) -> Tensor:
        """Rows as a tensor, checked.

        Args:
            x: a tensor, an array, a list or a data frame.

        Raises:
            ValueError: it is not (rows,) + event shape, empty, or outside the
                support of the likelihood.
        """
        x = as_tensor(x)
        if not isinstance(x, Tensor) or x.shape[1:] != self.event_shape or not len(x):
            expected = f"(rows,) + {tuple(self.event_shape)} with at least one row"
            raise ValueError(f"`{self.site}` must have shape {expected}, got {described(x)}")
        check_in_support(x, self.conditional)
        return x

    @property
    def beta(self) -> float:
        """Weight of the divergence in training, above 0."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        if not 0 < value < math.inf:
            raise ValueError(
                f"`beta` must be a positive, finite number, got {value}; `warm_up` counts epochs "
                "from 1"
            )
        self._beta = value

    @property
    def shared(self) -> tuple[str, ...]:
        """The encoder under a VampPrior, and an autoregressive likelihood."""
        encoder = ("encoder",) if isinstance(self.prior, VampPrior) else ()
        return encoder + (("likelihood",) if isinstance(self.likelihood, nn.Module) else ())

    def generate(self, prior: TorchDistribution) -> TorchDistribution:
        """Sample ``z``; the distribution of the row given it."""
        with self._weighed():
            z = pyro.sample("z", prior)
        return self.decode(z)

    def recognise(self, x: Tensor) -> None:
        """Sample ``z`` from the encoder's distribution."""
        distribution = self.encode(x)
        with self._weighed():
            pyro.sample("z", distribution)
            # a factor of the guide: it is subtracted from the bound
            if self.free_bits and self.training:
                lack = (
                    (self.free_bits - self._divergences(distribution).mean(0)).clamp(min=0).sum()
                )
                pyro.factor("free_bits", lack.expand(len(x)), has_rsample=True)

    def prior_distribution(self) -> TorchDistribution:
        """The distribution of z."""
        distribution: TorchDistribution = (
            self.prior(self._posterior) if isinstance(self.prior, VampPrior) else self.prior()
        )
        return distribution

    def encode(self, x: Tensor) -> TorchDistribution:
        """The guide's distribution of z given rows.

        Args:
            x: rows, (...) + event shape.

        Returns:
            Independent distributions, event shape (latent,).

        Raises:
            ValueError: the events or the encoder's outputs have the wrong shape.
        """
        return self._latent_distribution(self.inputs(x))

    def decode(self, z: Tensor) -> TorchDistribution:
        """The distribution of a row given its latent variables.

        Args:
            z: latent variables, (..., latent).

        Returns:
            A distribution of batch shape (...) and the row's event shape.

        Raises:
            ValueError: the decoder's outputs are not as many as the likelihood
                takes.
        """
        return self._distribution(
            z, self.latent_distribution.encode(z).flatten(-2).to(self.example.dtype)
        )

    def _distribution(
        self, z: Tensor, code: Tensor, validate_args: bool | None = None
    ) -> TorchDistribution:
        """The distribution of a row from the decoder's inputs."""
        batch = z.shape[:-1]
        out: Tensor = self.decoder(code.reshape(-1, code.shape[-1])).to(code.dtype)
        if isinstance(self.likelihood, AutoregressiveNetwork):
            check_outputs("decoder", out, (self.likelihood.context,))
            return self.likelihood(out.reshape(*batch, -1))
        parameters = as_parameters("decoder", out, batch, self.visible, self.likelihood)
        if self.standard is not None:
            parameters = self.standard().raw(parameters)
        return Factorised(self.likelihood, parameters, self.event_shape, validate_args)

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Parameters of the latent variables' distributions, (..., latent, parameters)."""
        batch = inputs.shape[: inputs.dim() - self._input_dim]
        out = self.encoder(inputs.reshape(-1, *inputs.shape[len(batch) :]))
        out = joined(out, self.latent_distribution).to(inputs.dtype)
        return as_parameters("encoder", out, batch, self.latent, self.latent_distribution)

    @property
    def _input_dim(self) -> int:
        """Dimensions of what the encoder is given for one row."""
        return len(self.event_shape) + (self.conditional.width > 1)

    def _latent_distribution(self, inputs: Tensor) -> TorchDistribution:
        parameters = self._outputs(inputs)
        if self._gaussian:
            return self.latent_distribution.distribution(parameters).to_event(1)
        return Factorised(self.latent_distribution, parameters)

    def _posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, for a VampPrior."""
        mean, log_scale = self._outputs(inputs).unbind(-1)
        return mean, log_scale.exp()

    @property
    def _gaussian(self) -> bool:
        return isinstance(self.latent_distribution, GaussianConditional)

    @property
    def _coded(self) -> int:
        """Numbers that the decoder is given for a row."""
        return self.latent * self.latent_distribution.width

    def _encoder(self, network: str, hidden: Sequence[int]) -> nn.Module:
        """The encoder where none is given."""
        outputs = self.latent * self.latent_distribution.num_parameters
        width = self.conditional.width
        return default_encoder(network, hidden, self.event_shape, width, outputs)

    @reading
    @torch.no_grad()
    def reconstruct(self, x: RowsLike) -> Tensor:
        """Reconstructions of rows.

        Args:
            x: rows, (rows,) + event shape.

        Returns:
            Means of the features at the posterior mean of Gaussian latent
            variables, or at one draw of others; draws where features are labels
            or depend on each other.
        """
        x = self.check(x)
        distribution = self.decode(
            self.latent_means(x) if self._gaussian else self.encode(x).sample()
        )
        if isinstance(distribution, Factorised) and self.conditional.width == 1:
            return distribution.mean
        return distribution.sample()

    @reading
    @torch.no_grad()
    def latent_means(self, x: RowsLike) -> Tensor:
        """Means of the latent variables given rows, as features for a classifier or for a map.

        Args:
            x: rows, (rows,) + event shape.

        Returns:
            (rows, latent).

        Raises:
            ValueError: the latent variables are labels, which have no mean.
        """
        if self.latent_distribution.width > 1:
            raise ValueError(
                "`latent_distribution` must be of numbers for a mean, got "
                f"{self.latent_distribution}"
            )
        x = self.check(x)
        mean: Tensor = self.encode(x).mean
        return mean

    @reading
    @torch.no_grad()
    def latent_use(self, x: RowsLike, threshold: float = 0.01) -> LatentUse:
        r"""Use of each latent dimension; unused ones have collapsed to the prior.

        .. math:: A_j = \mathrm{Var}_x\, E_{q(z | x)}[z_j] > 0.01

        Args:
            x: rows, (rows,) + event shape, at least two.
            threshold: of the variance.

        Returns:
            Variance and mean divergence of each dimension.

        Raises:
            ValueError: there are too few rows, or the latent variables are
                labels.

        References:
            Burda, Grosse and Salakhutdinov (2016), Importance weighted
            autoencoders, section 5.2.
        """
        x = self.check(x)
        means = self.latent_means(x)
        if len(means) < 2:
            raise ValueError(
                f"`{self.site}` must have at least two rows for a variance over them, got "
                f"{len(means)}"
            )
        normal = self._gaussian and isinstance(self.prior, StandardNormal)
        if normal:
            divergence = self._divergences(self.encode(x)).mean(0)
        else:
            divergence = None
        return LatentUse(means.var(0), divergence, threshold)

    @reading
    @torch.no_grad()
    def test_log_likelihood(
        self, x: RowsLike, num_samples: int | None = None, method: AnnealedImportance | None = None
    ) -> ImportanceLogLikelihood:
        r"""Lower bound of the log likelihood of rows by importance sampling from the guide,
        or by annealing from it.

        .. math:: \log \hat p(x) = \log \frac1K \sum_{k=1}^K \frac{p(z_k)\, p(x | z_k)}{q(z_k |
            x)}, \quad z_k \sim q

        It runs in evaluation mode, without ``beta`` and ``free_bits``, many
        draws at a time, with memory that does not grow with their number. The
        bound holds on average over the draws; a warning names the effective
        sample sizes (and from 100 draws on Pareto's k-hat) of rows that may lie
        far below. ``method=AnnealedImportance()`` is closer for these.

        Args:
            x: rows, (rows,) + event shape.
            num_samples: draws K a row, or chains of ``method``; None for 5000
                draws or 16 chains.
            method: annealed importance sampling by Hamiltonian Monte Carlo over
                Gaussian latent variables; None for plain importance sampling.

        Returns:
            The estimate of each row, the standard errors of the mean over rows
            and over draws, the effective sample sizes.

        Raises:
            ValueError: ``x`` is empty or outside the support, ``num_samples``
                is below 1, or there is no gradient with respect to the latent
                variables for ``method``.

        References:
            Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation,
            appendix E (the estimator). Burda, Grosse and Salakhutdinov (2016),
            Importance weighted autoencoders, section 5 (5000 samples). Wu,
            Burda, Salakhutdinov and Grosse (2017), On the quantitative analysis
            of decoder-based generative models.
        """
        default = 5000 if method is None else 16
        if num_samples is None:
            num_samples = default
        else:
            num_samples = whole_number("num_samples", num_samples)
        x = self.check(x)
        partition = self.log_partition()
        prior = self.prior_distribution()
        if method is not None:
            return self._annealed(x, num_samples, method, prior, partition)
        let_malloc_reuse_blocks()
        sums = [
            summed(self._log_weights(rows, num_samples, prior), num_samples)
            for rows in row_batches(x, num_samples, self.visible)
        ]
        return estimate(sums, num_samples, partition)

    test_log_likelihood.__test__ = False  # type: ignore[attr-defined]  # pytest takes its name for a test's

    @torch.no_grad()
    def simulated_gap(
        self, num_rows: int = 100, num_samples: int = 16, method: AnnealedImportance | None = None
    ) -> SimulatedGap:
        """Bidirectional Monte Carlo on rows that the model draws: the error of annealing
        on their log likelihood.

        Args:
            num_rows: rows to draw.
            num_samples: chains a row, in each direction.
            method: temperatures and leapfrog steps; None for the defaults.

        Returns:
            Bounds of the log likelihood of the drawn rows from below and above.
            It gives no bound for other rows.

        Raises:
            ValueError: a number is below 1, the prior has no exact draws, or
                there is no gradient with respect to the latent variables.

        References:
            Grosse, Ancha and Roy (2016), Measuring the reliability of MCMC
            inference with bidirectional Monte Carlo.
        """
        num_rows = whole_number("num_rows", num_rows)
        num_samples = whole_number("num_samples", num_samples)
        if method is None:
            method = AnnealedImportance()
        with evaluating(self):
            if self.log_partition() is not None:
                raise ValueError(
                    "`prior` must have exact draws for a gap on simulated rows, got an energy "
                    "model"
                )
            prior = self.prior_distribution()
            z = prior.sample((num_rows,))
            x = self.decode(z).sample()
            below = []
            above = []
            for rows, latent in zip(
                row_batches(x, num_samples, self.visible),
                row_batches(z, num_samples, self.visible),
                strict=True,
            ):
                path, start = self._path(rows, num_samples, method, prior)
                steps = step_sizes(path, start(), method)
                count = x.new_tensor(num_samples, dtype=torch.float64).log()
                forward, _ = anneal_forward(path, start(), steps, method)
                below.append(forward.logsumexp(0) - count)
                backward = anneal_backward(
                    path, latent.expand(num_samples, *latent.shape), steps, method
                )
                above.append(count - backward.logsumexp(0))
        return SimulatedGap(torch.cat(below), torch.cat(above), x, num_samples)

    def _annealed(
        self,
        x: Tensor,
        num_samples: int,
        method: AnnealedImportance,
        prior: TorchDistribution,
        partition: Any,
    ) -> ImportanceLogLikelihood:
        """The estimate by annealed importance sampling."""
        sums = []
        acceptances = []
        for rows in row_batches(x, num_samples, self.visible):
            path, start = self._path(rows, num_samples, method, prior)
            log_weight, acceptance = anneal_forward(
                path, start(), step_sizes(path, start(), method), method
            )
            sums.append(summed([log_weight.mT], num_samples))
            acceptances.append(acceptance)
        return estimate(sums, num_samples, partition, torch.cat(acceptances))

    def _path(
        self, x: Tensor, num_samples: int, method: AnnealedImportance, prior: TorchDistribution
    ) -> tuple[AnnealingPath, Callable[[], Tensor]]:
        """The path from the start to the joint density of some rows, and draws of the start."""
        if not self._gaussian:
            raise ValueError(
                "`method` must be None unless `latent_distribution` is Gaussian, got "
                f"{self.latent_distribution}"
            )
        if method.start == "guide":
            guide: Any = self.encode(x)
            path = AnnealingPath(
                guide.log_prob, lambda z: self._log_joint(x, z, prior), guide.base_dist.scale
            )
            return path, lambda: guide.sample((num_samples,))
        count = num_samples * len(x)
        scale = self.example.new_ones(len(x), self.latent)
        path = AnnealingPath(prior.log_prob, lambda z: self._log_joint(x, z, prior), scale)
        return path, lambda: prior.sample((count,)).unflatten(0, (num_samples, len(x)))

    def _log_joint(self, x: Tensor, z: Tensor, prior: TorchDistribution) -> Tensor:
        """Log joint density of rows and z, (chains, rows, latent) -> (chains, rows)."""
        return self._scored(z, x) + prior.log_prob(z)

    def _log_weights(
        self, x: Tensor, num_samples: int, prior: TorchDistribution
    ) -> Iterator[Tensor]:
        """Log weights of draws for a few rows, (rows, samples of the part) at a time."""
        distribution = self.encode(x)
        value = x.unsqueeze(1)
        for count in draws_at_a_time(len(x), num_samples, self.visible):
            z, log_q = self._drawn(distribution, count)
            if isinstance(self.prior, StandardNormal):
                of_prior = log_standard_normal(z)
            else:
                of_prior = prior.log_prob(z)
            yield self._scored(z, value) + of_prior - log_q

    def _drawn(self, distribution: Any, count: int) -> tuple[Tensor, Tensor]:
        """Draws of z, (rows, count, latent), and their log probabilities.

        Gaussian ones by way of their noise.
        """
        if not self._gaussian:
            z = distribution.sample((count,))
            return z.transpose(0, 1), distribution.log_prob(z).mT
        mean = distribution.base_dist.loc.unsqueeze(1)
        scale = distribution.base_dist.scale.unsqueeze(1)
        noise = torch.randn(len(mean), count, self.latent, dtype=mean.dtype, device=mean.device)
        return torch.addcmul(mean, scale, noise), log_standard_normal(noise) - scale.log().sum(-1)

    def _scored(self, z: Tensor, value: Tensor) -> Tensor:
        """Log probability of checked values given latent variables."""
        code = self.latent_distribution.encode(z).flatten(-2).to(self.example.dtype)
        return self._distribution(z, code, validate_args=False).log_prob(value)

    @staticmethod
    def _divergences(distribution: TorchDistribution) -> Tensor:
        """KL divergence of each latent dimension from the standard normal, (rows, latent)."""
        base = distribution.base_dist  # an Independent
        return kl_divergence(base, dist.Normal(torch.zeros_like(base.loc), 1.0))

    def _weighed(self) -> AbstractContextManager[object]:
        """The divergence's weight, in training."""
        if not self.training:
            return nullcontext()
        self._check_weights()
        if self.beta == 1:
            return nullcontext()
        return poutine.scale(scale=self.beta)

    def _check_weights(self) -> None:
        if not self.free_bits >= 0:
            raise ValueError(f"`free_bits` must not be negative, got {self.free_bits}")
        if self.free_bits and not isinstance(self.prior, StandardNormal):
            raise ValueError(
                "`free_bits` must be 0 unless the prior is standard normal, as only then the "
                "divergence is a sum over "
                f"latent dimensions, got {self.free_bits} under {type(self.prior).__name__}"
            )


__all__ = ["VAE"]
