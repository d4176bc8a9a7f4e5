"""Functions of the half-line Gaussian and the stepped sigmoid, exact in the tails."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_FAR = -5.0
"""Below it the half-line integrals are continued fractions: the closed forms cancel there."""
_LEVELS = 25
_STEPS = 40
_WINDOW = 12


def excess_hazard(x: Tensor) -> Tensor:
    r"""Hazard rate of a standard Gaussian at x >= 5, less x.

    A continued fraction, in which nothing cancels.

    .. math:: \frac{\varphi(x)}{\Phi(-x)} - x = \cfrac{1}{x + \cfrac{2}{x + \cfrac{3}{x + \cdots}}}

    References:
        Abramowitz and Stegun (1964), Handbook of mathematical functions,
        equation 26.2.14.
    """
    fraction = x
    for level in range(_LEVELS, 1, -1):
        fraction = x + level / fraction
    return 1 / fraction


def log_half_line(field: Tensor) -> Tensor:
    r"""Log of the integral of exp(x t - x^2 / 2) over x >= 0, derivatives right in both tails."""
    near = field.clamp(min=_FAR)
    far = -field.clamp(max=_FAR)
    closed = near.square() / 2 + HALF_LOG_TAU + torch.special.log_ndtr(near)
    return torch.where(field > _FAR, closed, -(far + excess_hazard(far)).log())


def half_line_mean(field: Tensor) -> Tensor:
    """Mean of the distribution on x >= 0 proportional to exp(x t - x^2 / 2)."""
    near = field.clamp(min=_FAR)
    far = -field.clamp(max=_FAR)
    hazard = (-near.square() / 2 - HALF_LOG_TAU - torch.special.log_ndtr(near)).exp()
    return torch.where(field > _FAR, near + hazard, excess_hazard(far))


def half_line_quantile(field: Tensor, survival: Tensor) -> Tensor:
    """The x with P(X > x) = ``survival``, for a density exp(x t - x^2 / 2) / Z on x >= 0."""
    near = field.clamp(min=_FAR)
    far = -field.clamp(max=_FAR)
    closed = near - torch.special.ndtri(survival * torch.special.ndtr(near))
    if not field.is_meta and (field > _FAR).all():
        return closed.clamp(min=0)
    return torch.where(field > _FAR, closed, _far_quantile(far, survival.log())).clamp(min=0)


def _far_quantile(c: Tensor, log_survival: Tensor) -> Tensor:
    """Newton's method on log P(X > x) - log survival, where the Gaussian's centre lies at -c."""
    x = -2 * log_survival / (c + (c.square() - 2 * log_survival).sqrt())
    for _ in range(4):
        hazard = c + x + excess_hazard(c + x)
        excess = x.square() / 2 + c * x + (hazard / (c + excess_hazard(c))).log() + log_survival
        x = x - excess / hazard
    return x


def bisect(
    function: Callable[[Tensor], Tensor], target: Tensor, low: float, high: float
) -> Tensor:
    """Root at which an increasing function reaches ``target``, between ``low`` and ``high``."""
    below = torch.full_like(target, low)
    above = torch.full_like(target, high)
    for _ in range(60):
        middle = (below + above) / 2
        small = function(middle) < target
        below = torch.where(small, middle, below)
        above = torch.where(small, above, middle)
    return (below + above) / 2


def _summed_steps(function: Callable[[Tensor], Tensor], field: Tensor) -> Tensor:
    """Sum of ``function`` over the copies f - 1/2, f - 3/2, ... of a field below 0."""
    total = torch.zeros_like(field)
    for step in range(_STEPS):
        total = total + function(field - step - 0.5)
    return total


def _downwards(field: Tensor) -> Tensor:
    """Minus the absolute value, with the gradient of the field itself at 0."""
    return torch.where(field > 0, -field, field)


def _around(field: Tensor) -> Tensor:
    """Differences k - f for the integers k around f, in a new last dimension."""
    window = torch.arange(-_WINDOW, _WINDOW + 1, device=field.device, dtype=field.dtype)
    return (field.detach().round() - field).unsqueeze(-1) + window


LOG_Q_FACTORIALS = [0.0]
"""Log of (1 - q)(1 - q^2) ... (1 - q^n) at q = 1 / e, for n = 0, 1, ...; constant from 40 on."""
for _n in range(1, 64):
    LOG_Q_FACTORIALS.append(LOG_Q_FACTORIALS[-1] + math.log(-math.expm1(-_n)))


def stepped_cumulant(field: Tensor) -> Tensor:
    r"""Log of the product over i >= 1 of 1 + exp(f - i + 1/2).

    Above 0, where the product has about f large factors, Jacobi's triple
    product turns it into a sum around f:

    .. math:: \prod_{i \ge 1} (1 - q^i)(1 + e^{f} q^{i - 1/2})(1 + e^{-f} q^{i - 1/2})
              = \sum_n e^{n f} q^{n^2/2}, \quad q = e^{-1}
    """
    tail = _summed_steps(softplus, _downwards(field))
    theta = (
        field.square() / 2 + (-_around(field).square() / 2).logsumexp(-1) - LOG_Q_FACTORIALS[-1]
    )
    return torch.where(field > 0, theta - tail, tail)


def stepped_mean(field: Tensor) -> Tensor:
    """Sum over i >= 1 of sigmoid(f - i + 1/2): nearly softplus(f)."""
    tail = _summed_steps(torch.sigmoid, _downwards(field))
    around = _around(field)
    theta = field + ((-around.square() / 2).softmax(-1) * around).sum(-1)
    return torch.where(field > 0, theta + tail, tail)


def stepped_energy(count: Tensor) -> Tensor:
    """Minus log of the coefficient of exp(f)^n in the product of 1 + exp(f - i + 1/2) (Euler)."""
    table = torch.tensor(LOG_Q_FACTORIALS, dtype=count.dtype, device=count.device)
    return count.square() / 2 + table[count.nan_to_num().clamp(0, len(table) - 1).long()]


def stepped_quantile(field: Tensor, uniform: Tensor) -> Tensor:
    """Count at which the distribution function reaches ``uniform``."""
    first = (softplus(field).floor() - _WINDOW).clamp(min=0)
    counts = first.unsqueeze(-1) + torch.arange(2 * _WINDOW + 1, device=field.device)
    energy = (
        stepped_energy(counts) - counts.square() / 2 + (counts - field.unsqueeze(-1)).square() / 2
    )
    return first + indices_by_inversion((-energy).softmax(-1), uniform)


def indices_by_inversion(probs: Tensor, uniform: Tensor) -> Tensor:
    """Indices (...) drawn with probabilities (..., n) by inversion of uniforms (...)."""
    return (probs.cumsum(-1)[..., :-1] <= uniform.unsqueeze(-1)).sum(-1)
