"""Every model made from data takes each data type by the one rule, and reads rows of each alike."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

import pyro_gen.models
import pyro_gen.nn
from pyro_gen._rows import as_floating
from pyro_gen.distributions import (
    CategoricalConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    GaussianUnits,
)
from pyro_gen.testing import seeded

DTYPES = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bool: torch.float32,
    torch.uint8: torch.float32,
    torch.int64: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}
"""Data types of rows, and those of a model made of them."""
GAUSSIAN: dict[str, Any] = {"conditional": GaussianConditional()}
RECIPES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "Autoencoder": ((2,), {}),
    "BernoulliMixture": ((2,), {}),
    "BoltzmannMachine": ((), {}),
    "CategoricalMixture": ((2,), {}),
    "CausalTransformer": ((4,), {"heads": 2, "layers": 1}),
    "DeepNADE": ((4,), {}),
    "DenoisingAutoencoder": ((2,), {}),
    "DiscreteVAE": ((2,), {}),
    "FVSBN": ((), {}),
    "FactorAnalysis": ((1,), {}),
    "GaussianMixture": ((2,), {}),
    "MADE": (((4,),), {}),
    "NADE": ((4,), {}),
    "PCA": ((2,), {}),
    "PPCA": ((1,), {}),
    "PerConditionalMLP": ((4,), {}),
    "PixelCNN": ((), {}),
    "RBM": ((3,), {}),
    "RecurrentAR": ((4,), {}),
    "SemiSupervisedVAE": ((2,), {"classes": 2}),
    "SequenceAR": ((2, 3), {}),
    "TabularAR": ((), {}),
    "VAE": ((2,), {}),
}
"""Arguments after the rows, of every public class that is made from data."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MADE, real": ("MADE", GAUSSIAN),
    "NADE, labels": ("NADE", {"conditional": CategoricalConditional(2)}),
    "RBM, real": ("RBM", {"visible_units": GaussianUnits()}),
    "VAE, mixture": ("VAE", {"likelihood": GaussianMixtureConditional(2)}),
    "VAE, real": ("VAE", {"likelihood": GaussianConditional()}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in RECIPES} | VARIANTS


def public() -> dict[str, Any]:
    """Public classes that are made from data."""
    modules = (pyro_gen.nn, pyro_gen.models)
    classes = {name: getattr(module, name) for module in modules for name in module.__all__}
    return {
        name: cls
        for name, cls in classes.items()
        if inspect.isclass(cls) and hasattr(cls, "from_data") and not inspect.isabstract(cls)
    }


def rows() -> Tensor:
    """Rows of zeros and ones, no column constant."""
    with seeded(0):
        x = torch.randint(2, (12, 4))
    x[0], x[1] = 0, 1
    return x


def make(case: str, x: Tensor) -> Any:
    """A model of rows; with one seed, of one start."""
    name, settings = CASES[case]
    args, more = RECIPES[name]
    shaped = x.reshape(-1, 2, 2) if name == "PixelCNN" else x
    with seeded(1):
        return public()[name].from_data(shaped, *args, **more, **settings)


def score(model: Any, x: Tensor) -> Tensor:
    """A number for each row: a density, or what the model makes of rows where it has none."""
    model.eval()
    x = x.reshape(-1, 2, 2) if "PixelCNN" in type(model).__name__ else x
    with torch.no_grad(), seeded(2):
        for method in ("log_likelihood", "latent_means"):
            if hasattr(model, method):
                return torch.as_tensor(getattr(model, method)(x))
        distribution = model()
        density = getattr(distribution, "unnormalized_log_prob", distribution.log_prob)
        return torch.as_tensor(density(x))


def joint(model: Any, x: Tensor) -> Tensor:
    """Log density of the program that observes rows, its latent variables drawn with one seed."""
    with seeded(3):
        trace = poutine.trace(model.model).get_trace(x)
    return torch.as_tensor(trace.log_prob_sum())


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Floating parameters and buffers."""
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


def test_every_public_class_made_from_data_is_swept() -> None:
    names = set(public()) - {"AutoregressiveNetwork", "LinearGaussian"}
    assert names == set(RECIPES)


@pytest.mark.parametrize("case", CASES)
def test_data_types_of_rows_and_models(case: str) -> None:
    x = rows()
    expected = {dtype: make(case, x.to(dtype)) for dtype in (torch.float32, torch.float64)}
    for dtype, of_model in DTYPES.items():
        model = make(case, x.to(dtype))
        state = tensors(model)
        assert {value.dtype for value in state.values()} == {of_model}, dtype
        for name, value in tensors(expected[of_model]).items():
            assert torch.equal(state[name], value), (dtype, name)


@pytest.mark.parametrize("case", CASES)
def test_rows_of_whole_numbers_read_as_the_models_own(case: str) -> None:
    x = rows()
    model = make(case, x.double())
    expected = score(model, x.double())
    assert expected.dtype == torch.float64
    for dtype in (torch.bool, torch.uint8, torch.int64):
        result = score(model, x.to(dtype))
        assert result.dtype == torch.float64, dtype
        torch.testing.assert_close(result, expected)
        if hasattr(model, "model"):
            torch.testing.assert_close(joint(model, x.to(dtype)), joint(model, x.double()))


def test_whole_numbers_that_would_be_rounded_and_complex_rows_raise() -> None:
    large = torch.tensor([[2**24 + 1, 0]])
    with pytest.raises(ValueError, match=r"`x` must be whole numbers that torch\.float32 holds exactly"):
        as_floating(large)
    assert as_floating(large, torch.zeros(1).double()).tolist() == large.tolist()
    with pytest.raises(ValueError, match=r"`x` must be real numbers, got torch\.complex64"):
        as_floating(torch.zeros(1, 1, dtype=torch.complex64))
