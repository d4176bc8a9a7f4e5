"""Discrete sites: exact full conditionals by enumeration, and Metropolis moves,
whole plates at a time.
"""

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

    A site with K states costs K runs of the model however many elements its
    plates have, as long as these are independent given the rest. Whether they
    are is not assumed: a factor outside of the plate, or one that mixes its
    elements, is detected when sampling starts and again when warm-up ends, and
    then the elements of that plate are updated one after the other. Elements of
    an event (``to_event``) and of batch dimensions without a plate always are.

    With ``modified`` the state proposed is never the present one (Metropolised
    Gibbs), which is more efficient in Peskun's sense for single sites. With
    ``random_walk`` the proposal is uniform over the states and accepted by
    Metropolis' rule: two runs instead of K. With ``width`` it is an integer at
    most so far away, which also serves supports without an end, such as
    Poisson's.

    Args:
        modified: propose another state than the present one.
        random_walk: propose uniformly and accept or reject.
        joint: draw all elements that belong together (all sites of the block,
            all elements of a coupled plate) from their joint conditional, by
            enumeration of the product of their states.
        width: how far the random walk of integers may step, which selects it;
            None for uniform proposals.
        max_states: raise if more states than this would have to be enumerated.

    Raises:
        ValueError: ``width`` is below 1 or goes with ``joint``, or
            ``max_states`` is below 2.

    References:
        Geman and Geman (1984), Stochastic relaxation. Liu (1996), Peskun's
        theorem and a modified discrete-state Gibbs sampler, Biometrika 83,
        section 3 (``modified``).

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro.infer import MCMC
        >>> from pyro_gen.infer import Gibbs
        >>> def model(x):
        ...     with pyro.plate("rows", len(x)):
        ...         z = pyro.sample("z", dist.Bernoulli(0.5))
        ...         pyro.sample("x", dist.Normal(4 * z, 1.0), obs=x)
        >>> mcmc = MCMC(Gibbs([(DiscreteGibbs(), ["z"])], model), 50, warmup_steps=5,
        ...     disable_progbar=True)
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
        width = None if width is None else whole_number("width", width)
        if width is not None and joint:
            raise ValueError(f"`width` must come without `joint`, got {width} and joint={joint}")
        max_states = whole_number("max_states", max_states, 2)
        self.modified = modified
        self.joint = joint
        self.width = width
        self.max_states = max_states
        self.random_walk = random_walk or width is not None

    def __repr__(self) -> str:
        settings = {
            "modified": self.modified,
            "random_walk": self.random_walk,
            "joint": self.joint,
        }
        shown = ", ".join(f"{name}=True" for name, value in settings.items() if value)
        return f"DiscreteGibbs({shown})"

    def bind(self, joint: Joint, values: Values, sites: Sequence[str]) -> DiscreteMover:
        """Make the block that moves some sites of a model.

        Args:
            joint: the model.
            values: of all latent sites.
            sites: names of discrete sites.

        Returns:
            The block.

        Raises:
            ValueError: a site is continuous, has too many states, or no finite
                number of them.
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
        self, settings: DiscreteGibbs, joint: Joint, values: Values, sites: Sequence[str]
    ) -> None:
        self.settings = settings
        self.joint = joint
        self.sites = tuple(sites)
        trace_sites = sample_sites(joint.trace(values))
        self.distributions = {name: unwrap(trace_sites[name]["fn"])[0] for name in sites}
        for name, distribution in self.distributions.items():
            check_discrete(name, distribution)
        moving = moving_supports(joint, values)
        if moving is None:
            self.moving = set(sites)
        else:
            self.moving = set(sites) & moving.keys()
        self.seen = self._look(values)
        self.plans = self._plans(values)
        self._warn(values)

    def _look(self, values: Values) -> dict[str, Coupling]:
        return {
            name: coupling(self.joint, values, name, partial(self._other, name))
            for name in self.sites
        }

    def _plans(self, values: Values) -> list[SweepPlan]:
        """A plan for each site, or one for all of them."""
        trace_sites = sample_sites(self.joint.trace(values))
        if self.settings.joint:
            groups = [self.sites]
        else:
            groups = [(name,) for name in self.sites]
        return [
            self._plan(trace_sites, values, {name: self.seen[name] for name in group})
            for group in groups
        ]

    def _plan(
        self, trace_sites: dict[str, Site], values: Values, couplings: dict[str, Coupling]
    ) -> SweepPlan:
        free = tuple(sorted(common_dims(trace_sites, couplings)))
        factors = frozenset(factor for each in couplings.values() for factor in each.factors)
        reasons = {
            plate: why for each in couplings.values() for plate, why in each.reasons.items()
        }
        layouts = {}
        for name in couplings:
            batch = len(trace_sites[name]["fn"].batch_shape)
            event = len(self.distributions[name].event_shape)
            layouts[name] = Layout.of(values[name], free, batch, event)
        variables = [
            (name, i) for name, layout in layouts.items() for i in range(math.prod(layout.rest))
        ]
        if self.settings.joint:
            groups = [variables]
        else:
            groups = [[variable] for variable in variables]
        return SweepPlan(layouts, tuple(map(tuple, groups)), factors, free, reasons)

    def warmed_up(self, values: Values) -> None:
        """Check the couplings again at the present state, and separate elements
        that were coupled in either check.

        Args:
            values: of all latent sites.
        """
        again = self._look(values)
        self.seen = {name: old.merge(again[name]) for name, old in self.seen.items()}
        self.plans = self._plans(values)

    def states(self, name: str, values: Values) -> Tensor:
        """The states of one variable of a site, (states, event...)."""
        if name in self.moving:
            self.distributions[name] = unwrap(sample_sites(self.joint.trace(values))[name]["fn"])[
                0
            ]
        return states_of(name, self.distributions[name], self.settings.max_states).to(values[name])

    @torch.no_grad()
    def move(self, values: Values) -> tuple[dict[str, Tensor], float]:
        """Update every group of variables once.

        Args:
            values: of all latent sites.

        Returns:
            New values of all sites, and the share of variables that moved.
        """
        moved: list[Tensor] = []
        for plan in self.plans:
            for group in plan.groups:
                if self.settings.width:
                    step = self._walk
                elif self.settings.random_walk:
                    step = self._uniform
                else:
                    step = self._exact
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
            Nats, (states, kept...), and for each variable its value in each
            joint state, (states, event...).
        """
        tables = self._tables(group, values)
        scores = [
            self._score(plan, group, values, [table[state] for table in tables])
            for state in range(len(tables[0]))
        ]
        logits = torch.stack(scores)
        if (
            logits.isnan().any()
            or (logits.amax(0) == -torch.inf).any()
            or (logits == torch.inf).any()
        ):
            raise ValueError(
                f"`model` must give some state of {[name for name, _ in group]} a positive, "
                "finite probability given "
                f"the rest, got log probabilities between {logits.min()} and {logits.max()}"
            )
        return logits, tables

    def _tables(self, group: tuple[Variable, ...], values: Values) -> list[Tensor]:
        """For each variable its value in each state of the product."""
        states = {
            name: self.states(name, values) for name in dict.fromkeys(name for name, _ in group)
        }
        sizes = [len(states[name]) for name, _ in group]
        if math.prod(sizes) > self.settings.max_states:
            raise ValueError(
                f"`max_states` must be at least {math.prod(sizes)} to enumerate {len(group)} "
                "variables of "
                f"{sorted(states)} jointly, got {self.settings.max_states}: smaller blocks, or "
                "joint=False"
            )
        index = torch.tensor(list(itertools.product(*map(range, sizes))))
        return [
            states[name][index[:, i].to(states[name].device)] for i, (name, _) in enumerate(group)
        ]

    def _score(
        self,
        plan: SweepPlan,
        group: tuple[Variable, ...],
        values: Values,
        proposal: Sequence[Tensor],
    ) -> Tensor:
        """Log probability of all that depends on the group, (kept...), with values put in
        for its variables.
        """
        changed = put(plan, group, values, proposal)
        for name in self.moving if self.settings.joint else ():
            self._check_states(name, changed)
        factors = self.joint.factors(changed, plan.factors)
        terms = {name: keep(factor, plan) for name, factor in factors.items()}
        site_terms = torch.stack([terms[name] for name in plan.layouts]).sum(0)
        total = torch.stack([term.expand(site_terms.shape) for term in terms.values()]).sum(0)
        # A state outside of the support is ruled out whatever its children make
        # of it, NaN included.
        return torch.where(site_terms == -torch.inf, site_terms, total)

    def _check_states(self, name: str, values: Values) -> None:
        """The product of the states of a block must be the same wherever the block is."""
        before = len(states_of(name, self.distributions[name], self.settings.max_states))
        if len(self.states(name, values)) != before:
            raise ValueError(
                f"`joint` must be False, as the states of `{name}` depend on other sites of the "
                "block"
            )

    def _exact(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Values, Tensor]:
        logits, tables = self.logits(plan, group, values)
        current = current_states(plan, group, values, tables)
        proposed = draw(transition(logits, current, self.settings.modified))
        return put(plan, group, values, [table[proposed] for table in tables]), proposed != current

    def _uniform(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Values, Tensor]:
        tables = self._tables(group, values)
        current = current_states(plan, group, values, tables)
        number = len(tables[0])
        device = current.device
        if self.settings.modified:
            proposed = (
                current + torch.randint(1, max(number, 2), current.shape, device=device)
            ) % number
        else:
            proposed = torch.randint(number, current.shape, device=device)
        return self._metropolis(plan, group, values, [table[proposed] for table in tables])

    def _walk(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values
    ) -> tuple[Values, Tensor]:
        ((name, variable),) = group
        layout = plan.layouts[name]
        value = layout.select(layout.flatten(values[name]), variable)
        width = int(self.settings.width or 1)
        if self.settings.modified:
            step = torch.randint(1, width + 1, value.shape, device=value.device)
            step = torch.where(torch.rand(value.shape, device=value.device) < 0.5, step, -step)
        else:
            step = torch.randint(-width, width + 1, value.shape, device=value.device)
        return self._metropolis(plan, group, values, [value + step.to(value.dtype)])

    def _metropolis(
        self, plan: SweepPlan, group: tuple[Variable, ...], values: Values, proposal: list[Tensor]
    ) -> tuple[Values, Tensor]:
        """Accept a symmetric proposal by the ratio of probabilities, in each element by itself."""
        present = [
            plan.layouts[name].select(plan.layouts[name].flatten(values[name]), i)
            for name, i in group
        ]
        before, after = (self._score(plan, group, values, state) for state in (present, proposal))
        if before.isnan().any() or after.isnan().any() or before.isinf().any():
            raise ValueError(
                f"`model` must give the present state of {[name for name, _ in group]} a "
                "positive, finite probability, "
                f"got log probabilities between {before.min()} and {before.max()}, proposals "
                f"down to {after.min()}"
            )
        accepted = (
            torch.rand(before.shape, dtype=before.dtype, device=before.device).log()
            < after - before
        )
        new_values = []
        moved = torch.zeros_like(accepted)
        for old, new in zip(present, proposal, strict=True):
            taken = torch.where(
                accepted.reshape(accepted.shape + (1,) * (old.dim() - accepted.dim())), new, old
            )
            differs = taken != old
            moved |= (
                differs.flatten(accepted.dim()).any(-1) if old.dim() > accepted.dim() else differs
            )
            new_values.append(taken)
        return put(plan, group, values, new_values), moved

    def _other(self, name: str, value: Tensor) -> Tensor:
        """Another state in every cell, for the probes; the same state if there is only one."""
        distribution = self.distributions[name]
        event = len(self.distributions[name].event_shape)
        cells = value.shape[: value.dim() - event]
        if self.settings.width:
            shifted = value + torch.randint(1, 3, cells, device=value.device).to(value.dtype)
            return torch.where(
                distribution.support.check(shifted), shifted, (value - 1).clamp(min=0)
            )
        states = states_of(name, distribution, self.settings.max_states).to(value)
        shift = torch.randint(1, max(len(states), 2), cells, device=value.device)
        return states[(match_states(states, value) + shift) % len(states)]

    def _warn(self, values: Values) -> None:
        """Explain why a sweep takes many runs."""
        for plan in self.plans:
            if self.settings.random_walk:
                states = 2
            else:
                states = len(self.states(next(iter(plan.layouts)), values))
            if len(plan.groups) * states > MANY_RUNS and not self.settings.joint:
                why = "; ".join(
                    f"plate `{plate}`: {reason}" for plate, reason in plan.reasons.items()
                )
                warnings.warn(
                    f"a sweep over {list(plan.layouts)} runs the model "
                    f"{len(plan.groups) * states} times, as its "
                    f"elements are updated one by one ({why or 'they are not in a plate'})",
                    stacklevel=6,
                )


def transition(logits: Tensor, current: Tensor, modified: bool) -> Tensor:
    r"""Probabilities of the next state of each element.

    Gibbs: :math:`\pi_k`. Metropolised Gibbs: :math:`\pi_k \min(1/(1-\pi_c),
    1/(1-\pi_k))` for k other than the present state c, and what is left for c.

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
    complement = torch.stack(
        [
            torch.cat([conditional[:k], conditional[k + 1 :]]).sum(0)
            for k in range(len(conditional))
        ]
    )
    leave = complement.gather(0, current.unsqueeze(0))
    proposal = torch.where(conditional > 0, conditional / torch.maximum(leave, complement), 0.0)
    proposal = proposal.scatter(0, current.unsqueeze(0), 0.0)
    return proposal.scatter(
        0, current.unsqueeze(0), (1 - proposal.sum(0, keepdim=True)).clamp(min=0)
    )


def draw(probabilities: Tensor) -> Tensor:
    """Draw a state for each element, never one of probability zero.

    Args:
        probabilities: (states, ...).

    Returns:
        Numbers of states, (...).
    """
    cumulative = probabilities.cumsum(0)
    uniform = torch.rand(
        probabilities.shape[1:], dtype=probabilities.dtype, device=probabilities.device
    )
    return (cumulative <= uniform * cumulative[-1]).sum(0).clamp(max=len(probabilities) - 1)


__all__ = ["DiscreteGibbs", "DiscreteMover", "draw", "transition"]
