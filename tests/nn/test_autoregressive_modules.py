"""The autoregressive networks as modules: copied, compiled, batched, mixed, counted, their weights under priors."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroSample
from pyro.nn.module import to_pyro_module_
from torch import Tensor

from pyro_gen import nn
from pyro_gen.testing import states
from tests.marks import slow
from tests.nn.test_autoregressive import FAMILIES, ORDER, every_family, network, reloaded, values

Parameters = Callable[[Tensor, Tensor], Tensor]

COPIES: dict[str, Callable[[nn.AutoregressiveNetwork, str], Parameters]] = {
    "copy": lambda made, family: copy.deepcopy(made).parameters_of,
    "state": lambda made, family: reloaded(made, family, "Gaussian").parameters_of,
    "float32": lambda made, family: made.to(torch.float32).parameters_of,
    "compiled": lambda made, family: torch.compile(made.parameters_of, backend="aot_eager"),
}
COMPILED = ("FVSBN", "PixelCNN-plain", "MADE", "LSTM-shared", "CausalTransformer-shared")
"""One of each way to compute; `make evidence` compiles the others."""


# Torch's own warning, where it goes on after the break that nn.GRU makes in a compiled graph.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pair if pair[1] != "compiled" or pair[0] in COMPILED else slow(pair)[0]
        for pair in itertools.product(sorted(FAMILIES.keys() - {"TabularAR"}), COPIES)
    ],
)
def test_gradients_by_what_comes_later_stay_exactly_zero(family: str, kind: str) -> None:
    torch._dynamo.reset()
    made = network(family, "Gaussian", context=2)
    again = COPIES[kind](made, family)
    x, context = torch.randn(1, 4).to(made.example), torch.randn(1, 2).to(made.example)
    slopes = torch.autograd.functional.jacobian(lambda value: again(value, context), x)
    depends = torch.as_tensor(slopes).ne(0).any(2)[0, :, 0]  # distribution, feature
    places = torch.tensor(ORDER).argsort()
    assert not depends[places.unsqueeze(1) <= places].any()
    assert depends[places.unsqueeze(1) > places].any()


@every_family
@pytest.mark.parametrize("distribution", ["Bernoulli", "labels", "levels"])
def test_single_precision_sums_to_one_too(family: str, distribution: str) -> None:
    density = network(family, distribution, context=2).float()(torch.randn(3, 2))
    total = density.log_prob(density.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(3), rtol=0, atol=1e-5)


@every_family
@pytest.mark.parametrize("distribution", ["Bernoulli", "labels", "levels"])
def test_mixtures_over_orders_and_families_sum_to_one(family: str, distribution: str) -> None:
    members = [
        network(name, distribution, context=2, order=order) for name in (family, "FVSBN") for order in (None, ORDER)
    ]
    ensemble = nn.AutoregressiveEnsemble(members, learn_weights=True)
    torch.nn.init.normal_(ensemble.logits)
    density = ensemble(torch.randn(2, 3, 2, dtype=torch.float64))
    total = density.log_prob(density.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@every_family
def test_batches_of_three_dimensions_in_nested_plates_are_rows(family: str) -> None:
    made = network(family, context=2)
    context = torch.randn(2, 1, 3, 2, dtype=torch.float64)
    x = values(made(torch.zeros(2, dtype=torch.float64)), 12).view(2, 2, 3, 4)

    def model() -> Tensor:
        with pyro.plate("a", 2, dim=-3), pyro.plate("b", 2, dim=-2), pyro.plate("c", 3, dim=-1):
            pyro.sample("x", made(context), obs=x)
            return pyro.sample("drawn", made(context))

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    single = [made(context[i, 0, k]).log_prob(x[i, j, k]) for i in range(2) for j in range(2) for k in range(3)]
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], torch.stack(single).view(2, 2, 3))
    assert torch.as_tensor(trace.nodes["drawn"]["value"]).shape == (2, 2, 3, 4)
    assert made(context).log_prob(x.mT.contiguous().mT).equal(made(context).log_prob(x))  # however it lies in memory


@pytest.mark.parametrize("family", [f for f in FAMILIES if "PixelCNN" not in f and f != "DeepNADE"])
def test_counted_parameters_are_those_that_matter(family: str) -> None:
    # PixelCNN's reach beyond small images, and DeepNADE's serve other orders too.
    made = network(family, context=2, order=None)
    x, context = states(4).repeat(20, 1), torch.randn(320, 2, dtype=torch.float64)
    weights = torch.randn(320, 4, 1, dtype=torch.float64)
    (made.parameters_of(x, context).square() * weights).sum().backward()
    assert sum(int(p.grad.ne(0).sum()) for p in made.parameters() if p.grad is not None) == made.num_parameters


@every_family
def test_weights_with_priors_are_drawn_once_a_call(family: str) -> None:
    made, x = network(family), states(4)
    plain = copy.deepcopy(made)
    to_pyro_module_(made)
    for module in made.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            prior = dist.Normal(torch.zeros_like(value.detach()), 1.0).to_event(value.dim())
            setattr(module, name, PyroSample(prior))

    def model() -> Tensor:
        density = made()
        with pyro.plate("rows", len(x)):
            return pyro.sample("x", density, obs=x)

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    drawn = {name: trace.nodes[name]["value"] for name, _ in plain.named_parameters()}
    plain.load_state_dict(drawn, strict=False)
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], plain().log_prob(x))
    with pyro.plate("batch", 3, dim=-9), pytest.raises(ValueError, match="a network takes one value of each weight"):
        made()


def test_a_pyro_module_learns_like_any_other() -> None:
    made = cast(nn.NADE, cast(Any, PyroModule[nn.NADE])(3, 4))
    before = made().log_prob(torch.ones(3)).item()

    def model() -> None:
        with pyro.plate("rows", 5):
            pyro.sample("x", made(), obs=torch.ones(5, 3))

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(20):
        svi.step()
    assert made().log_prob(torch.ones(3)).item() > before + 0.5


@pytest.mark.slow
def test_hamiltonian_chains_find_the_posterior_of_weights() -> None:
    # Five standard errors of 400 draws that count as 100 independent ones: 2e-6 in all.
    x = torch.tensor([[0, 0], [1, 1], [1, 1], [1, 0], [0, 0]]).double()
    made = cast(nn.FVSBN, cast(Any, PyroModule[nn.FVSBN])(2)).double()
    for name, shape in (("bias", (2, 1)), ("weight", (2, 1, 2, 1))):
        setattr(made, name, PyroSample(dist.Normal(torch.zeros(shape).double(), 1).to_event(len(shape))))

    def model() -> None:
        density = made()
        with pyro.plate("rows", len(x)):
            pyro.sample("x", density, obs=x)

    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(model), num_samples=400, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    found = {name: draws.flatten(1) for name, draws in mcmc.get_samples().items()}
    b, w = torch.meshgrid(*(torch.linspace(-6, 6, 601).double(),) * 2, indexing="ij")
    logits = b.unsqueeze(-1) + w.unsqueeze(-1) * x[:, 0]
    log_posterior = -(b.square() + w.square()) / 2 + dist.Bernoulli(logits=logits).log_prob(x[:, 1]).sum(-1)
    weight = log_posterior.flatten().softmax(0)
    for draws, grid in ((found["bias"][:, 1], b), (found["weight"][:, 1], w)):  # weight (0, 1): from first to second
        mean = (weight * grid.flatten()).sum()
        sd = (weight * (grid.flatten() - mean).square()).sum().sqrt()
        assert abs(draws.mean() - mean) < 5 * sd / 10
        assert 0.7 < draws.std() / sd < 1.4
