"""The table of distributions: one row each, and every check of the conformance suite runs over it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Size, Tensor

from pyro_gen.distributions import RBM, ClampedRBM, ClassRBM, Exact
from pyro_gen.testing import Case, normal_parameters, states

EVIDENCE = torch.tensor([[2, 2, 2, 1], [2, 0, 1, 1], [0, 1, 0, 1]])  # of three rows; 2 where a cell is missing


def clamped(
    weight: Tensor, vbias: Tensor, hbias: Tensor, observed: Tensor, validate_args: bool | None = None
) -> ClampedRBM:
    """The RBM given the cells of ``observed`` that are not 2."""
    cells = torch.where(observed == 2, torch.nan, observed.to(vbias.dtype))
    return RBM(weight, vbias, hbias, validate_args=validate_args).given(cells, observed != 2)


def clamped_parameters(batch_shape: Size) -> dict[str, Tensor]:
    """Other evidence in every row of a batch."""
    rows = EVIDENCE[torch.arange(batch_shape.numel()) % len(EVIDENCE)]
    draw = normal_parameters(weight=(4, 3), vbias=(4,), hbias=(3,))
    return draw(batch_shape) | {"observed": rows.reshape(*batch_shape, 4)}


CASES = [
    Case("RBM", RBM, normal_parameters(weight=(4, 3), vbias=(4,), hbias=(3,)), states(4)),
    Case(
        "RBM-wide", partial(RBM, partition=Exact()), normal_parameters(weight=(3, 4), vbias=(3,), hbias=(4,)), states(3)
    ),
    Case("ClampedRBM", clamped, clamped_parameters, states(4)),
    Case(
        "ClassRBM",
        ClassRBM,
        normal_parameters(weight=(2, 3), label_weight=(3, 3), vbias=(2,), label_bias=(3,), hbias=(3,)),
        torch.cat((states(2).repeat_interleave(3, 0), torch.eye(3).double().repeat(4, 1)), -1),
    ),
]
