"""Gibbs sampling of any Pyro model, block by block: a step, also as a kernel for MCMC."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor
from torch.distributions import Transform, constraints

from pyro_gen._arguments import whole_number
from pyro_gen.infer.mcmc.gibbs.blocks import CustomGibbs, GradientMover, Mover, transforms
from pyro_gen.infer.mcmc.gibbs.discrete import DiscreteGibbs
from pyro_gen.infer.mcmc.gibbs.joint import Joint, Model, check_plates, latent_names, sample_sites
from pyro_gen.infer.mcmc.gibbs_sampler import SCANS

TRIES = 100
"""Draws of initial values until one has a positive probability."""

Block = tuple[Any, Sequence[str] | str]


class SweepState(NamedTuple):
    """Values of all latent sites, in their constrained space, and the number of sweeps."""

    values: dict[str, Tensor]
    step: int


class SweepInfo(NamedTuple):
    """For each block the share of variables that moved, or a gradient kernel's acceptance."""

    moved: dict[str, float]


class Gibbs(MCMCKernel):
    r"""Gibbs sampling of a Pyro model: a kernel for each block, with the other sites fixed.

    .. math:: x_B \sim K_B(\cdot \mid x_B, x_{\setminus B}), \qquad
              \pi(x_B \mid x_{\setminus B}) \text{ invariant under } K_B, \quad B = B_1, B_2, \dots

    A block is a pair of a kernel and names of sites: :class:`DiscreteGibbs` for
    discrete sites, Pyro's ``NUTS``, ``HMC`` or ``RandomWalkKernel`` (the class, or
    ``functools.partial`` of it with settings) for continuous ones, :class:`CustomGibbs`
    with a function of the user for either. Every latent site must be in a block; it may
    be in several. As a kernel of ``pyro.infer.MCMC`` draws have the space and type of
    their sites. ``initial_params`` are as Pyro's: unconstrained for sites of gradient
    kernels, as they are for all others.

    With ``num_chains`` the model runs for many chains at once, in a plate outside of
    the model's plates (the model has to be written for that, as for
    ``vectorize_particles``; this is checked), for discrete and custom blocks. Then each
    draw of a site has shape (num_chains, ...), and ``MCMC`` takes ``num_chains=1``;
    hand the draws to :func:`pyro_gen.arviz.from_chains` as (chain, draw, ...).

    Args:
        blocks: pairs (kernel, sites).
        model: a Pyro program.
        num_chains: chains as a dimension; None for one, with ``num_chains`` of ``MCMC``
            as processes.
        scan: ``systematic``: the blocks in their order; ``random``: in an order drawn
            for each sweep.
        own_types: whether draws of integers come as integers, as models, ``Predictive``
            and the bridge to ArviZ need them. ``MCMC.summary()`` and
            ``MCMC.diagnostics()`` cannot take means of integers: False leaves all draws
            floating for them.
        init_strategy: one of Pyro's, such as ``init_to_value(values=...)``; discrete
            sites that it does not serve are drawn from their prior.

    Raises:
        ValueError: there is no block, a block is not such a pair, or a setting is not
            among the choices.

    References:
        Geman and Geman (1984), Stochastic relaxation, Gibbs distributions, and the
        Bayesian restoration of images. Tierney (1994), Markov chains for exploring
        posterior distributions, section 2.4 (cycles of kernels).

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro.infer import MCMC, NUTS
        >>> from pyro_gen.infer import DiscreteGibbs
        >>> def model(x):
        ...     mu = pyro.sample("mu", dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).to_event(1))
        ...     with pyro.plate("rows", len(x)):
        ...         z = pyro.sample("z", dist.Bernoulli(0.5))
        ...         pyro.sample("x", dist.Normal(mu[z.long()], 1.0), obs=x)
        >>> kernel = Gibbs([(DiscreteGibbs(), ["z"]), (NUTS, ["mu"])], model)
        >>> mcmc = MCMC(kernel, num_samples=20, warmup_steps=10, disable_progbar=True)
        >>> mcmc.run(torch.tensor([-2.1, -1.9, 2.0, 2.2]))
        >>> {name: tuple(draws.shape) for name, draws in mcmc.get_samples().items()}
        {'mu': (20, 2), 'z': (20, 4)}
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        model: Model,
        *,
        num_chains: int | None = None,
        scan: str = "systematic",
        own_types: bool = True,
        init_strategy: Callable[..., Any] = init_to_uniform,
    ) -> None:
        if not callable(model):
            raise ValueError(
                f"`model` must be a Pyro program, after `blocks`, got {type(model).__name__}"
            )
        if scan not in SCANS:
            raise ValueError(f"`scan` must be one of {SCANS}, got {scan!r}")
        if num_chains is not None:
            num_chains = whole_number("num_chains", num_chains)
        self.blocks = [_block(block) for block in blocks]
        if not self.blocks:
            raise ValueError("`blocks` must have at least one pair (kernel, sites), got none")
        has_gradients = not all(hasattr(kernel, "bind") for kernel, _ in self.blocks)
        if num_chains is not None and has_gradients:
            raise ValueError(
                f"`num_chains` must be None with gradient kernels, got {num_chains}: "
                "MCMC(num_chains=...) has processes"
            )
        self.model = model
        self.num_chains = num_chains
        self.scan = scan
        self.init_strategy = init_strategy
        self.own_types = own_types
        labels = [", ".join(sites) for _, sites in self.blocks]
        self.labels = list(labels)
        for i, label in enumerate(labels):
            if labels.count(label) > 1:
                self.labels[i] = f"{label} ({i})"
        self.transforms: dict[str, Any] | None = None
        self._initial_params: dict[str, Tensor] | None = None
        self._reset()

    def _reset(self) -> None:
        self.movers: list[Mover] = []
        self._state: SweepState | None = None
        self._warmup_steps = 0
        self._rates: dict[str, list[float]] = {label: [] for label in self.labels}

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Find initial values, and bind the blocks to the model and its arguments.

        Args:
            warmup_steps: sweeps during which gradient kernels adapt.
            *args: arguments of the model.
            **kwargs: named arguments of the model.

        Raises:
            ValueError: a latent site is in no block, a block names no latent site or
                one that its kernel cannot move, a plate is subsampled, or no initial
                values of positive probability were found.
        """
        self._reset()
        self._warmup_steps = warmup_steps
        self.joint = Joint(self.model, args, kwargs, self.num_chains)
        values = self._initial_values()
        self.movers = [self._bind(kernel, values, names) for kernel, names in self.blocks]
        self._state = SweepState(values, 0)

    def _bind(self, kernel: Any, values: dict[str, Tensor], sites: tuple[str, ...]) -> Mover:
        if hasattr(kernel, "bind"):
            mover: Mover = kernel.bind(self.joint, values, sites)
            return mover
        return GradientMover(kernel, self.joint, values, sites, self._warmup_steps)

    def _initial_values(self) -> dict[str, Tensor]:
        """Values of positive probability, from the parameters given or drawn."""
        self.transforms = None
        for _ in range(TRIES):
            strategy = InitMessenger(_Strategy(self.init_strategy))
            with torch.no_grad():
                trace = self.joint.trace({}, strategy(self.joint.model))
            sites = sample_sites(trace)
            check_plates(trace)
            values = {k: sites[k]["value"].detach() for k in latent_names(sites)}
            if self.transforms is None:
                self._shapes = {name: self._shape(sites[name]) for name in values}
                self._check_sites(values)
                self.transforms = self._transforms(values)
            values |= self._given(values)
            if self.joint.log_prob(values).isfinite():
                return values
        raise ValueError(
            "`model` must have a finite log probability at its initial values, "
            f"got none in {TRIES} tries: "
            "give `init_strategy=init_to_value(values=...)`"
        )

    def _check_sites(self, values: Mapping[str, Tensor]) -> None:
        named = {name for _, sites in self.blocks for name in sites}
        if missing := sorted(values.keys() - named):
            raise ValueError(
                f"`blocks` must name every latent site of the model, got none for {missing}"
            )
        if unknown := sorted(named - values.keys()):
            raise ValueError(
                f"`blocks` must name latent sites among {sorted(values)}, got {unknown}"
            )

    def _transforms(self, values: dict[str, Tensor]) -> dict[str, Any]:
        """Pyro's transforms for gradient kernels; casts for integers, as MCMC joins all sites."""
        names: list[str] = []
        for kernel, sites in self.blocks:
            if not hasattr(kernel, "bind"):
                names += sites
        maps = transforms(self.joint, values, list(dict.fromkeys(names)))
        for name, value in values.items():
            if not value.is_floating_point():
                maps[name] = _Cast(value.dtype, self.own_types)
        return maps

    def _shape(self, site: Mapping[str, Any]) -> tuple[int, ...]:
        """Shape of one draw outside: no empty plate dimensions between chains and batch."""
        shape = tuple(site["value"].shape)
        if self.num_chains is None:
            return shape
        batch = len(site["fn"].batch_shape)
        return (shape[0], *shape[batch - self.joint.batches[site["name"]] :])

    def _given(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The values that ``initial_params`` stands for."""
        new_values: dict[str, Tensor] = {}
        for name, param in (self._initial_params or {}).items():
            if name not in values:
                raise ValueError(
                    f"`initial_params` must name latent sites among {sorted(values)}, got `{name}`"
                )
            new_values[name] = self._value(name, param, values[name])
        return new_values

    def _value(self, name: str, param: Tensor, like: Tensor) -> Tensor:
        """A parameter in the site's own space."""
        maps = self.transforms or {}
        value = maps[name].inv(param) if name in maps else param
        shapes = tuple(like.shape), self._shapes[name]
        if value.numel() != like.numel() or tuple(value.shape) not in shapes:
            raise ValueError(
                f"`initial_params` must hold `{name}` in shape {self._shapes[name]}, "
                f"got {tuple(param.shape)}"
            )
        # Integers that MCMC keeps floating are among them.
        return value.detach().reshape(like.shape).to(like)

    def _params(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values in the space that MCMC keeps: unconstrained for gradient kernels."""
        params = {k: value.reshape(self._shapes[k]) for k, value in values.items()}
        for name, transform in (self.transforms or {}).items():
            params[name] = transform(params[name])
        return params

    def init(self) -> SweepState:
        """The first state, after :meth:`setup`.

        Returns:
            Initial values of all latent sites.

        Raises:
            ValueError: :meth:`setup` has not been called.
        """
        if self._state is None:
            raise ValueError(
                "`setup(warmup_steps, *args)` must come before `init()`, "
                "got no arguments of the model yet"
            )
        return self._state

    def step(self, state: SweepState) -> tuple[SweepState, SweepInfo]:
        """One sweep: every block once.

        Pure, given torch's generator, for discrete and custom blocks; gradient kernels
        count and adapt their own steps.

        Args:
            state: where the chain is.

        Returns:
            The new state, and what moved.
        """
        values = dict(state.values)
        moved = {}
        order = list(range(len(self.movers)))
        if self.scan == "random":
            order = torch.randperm(len(order)).tolist()
        for i in order:
            values, moved[self.labels[i]] = self.movers[i].move(values)
        if state.step + 1 == self._warmup_steps:
            for mover in self.movers:
                mover.warmed_up(values)
        return SweepState(values, state.step + 1), SweepInfo(moved)

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """The first values, unconstrained where a gradient kernel moves them."""
        return self._params(self.init().values)

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor] | None) -> None:
        self._initial_params = params

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """One draw: a sweep from ``params``."""
        state = self.init()
        if params is not self._last_params:  # the chain was moved from outside
            new_values = {
                name: self._value(name, param, state.values[name])
                for name, param in params.items()
            }
            state = state._replace(values=state.values | new_values)
        self._state, info = self.step(state)
        for label, rate in info.moved.items():
            self._rates[label].append(rate)
        self._last_params = self._params(self._state.values)
        return self._last_params

    _last_params: dict[str, Tensor] | None = None

    def logging(self) -> OrderedDict[str, str]:
        """The share of each block that moved in the last sweep, for the progress bar."""
        rates = {label: rates for label, rates in self._rates.items() if rates}
        return OrderedDict((label, f"{x[-1]:.2f}") for label, x in rates.items())

    def diagnostics(self) -> dict[str, Any]:
        """Divergences of the gradient kernels, what moved of each block, and step sizes."""
        # There are no movers before setup and after cleanup.
        movers = zip(self.labels, self.movers, strict=False)
        kernels = {k: m.kernel for k, m in movers if isinstance(m, GradientMover)}
        divergences: set[int] = set()
        step_sizes = {}
        for label, kernel in kernels.items():
            divergences.update(getattr(kernel, "_divergences", []))
            if hasattr(kernel, "step_size"):
                step_sizes[label] = kernel.step_size
        rates = {}
        for label, acceptance in self._rates.items():
            samples = acceptance[self._warmup_steps :]
            rates[label] = _last_or_mean(label in kernels, samples)
        return {
            "divergences": sorted(divergences),
            "acceptance rate": rates,
            "step size": step_sizes,
        }

    def cleanup(self) -> None:
        """Drop the chain, so that the next one is set up again."""
        self._reset()
        self._last_params = None


def _last_or_mean(is_gradient: bool, rates: list[float]) -> float:
    """The last value of a running mean, the mean of shares."""
    if not rates:
        return float("nan")
    return rates[-1] if is_gradient else sum(rates) / len(rates)


def _block(block: Any) -> tuple[Any, tuple[str, ...]]:
    """A checked pair of kernel and sites."""
    if not isinstance(block, (tuple, list)) or len(block) != 2:
        raise ValueError(f"`blocks` must be pairs (kernel, sites), got {block!r}")
    kernel, sites = block
    sites = (sites,) if isinstance(sites, str) else tuple(sites)
    if (
        not sites
        or not all(isinstance(name, str) for name in sites)
        or len(set(sites)) < len(sites)
    ):
        raise ValueError(
            f"the sites of a block must be distinct names, at least one, got {sites!r}"
        )
    if isinstance(kernel, MCMCKernel):
        name = type(kernel).__name__
        raise ValueError(
            f"a block must have the class {name} or partial({name}, ...), "
            "which Gibbs gives the conditioned model, "
            f"got a {name} that has a model already"
        )
    without_model = DiscreteGibbs, CustomGibbs
    if isinstance(kernel, type) and issubclass(kernel, without_model):
        kernel = cast(Any, kernel)()  # CustomGibbs raises its own errors
    if not hasattr(kernel, "bind") and not callable(kernel):
        raise ValueError(
            f"a block must be moved by DiscreteGibbs, CustomGibbs, NUTS or HMC, got {kernel!r}"
        )
    return kernel, sites


class _Strategy:
    """An initialisation of Pyro's, with the prior for discrete sites that it cannot serve."""

    def __init__(self, strategy: Callable[..., Any]) -> None:
        self.strategy = strategy

    def __call__(self, site: dict[str, Any]) -> Tensor:
        distribution = site["fn"]
        try:
            value: Tensor = self.strategy(site)
        except NotImplementedError:
            if not distribution.support.is_discrete:
                raise
            return torch.as_tensor(distribution.sample())
        support = distribution.support
        if support.is_discrete and not support.check(value).all():
            return torch.as_tensor(distribution.sample())
        return value


class _Cast(Transform):
    """Transform from integers to the floats that MCMC stores, and back on request."""

    domain = codomain = constraints.real
    bijective = True

    def __init__(self, dtype: torch.dtype, back: bool) -> None:
        super().__init__()
        self.dtype = dtype
        self.back = back

    def _call(self, x: Tensor) -> Tensor:
        return x.to(torch.get_default_dtype())

    def _inverse(self, y: Tensor) -> Tensor:
        return y.round().to(self.dtype) if self.back else y


__all__ = ["Block", "Gibbs", "SweepInfo", "SweepState"]
