"""Gibbs sampling from full conditionals without a model, with many chains in each tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_gen._arguments import whole_number
from pyro_gen.infer.mcmc.chains_kernel import ChainsKernel

Conditional = Callable[..., Distribution | Tensor]
Start = float | Tensor | Distribution

SCANS = ("systematic", "random")


class ConditionalsState(NamedTuple):
    """Values of all variables, (num_chains, ...) each, and the number of sweeps."""

    values: dict[str, Tensor]
    step: int


class GibbsSampler(ChainsKernel[ConditionalsState, None]):
    r"""Gibbs sampling from full conditionals that the user defines.

    .. math:: x_i \sim p(x_i \mid x_1, \dots, x_{i-1}, x_{i+1}, \dots, x_d), \qquad i = 1, \dots, d

    A conditional is a function whose arguments are the names of other variables and
    which returns a distribution (or a draw). It is called with tensors (num_chains,
    ...), so that one call serves all chains. ``init`` and ``step`` are pure functions
    of their state, given torch's generator; ``run`` makes draws of shape (chain, draw,
    ...) for :func:`pyro_gen.arviz.from_chains` and :func:`pyro_gen.infer.expectation`.
    ``pyro.infer.MCMC`` runs it too (with ``num_chains=1`` there: the chains live here),
    with draws (draw, chain, ...).

    Args:
        conditionals: for each variable its full conditional, in the order of a sweep.
        start: for each variable a number, a tensor with a row for each chain, or a
            distribution to draw from; variables that the conditionals before them do
            not need may be left out.
        num_chains: chains.
        scan: ``systematic``: all variables in their order; ``random``: as many updates,
            of variables drawn at random.

    Raises:
        ValueError: there is no conditional, one asks for an unknown variable or for
            itself, or a starting value is missing or of another shape.

    References:
        Geman and Geman (1984), Stochastic relaxation. Casella and George (1992),
        Explaining the Gibbs sampler, The American Statistician 46.

    Example:
        >>> import pyro.distributions as dist
        >>> sampler = GibbsSampler(
        ...     {
        ...         "x": lambda y: dist.Normal(0.6 * y, 0.8),
        ...         "y": lambda x: dist.Normal(0.6 * x, 0.8),
        ...     },
        ...     start={"y": 0.0}, num_chains=4,
        ... )
        >>> draws = sampler.run(num_samples=100, warmup_steps=10)
        >>> draws["x"].shape
        torch.Size([4, 100])
    """

    def __init__(
        self,
        conditionals: Mapping[str, Conditional],
        start: Mapping[str, Start] | None = None,
        num_chains: int = 4,
        scan: str = "systematic",
    ) -> None:
        super().__init__(num_chains)
        if not conditionals:
            raise ValueError("`conditionals` must have at least one variable, got none")
        if scan not in SCANS:
            raise ValueError(f"`scan` must be one of {SCANS}, got {scan!r}")
        if unknown := sorted(set(start or {}) - set(conditionals)):
            raise ValueError(
                f"`start` must name variables among {sorted(conditionals)}, got {unknown}"
            )
        self.conditionals = dict(conditionals)
        self.start = dict(start or {})
        self.scan = scan
        self.needs = {
            name: _arguments(name, distribution, list(conditionals))
            for name, distribution in conditionals.items()
        }

    def init(self) -> ConditionalsState:
        """The first state: starting values, and draws of the variables without one.

        Returns:
            Values of all variables.

        Raises:
            ValueError: a conditional needs a variable that has no value yet.
        """
        values = {}
        for name, start in self.start.items():
            values[name] = self._started(name, start)
        for name in self.conditionals:
            if name not in values:
                if missing := [k for k in self.needs[name] if k not in values]:
                    raise ValueError(
                        f"`start` must give values of {missing}, "
                        f"which the conditional of `{name}` needs"
                    )
                values[name] = self._draw(name, values)
        return ConditionalsState({name: values[name] for name in self.conditionals}, 0)

    def _started(self, name: str, start: Start) -> Tensor:
        if isinstance(start, Distribution):
            return torch.as_tensor(start.sample((self.num_chains,)))
        value = torch.as_tensor(start)
        if value.isnan().any():
            raise ValueError(f"`start` of `{name}` must hold numbers, got NaN")
        if not value.dim():
            if not value.is_floating_point() and not isinstance(start, Tensor):
                value = value.to(torch.long)
            return value.expand(self.num_chains).clone()
        if len(value) != self.num_chains:
            raise ValueError(
                f"`start` of `{name}` must have {self.num_chains} rows, got {tuple(value.shape)}"
            )
        return value.clone()

    def _draw(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """A draw from a conditional, with chains as the first dimension."""
        arguments = {need: values[need] for need in self.needs[name]}
        distribution = self.conditionals[name](**arguments)
        if isinstance(distribution, Distribution):
            has_chains = distribution.batch_shape[:1] == (self.num_chains,)
            if name in values:
                shape = distribution.batch_shape + distribution.event_shape
                has_chains = shape == values[name].shape
            sample_shape = () if has_chains else (self.num_chains,)
            value = torch.as_tensor(distribution.sample(torch.Size(sample_shape)))
        else:
            value = torch.as_tensor(distribution)
        expected = torch.Size((self.num_chains, *value.shape[1:]))
        if name in values:
            expected = values[name].shape
        if value.shape != expected:
            raise ValueError(
                f"the conditional of `{name}` must give draws of shape "
                f"{tuple(expected)}, got {tuple(value.shape)}"
            )
        if value.isnan().any():
            raise ValueError(f"the conditional of `{name}` must give numbers, got NaN")
        return value

    @torch.no_grad()
    def step(self, state: ConditionalsState) -> tuple[ConditionalsState, None]:
        """One sweep of every chain.

        A random scan draws the variables once for all chains; each chain is still a
        random-scan chain.

        Args:
            state: where the chains are.

        Returns:
            The new state.
        """
        values = dict(state.values)
        names = list(self.conditionals)
        if self.scan == "random":
            index = torch.randint(len(names), (len(names),))
            names = [names[i] for i in index.tolist()]
        for name in names:
            values[name] = self._draw(name, values)
        return ConditionalsState(values, state.step + 1), None

    def run(self, num_samples: int, warmup_steps: int = 0, thin: int = 1) -> dict[str, Tensor]:
        """Make draws.

        Args:
            num_samples: draws of each chain.
            warmup_steps: sweeps before the first draw.
            thin: sweeps from one draw to the next.

        Returns:
            For each variable (num_chains, num_samples, ...).

        Raises:
            ValueError: ``num_samples`` or ``thin`` is below 1, or ``warmup_steps`` below 0.
        """
        num_samples = whole_number("num_samples", num_samples)
        warmup_steps = whole_number("warmup_steps", warmup_steps, 0)
        thin = whole_number("thin", thin)
        state = self.init()
        draws = []
        for _ in range(warmup_steps):
            state, _ = self.step(state)
        for _ in range(num_samples):
            for _ in range(thin):
                state, _ = self.step(state)
            draws.append(state.values)
        stacked = {}
        for name in self.conditionals:
            stacked[name] = torch.stack([values[name] for values in draws], 1)
        return stacked

    def _draws(self, state: ConditionalsState) -> dict[str, Tensor]:
        return state.values

    def _moved(self, state: ConditionalsState, draws: Mapping[str, Tensor]) -> ConditionalsState:
        return state._replace(values=dict(draws))

    def _start_at(self, params: Mapping[str, Tensor]) -> None:
        if unknown := sorted(set(params) - set(self.conditionals)):
            raise ValueError(
                "`initial_params` must name variables among "
                f"{sorted(self.conditionals)}, got {unknown}"
            )
        self.start = {**self.start, **params}


def _arguments(name: str, distribution: Conditional, names: list[str]) -> list[str]:
    """The variables that a conditional asks for; all others where it takes any."""
    if not callable(distribution):
        raise ValueError(
            f"the conditional of `{name}` must be a function of "
            f"other variables, got {distribution!r}"
        )
    parameters = inspect.signature(distribution).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return [other for other in names if other != name]
    needed = [p.name for p in parameters if p.default is p.empty or p.name in names]
    if wrong := [need for need in needed if need not in names or need == name]:
        raise ValueError(
            f"the conditional of `{name}` must ask for other variables among {names}, got {wrong}"
        )
    return needed


__all__ = ["ConditionalsState", "GibbsSampler"]
