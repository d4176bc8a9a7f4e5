"""Inverse transform sampling from any distribution on the real line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

MAX_STATES = 1 << 20
"""States of an unbounded distribution after which the search for a quantile stops."""


def inverse_transform(
    distribution: Distribution | Callable[[Tensor], Tensor],
    uniforms: Tensor,
    bracket: tuple[float, float] | None = None,
) -> Tensor:
    r"""Map uniform numbers through the inverse of a cumulative distribution function.

    .. math:: x = F^{-1}(u) = \inf \{x : F(x) \ge u\}, \qquad
              u \sim \mathcal U(0, 1) \implies x \sim F

    Continuous distributions use their ``icdf`` or, without one, bisection of their
    ``cdf``; discrete distributions sum their probabilities until these reach u. The map
    is monotone: the same uniforms couple the draws of two distributions.

    Args:
        distribution: a distribution of single numbers, batched or not, or a function
            that is a cumulative distribution function.
        uniforms: numbers in [0, 1), (..., batch shape).
        bracket: for a function, or a distribution whose cdf is bisected, numbers
            between which the distribution lies; None searches outwards from 0.

    Returns:
        Draws of the shape of ``uniforms``, broadcast with the batch shape.

    Raises:
        ValueError: ``uniforms`` are not floating or lie outside of [0, 1),
            ``distribution`` has events of more than one number, or neither inverse, cdf
            nor countable states.

    References:
        Devroye (1986), Non-uniform random variate generation, chapters 2.2 and 3.2.

    Example:
        >>> import pyro.distributions as dist
        >>> u = torch.tensor([0.1, 0.5, 0.9])
        >>> inverse_transform(dist.Exponential(1.0), u)
        tensor([0.1054, 0.6931, 2.3026])
        >>> inverse_transform(dist.Poisson(3.0), u)
        tensor([1., 3., 5.])
        >>> inverse_transform(lambda x: x**2, u, bracket=(0, 1))
        tensor([0.3162, 0.7071, 0.9487])
    """
    inside = (uniforms >= 0) & (uniforms < 1)
    if not uniforms.is_floating_point() or not inside.all():
        values = "without values"
        if uniforms.numel():
            values = f"from {uniforms.min()} to {uniforms.max()}"
        raise ValueError(
            f"`uniforms` must be floating numbers in [0, 1), got {uniforms.dtype} {values}"
        )
    if not isinstance(distribution, Distribution):
        if not callable(distribution):
            raise ValueError(
                "`distribution` must be a distribution or a cumulative distribution "
                f"function, got {distribution!r}"
            )
        return _bisect(distribution, uniforms, bracket)
    if distribution.event_shape:
        raise ValueError(
            "`distribution` must have events of a single number, "
            f"got event shape {tuple(distribution.event_shape)}"
        )
    shape = torch.broadcast_shapes(uniforms.shape, distribution.batch_shape)
    uniforms = uniforms.expand(shape)
    if distribution.support is not None and distribution.support.is_discrete:
        return _discrete(distribution, uniforms, distribution.support)
    try:
        return distribution.icdf(uniforms)
    except NotImplementedError:
        return _continuous(distribution, uniforms, bracket)


def _discrete(
    distribution: Distribution, uniforms: Tensor, support: constraints.Constraint
) -> Tensor:
    """Add up probabilities, twice as many each time, until they reach every u or the end."""
    low, high = _state_range(distribution, support)
    batch = distribution.batch_shape
    count = 64
    if high is not None:
        count = int((high - low).max()) + 1
    while True:
        steps = torch.arange(count, device=uniforms.device)
        states = low + steps.view(-1, *[1] * len(batch))
        inside = support.check(states) if high is None else states <= high
        mass = _mass(distribution, torch.where(inside, states, low), uniforms)
        mass = torch.where(inside, mass, 0.0)
        cumulative = mass.cumsum(0)
        reached = (cumulative[-1] > uniforms).all()
        if high is not None or reached or count >= MAX_STATES:
            break
        count *= 2
    if high is None and not reached and (cumulative[-1] < 1 - 1e-6).any():
        raise ValueError(
            f"`distribution` must reach every uniform within {MAX_STATES} states, "
            f"got {distribution}"
        )
    shape = (count, *[1] * (uniforms.dim() - len(batch)), *batch)
    below = cumulative.view(shape) < uniforms.double()
    draws: Tensor = low + _first(below, mass.view(shape))
    if isinstance(distribution, torch.distributions.Categorical):
        return draws
    return draws.to(uniforms.dtype)


def _mass(distribution: Distribution, states: Tensor, uniforms: Tensor) -> Tensor:
    """Probabilities of states, (states, batch shape)."""
    if isinstance(distribution, torch.distributions.Categorical):
        # Its log_prob clamps zeros.
        return distribution.probs.movedim(-1, 0).double()
    rows = states.expand(len(states), *distribution.batch_shape)
    return distribution.log_prob(rows.to(uniforms.dtype)).double().exp()


def _first(below: Tensor, mass: Tensor) -> Tensor:
    """The first state of positive probability whose cumulative probability reaches u."""
    index = below.sum(0)
    steps = torch.arange(len(mass), device=mass.device)
    steps = steps.view(-1, *[1] * (mass.dim() - 1))
    positive = mass > 0
    last = torch.where(positive, steps, -1).amax(0)
    first = torch.where(positive, steps, len(mass)).amin(0)
    return torch.minimum(torch.maximum(index, first), last)


def _state_range(
    distribution: Distribution, support: constraints.Constraint
) -> tuple[Tensor, Tensor | None]:
    """The first state and the last, None where there is no last."""
    if isinstance(support, constraints.integer_interval):
        low = torch.as_tensor(support.lower_bound)
        return low, torch.as_tensor(support.upper_bound)
    if support == constraints.boolean:
        return torch.tensor(0), torch.tensor(1)
    if isinstance(support, type(constraints.nonnegative_integer)):
        return torch.as_tensor(support.lower_bound), None
    raise ValueError(
        "`distribution` must have integers from some number on for its states, "
        f"got {distribution} on {support}"
    )


def _continuous(
    distribution: Distribution,
    uniforms: Tensor,
    bracket: tuple[float, float] | None,
) -> Tensor:
    try:
        distribution.cdf(distribution.sample())
    except NotImplementedError:
        raise ValueError(
            "`distribution` must have an icdf or a cdf, "
            f"got {type(distribution).__name__}: "
            "give a function that is its cdf"
        ) from None
    support = distribution.support
    low = getattr(support, "lower_bound", None)
    high = getattr(support, "upper_bound", None)
    if bracket is None and low is not None and high is not None:
        bracket = (low, high)

    if low is None:
        return _bisect(distribution.cdf, uniforms, bracket)
    least = torch.as_tensor(low).to(uniforms)

    def cdf(x: Tensor) -> Tensor:
        inner = torch.maximum(x, least + torch.finfo(x.dtype).tiny)
        return torch.where(x > least, distribution.cdf(inner), 0.0)

    # u = 0 has no other quantile.
    return torch.maximum(_bisect(cdf, uniforms, bracket), least)


def _bisect(
    cdf: Callable[[Tensor], Tensor],
    uniforms: Tensor,
    bracket: tuple[float, float] | None,
) -> Tensor:
    """Halve brackets until they reach the resolution of floating-point numbers."""
    if (got := cdf(uniforms).shape) != uniforms.shape:
        raise ValueError(
            "`distribution` must map each number to its own, "
            f"{tuple(uniforms.shape)} of them, got {tuple(got)}"
        )
    if bracket is None:
        low, high = _outwards(cdf, uniforms)
    else:
        low = torch.as_tensor(bracket[0]).to(uniforms).expand_as(uniforms)
        high = torch.as_tensor(bracket[1]).to(uniforms).expand_as(uniforms)
        if not ((cdf(low) <= uniforms) & (cdf(high) >= uniforms)).all():
            raise ValueError(
                f"`bracket` must enclose the quantiles of all `uniforms`, got {bracket}"
            )
    for _ in range(2 * torch.finfo(uniforms.dtype).bits):
        middle = low + (high - low) / 2
        reached = cdf(middle) >= uniforms
        low = torch.where(reached, low, middle)
        high = torch.where(reached, middle, high)
    return high


def _outwards(cdf: Callable[[Tensor], Tensor], uniforms: Tensor) -> tuple[Tensor, Tensor]:
    low = -torch.ones_like(uniforms)
    high = torch.ones_like(uniforms)
    for _ in range(100):
        short = cdf(high) < uniforms
        far = cdf(low) > uniforms
        if not short.any() and not far.any():
            return low, high
        low = torch.where(far, 2 * low, low)
        high = torch.where(short, 2 * high, high)
    raise ValueError(
        "`distribution` must reach every uniform within 2^100 of zero: give a `bracket`"
    )


__all__ = ["inverse_transform"]
