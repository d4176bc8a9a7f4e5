"""Discrete sites: full conditionals by enumeration, and Metropolis moves, by whole plates."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.infer.mcmc.gibbs.coupling import Coupling, coupling, moving_supports
from pyro_gen.infer.mcmc.gibbs.joint import Joint, Site, Values, sample_sites, unwrap
from pyro_gen.infer.mcmc.gibbs.plan import (
    Layout,
    SweepPlan,
    Variable,
    check_discrete,
    common_dims,
    current_states,
    keep,
    match_states,
    put,
    states_of,
)

MANY_RUNS = 10_000
"""Runs of the model in one sweep above which a warning says why there are so many."""


class DiscreteGibbs:
    r"""Draw discrete sites from their full conditionals, all elements of a plate at once.

    .. math:: P(z_i = k \mid \text{rest}) \propto \prod_{f \ni z_i} f(z_i = k, \text{rest})

    A site with K states costs K runs of the model however many elements its plates
    have, as long as these are independent given the rest. Whether they are is not
    assumed: a factor outside of the plate, or one that mixes its elements, is detected
    when sampling starts and again when warm-up ends, and then the elements of that
    plate are updated one after the other. Elements of an event (``to_event``) and of
    batch dimensions without a plate always are.

    With ``modified`` the state proposed is never the present one (Metropolised Gibbs),
    which is more efficient in Peskun's sense for single sites. With ``random_walk`` the
    proposal is uniform over the states and accepted by Metropolis' rule: two runs
    instead of K. With ``width`` it is an integer at most so far away, which also serves
    supports without an end, such as Poisson's.

    Args:
        modified: propose another state than the present one.
        random_walk: propose uniformly and accept or reject.
        joint: draw all elements that belong together (all sites of the block, all
            elements of a coupled plate) from their joint conditional, by enumeration of
            the product of their states.
        width: how far the random walk of integers may step, which selects it; None for
            uniform proposals.
        max_states: raise if more states than this would have to be enumerated.

    Raises:
        ValueError: ``width`` is below 1 or goes with ``joint``, or ``max_states`` is
            below 2.

    References:
        Geman and Geman (1984), Stochastic relaxation. Liu (1996), Peskun's theorem and
        a modified discrete-state Gibbs sampler, Biometrika 83, section 3
        (``modified``).

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro.infer import MCMC
        >>> from pyro_gen.infer import Gibbs
        >>> def model(x):
        ...     with pyro.plate("rows", len(x)):
        ...         z = pyro.sample("z", dist.Bernoulli(0.5))
        ...         pyro.sample("x", dist.Normal(4 * z, 1.0), obs=x)
        >>> kernel = Gibbs([(DiscreteGibbs(), ["z"])], model)
        >>> mcmc = MCMC(kernel, 50, warmup_steps=5, disable_progbar=True)
        >>> mcmc.run(torch.tensor([0.0, 4.0, 0.1]))
        >>> mcmc.get_samples()["z"].mode(0).values
        tensor([0., 1., 0.])
    """

    def __init__(
        self,
        modified: bool = False,
        random_walk: bool = False,
        joint: bool = False,
        width: int | None = None,
        max_states: int = 4096,
    ) -> None:
        if width is not None:
            width = whole_number("width", width)
        if width is not None and joint:
            raise ValueError(f"`width` must come without `joint`, got {width} and joint={joint}")
        max_states = whole_number("max_states", max_states, 2)
        self.modified = modified
        self.joint = joint
        self.width = width
        self.max_states = max_states
        self.random_walk = random_walk or width is not None

    def __repr__(self) -> str:
        names = "modified", "random_walk", "joint"
        settings = [f"{name}=True" for name in names if getattr(self, name)]
        return f"DiscreteGibbs({', '.join(settings)})"

    def bind(self, joint: Joint, values: Values, sites: Sequence[str]) -> DiscreteMover:
        """Make the block that moves some sites of a model.

        Args:
            joint: the model.
            values: of all latent sites.
            sites: names of discrete sites.

        Returns:
            The block.

        Raises:
            ValueError: a site is continuous, has too many states, or no finite number
                of them.
        """
        return DiscreteMover(self, joint, values, sites)


class DiscreteMover:
    """Block of :class:`DiscreteGibbs`: a plan for the model, and pure moves.

    Args:
        settings: how to move.
        joint: the model.
        values: of all latent sites.
        sites: names of discrete sites.
    """

    def __init__(
        self,
        settings: DiscreteGibbs,
        joint: Joint,
        values: Values,
        sites: Sequence[str],
    ) -> None:
        self.settings = settings
        self.joint = joint
        self.sites = tuple(sites)
        trace_sites = sample_sites(joint.trace(values))
        self.distributions = {}
        for name in sites:
            self.distributions[name] = unwrap(trace_sites[name]["fn"])[0]
            check_discrete(name, self.distributions[name])
        self.moving = set(sites)
        moving = moving_supports(joint, values)
        if moving is not None:
            self.moving &= moving.keys()
        self.couplings = self._couplings(values)
        self.plans = self._plans(values)
        self._warn(values)

    def _couplings(self, values: Values) -> dict[str, Coupling]:
        return {
            name: coupling(self.joint, values, name, partial(self._other, name))
            for name in self.sites
        }

    def _plans(self, values: Values) -> list[SweepPlan]:
        """A plan for each site, or one for all of them."""
        trace_sites = sample_sites(self.joint.trace(values))
        if self.settings.joint:
            return [self._plan(trace_sites, values, self.couplings)]
        return [
            self._plan(trace_sites, values, {name: site_coupling})
            for name, site_coupling in self.couplings.items()
        ]

    def _plan(
        self,
        trace_sites: dict[str, Site],
        values: Values,
        couplings: dict[str, Coupling],
    ) -> SweepPlan:
        free = tuple(sorted(common_dims(trace_sites, couplings)))
        factors: frozenset[str] = frozenset()
        reasons: dict[str, str] = {}
        for each in couplings.values():
            factors |= each.factors
            reasons |= each.reasons
        layouts = {}
        for name in couplings:
            batch = len(trace_sites[name]["fn"].batch_shape)
            event = len(self.distributions[name].event_shape)
            layouts[name] = Layout.of(values[name], free, batch, event)
        variables = []
        for name, layout in layouts.items():
            variables += [(name, i) for i in range(math.prod(layout.variables))]
        groups = [tuple(variables)]
        if not self.settings.joint:
            groups = [(variable,) for variable in variables]
        return SweepPlan(layouts, tuple(groups), factors, free, reasons)

    def warmed_up(self, values: Values) -> None:
        """Check the couplings again at the present state; separate what either check couples.

        Args:
            values: of all latent sites.
        """
        for name, site_coupling in self._couplings(values).items():
            self.couplings[name] = self.couplings[name].merge(site_coupling)
        self.plans = self._plans(values)

    def states(self, name: str, values: Values) -> Tensor:
        """The states of one variable of a site, (states, event...)."""
        if name in self.moving:
            trace_sites = sample_sites(self.joint.trace(values))
            self.distributions[name] = unwrap(trace_sites[name]["fn"])[0]
        return self._states(name).to(values[name])

    def _states(self, name: str) -> Tensor:
        return states_of(name, self.distributions[name], self.settings.max_states)

    @torch.no_grad()
    def move(self, values: Values) -> tuple[dict[str, Tensor], float]:
        """Update every group of variables once.

        Args:
            values: of all latent sites.

        Returns:
            New values of all sites, and the share of variables that moved.
        """
        step = self._exact
        if self.settings.width:
            step = self._walk
        elif self.settings.random_walk:
            step = self._uniform
        moved: list[Tensor] = []
        for plan in self.plans:
            for group in plan.groups:
                values, changed = step(plan, group, values)
                moved.append(changed.double().mean())
        return dict(values), float(torch.stack(moved).mean())

    def logits(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Tensor, list[Tensor]]:
        """Unnormalised log conditionals of a group.

        Args:
            plan: a plan of ``plans``.
            group: a group of its variables.
            values: of all latent sites.

        Returns:
            Nats, (states, kept...), and for each variable its value in each joint
            state, (states, event...).
        """
        tables = self._tables(group, values)
        proposals = zip(*tables, strict=True)
        scores = [self._score(plan, group, values, states) for states in proposals]
        logits = torch.stack(scores)
        if not logits.amax(0).isfinite().all():
            raise ValueError(
                f"`model` must give some state of {[name for name, _ in group]} "
                "a positive, finite probability given "
                "the rest, got log probabilities "
                f"between {logits.min()} and {logits.max()}"
            )
        return logits, tables

    def _tables(self, group: tuple[Variable, ...], values: Values) -> list[Tensor]:
        """For each variable its value in each state of the product."""
        states: dict[str, Tensor] = {}
        for name, _ in group:
            if name not in states:
                states[name] = self.states(name, values)
        sizes = [len(states[name]) for name, _ in group]
        if math.prod(sizes) > self.settings.max_states:
            raise ValueError(
                f"`max_states` must be at least {math.prod(sizes)} to enumerate "
                f"{len(group)} variables of "
                f"{sorted(states)} jointly, got {self.settings.max_states}: "
                "smaller blocks, or joint=False"
            )
        index = torch.tensor(list(itertools.product(*map(range, sizes))))
        return [
            states[name][column.to(states[name].device)]
            for (name, _), column in zip(group, index.unbind(1), strict=True)
        ]

    def _score(
        self,
        plan: SweepPlan,
        group: tuple[Variable, ...],
        values: Values,
        proposal: Sequence[Tensor],
    ) -> Tensor:
        """Log probability of all that depends on the group, (kept...), at values of it."""
        changed = put(plan, group, values, proposal)
        if self.settings.joint:
            for name in self.moving:
                self._check_states(name, changed)
        factors = self.joint.factors(changed, plan.factors)
        terms = {name: keep(factor, plan) for name, factor in factors.items()}
        site_terms = torch.stack([terms[name] for name in plan.layouts]).sum(0)
        shape = site_terms.shape
        total = torch.stack([term.expand(shape) for term in terms.values()]).sum(0)
        # A state outside of the support is ruled out whatever its children make of it,
        # NaN included.
        return torch.where(site_terms == -torch.inf, site_terms, total)

    def _check_states(self, name: str, values: Values) -> None:
        """The product of the states of a block must be the same wherever the block is."""
        before = len(self._states(name))
        if len(self.states(name, values)) != before:
            raise ValueError(
                "`joint` must be False, "
                f"as the states of `{name}` depend on other sites of the block"
            )

    def _exact(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Values, Tensor]:
        logits, tables = self.logits(plan, group, values)
        current = current_states(plan, group, values, tables)
        proposed = draw(transition(logits, current, self.settings.modified))
        proposal = [table[proposed] for table in tables]
        return put(plan, group, values, proposal), proposed != current

    def _uniform(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Values, Tensor]:
        tables = self._tables(group, values)
        current = current_states(plan, group, values, tables)
        number = len(tables[0])
        device = current.device
        if self.settings.modified:
            shift = torch.randint(1, max(number, 2), current.shape, device=device)
            proposed = (current + shift) % number
        else:
            proposed = torch.randint(number, current.shape, device=device)
        proposal = [table[proposed] for table in tables]
        return self._metropolis(plan, group, values, proposal)

    def _walk(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Values, Tensor]:
        ((name, variable),) = group
        layout = plan.layouts[name]
        value = layout.select(layout.flatten(values[name]), variable)
        shape = value.shape
        device = value.device
        width = int(self.settings.width or 1)
        if self.settings.modified:
            step = torch.randint(1, width + 1, shape, device=device)
            step = torch.where(torch.rand(shape, device=device) < 0.5, step, -step)
        else:
            step = torch.randint(-width, width + 1, shape, device=device)
        proposal = [value + step.to(value.dtype)]
        return self._metropolis(plan, group, values, proposal)

    def _metropolis(
        self,
        plan: SweepPlan,
        group: tuple[Variable, ...],
        values: Values,
        proposal: list[Tensor],
    ) -> tuple[Values, Tensor]:
        """Accept a symmetric proposal by the ratio of probabilities, in each element by itself."""
        present = []
        for name, variable in group:
            layout = plan.layouts[name]
            present.append(layout.select(layout.flatten(values[name]), variable))
        before = self._score(plan, group, values, present)
        after = self._score(plan, group, values, proposal)
        if not before.isfinite().all() or after.isnan().any():
            raise ValueError(
                "`model` must give the present state of "
                f"{[name for name, _ in group]} a positive, finite probability, "
                f"got log probabilities between {before.min()} and {before.max()}, "
                f"proposals down to {after.min()}"
            )
        uniforms = torch.rand(before.shape, dtype=before.dtype, device=before.device)
        accepted = uniforms.log() < after - before
        new_values = []
        moved = torch.zeros_like(accepted)
        for old, new in zip(present, proposal, strict=True):
            cells = (1,) * (old.dim() - accepted.dim())
            taken = torch.where(accepted.reshape(accepted.shape + cells), new, old)
            differs = taken != old
            if cells:
                differs = differs.flatten(accepted.dim()).any(-1)
            moved |= differs
            new_values.append(taken)
        return put(plan, group, values, new_values), moved

    def _other(self, name: str, value: Tensor) -> Tensor:
        """Another state in every cell, for the probes; the same state if there is only one."""
        distribution = self.distributions[name]
        event = len(distribution.event_shape)
        cells = value.shape[: value.dim() - event]
        if self.settings.width:
            shift = torch.randint(1, 3, cells, device=value.device)
            shifted = value + shift.to(value.dtype)
            is_state = distribution.support.check(shifted)
            return torch.where(is_state, shifted, (value - 1).clamp(min=0))
        states = self._states(name).to(value)
        shift = torch.randint(1, max(len(states), 2), cells, device=value.device)
        return states[(match_states(states, value) + shift) % len(states)]

    def _warn(self, values: Values) -> None:
        """Explain why a sweep takes many runs."""
        for plan in self.plans:
            states = 2
            if not self.settings.random_walk:
                states = len(self.states(next(iter(plan.layouts)), values))
            runs = len(plan.groups) * states
            if runs > MANY_RUNS and not self.settings.joint:
                reasons = plan.reasons.items()
                why = "; ".join(f"plate `{plate}`: {reason}" for plate, reason in reasons)
                warnings.warn(
                    f"a sweep over {list(plan.layouts)} runs the model {runs} times, "
                    "as its elements are updated one by one "
                    f"({why or 'they are not in a plate'})",
                    stacklevel=6,
                )


def transition(logits: Tensor, current: Tensor, modified: bool) -> Tensor:
    r"""Probabilities of the next state of each element.

    Gibbs: :math:`\pi_k`. Metropolised Gibbs:
    :math:`\pi_k \min(1/(1-\pi_c), 1/(1-\pi_k))` for k other than the present state c,
    and what is left for c.

    Args:
        logits: unnormalised log conditionals, (states, ...).
        current: numbers of the present states, (...).
        modified: Metropolised or plain.

    Returns:
        Probabilities, (states, ...).

    Example:
        >>> transition(torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor(0), modified=True)
        tensor([0.3333, 0.3333, 0.3333])
    """
    conditional = logits.softmax(0)
    if not modified:
        return conditional
    # Sums over the other states, not 1 - p, which is all rounding where p is nearly one.
    sums = []
    for k in range(len(conditional)):
        sums.append(torch.cat([conditional[:k], conditional[k + 1 :]]).sum(0))
    complement = torch.stack(sums)
    current = current.unsqueeze(0)
    leave = complement.gather(0, current)
    ratio = conditional / torch.maximum(leave, complement)
    proposal = torch.where(conditional > 0, ratio, 0.0).scatter(0, current, 0.0)
    stay = (1 - proposal.sum(0, keepdim=True)).clamp(min=0)
    return proposal.scatter(0, current, stay)


def draw(probabilities: Tensor) -> Tensor:
    """Draw a state for each element, never one of probability zero.

    Args:
        probabilities: (states, ...).

    Returns:
        Numbers of states, (...).
    """
    cumulative = probabilities.cumsum(0)
    shape = cumulative.shape[1:]
    uniform = torch.rand(shape, dtype=cumulative.dtype, device=cumulative.device)
    index = (cumulative <= uniform * cumulative[-1]).sum(0)
    return index.clamp(max=len(probabilities) - 1)


__all__ = ["DiscreteGibbs", "DiscreteMover", "draw", "transition"]
