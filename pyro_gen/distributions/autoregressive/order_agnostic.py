"""Training a network of every order.

An unbiased estimate of the mean log probability over all orders.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.autoregressive.density import Autoregressive, Generation
from pyro_gen.distributions.autoregressive.interfaces import AnyOrder
from pyro_gen.distributions.expansion import over_batch
from pyro_gen.distributions.log_z.misuse import NEEDS_DENSITY, refuse_callers, refuse_tracing
from pyro_gen.kernels import draw_seed

_WEIGHS = (*NEEDS_DENSITY, "pyro.infer.traceenum_elbo", "pyro.infer.discrete")
"""Modules of Pyro that take exponentials of log probabilities.

A mean of logs must not be put there.
"""


class OrderAgnostic(Autoregressive):
    r"""Objective of order-agnostic training in the form of a distribution.

    Its ``log_prob`` is an estimate.

    For every row a number :math:`d` of known features and the set :math:`S` of
    these are drawn, and

    .. math:: \widehat{\log p}(x) = \frac{D}{D - d} \sum_{i \notin S} \log p(x_i | x_S), \qquad
              \mathbb{E}\, \widehat{\log p}(x) = \frac{1}{D!} \sum_\pi \log p_\pi(x)

    with features in the units in which the network sees them, and the change of
    units taken off as a whole, so that its gradient is, in the mean, that of
    the log probability over all orders, for one pass of the network. The draws
    are fixed when the object is made: ``log_prob`` is a pure function of the
    value, and the next object has others. The value is no log probability, and
    its exponential no probability: weights or comparisons based on it raise
    where the caller can be recognised (MCMC, TraceEnum_ELBO, RWS, Renyi bounds,
    a traced ELBO), and must not be done by hand. It has no samples, since these
    need an order.

    Args:
        conditioner: a network of any order, such as ``nn.DeepNADE``, which
            makes this when called in training mode.
        context: what all distributions depend on, (..., context), or None.
        validate_args: whether to check context and values.

    Raises:
        ValueError: the network has one order only, the context does not fit, or
            the caller needs log probabilities.

    References:
        Uria, Murray and Larochelle (2014), A deep and tractable density
        estimator, ICML.

    Example:
        >>> from pyro_gen import nn
        >>> deep = nn.DeepNADE(3, [4])
        >>> densities = deep(), deep(order=(2, 0, 1)), deep.eval()()
        >>> [type(density).__name__ for density in densities]
        ['OrderAgnostic', 'Autoregressive', 'Autoregressive']
    """

    has_rsample = False
    has_enumerate_support = False

    def __init__(
        self,
        conditioner: AnyOrder,
        context: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(conditioner, AnyOrder):
            raise ValueError(
                f"`conditioner` must be a network of any order, got {type(conditioner).__name__}"
            )
        name = "order-agnostic training"
        refuse_tracing(name, "draws")
        refuse_callers(
            name,
            _WEIGHS,
            "gives only an estimate of their mean over orders: use eval(), or call it "
            "with an order",
        )
        super().__init__(conditioner, context, validate_args)
        self._network = conditioner
        self._seed = draw_seed()

    def log_prob(self, value: Tensor) -> Tensor:
        """One-sample estimate of the mean log probability over all orders, in nats.

        Args:
            value: events of shape (...) + event_shape.

        Returns:
            Tensor of the broadcast shape of the value's and the distribution's
            batch.

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        if self._validate_args:
            self._validate_sample(value)
        rows, context, shape = self._rows(value)
        revealed = self.known(len(rows), rows.device)
        parameters = self._network.parameters_given(rows, revealed, context)
        scores = self.conditional.log_prob(parameters, rows)
        scales = getattr(self._network, "log_scales", None)
        # What a change of units adds is the same in every order: no need to draw it.
        if scales is not None:
            scores = scores + scales
        result = torch.where(revealed, 0, scores).sum(-1) * self.features / (~revealed).sum(-1)
        if scales is not None:
            result = result - scales.sum()
        return over_batch(result.view(shape), self.batch_shape)

    def known(self, rows: int, device: torch.device) -> Tensor:
        """The features that each row takes as known: a fixed draw of this object.

        Args:
            rows: how many rows.
            device: where they are.

        Returns:
            Boolean, (rows, features), of which 0 to D - 1 are True with equal
            probability, in any places.
        """
        if device.type == "meta":
            return torch.empty(rows, self.features, dtype=torch.bool, device=device)
        generator = torch.Generator(device).manual_seed(self._seed)
        count = torch.randint(self.features, (rows, 1), generator=generator, device=device)
        noise = torch.rand(rows, self.features, generator=generator, device=device)
        return noise.argsort(-1).argsort(-1) < count

    def conditionals(self, value: Tensor) -> NoReturn:
        """Not available: conditional distributions need an order."""
        _refuse("conditionals")

    def start(self, sample_shape: Shape = ()) -> Generation:
        """Not available: generation needs an order."""
        _refuse("start")

    def given(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not available: conditioning needs a density."""
        _refuse("given")

    def entropy(self) -> Tensor:
        """Not available: this is not a density."""
        raise NotImplementedError("an order-agnostic estimate has no entropy")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Not available: states would be weighted by estimates."""
        raise NotImplementedError(_message("enumerate_support"))

    def _unexpanded(self) -> NoReturn:
        _refuse("given")

    def _generate(self, sample_shape: Shape) -> tuple[Tensor, Tensor]:
        _refuse("sample")


def _message(name: str) -> str:
    return (
        f"`{name}` needs an order, and order-agnostic training has none: "
        "use eval(), or call the network with one"
    )


def _refuse(name: str) -> NoReturn:
    raise ValueError(_message(name))


__all__ = ["OrderAgnostic"]
