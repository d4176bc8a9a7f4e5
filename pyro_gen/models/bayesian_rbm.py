"""An RBM whose weights are latent variables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Predictive
from pyro.infer.autoguide import AutoDelta, AutoGuide, AutoNormal, init_to_sample
from pyro.nn import PyroModule, PyroSample
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.distributions import constraints

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import reading
from pyro_gen._plates import AnyRows, check_rows, rows_plate
from pyro_gen._points import Expected, check_point
from pyro_gen.infer import Exact, NegativePhase, Partition
from pyro_gen.nn import RBM

SITES = ("weight", "vbias", "hbias")


class BayesianRBM:
    r"""A Bernoulli RBM with priors over weights and biases.

    A model/guide pair for SVI, and a model for NUTS.

    .. math:: W_{ij} \sim \mathrm{Normal}(0, s_W), \quad a_i, b_j \sim \mathrm{Normal}(0, s_b),
        \quad
              v \sim \mathrm{RBM}(W, a, b)

    The sites are ``weight``, ``vbias``, ``hbias``, and ``v`` in the plate
    ``rows``. Valid ways of learning:

    - ``Exact`` (or None): NUTS, AutoNormal or MAP, up to 20-25 units on the smaller
      side;
    - ``PersistentChains``: MAP (``guide="map"``) at any size. The chains follow *one*
      set of weights; draws of weights from a guide with a width would each need chains
      of their own (even two visible units and one hidden one gave widths 15 % too
      large), so this raises.

    The posterior has one mode for every order of the hidden units: compare
    functions of the weights, such as ``log_predictive``, rather than single
    weights, where there is more than one hidden unit.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        size: rows of the whole data set, which scales minibatches.
        weight_scale: standard deviation s_W of the prior over the weights.
        bias_scale: standard deviation s_b of the prior over both biases.
        negative_phase: how log Z is computed, or replaced, in learning.
        guide: the guide of SVI: ``"normal"`` (AutoNormal) or ``"map"``
            (AutoDelta).

    Raises:
        ValueError: a size or scale is not positive, the guide has another name,
            or a guide with a width is to learn from persistent chains.

    References:
        Murray and Ghahramani (2004), Bayesian learning in undirected graphical
        models: approximate MCMC algorithms.

    Example:
        >>> from pyro.infer import MCMC, NUTS
        >>> rbm = BayesianRBM(3, 1, size=4)
        >>> mcmc = MCMC(NUTS(rbm.model), num_samples=5, warmup_steps=5, disable_progbar=True)
        >>> mcmc.run(torch.eye(4, 3))
        >>> rbm.log_predictive(torch.eye(3), mcmc.get_samples()).shape
        torch.Size([3])
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        size: int,
        weight_scale: float = 1.0,
        bias_scale: float = 1.0,
        negative_phase: Partition | None = Exact(),  # noqa: B008  # an immutable setting
        guide: Literal["normal", "map"] = "normal",
    ) -> None:
        if not (weight_scale > 0 and bias_scale > 0):
            raise ValueError(
                f"`weight_scale` and `bias_scale` must be positive, got {weight_scale} and "
                f"{bias_scale}"
            )
        if guide not in ("normal", "map"):
            raise ValueError(f"`guide` must be 'normal' or 'map', got {guide!r}")
        if guide == "normal" and _keeps_chains(negative_phase):
            raise ValueError(_too_wide("`guide` 'normal'"))
        self.size = whole_number("size", size)
        self.guide_name = guide
        self.rbm = cast(
            RBM, cast(Any, PyroModule[RBM])(visible, hidden, negative_phase=negative_phase)
        )
        self._shapes = {name: getattr(self.rbm, name).shape for name in SITES}
        for name, shape in self._shapes.items():
            scale = torch.as_tensor(weight_scale if name == "weight" else bias_scale)
            setattr(
                self.rbm,
                name,
                PyroSample(dist.Normal(0.0, scale).expand(shape).to_event(len(shape))),
            )
        self._guide: AutoGuide | None = None

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Refusal: the density of a row is an integral over the weights.

        Args:
            *args: ignored.
            **kwargs: ignored.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "BayesianRBM has no tractable density of its rows to return: put `model` and `guide` "
            "into SVI, and take "
            "`log_predictive` of `draws`, or `at(draws)` for the RBMs of these"
        )

    def model(self, v: Tensor | None = None) -> Tensor:
        """Weights from the prior, rows from the RBM.

        Args:
            v: rows to observe, (rows, visible); None draws ``size`` rows.

        Returns:
            The rows.

        Raises:
            ValueError: a guide with a width is to learn from persistent chains.
        """
        if (
            torch.is_grad_enabled()
            and self.rbm.training
            and _keeps_chains(self.rbm.negative_phase)
        ):
            _refuse_wide_guides()
        rbm = self.rbm()
        with rows_plate(self.size, v):
            return pyro.sample("v", rbm, obs=v)

    def guide(self, v: Tensor | None = None) -> Any:
        """The guide over the weights, made at its first call.

        Args:
            v: rows to observe.

        Returns:
            The weights, by site.

        Raises:
            ValueError: there are more rows than ``size``.
        """
        check_rows(self.size, 0 if v is None else len(v))
        return self.autoguide(v)

    @property
    def autoguide(self) -> AutoGuide:
        """The guide as Pyro's object, with ``median`` and ``quantiles``."""
        if self._guide is None:
            make = AutoDelta if self.guide_name == "map" else AutoNormal
            self._guide = make(self.model, init_loc_fn=init_to_sample)
        return self._guide

    @reading
    @torch.no_grad()
    def draws(self, num_samples: int, v: Tensor | None = None) -> dict[str, Tensor]:
        """Weights from the guide, as ``MCMC.get_samples`` gives them.

        Args:
            num_samples: how many.
            v: a batch of rows, where the guide has not been called yet.

        Returns:
            By site, each of shape (num_samples, ...).
        """
        num_samples = whole_number("num_samples", num_samples)
        with AnyRows():
            draws = Predictive(self.guide, num_samples=num_samples, return_sites=SITES)(v)
        return {name: draws[name].reshape(num_samples, *self._shapes[name]) for name in SITES}

    def at(
        self, draws: Mapping[str, Tensor], partition: Partition | None = None
    ) -> distributions.RBM:
        """The RBMs of draws of the weights, as one batched distribution.

        Args:
            draws: by site, each of shape (draws, ...).
            partition: how log Z is known; None enumerates up to 20 units on the
                smaller side.

        Returns:
            An RBM of batch shape (draws,).

        Raises:
            ValueError: a site is missing or unknown, of another shape, or not
                finite.
        """
        expected = {
            name: Expected(constraints.real, tuple(shape)) for name, shape in self._shapes.items()
        }
        check_point("draws", draws, expected, optional=("v",), batched=True)
        return distributions.RBM(draws["weight"], draws["vbias"], draws["hbias"], partition)

    @reading
    @torch.no_grad()
    def log_predictive(
        self, v: Tensor, draws: Mapping[str, Tensor], partition: Partition | None = None
    ) -> Tensor:
        r"""Posterior predictive log probability of rows.

        .. math:: \log \frac1S \sum_{s=1}^{S} p(v | W_s, a_s, b_s)

        Args:
            v: rows, (rows, visible).
            draws: of the posterior, by site, each of shape (S, ...).
            partition: how log Z of each draw is known; None enumerates.

        Returns:
            Nats, (rows,).
        """
        each = self.at(draws, partition).log_prob(v.unsqueeze(1))
        return each.logsumexp(-1) - math.log(each.shape[-1])


def _keeps_chains(phase: Partition | None) -> bool:
    return isinstance(phase, NegativePhase) and phase.persistent_chains > 0


def _refuse_wide_guides() -> None:
    """Raise if the model is replayed against a guide that draws the weights."""
    for handler in _PYRO_STACK:
        if not isinstance(handler, ReplayMessenger) or handler.trace is None:
            continue
        for name, site in handler.trace.nodes.items():
            if (
                site["type"] == "sample"
                and not site["is_observed"]
                and not isinstance(_base(site["fn"]), dist.Delta)
            ):
                raise ValueError(
                    _too_wide(
                        f"the guide draws {name!r} from {type(_base(site['fn'])).__name__}, and"
                    )
                )


def _base(distribution: Any) -> Any:
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def _too_wide(what: str) -> str:
    return (
        f"{what} would need chains of its own for every draw of the weights; PersistentChains "
        "follow one set of "
        "weights, and the guide's widths would be wrong: use guide='map' or AutoDelta with "
        "chains, or Exact"
    )


__all__ = ["BayesianRBM"]
