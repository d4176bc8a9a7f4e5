"""Public families of real columns, each with a maker, and rows to give them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pyro_gen import models, nn
from pyro_gen.distributions import (
    Conditional,
    FixedScaleGaussianConditional,
    GaussianConditional,
    GaussianMixtureConditional,
)

Make = Callable[[Tensor, Conditional], Any]
SHAPE = (2, 3)
NETWORKS: dict[str, Make] = {
    "FVSBN": lambda x, c: nn.FVSBN.from_data(x, conditional=c),
    "PerConditionalMLP": lambda x, c: nn.PerConditionalMLP.from_data(x, 3, conditional=c),
    "NADE": lambda x, c: nn.NADE.from_data(x, 4, conditional=c, order=(5, 3, 1, 0, 2, 4)),
    "DeepNADE": lambda x, c: nn.DeepNADE.from_data(x, [4, 3], conditional=c, order=(5, 3, 1, 0, 2, 4)),
    "MADE": lambda x, c: nn.MADE.from_data(x, [8], conditional=c, skip=True),
    "RecurrentAR": lambda x, c: nn.RecurrentAR.from_data(x, 4, conditional=c, order=(1, 0, 2, 5, 4, 3)),
    "CausalTransformer": lambda x, c: nn.CausalTransformer.from_data(x, 4, heads=2, num_layers=1, conditional=c),
    "PixelCNN": lambda x, c: nn.PixelCNN.from_data(x.unflatten(1, SHAPE), 4, 2, conditional=c),
}
"""One maker for each public network that takes real features."""
DISCRETE_NETWORKS = {"AutoregressiveNetwork", "SequenceAR", "TabularAR"}
"""The base class, and networks of finitely many values."""
CONDITIONALS: dict[str, Callable[[float], Conditional]] = {
    "GaussianConditional": lambda scale: GaussianConditional(),
    "GaussianMixtureConditional": lambda scale: GaussianMixtureConditional(3),
    "FixedScaleGaussianConditional": lambda scale: FixedScaleGaussianConditional(0.5 * scale),
}
"""One maker for each public conditional of real numbers, given the factor of the columns."""
LEARNED = ("GaussianConditional", "GaussianMixtureConditional")
HIDDEN: dict[str, Any] = {"hidden": (5,)}
MODELS: dict[str, Make] = {
    "VAE": lambda x, c: models.VAE.from_data(x, 2, likelihood=c, **HIDDEN),
    "SemiSupervisedVAE": lambda x, c: models.SemiSupervisedVAE.from_data(x, 2, likelihood=c, classes=2, **HIDDEN),
    "Autoencoder": lambda x, c: models.Autoencoder.from_data(x, 2, likelihood=c, **HIDDEN),
    "DenoisingAutoencoder": lambda x, c: models.DenoisingAutoencoder.from_data(x, 2, likelihood=c, **HIDDEN),
}
"""One maker for each public model that takes real columns and learns by gradients from its ``from_data``."""
OTHER_MODELS = {
    "PCA",
    "PPCA",
    "BernoulliMixture",
    "CategoricalMixture",
    "DiscreteVAE",
    "FactorAnalysis",
    "LinearGaussian",
}
OTHER_MODELS |= {"GaussianMixture"}
"""Models with a ``from_data`` of other columns, or whose own tests hold their refusals and their scales."""
FACTORS = torch.tensor([1e-4, 1e4, 1.0, 30.0, 0.2, 1e3], dtype=torch.float64)
SHIFTS = torch.tensor([0.0, 1e6, -1e6, 300.0, 5.0, -1e5], dtype=torch.float64)


def columns(rows: int = 60) -> Tensor:
    """Dependent, skewed columns of about unit scale, float64."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows, 6, dtype=torch.float64, generator=generator)
    x = noise @ torch.randn(6, 6, dtype=torch.float64, generator=generator) / 6**0.5
    return x + 0.2 * x.square()


def units(conditional: str) -> tuple[Tensor, Tensor, float]:
    """Factors and shifts of the columns, and the factor of a fixed scale: one of all columns takes one factor."""
    if conditional == "FixedScaleGaussianConditional":
        return torch.full_like(FACTORS, 1e4), SHIFTS, 1e4
    return FACTORS, SHIFTS, 1.0


def public(module: Any, base: type) -> set[str]:
    """Public classes of a module below a base."""
    kinds = ((name, getattr(module, name)) for name in module.__all__)
    return {name for name, kind in kinds if inspect.isclass(kind) and issubclass(kind, base)}


def with_constants(x: Tensor) -> Tensor:
    """Columns 1 and 4 of one value each."""
    x = x.clone()
    x[:, 1], x[:, 4] = 0.0, 0.1
    return x


def svi_losses(model: Any, x: Tensor, steps: int) -> Tensor:
    """Losses of Pyro's SVI, a row."""
    classes = isinstance(model, models.SemiSupervisedVAE)
    loss = TraceEnum_ELBO(max_plate_nesting=1) if classes else Trace_ELBO()
    arguments = (torch.arange(len(x)) % 3 - 1,) if classes else ()
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 3e-3}), loss)
    return torch.tensor([svi.step(x, *arguments) / len(x) for _ in range(steps)], dtype=torch.float64)
