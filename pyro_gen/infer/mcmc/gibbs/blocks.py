"""Blocks of a Gibbs sweep beside the discrete one: functions, and Pyro's gradient kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from pyro.infer.mcmc import HMC, RandomWalkKernel
from torch import Tensor

from pyro_gen.infer.mcmc.gibbs.coupling import moving_supports
from pyro_gen.infer.mcmc.gibbs.joint import ConditionedModel, Joint, Values, sample_sites


class Mover(Protocol):
    """A block bound to a model."""

    def move(self, values: Values) -> tuple[dict[str, Tensor], float]:
        """New values of all sites, and the share that moved or was accepted."""
        ...

    def warmed_up(self, values: Values) -> None:
        """Warm-up is over."""
        ...


class CustomGibbs:
    """Draw sites by a function of the user, such as a conjugate full conditional.

    The function must leave the conditional of its sites given all others invariant: a
    draw from it, or any step of a Markov chain that has it as its distribution.

    Args:
        function: called with a dictionary of the present values of all latent sites, in
            their constrained space, and the arguments of the model; returns new values
            of the block's sites, a dictionary, or a tensor for one site. It draws from
            torch's generator, so that ``pyro.set_rng_seed`` fixes it. With
            ``num_chains`` values carry the chains as their first dimension, before all
            batch dimensions of the model.

    Raises:
        ValueError: ``function`` is not callable.

    References:
        Gelfand and Smith (1990), Sampling-based approaches to calculating marginal
        densities, section 2.3.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro.infer import MCMC
        >>> from pyro_gen.infer import Gibbs
        >>> def model(x):
        ...     m = pyro.sample("m", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("rows", len(x)):
        ...         pyro.sample("x", dist.Normal(m, 1.0), obs=x)
        >>> def draw_m(values, x):
        ...     return dist.Normal(x.sum() / (len(x) + 1), (len(x) + 1) ** -0.5).sample()
        >>> kernel = Gibbs([(CustomGibbs(draw_m), ["m"])], model)
        >>> mcmc = MCMC(kernel, 100, warmup_steps=0, disable_progbar=True)
        >>> mcmc.run(torch.zeros(99))
        >>> mcmc.get_samples()["m"].std() < 0.2
        tensor(True)
    """

    def __init__(self, function: Callable[..., Mapping[str, Tensor] | Tensor]) -> None:
        if not callable(function):
            raise ValueError(f"`function` must be callable, got {function!r}")
        self.function = function

    def __repr__(self) -> str:
        return f"CustomGibbs({getattr(self.function, '__name__', self.function)})"

    def bind(self, joint: Joint, values: Values, sites: Sequence[str]) -> CustomMover:
        """Make the block that moves some sites of a model."""
        return CustomMover(self.function, joint, sites)


class CustomMover:
    """Block of :class:`CustomGibbs`.

    Args:
        function: see there.
        joint: the model.
        sites: names of the sites.
    """

    def __init__(
        self,
        function: Callable[..., Mapping[str, Tensor] | Tensor],
        joint: Joint,
        sites: Sequence[str],
    ) -> None:
        self.function = function
        self.joint = joint
        self.sites = tuple(sites)
        self.checked = False

    @torch.no_grad()
    def move(self, values: Values) -> tuple[dict[str, Tensor], float]:
        """Call the function.

        Args:
            values: of all latent sites.

        Returns:
            New values of all sites, and 1: every draw is taken.

        Raises:
            ValueError: the function returns other sites, shapes or types, NaN, or
                values outside of the support.
        """
        joint = self.joint
        proposed = self.function(dict(values), *joint.args, **joint.kwargs)
        if isinstance(proposed, Tensor) and len(self.sites) == 1:
            proposed = {self.sites[0]: proposed}
        if not isinstance(proposed, Mapping) or set(proposed) != set(self.sites):
            is_mapping = isinstance(proposed, Mapping)
            got = sorted(proposed) if is_mapping else type(proposed).__name__
            raise ValueError(
                "the function of CustomGibbs must return values of "
                f"{sorted(self.sites)}, got {got}"
            )
        new = {}
        for name in self.sites:
            new[name] = self._checked(name, proposed[name], values[name])
        if not self.checked:
            self._check_support(values, new)
            self.checked = True
        return {**values, **new}, 1.0

    def _checked(self, name: str, new: Tensor, old: Tensor) -> Tensor:
        new = torch.as_tensor(new, device=old.device).detach()
        if new.shape != old.shape:
            raise ValueError(
                f"the function of CustomGibbs must return `{name}` in shape "
                f"{tuple(old.shape)}, got {tuple(new.shape)}"
            )
        if new.isnan().any():
            raise ValueError(
                f"the function of CustomGibbs must return numbers for `{name}`, got NaN"
            )
        return new.to(old.dtype)

    def _check_support(self, values: Values, new: Values) -> None:
        """Check once that the first values are possible."""
        sites = sample_sites(self.joint.trace(values))
        for name, value in new.items():
            support = sites[name]["fn"].support
            if not support.check(value).all():
                raise ValueError(
                    f"the function of CustomGibbs must return `{name}` in the support "
                    f"{support} of the model, "
                    f"got values from {value.min()} to {value.max()}"
                )

    def warmed_up(self, values: Values) -> None:
        """No-op: this kernel adapts nothing."""


class GradientMover:
    """Block moved by a kernel of Pyro on the model, conditioned on all other sites.

    The kernel keeps its step size and its mass from sweep to sweep and adapts them
    during warm-up, with one step in each sweep; its cached potential and gradient are
    dropped whenever the other sites have moved.

    Args:
        make: makes the kernel from a model: ``NUTS``, ``partial(HMC, ...)``.
        joint: the model.
        values: of all latent sites.
        sites: names of the sites.
        warmup_steps: sweeps of warm-up.

    Raises:
        ValueError: ``make`` does not return a kernel that can be conditioned again, or
            it is compiled, or the support of a site moves with other sites.
    """

    def __init__(
        self,
        make: Callable[[Any], Any],
        joint: Joint,
        values: Values,
        sites: Sequence[str],
        warmup_steps: int,
    ) -> None:
        moving = moving_supports(joint, values) or {}
        for name in set(sites) & set(moving):
            raise ValueError(
                f"the support of `{name}` depends on {sorted(moving[name])}, "
                "which gradient kernels cannot follow: "
                "rescale a site of fixed support, or move it by CustomGibbs"
            )
        self.joint = joint
        self.sites = tuple(sites)
        self.conditions = {k: value for k, value in values.items() if k not in sites}
        self.kernel = make(ConditionedModel(joint.model, self.conditions))
        _check_kernel(make, self.kernel)
        self.transforms = transforms(joint, values, sites)
        # The last values and parameters: there and back costs digits near a boundary.
        self.last: dict[str, tuple[Tensor, Tensor]] = {}
        params = self._unconstrained(values)
        self.kernel.initial_params = params
        self.kernel.setup(warmup_steps, *joint.args, **joint.kwargs)
        if isinstance(self.kernel, RandomWalkKernel):
            self.kernel._initial_params = params

    def _unconstrained(self, values: Values) -> dict[str, Tensor]:
        return {name: self._param(name, values[name]) for name in self.sites}

    def _param(self, name: str, value: Tensor) -> Tensor:
        last, param = self.last.get(name, (None, None))
        if param is not None and last is value:
            return param
        mapped: Tensor = self.transforms[name](value)
        return mapped.detach()

    def move(self, values: Values) -> tuple[dict[str, Tensor], float]:
        """One step of the kernel.

        Args:
            values: of all latent sites.

        Returns:
            New values of all sites, and the mean acceptance probability so far.
        """
        for name in values.keys() - set(self.sites):
            self.conditions[name] = values[name]
        params = self._unconstrained(values)
        if isinstance(self.kernel, HMC):
            self.kernel.clear_cache()
        else:
            self.kernel._energy_last = self.kernel.potential_fn(params)
        moved = self.kernel.sample(params)
        new = {}
        for name, value in moved.items():
            new[name] = self.transforms[name].inv(value).detach()
        self.last = {name: (new[name], moved[name]) for name in self.sites}
        return {**values, **new}, float(self.kernel._mean_accept_prob)

    def warmed_up(self, values: Values) -> None:
        """The kernel counts its own steps."""


def _check_kernel(make: object, kernel: object) -> None:
    if not isinstance(kernel, (HMC, RandomWalkKernel)):
        raise ValueError(
            f"a block must be moved by HMC, NUTS or RandomWalkKernel, got {type(kernel).__name__}"
        )
    if getattr(kernel, "_jit_compile", False):
        raise ValueError(
            f"{make} must not set jit_compile=True: "
            "the compiled potential would keep the other sites"
        )


def transforms(joint: Joint, values: Values, sites: Sequence[str]) -> dict[str, Any]:
    """Maps from the supports of continuous sites to unconstrained space, as Pyro chooses them.

    Args:
        joint: the model.
        values: of all latent sites.
        sites: names of sites.

    Returns:
        Transforms by site.

    Raises:
        ValueError: a site is discrete.
    """
    trace_sites = sample_sites(joint.trace(values))
    maps = {}
    for name in sites:
        support = trace_sites[name]["fn"].support
        if support.is_discrete:
            raise ValueError(
                f"`{name}` is discrete and has no gradient: "
                "give it to DiscreteGibbs or CustomGibbs"
            )
        maps[name] = torch.distributions.biject_to(support).inv
    return maps


__all__ = ["CustomGibbs", "CustomMover", "GradientMover", "Mover", "transforms"]
