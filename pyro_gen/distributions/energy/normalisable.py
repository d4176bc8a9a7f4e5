"""Pairs of unit types with a finite log Z, and the one with a closed form:
Gaussian with Gaussian.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen._transforms import batched, refusal
from pyro_gen.distributions.units import GaussianUnits, Units
from pyro_gen.distributions.units.special import HALF_LOG_TAU


def check_normalisable(weight: Tensor, visible: Units, hidden: Units) -> None:
    r"""Raise if the joint distribution cannot be normalised, or is not known to be.

    One side with finitely many states is always enough. With both sides
    unbounded the energy grows as the quadratic form of :math:`\tilde W_{ij} =
    W_{ij} / \sqrt{\gamma_i \gamma_j}`,

    .. math:: Q(x, y) = \tfrac12 |x|^2 + \tfrac12 |y|^2 - x \tilde W y,

    which must be positive for all values of both sides. Between Gaussian units
    that is exactly :math:`\|\tilde W\|_2 < 1`. Units that are never negative
    (ReLU, NReLU) are confined to a cone, where the decision is co-NP-hard.
    Either of two sufficient conditions is accepted: the same norm, or positive
    definiteness after every coupling that pushes two such units *down* is
    dropped.

    Args:
        weight: (..., visible, hidden).
        visible: bound unit type of the visible side.
        hidden: bound unit type of the hidden side.

    Raises:
        ValueError: neither holds.
        NotImplementedError: the weights are batched by vmap, so that no
            condition can be tested.

    References:
        Murty and Kabadi (1987), Some NP-complete problems in quadratic and
        nonlinear programming (copositivity).
    """
    up = visible.precision(weight[..., 0])
    down = hidden.precision(weight[..., 0, :])
    if up is None or down is None or weight.is_meta:
        return
    if batched([weight]):
        names = f"RBM of {type(visible).__name__} and {type(hidden).__name__}"
        raise refusal(
            names,
            "whether log Z is finite depends on the numbers",
            "ask one after the other",
            "vmap",
        )
    scaled = (
        weight.detach() * up.detach().rsqrt().unsqueeze(-1) * down.detach().rsqrt().unsqueeze(-2)
    )
    fine = _positive_definite(_complement(scaled))
    if not fine.all() and (visible.half_line or hidden.half_line):
        fine = fine | _positive_definite(
            _without_pushing_down(scaled, visible.half_line, hidden.half_line)
        )
    if fine.all():
        return
    norm = torch.linalg.matrix_norm(scaled, 2).max().item()
    names = f"{type(visible).__name__} and {type(hidden).__name__}"
    if not (visible.half_line or hidden.half_line):
        verdict = "has"
    else:
        verdict = "is not known to have"
    raise ValueError(
        f"`weight` must leave the joint of {names} normalisable, and it {verdict} "
        f"{'no ' if verdict == 'has' else 'a '}finite log Z: the largest singular value of the "
        "weights over the square "
        f"roots of both precisions must be below 1, got {norm:.4g}; shrink `weight` or raise "
        "`log_precision`"
    )


def _complement(scaled: Tensor) -> Tensor:
    """I - W' W on the smaller side: positive definite where the norm of W is below 1."""
    w = scaled if scaled.shape[-1] <= scaled.shape[-2] else scaled.mT
    return torch.eye(w.shape[-1], dtype=w.dtype, device=w.device) - w.mT @ w


def _without_pushing_down(scaled: Tensor, visible: bool, hidden: bool) -> Tensor:
    """The quadratic form on the units that are never negative, less the couplings
    that only raise the energy there.
    """
    if visible and hidden:
        return _complement(scaled.clamp(min=0))
    w = scaled if hidden else scaled.mT
    form = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device) - w.mT @ w
    return form.clamp(max=0) + torch.diag_embed(form.diagonal(dim1=-2, dim2=-1).clamp(min=0))


def _positive_definite(matrix: Tensor) -> Tensor:
    margin = len(matrix.mT) * torch.finfo(matrix.dtype).eps
    shifted = matrix - margin * torch.eye(
        matrix.shape[-1], dtype=matrix.dtype, device=matrix.device
    )
    return torch.linalg.cholesky_ex(shifted).info == 0


def is_gaussian_pair(visible: Units, hidden: Units) -> bool:
    """True if both sides are Gaussian, so that every sum is a Gaussian integral."""
    return isinstance(visible, GaussianUnits) and isinstance(hidden, GaussianUnits)


def _marginal(
    weight: Tensor, small: Tensor, large: Tensor, gamma: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """Cholesky factor of the precision of the smaller side's marginal, and its field."""
    scaled = weight / other.unsqueeze(-2)
    precision = torch.diag_embed(gamma) - scaled @ weight.mT
    root, info = torch.linalg.cholesky_ex(precision)
    if not info.is_meta and info.any():
        raise ValueError(
            "`weight` must leave the joint of GaussianUnits normalisable: it has no finite log Z"
        )
    return root, small + (scaled @ large.unsqueeze(-1)).squeeze(-1)


def gaussian_log_sum(
    weight: Tensor,
    small: Tensor,
    large: Tensor,
    small_units: GaussianUnits,
    large_units: GaussianUnits,
) -> Tensor:
    """Log of the integral of exp(-energy) over both sides of Gaussian units.

    Args:
        weight: (..., small, large).
        small: bias of the smaller side.
        large: bias of the larger side.
        small_units: bound units of the smaller side.
        large_units: bound units of the larger side.

    Returns:
        Log Z, of the parameters' batch shape.

    Raises:
        ValueError: it is infinite.
    """
    root, field = _marginal(
        weight, small, large, small_units.gamma(small), large_units.gamma(large)
    )
    white = torch.linalg.solve_triangular(root, field.unsqueeze(-1), upper=False).squeeze(-1)
    log_root = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    small_terms = white.square().sum(-1) / 2 + field.shape[-1] * HALF_LOG_TAU - log_root
    return small_terms + large_units.cumulant(large)


@torch.no_grad()
def gaussian_draw(
    weight: Tensor,
    small: Tensor,
    large: Tensor,
    small_units: GaussianUnits,
    large_units: GaussianUnits,
    shape: torch.Size,
) -> Tensor:
    """Exact draws of the smaller side from its marginal, shape ``shape`` +
    (small,), from torch's generator.
    """
    root, field = _marginal(
        weight, small, large, small_units.gamma(small), large_units.gamma(large)
    )
    mean = torch.cholesky_solve(field.unsqueeze(-1), root).squeeze(-1)
    noise = torch.randn((*shape, small.shape[-1]), dtype=small.dtype, device=small.device)
    return mean + torch.linalg.solve_triangular(root.mT, noise.unsqueeze(-1), upper=True).squeeze(
        -1
    )


__all__ = ["check_normalisable", "gaussian_draw", "gaussian_log_sum", "is_gaussian_pair"]
