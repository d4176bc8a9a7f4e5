"""Mean of a function under draws of Markov chains, with an error for autocorrelated draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyro_gen.distributions.estimate import Estimate


def expectation(function: Callable[..., Tensor], draws: Mapping[str, Tensor] | Tensor) -> Estimate:
    r"""Estimate E[f] from chains.

    .. math:: \hat f = \frac{1}{CN} \sum_{c, n} f(x_{c, n}), \qquad
              \text{standard error} = \sqrt{\operatorname{Var} f / \text{ESS}}

    Args:
        function: maps draws (chain, draw, ...) to values (chain, draw, ...); sites are
            passed by name, a single tensor directly.
        draws: tensors (chain, draw, ...), as :class:`pyro_gen.infer.GibbsSampler`
            returns them and ArviZ takes them.

    Returns:
        Mean, standard error and effective sample size, each of the values' shape after
        chain and draw.

    Raises:
        ValueError: ``draws`` are empty or have no chains, the function does not return
            values for (chain, draw), or there are fewer than four draws or NaN.

    References:
        Geyer (1992), Practical Markov chain Monte Carlo. Vehtari, Gelman, Simpson,
        Carpenter, Buerkner (2021), Rank-normalization, folding, and localization,
        equations 3, 4 and 10.

    Example:
        >>> draws = {"x": torch.randn(4, 1000), "y": torch.randn(4, 1000)}
        >>> estimate = expectation(lambda x, y: x * y, draws)
        >>> bool(estimate.value.abs() < 5 * estimate.standard_error)
        True
    """
    if isinstance(draws, Mapping):
        shape = next((value.shape for value in draws.values()), torch.Size())
    else:
        shape = draws.shape
    if len(shape) < 2:
        raise ValueError(
            f"`draws` must be tensors (chain, draw, ...), at least one, got shape {tuple(shape)}"
        )
    values = function(**draws) if isinstance(draws, Mapping) else function(draws)
    result_shape = getattr(values, "shape", ())
    if not isinstance(values, Tensor) or result_shape[:2] != shape[:2]:
        got = tuple(result_shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"`function` must return a tensor of shape {tuple(shape[:2])} and more, got {got}"
        )
    values = values.double()
    size = effective_sample_size(values)
    error = (values.flatten(0, 1).var(0) / size).sqrt()
    return Estimate(values.mean((0, 1)), error, size, "Markov chains")


def effective_sample_size(values: Tensor) -> Tensor:
    r"""Number of independent draws whose mean would have the same variance.

    .. math:: \text{ESS} = \frac{CN}{\tau}, \qquad
              \tau = -1 + 2 \sum_t (\hat\rho_{2t} + \hat\rho_{2t+1})

    with the autocorrelations of chains that are split in halves, so that a drift
    counts, and the sum over Geyer's initial monotone sequence of positive pairs. It
    equals ``arviz.ess(method="mean")``.

    Args:
        values: (chain, draw, ...).

    Returns:
        Of the shape after chain and draw; all draws where a value is constant.

    Raises:
        ValueError: there are fewer than four draws a chain, or a value is NaN or infinite.

    References:
        Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Rank-normalization,
        folding, and localization, section 3.2.

    Example:
        >>> effective_sample_size(torch.ones(2, 10))
        tensor(20., dtype=torch.float64)
    """
    if values.dim() < 2 or values.shape[0] < 1 or values.shape[1] < 4:
        got = tuple(values.shape)
        raise ValueError(
            "`values` must have shape (chain, draw, ...) "
            f"with a chain and four draws or more, got {got}"
        )
    if not values.isfinite().all():
        raise ValueError("`values` must be finite, got NaN or infinity")
    half = values.shape[1] // 2
    split = torch.cat([values[:, :half], values[:, -half:]]).double()
    flat = split.reshape(*split.shape[:2], values.shape[2:].numel())
    sizes = flat.new_zeros(flat.shape[-1])
    for i, column in enumerate(flat.unbind(-1)):
        sizes[i] = _size(column)
    return sizes.view(values.shape[2:])


def _size(chains: Tensor) -> Tensor:
    """Effective sample size of one number, (chains, draws)."""
    number, length = chains.shape
    if (chains == chains[0, 0]).all():
        return chains.new_tensor(float(number * length))
    covariance = _autocovariance(chains)
    within = covariance[:, 0].mean() * length / (length - 1)
    total = within * (length - 1) / length
    if number > 1:
        total = total + chains.mean(1).var()
    rho = 1 - (within - covariance.mean(0)) / total
    rho[0] = 1.0
    time = max(_time(rho.tolist()), 1 / math.log10(number * length))
    return chains.new_tensor(number * length / time)


def _autocovariance(chains: Tensor) -> Tensor:
    length = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * length).abs().square()
    return torch.fft.irfft(spectrum, n=2 * length)[:, :length] / length


def _time(rho: list[float]) -> float:
    """Geyer's integrated autocorrelation time, with the truncation of Stan and ArviZ."""
    length = len(rho)
    autocorrelation = [0.0] * length
    autocorrelation[0] = 1.0
    even = 1.0
    odd = rho[1]
    autocorrelation[1] = odd
    t = 1
    while t < length - 3 and even + odd > 0:
        even = rho[t + 1]
        odd = rho[t + 2]
        if even + odd >= 0:
            autocorrelation[t + 1] = even
            autocorrelation[t + 2] = odd
        t += 2
    last = t - 2
    if even > 0:
        autocorrelation[last + 1] = even
    t = 1
    while t <= last - 2:
        before = autocorrelation[t - 1] + autocorrelation[t]
        if autocorrelation[t + 1] + autocorrelation[t + 2] > before:
            autocorrelation[t + 1] = autocorrelation[t + 2] = before / 2
        t += 2
    tail = sum(autocorrelation[last + 1 : last + 2])
    return -1 + 2 * sum(autocorrelation[: last + 1]) + tail


__all__ = ["effective_sample_size", "expectation"]
