"""Reweighted wake-sleep with separate weights for every row, as a loss for ``pyro.infer.SVI``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.infer.elbo import ELBO
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._plates import AnyRows
from pyro_gen.infer.elbo.importance import Program, row_weights

Dream = tuple[tuple[Any, ...], Mapping[str, Tensor]]


class WakeSleep(ELBO):
    r"""Wake-sleep for models with discrete latent variables in a plate of rows,
    minibatched or not.

    .. math:: \Delta\theta \propto \sum_k \tilde w_k \nabla_\theta \log p(v, h_k), \qquad
              \Delta\phi \propto \iota \sum_k \tilde w_k \nabla_\phi \log q(h_k | v)
              + (1 - \iota) \nabla_\phi \log q(\hat h | \hat v)

    with h_k from the guide, weights p/q normalised over the K particles of
    *each row*, and dreams from the model. Pyro's ``ReweightedWakeSleep``
    weights whole batches, so that one particle takes all the weight of many
    rows; for one row both agree.

    A prior with persistent chains works here, unlike there: the particles of a
    step share one snapshot, so the unknown log Z drops out of the normalised
    weights, and their sum is one, so the gradient of the contrast is the
    phase's. The reported loss is then a contrast, not a bound.

    Args:
        num_particles: particles K a row; 1 is plain wake-sleep, which needs
            dreams.
        insomnia: share of the guide's gradient that comes from the wake phase;
            the rest comes from dreams.
        dream: returns the arguments for the guide and the latent values of the
            dreams, by site; None runs the unconditioned model with the step's
            arguments and gives the guide ``observations=``, as Pyro's does.

    Raises:
        ValueError: ``num_particles`` is below 1, ``insomnia`` outside [0, 1],
            or not 0 with one particle.

    References:
        Hinton, Dayan, Frey, Neal (1995), The wake-sleep algorithm for
        unsupervised neural networks. Bornschein and Bengio (2015), Reweighted
        wake-sleep, Algorithm 1. Le, Kosiorek, Siddharth, Teh, Wood (2019),
        Revisiting reweighted wake-sleep.

    Example:
        >>> import pyro
        >>> from pyro.infer import SVI
        >>> from pyro_gen.models import SigmoidBeliefNetwork
        >>> network = SigmoidBeliefNetwork(6, [3], size=4)
        >>> svi = SVI(network.model, network.guide, pyro.optim.Adam({"lr": 0.01}), WakeSleep(5))
        >>> svi.step(torch.eye(4, 6)) > 0
        True
    """

    def __init__(
        self,
        num_particles: int = 5,
        insomnia: float = 1.0,
        dream: Callable[[], Dream] | None = None,
    ) -> None:
        num_particles = whole_number("num_particles", num_particles)
        if not 0 <= insomnia <= 1:
            raise ValueError(f"`insomnia` must be between 0 and 1, got {insomnia}")
        if num_particles == 1 and insomnia:
            raise ValueError(
                f"`insomnia` must be 0 with one particle, whose weight is always 1, got {insomnia}"
            )
        super().__init__(
            num_particles=num_particles, max_plate_nesting=1, vectorize_particles=True
        )
        self.insomnia = insomnia
        self.dream = dream

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Minus the importance-weighted bound of the rows, in nats, without a gradient.

        Args:
            model: a Pyro program.
            guide: a Pyro program.
            *args: arguments of both.
            **kwargs: arguments of both.

        Returns:
            Nats, summed over the rows and scaled by the plate.
        """
        with torch.no_grad():
            return self._wake(model, guide, args, kwargs)[0].item()

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The loss, with the gradients of both phases added to ``.grad`` of the parameters.

        Args:
            model: a Pyro program.
            guide: a Pyro program.
            *args: arguments of both.
            **kwargs: arguments of both.

        Returns:
            Minus the importance-weighted bound, in nats.
        """
        wake, guided = self._wake(model, guide, args, kwargs)
        total = wake + self.insomnia * guided if self.insomnia else wake
        if self.insomnia < 1:
            total = total + (1 - self.insomnia) * self._sleep(model, guide, args, kwargs)
        if total.requires_grad:
            total.backward()
        return wake.item()

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        """Pyro's hook for losses that read one trace after the other.

        Here the particles are one trace.
        """
        raise NotImplementedError("WakeSleep draws all its particles in one trace")

    def _wake(
        self, model: Program, guide: Program, args: Any, kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Losses of the model and of the guide."""
        rows = row_weights(model, guide, self.num_particles, *args, **kwargs)
        log_weight = rows.log_joint - rows.log_guide.detach()
        total = log_weight.logsumexp(0)
        share = (log_weight - total).exp().detach()
        bound = (total - math.log(self.num_particles)).sum()
        return -rows.scale * bound - rows.rest, -rows.scale * (share * rows.log_guide).sum()

    def _sleep(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Tensor:
        """Minus the guide's log density of dreams."""
        if self.dream is not None:
            dreamt, values = self.dream()
            with AnyRows():  # any number of dreams; the plate weights them as ``size`` rows
                trace = poutine.trace(poutine.condition(guide, data=dict(values))).get_trace(
                    *dreamt
                )
        else:
            with torch.no_grad():
                dream = poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)
            observations = {
                name: site["value"]
                for name, site in dream.nodes.items()
                if "was_observed" in (site.get("infer") or {})
            }
            trace = poutine.trace(poutine.replay(guide, trace=dream)).get_trace(
                *args, **kwargs, observations=observations
            )
        return -torch.as_tensor(trace.log_prob_sum())


__all__ = ["Dream", "WakeSleep"]
