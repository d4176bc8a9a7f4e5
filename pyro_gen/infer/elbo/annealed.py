"""Annealed importance sampling of log likelihoods of rows, by Hamiltonian Monte
Carlo over latent variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.estimate import ERRORS
from pyro_gen.infer.standard_errors import error_over_rows

LogDensity = Callable[[Tensor], Tensor]
"""Differentiable function from latent variables (chains, rows, latent) to nats (chains, rows)."""
ACCEPTANCE = 0.65
"""Share of proposals to accept, where leapfrog steps cost least for the distance."""
RATE = 0.5
"""Gain of the stochastic approximation of the log step size for each move."""
PILOT_MOVES = 2
"""Moves at each temperature of the pilot."""
PILOT_CHAINS = 4
"""Chains of a row in the pilot, which are enough for a mean acceptance."""


@dataclass(frozen=True)
class AnnealedImportance:
    r"""Annealed importance sampling from the guide's distribution, or the prior, to the
    posterior of each row.

    .. math:: \log f_\beta(z) = (1 - \beta) \log q(z | x) + \beta \log p(x, z), \qquad
              \log w = \sum_t (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{q(z_{t-1} | x)}

    A pilot run finds a step size for each row and temperature; the chains that
    are weighted do not adapt, so that the mean weight is unbiased for p(x) and
    its logarithm is a lower bound on average.

    Args:
        num_temperatures: moves from the start to the posterior, a temperature
            each.
        num_leapfrog: leapfrog steps a move.
        start: where chains start: draws from the guide, whose path is shorter,
            or from the prior, which is better if the guide is narrow.

    Raises:
        ValueError: a number is below 1, or ``start`` is neither.

    References:
        Neal (2001), Annealed importance sampling. Wu, Burda, Salakhutdinov and
        Grosse (2017), On the quantitative analysis of decoder-based generative
        models, section 3.

    Example:
        >>> AnnealedImportance(num_temperatures=200, start="prior").num_leapfrog
        5
    """

    num_temperatures: int = 100
    num_leapfrog: int = 5
    start: Literal["guide", "prior"] = "guide"

    def __post_init__(self) -> None:
        whole_number("num_temperatures", self.num_temperatures)
        whole_number("num_leapfrog", self.num_leapfrog)
        if self.start not in ("guide", "prior"):
            raise ValueError(f"`start` must be 'guide' or 'prior', got {self.start!r}")

    def betas(self) -> Tensor:
        """Inverse temperatures from 0 to 1, close together at both ends, in double precision."""
        places = torch.linspace(-4, 4, self.num_temperatures + 1, dtype=torch.float64).sigmoid()
        return (places - places[0]) / (places[-1] - places[0])


class AnnealingPath(NamedTuple):
    """Path of distributions from a start with known log density and scales to a joint density.

    Args:
        log_start: log density of the start.
        log_joint: log joint density of rows and latent variables.
        scale: standard deviations of the start, (rows, latent), in units of
            which steps are taken.
    """

    log_start: LogDensity
    log_joint: LogDensity
    scale: Tensor

    def log_density(self, z: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """Log density on the path, and its derivative in beta, both (chains, rows)."""
        log_start = self.log_start(z)
        gain = self.log_joint(z) - log_start
        return log_start + beta * gain, gain

    def gradient(self, z: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log density, gain and the gradient of the log density in units of the scale."""
        with torch.enable_grad():
            place = z.detach().requires_grad_()
            log_density, gain = self.log_density(place, beta)
            (slope,) = torch.autograd.grad(log_density.sum(), place)
        return log_density.detach(), gain.detach(), slope * self.scale


class Moved(NamedTuple):
    """Latent variables after a move, their gain, and the probability of acceptance,
    (chains, rows).
    """

    z: Tensor
    gain: Tensor
    acceptance: Tensor


def hamiltonian_move(
    path: AnnealingPath, z: Tensor, beta: float, step: Tensor, num_leapfrog: int
) -> Moved:
    """One step of Hamiltonian Monte Carlo for all chains of all rows at once.

    Args:
        path: the distributions.
        z: latent variables, (chains, rows, latent).
        beta: inverse temperature of the distribution that the move leaves
            invariant.
        step: step size of each row, (rows, 1).
        num_leapfrog: leapfrog steps.
    """
    momentum = torch.randn_like(z)
    before, gain, slope = path.gradient(z, beta)
    energy = before - 0.5 * momentum.square().sum(-1)
    proposal = z
    proposed_gain = gain
    for _ in range(num_leapfrog):
        momentum = momentum + 0.5 * step * slope
        proposal = proposal + step * path.scale * momentum
        after, proposed_gain, slope = path.gradient(proposal, beta)
        momentum = momentum + 0.5 * step * slope
    change = after - 0.5 * momentum.square().sum(-1) - energy
    acceptance = change.nan_to_num(-math.inf).clamp(max=0).exp()
    accepted = torch.rand_like(acceptance) < acceptance
    z = torch.where(accepted.unsqueeze(-1), proposal, z)
    return Moved(z, torch.where(accepted, proposed_gain, gain), acceptance)


def step_sizes(path: AnnealingPath, z: Tensor, method: AnnealedImportance) -> list[Tensor]:
    """Step sizes of each row at each temperature but 0, from a pilot run.

    Args:
        path: the distributions.
        z: draws from the start, (chains, rows, latent).
        method: temperatures and leapfrog steps.

    Returns:
        A tensor (rows, 1) for each temperature.
    """
    z = z[:PILOT_CHAINS]
    log_step = torch.full_like(path.scale[:, :1], math.log(0.5 / z.shape[-1] ** 0.25))
    sizes = []
    for beta in method.betas()[1:].tolist():
        for _ in range(PILOT_MOVES):
            z, _, acceptance = hamiltonian_move(path, z, beta, log_step.exp(), method.num_leapfrog)
            log_step = log_step + RATE * (acceptance.mean(0).unsqueeze(-1) - ACCEPTANCE)
        sizes.append(log_step.exp())
    return sizes


def anneal_forward(
    path: AnnealingPath, z: Tensor, steps: list[Tensor], method: AnnealedImportance
) -> tuple[Tensor, Tensor]:
    """Log weights of chains from the start to the posterior, whose mean weight is p(x)
    on average.

    Args:
        path: the distributions.
        z: draws from the start, (chains, rows, latent).
        steps: step sizes, of :func:`step_sizes` with other draws.
        method: temperatures and leapfrog steps.

    Returns:
        Log weights (chains, rows) in double precision, and the mean acceptance
        of each row.
    """
    betas = method.betas().tolist()
    _, gain = path.log_density(z, 0.0)
    log_weight = betas[1] * gain.double()
    acceptance = torch.zeros_like(gain[0])
    for t in range(1, method.num_temperatures):
        z, gain, accepted = hamiltonian_move(path, z, betas[t], steps[t - 1], method.num_leapfrog)
        log_weight += (betas[t + 1] - betas[t]) * gain.double()
        acceptance += accepted.mean(0)
    return log_weight, acceptance / max(1, method.num_temperatures - 1)


def anneal_backward(
    path: AnnealingPath, z: Tensor, steps: list[Tensor], method: AnnealedImportance
) -> Tensor:
    """Log weights of chains from exact draws of the posterior to the start, whose
    mean weight is 1 / p(x) on average.

    Args:
        path: the distributions.
        z: draws from the posterior, (chains, rows, latent).
        steps: step sizes, of :func:`step_sizes`.
        method: temperatures and leapfrog steps.

    Returns:
        Log weights (chains, rows), in double precision.
    """
    betas = method.betas().tolist()
    _, gain = path.log_density(z, 1.0)
    log_weight = (betas[-2] - 1) * gain.double()
    for t in range(method.num_temperatures - 1, 0, -1):
        z, gain, _ = hamiltonian_move(path, z, betas[t], steps[t - 1], method.num_leapfrog)
        log_weight += (betas[t - 1] - betas[t]) * gain.double()
    return log_weight


class SimulatedGap(NamedTuple):
    r"""Bracket of the mean log likelihood of rows drawn from a model, and its width.

    Such a row comes with an exact draw of its posterior, from which chains run
    backwards. Below and above hold on average. The gap shows how well the
    estimator works on rows like those of the model; it gives no bound for other
    rows.

    Args:
        below: lower bound of each row, by annealed importance sampling.
        above: upper bound of each row, by the same chains backwards.
        x: the rows.
        num_samples: chains a row.

    References:
        Grosse, Ancha and Roy (2016), Measuring the reliability of MCMC
        inference with bidirectional Monte Carlo.
    """

    below: Tensor
    above: Tensor
    x: Tensor
    num_samples: int

    @property
    def value(self) -> float:
        """Mean of the gaps."""
        return (self.above - self.below).mean().item()

    @property
    def standard_error(self) -> float:
        """Standard error of ``value`` over the rows, including the variation of the
        chains; NaN for one row.
        """
        return error_over_rows(self.above - self.below)

    @property
    def lower(self) -> float:
        """``value`` less two standard errors."""
        return self.value - ERRORS * self.standard_error

    @property
    def upper(self) -> float:
        """``value`` plus two standard errors."""
        return self.value + ERRORS * self.standard_error

    @property
    def effective_sample_size(self) -> int:
        """Number of simulated rows, which are independent."""
        return len(self.x)

    @property
    def bracket(self) -> tuple[float, float]:
        """Means of both bounds, each moved outwards by two standard errors of the gap."""
        margin = ERRORS * self.standard_error
        return self.below.mean().item() - margin, self.above.mean().item() + margin

    def __str__(self) -> str:
        """The gap, and the bounds that it lies between."""
        return (
            f"gap on simulated rows {self.value:.3f} +/- {self.standard_error:.3f} nats (between "
            f"{self.below.mean():.2f} and "
            f"{self.above.mean():.2f}, K={self.num_samples} chains, N={len(self.below)} rows "
            "drawn from the model)"
        )


__all__ = [
    "AnnealedImportance",
    "AnnealingPath",
    "SimulatedGap",
    "anneal_backward",
    "anneal_forward",
    "hamiltonian_move",
    "step_sizes",
]
