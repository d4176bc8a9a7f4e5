"""Learning from rows with missing cells: clamped chains update each row's completion."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen.distributions.energy.rbm import RBM


class Completions(Module):
    r"""Training rows whose missing cells are redrawn each time a row is used.

    The gradient of log p(observed) is that of log p of the completed row, averaged over
    p(missing | observed):

    .. math:: \nabla \log p(v_O) = E_{p(v_M | v_O)} \bigl[-\nabla F(v)\bigr]
              - E_{p(v)} \bigl[-\nabla F(v)\bigr]

    So one draw of the missing cells makes a complete batch for any learning step: SVI
    with ``pyro.sample(..., obs=...)`` or :func:`pyro_gen.infer.contrastive_gradient`.
    The first mean is unbiased where the draw is exact
    (``distribution.given(...).samples_exactly``). Otherwise each row's completion is
    continued by ``num_steps`` clamped Gibbs sweeps, as persistent chains are in the
    negative phase, and is right in the limit of small steps. The completions are a
    buffer, so ``state_dict`` resumes them.

    Args:
        x: the training rows (rows, visible); values of missing cells are ignored, NaN
            included.
        mask: True where a cell is observed, same shape.
        num_steps: clamped sweeps a use, where no exact draw is possible.

    Raises:
        ValueError: ``x`` has other than two dimensions, ``mask`` another shape or
            dtype, an observed cell is neither 0 nor 1, or ``num_steps`` is below 1.

    References:
        Tieleman (2008), Training restricted Boltzmann machines using approximations to
        the likelihood gradient. Fischer and Igel (2014), section 5 (missing values by
        clamped chains).

    Example:
        >>> from pyro_gen import nn
        >>> from pyro_gen.infer import contrastive_gradient
        >>> x = torch.tensor([[1.0, float("nan"), 0.0], [0.0, 1.0, float("nan")]])
        >>> rows, rbm = Completions(x, ~x.isnan()), nn.RBM(3, 2)
        >>> batch = rows(rbm.eval()(), torch.tensor([0, 1]))
        >>> batch.isnan().any().item(), batch[0, [0, 2]].tolist()
        (False, [1.0, 0.0])
        >>> contrastive_gradient(rbm, batch)
    """

    states: Tensor
    mask: Tensor

    def __init__(self, x: Tensor, mask: Tensor, num_steps: int = 1) -> None:
        super().__init__()
        _check_cells(x, mask)
        self.num_steps = whole_number("num_steps", num_steps)
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        observed = torch.where(mask, x, 0).to(dtype)
        rates = (observed.sum(0) + 1) / (mask.sum(0) + 2)
        self.register_buffer("mask", mask.clone())
        guesses = torch.bernoulli(rates.expand_as(observed))
        self.register_buffer("states", torch.where(mask, observed, guesses))

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.states)

    @torch.no_grad()
    def forward(self, distribution: RBM, index: Tensor) -> Tensor:
        """Redraw the missing cells of some rows.

        Args:
            distribution: the RBM as it is now, unbatched; only its parameters are used.
            index: numbers of the rows, (batch,).

        Returns:
            Completed rows (batch, visible), without gradient.

        Raises:
            ValueError: the distribution is batched or has another number of visible units.
        """
        if distribution.batch_shape:
            raise ValueError(
                f"`distribution` must have no batch shape, got {tuple(distribution.batch_shape)}"
            )
        states = self.states[index]
        clamped = distribution.given(states, self.mask[index])
        if clamped.samples_exactly:
            new = clamped.sample()
        else:
            new = clamped.gibbs(states, self.num_steps)
        self.states[index] = new.to(states.dtype)
        return new

    def extra_repr(self) -> str:
        """Sizes and settings."""
        missing = (~self.mask).sum()
        return f"rows={len(self)}, missing={missing}, num_steps={self.num_steps}"


def _check_cells(x: Tensor, mask: Tensor) -> None:
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(
            f"`x` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}"
        )
    if mask.dtype != torch.bool or mask.shape != x.shape:
        raise ValueError(
            f"`mask` must be boolean, of the shape {tuple(x.shape)} of `x`, "
            f"got {mask.dtype}, {tuple(mask.shape)}"
        )
    observed = x[mask]
    if not ((observed == 0) | (observed == 1)).all():
        raise ValueError(
            "`x` must hold zeros and ones where `mask` is True, got other values or NaN"
        )


__all__ = ["Completions"]
