"""A second model under a name that Pyro's parameter store holds already."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pytest
import torch
from torch import Tensor

from pyro_gen.models import PPCA, VAE, BernoulliMixture, DiscreteVAE

X = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
PROGRAMS: dict[str, Callable[[], Callable[[Tensor], object]]] = {
    "the model of a VAE": lambda: VAE(4, 2, size=3).model,
    "the guide of a DiscreteVAE": lambda: DiscreteVAE(4, 2, size=3).guide,
    "the guide of a BernoulliMixture": lambda: BernoulliMixture(2, 4, 3).guide,
    "the model of a PPCA": lambda: PPCA(4, 2, size=3).model,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_second_one_raises_until_the_store_is_cleared(name: str) -> None:
    PROGRAMS[name]()(X)
    second = PROGRAMS[name]()
    with pytest.raises(ValueError, match="clear_param_store"):
        second(X)
    pyro.clear_param_store()
    second(X)
    second(X)
