"""Bounds on the log likelihood of each row under a model with local latent
variables, from its guide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import evaluating
from pyro_gen._plates import AnyRows
from pyro_gen._weights import warn_of_weights
from pyro_gen.distributions.estimate import ERRORS, Estimate
from pyro_gen.distributions.log_z.negative_phase import starts_at_data
from pyro_gen.infer.standard_errors import error_of_partition, error_over_rows

Program = Callable[..., Any]


class RowWeights(NamedTuple):
    """Log weights of K particles of a guide, each of shape (particles, rows), and the
    terms outside of the rows.

    ``scale`` is the plate's (size / rows of the batch); ``rest`` sums the
    observed sites outside all plates, such as a ``pyro.factor`` for a prior
    over the weights.
    """

    log_joint: Tensor
    log_guide: Tensor
    scale: float
    rest: Tensor


def row_weights(
    model: Program, guide: Program, num_particles: int, *args: Any, **kwargs: Any
) -> RowWeights:
    """Run a guide with many particles, replay the model against it, and keep the rows
    of their plate apart.

    Model and guide must hold all latent sites in one plate (the rows) at
    dimension -1; particles stand at -2.

    Args:
        model: a Pyro program.
        guide: a Pyro program with the model's latent sites.
        num_particles: draws from the guide for each row.
        *args: arguments of both.
        **kwargs: arguments of both.

    Returns:
        Log joint and log density of the guide, differentiable, and the plate's
        scale.

    Raises:
        ValueError: a latent site stands outside the plate, or the sites' scales
            differ.
    """
    num_particles = whole_number("num_particles", num_particles)
    guide_trace = draws(guide, num_particles, *args, **kwargs)
    for site in sampled_sites(guide_trace):
        site["value"] = site["value"].detach()
    scored = replayed(model, guide_trace, num_particles, *args, **kwargs)
    guide_trace.compute_log_prob()
    return weights_of(scored, guide_trace, num_particles)


def draws(guide: Program, num_particles: int, *args: Any, **kwargs: Any) -> Any:
    """A trace of the guide with many particles, at dimension -2, for every row.

    Args:
        guide: a Pyro program.
        num_particles: draws for each row.
        *args: its arguments.
        **kwargs: its arguments.
    """
    return prune_subsample_sites(
        poutine.trace(_with_particles(num_particles)(guide)).get_trace(*args, **kwargs)
    )


def replayed(
    program: Program, guide_trace: Any, num_particles: int, *args: Any, **kwargs: Any
) -> Any:
    """A trace of a program with the latent values of another trace, and with its
    log probabilities.

    Args:
        program: a Pyro program.
        guide_trace: a trace that :func:`draws` gave.
        num_particles: of that trace.
        *args: arguments of the program.
        **kwargs: arguments of the program.
    """
    scored = poutine.trace(
        poutine.replay(_with_particles(num_particles)(program), trace=guide_trace)
    )
    trace = prune_subsample_sites(scored.get_trace(*args, **kwargs))
    trace.compute_log_prob()
    return trace


def sampled_sites(trace: Any) -> list[dict[str, Any]]:
    """The sites of a trace that were drawn."""
    return [site for site in _sites(trace) if not site["is_observed"]]


def weights_of(scored: Any, guide_trace: Any, num_particles: int) -> RowWeights:
    """Log weights of each row from two traces with equal latent values.

    Args:
        scored: of the model, with log probabilities.
        guide_trace: of the guide, likewise.
        num_particles: of both.

    Raises:
        ValueError: a latent site stands outside the plate, or the sites' scales
            differ.
    """
    joint, unplated = _log_prob_rows(scored, num_particles)
    density, _ = _log_prob_rows(guide_trace, num_particles)
    scales = {
        float(site["scale"])
        for trace in (scored, guide_trace)
        for site in _sites(trace)
        if _in_rows(site)
    }
    if len(scales) != 1:
        raise ValueError(f"all sites of the rows must have one scale, got {sorted(scales)}")
    scale = scales.pop()
    shape = torch.broadcast_shapes(joint.shape, density.shape)
    return RowWeights(
        (joint / scale).expand(shape), (density / scale).expand(shape), scale, unplated
    )


def _with_particles(num_particles: int) -> Callable[[Program], Program]:
    def many(program: Program) -> Program:
        def run(*args: Any, **kwargs: Any) -> Any:
            with pyro.plate("particles", num_particles, dim=-2):
                return program(*args, **kwargs)

        return run

    return many


def _sites(trace: Any) -> list[dict[str, Any]]:
    return [site for site in trace.nodes.values() if site["type"] == "sample"]


def _in_rows(site: dict[str, Any]) -> bool:
    return any(frame.name != "particles" and frame.dim == -1 for frame in site["cond_indep_stack"])


def _log_prob_rows(trace: Any, num_particles: int) -> tuple[Tensor, Tensor]:
    """Sums over the sites inside the plate, and over those outside, each with its scale."""
    inside, outside = torch.zeros(()), torch.zeros(())  # without dimensions they fit any device
    for site in _sites(trace):
        if not site["is_observed"]:
            refuse_value_dependent(site["name"], site["fn"])
        if _in_rows(site):
            inside = inside + site["log_prob"]
        elif not site["is_observed"]:
            raise ValueError(
                f"the latent site {site['name']!r} must stand in the plate of the rows, at "
                "dimension -1"
            )
        else:
            outside = outside + site["log_prob_sum"] / num_particles
    return inside, outside


def refuse_value_dependent(name: str, distribution: Any) -> None:
    """Raise where the surrogate of log Z of a latent site depends on its value, so
    that it would weight the values.

    Args:
        name: the site, for the message.
        distribution: the site's distribution.

    Raises:
        ValueError: it is an energy model under contrastive divergence.
    """
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    if starts_at_data(getattr(distribution, "partition", None)):
        raise ValueError(
            f"the latent site {name!r} is under contrastive divergence, whose particles start at "
            "the value: use "
            "PersistentChains, or a `partition` that knows log Z"
        )


class LowerBound(NamedTuple):
    r"""Lower bounds on the mean log likelihood of some rows, in nats, with their
    sources of uncertainty.

    .. math:: \mathcal L = \frac1K \sum_k \log w_k \le \mathcal L_K = \log \frac1K \sum_k w_k,
        \qquad
              w_k = \frac{p(v, h_k)}{q(h_k | v)}, \quad h_k \sim q(h | v)

    Both are below log p(v) on average over the particles. If log Z is an
    estimate, ``partition`` holds its error. AIS is too low more often than too
    high, which *raises* the bound, so compare ``against`` an upper end of log
    Z.

    Args:
        rows: the variational bound of each row.
        tighter: the importance-weighted bound of each row with all K particles.
        sampling_error: standard error of the mean bound over the particles
            alone; NaN for one particle.
        partition: log Z behind it, or None where the model is normalised.
        effective_sample_size: of the K weights of each row, between 1 and K.
            Near 1 the importance-weighted bound may lie nats below the log
            likelihood.
    """

    rows: Tensor
    tighter: Tensor
    sampling_error: float
    partition: Estimate | None
    effective_sample_size: Tensor

    @property
    def value(self) -> float:
        """Mean of the variational bound over the rows."""
        return self.rows.mean().item()

    @property
    def tighter_value(self) -> float:
        """Mean of the importance-weighted bound over the rows."""
        return self.tighter.mean().item()

    @property
    def standard_error(self) -> float:
        """Standard error of ``value``, over the rows and of log Z together."""
        return math.hypot(self.row_error, self.partition_error)

    @property
    def lower(self) -> float:
        """``value`` less two standard errors."""
        return self.value - ERRORS * self.standard_error

    @property
    def upper(self) -> float:
        """Infinite: a lower bound says nothing from above."""
        return math.inf

    @property
    def row_error(self) -> float:
        """Standard error of ``value`` over the rows; NaN for one row."""
        return error_over_rows(self.rows)

    @property
    def partition_error(self) -> float:
        """Standard error of log Z, which all rows share; 0 without log Z."""
        return error_of_partition(self.partition)

    def against(self, log_partition: Tensor) -> LowerBound:
        """Bounds under another value of log Z, such as the upper end of a bracket.

        Args:
            log_partition: a scalar, in nats.

        Returns:
            The shifted bounds.

        Raises:
            ValueError: there is no log Z in this model.
        """
        if self.partition is None:
            raise ValueError(
                "`against` needs a model with a log Z, and this one is normalised by itself"
            )
        shift = self.partition.value - log_partition
        partition = self.partition._replace(value=log_partition)
        return self._replace(
            rows=self.rows + shift, tighter=self.tighter + shift, partition=partition
        )

    def __str__(self) -> str:
        """Both bounds with their standard errors."""
        size = f"median ESS {self.effective_sample_size.median().item():.1f}"
        errors = (
            f"log Z +/- {self.partition_error:.2f}, rows +/- {self.row_error:.2f}, {size}, "
            f"N={len(self.rows)}"
        )
        return (
            f">= {self.value:.2f} nats, importance-weighted >= {self.tighter_value:.2f} ({errors})"
        )


@torch.no_grad()
def lower_bound(
    model: Program,
    guide: Program,
    x: Tensor,
    num_particles: int = 10,
    partition: Callable[[], Estimate] | None = None,
    batch_size: int = 100,
) -> LowerBound:
    """Lower bounds on log p(x) of a model whose latent variables belong to the rows,
    from its guide.

    It runs without gradients, so that a module of this package normalises by
    its ``evaluation``, never by a contrast. From two particles on it warns of
    rows with a small effective sample size; both remain bounds. (Pareto's k-hat
    is not used, since discrete latent variables have finitely many weights.)

    Args:
        model: a Pyro program of the rows; all latent sites in one plate.
        guide: a Pyro program with the model's latent sites.
        x: rows of data, (rows, ...).
        num_particles: particles K a row.
        partition: returns the estimate of log Z that the model's ``log_prob``
            uses, for the result.
        batch_size: rows at a time.

    Returns:
        The bounds, a row each, with their errors.

    Raises:
        ValueError: a size is below 1, or a latent site stands outside the
            plate.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep
        belief networks, equations 22-24. Burda, Grosse, Salakhutdinov (2016),
        Importance weighted autoencoders, equation 8.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("rows", len(x)):
        ...         z = pyro.sample("z", dist.Bernoulli(0.5))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("rows", len(x)):
        ...         # the exact posterior: both bounds are tight
        ...         pyro.sample("z", dist.Bernoulli(logits=x - 0.5))
        >>> bound = lower_bound(model, guide, torch.zeros(3))
        >>> (bound.rows - bound.tighter).abs().max() < 1e-5
        tensor(True)
    """
    num_particles = whole_number("num_particles", num_particles)
    batch_size = whole_number("batch_size", batch_size)
    if not len(x):
        raise ValueError("`x` must have at least one row, got none")
    log_weights = []
    for rows in x.split(batch_size):
        with AnyRows(), evaluating(model, guide):
            weights = row_weights(model, guide, num_particles, rows)
        log_weights.append(weights.log_joint - weights.log_guide)
    log_weight = torch.cat(log_weights, -1)
    tighter = log_weight.logsumexp(0) - math.log(num_particles)
    if num_particles > 1:
        error = log_weight.var(0).sum().div(num_particles).sqrt().item() / len(x)
    else:
        error = float("nan")
    size = (2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp()
    if num_particles > 1:
        consequence = (
            "the importance-weighted bound may lie nats below the log likelihood. Take more "
            "particles"
        )
        warn_of_weights(size, num_particles, None, consequence)
    return LowerBound(
        log_weight.mean(0), tighter, error, None if partition is None else partition(), size
    )


__all__ = [
    "LowerBound",
    "RowWeights",
    "draws",
    "lower_bound",
    "replayed",
    "row_weights",
    "sampled_sites",
    "weights_of",
]
