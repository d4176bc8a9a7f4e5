"""Every model made from data takes each data type by the one rule, and reads rows of each alike."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from pyro_gen import models
from pyro_gen import nn as nets
from pyro_gen._rows import as_floating
from pyro_gen.distributions import (
    CategoricalConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    GaussianUnits,
)
from pyro_gen.infer import WakeSleep
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
    "CausalTransformer": ((4,), {"heads": 2, "num_layers": 1}),
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
    modules = (nets, models)
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


def by_svi(model: Any, x: Tensor, elbo: Any = None, *more: Tensor) -> list[Tensor]:
    """The loss of one step, which moves the weights; the draws of one seed."""
    with seeded(4):
        loss = SVI(model.model, model.guide, pyro.optim.SGD({"lr": 0.1}), elbo or Trace_ELBO()).step(x, *more)
    return [torch.as_tensor(loss)]


def by_wake_sleep(model: Any, x: Tensor) -> list[Tensor]:
    return [*by_svi(model, x, WakeSleep(2)), bound(model, x)]


def bound(model: Any, x: Tensor) -> Tensor:
    with seeded(5):
        return torch.as_tensor(model.eval().lower_bound(x, 2).rows)


def by_contrast(model: Any, x: Tensor) -> list[Tensor]:
    with seeded(4):
        model.contrastive_gradient(x)
    return [*(parameter.grad for parameter in model.parameters()), bound(model, x)]


def by_em(model: Any, x: Tensor) -> list[Tensor]:
    with seeded(4):
        results = [model.fit(x).objective, model.log_likelihood(x)]
        if isinstance(model, models.PPCA):
            results.append(model.fit(x, method="em").objective)
        if hasattr(model, "gibbs"):
            results += model.gibbs(x, 2).values()
    return results


def by_density(model: Any, x: Tensor) -> list[Tensor]:
    with seeded(4):
        loss = -model().log_prob(x).mean()
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


def per_class(model: Any, x: Tensor) -> list[Tensor]:
    return [model(torch.eye(2)[LABELS].to(next(model.parameters()))).log_prob(x).detach()]


LABELS = torch.arange(12) % 2
BUILT: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], list[Tensor]]]] = {
    "AutoregressiveEnsemble": (lambda: nets.AutoregressiveEnsemble([nets.NADE(4, 3), nets.NADE(4, 3)]), by_density),
    "AutoregressivePerClass": (lambda: nets.AutoregressivePerClass([nets.NADE(4, 3), nets.NADE(4, 3)]), per_class),
    "BayesClassifier": (
        lambda: models.BayesClassifier(nets.NADE(4, 3, context=2), 2, 12),
        lambda model, x: by_svi(model, x, None, LABELS),
    ),
    "BernoulliMixture": (lambda: models.BernoulliMixture(2, 4, 12), by_em),
    "CategoricalMixture": (lambda: models.CategoricalMixture(2, 4, 2, 12), by_em),
    "ClassRBM": (lambda: nets.ClassRBM(4, 3, 2), lambda model, x: [model(x).log_prob(LABELS).detach()]),
    "ConditionalRBM": (lambda: nets.ConditionalRBM(4, 3, 4), lambda model, x: [model.eval()(x).log_prob(x).detach()]),
    "DeepBeliefNetwork": (lambda: models.DeepBeliefNetwork(4, [3, 2], 12), by_wake_sleep),
    "DeepBoltzmannMachine": (lambda: models.DeepBoltzmannMachine(4, [3, 2], 12), by_contrast),
    "EoNADE": (lambda: nets.EoNADE(nets.DeepNADE(4, 3), 2), by_density),
    "FactorAnalysis": (lambda: models.FactorAnalysis(4, 1, 12), by_em),
    "GaussianMixture": (lambda: models.GaussianMixture(2, 4, 12), by_em),
    "PPCA": (lambda: models.PPCA(4, 1, 12), by_em),
    "SigmoidBeliefNetwork": (lambda: models.SigmoidBeliefNetwork(4, [3], 12), by_wake_sleep),
}
"""Models made by their constructors, and a way in which each learns from rows, with numbers of what came out."""
PARTS = {
    *("CPD", "ConditionalGaussianCPD", "DiscreteCPD", "LinearGaussianCPD", "LogisticCPD", "NeuralCPD", "NoisyOrCPD"),
    *("ConvolutionalDecoder", "ConvolutionalEncoder", "Dense", "IndependentPrior", "StandardNormal", "TabularCPD"),
    *("GaussianNoise", "MaskingNoise", "SaltAndPepperNoise", "VampPrior"),
}
"""Modules that others are made of."""
WITHOUT_ROWS = {"BayesianNetwork", "Mixture"}
"""Of columns by name, learned in float64 whatever they are; abstract."""


def learners() -> set[str]:
    """Public modules that are not made from data, or that learn by EM besides."""
    classes = {name: getattr(module, name) for module in (models, nets) for name in module.__all__}
    modules = {name: cls for name, cls in classes.items() if inspect.isclass(cls) and issubclass(cls, nn.Module)}
    return {name for name, cls in modules.items() if name not in public() or hasattr(cls, "fit")}


def test_every_public_class_that_learns_from_rows_is_swept() -> None:
    abstract = {"AutoregressiveNetwork", "LinearGaussian"}
    assert learners() - PARTS - WITHOUT_ROWS - abstract == set(BUILT)


@pytest.mark.filterwarnings("ignore:the importance weights")
@pytest.mark.parametrize("name", BUILT)
def test_float64_rows_are_learned_in_float64(name: str) -> None:
    """A model of float64 stays so and computes so; whole numbers are to it what float64 rows are."""
    make_built, learn = BUILT[name]
    with seeded(1):
        start = make_built().double()
    outcomes = {}
    for dtype in (torch.float64, torch.bool, torch.uint8, torch.int64):
        pyro.clear_param_store()
        model = copy.deepcopy(start)
        outcomes[dtype] = [*learn(model, rows().to(dtype)), *tensors(model).values()]
        assert {value.dtype for value in tensors(model).values()} == {torch.float64}, dtype
    for dtype, results in outcomes.items():
        for result, expected in zip(results, outcomes[torch.float64], strict=True):
            assert result.dtype == expected.dtype, dtype
            torch.testing.assert_close(result, expected, equal_nan=True)


@pytest.mark.filterwarnings("ignore:the importance weights")
@pytest.mark.parametrize("name", BUILT)
def test_a_float32_model_reads_float64_rows_as_its_own_or_says_that_it_does_not(name: str) -> None:
    make_built, learn = BUILT[name]
    with seeded(1):
        start = make_built()
    pyro.clear_param_store()
    expected = learn(copy.deepcopy(start), rows().float())
    pyro.clear_param_store()
    if hasattr(start, "fit"):
        with pytest.raises(ValueError, match=r"`x` must be torch\.float32 on cpu like the m.*, got torch\.float64"):
            learn(start, rows().double())
        return
    for result, own in zip(learn(start, rows().double()), expected, strict=True):
        torch.testing.assert_close(result, own)


def test_whole_numbers_that_would_be_rounded_and_complex_rows_raise() -> None:
    large = torch.tensor([[2**24 + 1, 0]])
    with pytest.raises(ValueError, match=r"`x` must be whole numbers that torch\.float32 holds exactly"):
        as_floating(large)
    assert as_floating(large, torch.zeros(1).double()).tolist() == large.tolist()
    with pytest.raises(ValueError, match=r"`x` must be real numbers, got torch\.complex64"):
        as_floating(torch.zeros(1, 1, dtype=torch.complex64))
