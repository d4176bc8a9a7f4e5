"""Semi-supervised variational autoencoder with a class for each row (the model M2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import reading
from pyro_gen._plates import rows_plate
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike, as_tensor
from pyro_gen.distributions import Conditional
from pyro_gen.models.autoencoder.blocks import draws_at_a_time
from pyro_gen.models.autoencoder.networks import BERNOULLI
from pyro_gen.models.autoencoder.vae import VAE
from pyro_gen.models.latent import Observations, observed, recognised
from pyro_gen.nn import AutoregressiveNetwork, Dense

UNLIKELY = -1e4
"""Log odds whose probability underflows in either precision, but that stays finite
times a weight of zero.
"""


class SemiSupervisedVAE(VAE):
    r"""Variational autoencoder and classifier of rows with a class y that is known for
    some of them.

    .. math:: p(x, y, z) = p(y)\, p(z)\, p(x | y, z), \qquad q(y, z | x) = q(y | x)\, q(z | x, y)

    The class is summed out exactly where it is missing: train with
    ``TraceEnum_ELBO(max_plate_nesting=1)``. Where it is known the classifier
    learns from it too, with the weight ``alpha``. Sites are ``y``, ``z`` and
    ``x`` in the plate ``rows``; the classes are equally probable beforehand.

    Args:
        features: number of features of a row, or the shape of an event.
        latent: number of latent variables.
        size: rows of the whole data set, which scales minibatches.
        classes: how many.
        alpha: weight of the classifier's log probability of a known class,
            beside the bound.
        hidden: units of each hidden layer of the networks.
        likelihood: the family of the features' distributions, or an
            autoregressive network with a context.
        encoder: from rows with the one-hot class behind them, (rows, inputs +
            classes), to the distributions of z.
        decoder: from z with the one-hot class behind it, (rows, latent +
            classes).
        classifier: from rows, as the encoder is given them without a class, to
            logits (rows, classes).

    Raises:
        ValueError: a size is below 1, or parts do not fit each other.

    References:
        Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning
        with deep generative models, equations 6 to 9.

    Example:
        >>> from pyro.infer import SVI, TraceEnum_ELBO
        >>> vae = SemiSupervisedVAE(6, 2, size=6, classes=3, hidden=(8,))
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}),
        ...     TraceEnum_ELBO(max_plate_nesting=1))
        >>> # -1 where the class is missing
        >>> svi.step(torch.eye(6), torch.tensor([0, 1, 2, -1, -1, -1])) > 0
        True
        >>> vae.classify(torch.eye(6)).shape
        torch.Size([6, 3])
    """

    def __init__(
        self,
        features: int | Sequence[int],
        latent: int,
        size: int,
        classes: int,
        *,
        alpha: float = 1.0,
        hidden: Sequence[int] = (400, 400),
        likelihood: Conditional | AutoregressiveNetwork = BERNOULLI,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        classifier: nn.Module | None = None,
    ) -> None:
        classes = whole_number("classes", classes, 2)
        if not alpha >= 0:
            raise ValueError(f"`alpha` must not be negative, got {alpha}")
        self.classes = classes
        self.alpha = alpha
        super().__init__(
            features,
            latent,
            size,
            hidden=hidden,
            likelihood=likelihood,
            encoder=encoder,
            decoder=decoder,
        )
        inputs = self.visible * self.conditional.width
        self.classifier = Dense(inputs, hidden, classes) if classifier is None else classifier

    def model(  # type: ignore[override]  # one argument more, where it is natural
        self,
        x: RowsLike | None = None,
        y: Tensor | None = None,
        observations: Observations | None = None,
    ) -> Tensor:
        """The generative program.

        Args:
            x: rows to observe, (rows,) + event shape; None draws ``size`` rows.
            y: their classes, (rows,), whole numbers with -1 where one is
                missing; None for none.
            observations: the rows by site name.

        Returns:
            The rows.
        """
        rows = observed(x, observations, self.site)
        for name in ("decoder", "prior", *self.shared):
            register(name, getattr(self, name))
        with rows_plate(self.size, rows):
            y = pyro.sample("y", dist.Categorical(logits=self.example.new_zeros(self.classes)))
            with self._weighed():
                z = pyro.sample("z", self.prior_distribution())
            return pyro.sample(self.site, self.decode_given(z, y), obs=rows)

    def guide(  # type: ignore[override]  # one argument more, where it is natural
        self,
        x: RowsLike | None = None,
        y: Tensor | None = None,
        observations: Observations | None = None,
    ) -> None:
        """The recognition program, with the class enumerated where it is missing.

        Args:
            x: rows, (rows,) + event shape.
            y: their classes, (rows,), whole numbers with -1 where one is
                missing; None for none.
            observations: the rows by site name.

        Raises:
            ValueError: there are no rows to recognise, or the classes do not
                fit.
        """
        rows = recognised(x, observations, self.site)
        y = as_tensor(y, "y")
        register("encoder", self.encoder)
        register("classifier", self.classifier)
        with rows_plate(self.size, rows):
            logits = self._logits(rows)
            if y is not None:
                labelled = self._known(y, len(rows))
                index = y.clamp(min=0).long()
                if self.training and self.alpha:
                    log_q_label = (
                        logits.log_softmax(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
                    )
                    # a factor of the guide is subtracted from the bound, so add
                    # the classifier's loss
                    pyro.factor(
                        "classifier",
                        -self.alpha * torch.where(labelled, log_q_label, 0.0),
                        has_rsample=True,
                    )
                certain = torch.where(one_hot(index, self.classes).bool(), 0.0, UNLIKELY).to(
                    logits
                )
                logits = torch.where(labelled.unsqueeze(-1), certain, logits)
            y = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            with self._weighed():
                pyro.sample("z", self.encode_given(rows, y))

    def decode_given(self, z: Tensor, y: Tensor) -> TorchDistribution:
        """The distribution of rows given latent variables and classes; batch shapes broadcast."""
        return self._with_class(z, y)

    def encode_given(self, x: Tensor, y: Tensor) -> TorchDistribution:
        """The guide's distribution of z given rows and classes, whose batch shapes broadcast."""
        flat = self._flat(x)
        label = one_hot(y.long(), self.classes).to(flat)
        batch = torch.broadcast_shapes(flat.shape[:-1], label.shape[:-1])
        return self._latent_distribution(
            torch.cat([flat.expand(*batch, -1), label.expand(*batch, -1)], -1)
        )

    def encode(self, x: Tensor) -> TorchDistribution:
        """The guide's distribution of z given rows and their most probable classes."""
        return self.encode_given(x, self._logits(x).argmax(-1))

    def decode(self, z: Tensor) -> TorchDistribution:
        """The distribution of rows given latent variables, of classes drawn evenly."""
        return self.decode_given(z, torch.randint(self.classes, z.shape[:-1], device=z.device))

    @reading
    @torch.no_grad()
    def classify(self, x: RowsLike) -> Tensor:
        """Probabilities of the classes, by the classifier.

        Args:
            x: rows, (rows,) + event shape.

        Returns:
            (rows, classes).
        """
        x = self.check(x)
        return self._logits(x).softmax(-1)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self._flat(x))
        return logits

    def _flat(self, x: Tensor) -> Tensor:
        return self.inputs(x).flatten(x.dim() - len(self.event_shape))

    def _with_class(
        self, z: Tensor, y: Tensor, validate_args: bool | None = None
    ) -> TorchDistribution:
        label = one_hot(y.long(), self.classes).to(self.example.dtype)
        batch = torch.broadcast_shapes(z.shape[:-1], label.shape[:-1])
        z = z.expand(*batch, -1)
        return self._distribution(z, torch.cat([z, label.expand(*batch, -1)], -1), validate_args)

    def _log_weights(
        self, x: Tensor, num_samples: int, prior: TorchDistribution
    ) -> Iterator[Tensor]:
        """Log weights of draws of class and latent variables together."""
        value = x.unsqueeze(1)
        logits = self._logits(x).log_softmax(-1)
        of_classes = dist.Categorical(logits=logits, validate_args=False)
        for count in draws_at_a_time(len(x), num_samples, self.visible):
            y = of_classes.sample((count,))
            distribution = self.encode_given(x, y)
            z = distribution.sample()
            log_q = (distribution.log_prob(z) + of_classes.log_prob(y)).mT
            z = z.transpose(0, 1)
            y = y.mT
            score = self._with_class(z, y, validate_args=False).log_prob(value)
            yield score + prior.log_prob(z) - log_q - math.log(self.classes)

    def _log_joint(self, x: Tensor, z: Tensor, prior: TorchDistribution) -> Tensor:
        """Log joint density of rows and latent variables, with the class summed out."""
        y = torch.arange(self.classes, device=z.device).view(-1, 1, 1)
        score = self._with_class(z, y, validate_args=False).log_prob(x).logsumexp(0)
        return score - math.log(self.classes) + prior.log_prob(z)

    def _check_weights(self) -> None:
        super()._check_weights()
        if self.free_bits:
            raise ValueError(
                f"`free_bits` must be 0 where classes are summed out, got {self.free_bits}"
            )

    def _known(self, y: Tensor, rows: int) -> Tensor:
        if y.shape != (rows,) or y.is_floating_point() or ((y < -1) | (y >= self.classes)).any():
            raise ValueError(
                f"`y` must hold whole numbers below {self.classes}, or -1 where missing, of shape "
                f"({rows},), got {y.dtype} of shape {tuple(y.shape)}"
            )
        return y >= 0

    @property
    def _input_dim(self) -> int:
        """Rows come flat, with the class behind."""
        return 1

    @property
    def _coded(self) -> int:
        return super()._coded + self.classes

    def _encoder(self, network: str, hidden: Sequence[int]) -> nn.Module:
        inputs = self.visible * self.conditional.width + self.classes
        return Dense(inputs, hidden, self.latent * self.latent_distribution.num_parameters)


__all__ = ["SemiSupervisedVAE"]
