"""Views of networks: tables of their own of the same tensors, however a user's network holds its parts."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parametrizations, parametrize

from pyro_gen import nn
from pyro_gen.nn.autoregressive.snapshot import separated, snapshot
from pyro_gen.testing import states

X = states(4).float()


class Shelf(nn.AutoregressiveNetwork):
    """A user's network, which reaches its layers by every kind of attribute; all of them work on the first feature."""

    def __init__(self) -> None:
        super().__init__(4)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(3))
        self.named = torch.nn.ModuleDict({"last": self.layers[2]})
        self.again = [*self.layers]
        self.pairs = [(None, self.layers[0]), (None, self.layers[1])]
        self.by_name = {"first": self.layers[0], "second": self.layers[1]}
        self.apply_last = self.layers[2].forward
        self.numbers = [1, 2, 3]
        object.__setattr__(self, "favourite", self.layers[1])

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        first = x[:, 0]
        reached = [*self.layers, *self.again, *(layer for _, layer in self.pairs), *self.by_name.values()]
        ways = [*reached, self.named["last"], self.apply_last, self.favourite]
        total = torch.stack([(k + 1) * way(first) for k, way in enumerate(ways)]).sum(0)
        return torch.stack([torch.zeros_like(total), total, total, total], 1)


def swapped(network: Any) -> dict[str, Tensor]:
    """Other weights."""
    return {name: torch.randn_like(p) for name, p in network.named_parameters()}


def test_every_way_to_a_part_leads_to_the_weights_of_the_call() -> None:
    network = Shelf()
    weights = swapped(network)
    holder = copy.deepcopy(network)  # which keeps all these ways, but for the bound method
    holder.apply_last = holder.layers[2].forward
    with torch.no_grad():
        for name, parameter in holder.named_parameters():
            parameter.copy_(weights[name])
    density = functional_call(network, weights, ())
    torch.testing.assert_close(density.log_prob(X), holder().log_prob(X))
    slopes = torch.func.grad(lambda new: functional_call(network, new, ()).log_prob(X[1:2]).sum())(weights)
    assert all(x.any() for name, x in slopes.items() if "layers" in name and "weight" not in name)
    view = density.conditioner
    assert view.layers[2] is view.named["last"] is view.again[2] is view.apply_last.__self__
    assert view.favourite is view.layers[1] is view.by_name["second"] is view.pairs[1][1]
    assert view.numbers is network.numbers
    assert view.layers[0].weight is weights["layers.0.weight"]


def test_a_view_has_the_very_tensors_and_its_own_tables() -> None:
    network = nn.CausalTransformer(4, 8, heads=2, num_layers=2)
    view = snapshot(network)
    for own, other in zip(network.modules(), view.modules(), strict=True):
        assert type(own) is type(other)
        assert own is not other
        for name in ("_parameters", "_buffers", "_modules"):
            assert getattr(own, name) is not getattr(other, name)
    assert all(a is b for a, b in zip(network.parameters(), view.parameters(), strict=True))
    assert all(a is b for a, b in zip(network.buffers(), view.buffers(), strict=True))


def test_an_order_that_is_swapped_in_is_that_of_the_density() -> None:
    network, order = nn.NADE(4, 3), torch.tensor([2, 0, 3, 1])
    density = functional_call(network, {"order": order}, ())
    expected = copy.deepcopy(network)
    expected.order.copy_(order)
    torch.testing.assert_close(density.log_prob(X), expected().log_prob(X))
    assert not torch.allclose(density.log_prob(X), network().log_prob(X))
    torch.manual_seed(0)
    drawn = density.sample((9,))
    torch.manual_seed(0)
    assert torch.equal(drawn, expected().sample((9,)))
    members = [nn.MADE(4, [5], order=order) for order in ((0, 1, 2, 3), (3, 1, 2, 0))]
    parameters, buffers = stack_module_state(members)
    each = vmap(lambda p, b: functional_call(members[0], (p, b), ()).log_prob(X))(parameters, buffers)
    torch.testing.assert_close(each, torch.stack([member().log_prob(X) for member in members]))


def test_an_ensemble_of_shared_weights_is_itself_after_a_swap() -> None:
    deep = nn.DeepNADE(4, [5, 5])
    for ensemble in (
        nn.EoNADE(deep, 3),
        nn.AutoregressiveEnsemble([deep.with_order((0, 1, 2, 3)), deep.with_order((3, 2, 1, 0))]),
        nn.AutoregressiveEnsemble([nn.MADE(4, [5]).masked(seed) for seed in (1, 2)]),
        nn.AutoregressiveEnsemble([nn.FVSBN(4)] * 2),
    ):
        before = [p.clone() for p in ensemble.parameters()]
        functional_call(ensemble, swapped(ensemble), ())
        assert all(torch.equal(a, b) for a, b in zip(before, ensemble.parameters(), strict=True))
    assert all(p is q for p, q in zip(deep.parameters(), nn.EoNADE(deep, 2).parameters(), strict=True))
    alone = [nn.FVSBN(4), nn.NADE(4, 3)]
    assert all(a is b for a, b in zip(separated(alone), alone, strict=True))


def test_a_density_keeps_the_mode_of_its_call() -> None:
    network: Any = nn.MADE(4, [6], activation=torch.nn.Dropout(0.5))
    network.eval()
    density = network()
    expected = density.log_prob(X)
    network.train()
    assert torch.equal(density.log_prob(X), expected)
    noisy = network()
    network.eval()
    torch.nn.init.ones_(network.output)
    assert not torch.equal(noisy.log_prob(X), noisy.log_prob(X))


def test_hooks_see_the_parts_of_the_view() -> None:
    network = nn.CausalTransformer(4, 8, heads=2, num_layers=1)
    seen: list[torch.nn.Module] = []
    handle = network.core.register_forward_hook(lambda module, args, out: seen.append(module))
    density = network()
    density.log_prob(X)
    assert len(seen) == 1
    assert next(seen[0].parameters()) is next(network.core.parameters())
    handle.remove()
    density.log_prob(X)
    assert len(seen) == 1


def test_copies_and_files_of_a_density_hold_its_weights() -> None:
    network = nn.RecurrentAR(4, 3, 2)
    weights = swapped(network)
    density = functional_call(network, weights, ())
    file = io.BytesIO()
    torch.save(density, file)
    file.seek(0)
    for again in (copy.deepcopy(density), torch.load(file, weights_only=False)):
        torch.testing.assert_close(again.log_prob(X), density.log_prob(X))
    parametrize.register_parametrization(network, "output", torch.nn.Tanh())
    with torch.no_grad():
        constant = network()  # its weights are numbers, not a graph
    torch.testing.assert_close(copy.deepcopy(constant).log_prob(X), network().log_prob(X))


def test_a_cast_after_the_call_is_seen_like_any_change_in_place() -> None:
    network = nn.MADE(4, [5])
    density = network()
    single = density.log_prob(X)
    network.double()
    double = density.log_prob(X.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)
    torch.testing.assert_close(double, network().log_prob(X.double()))


def test_spectral_norm_takes_one_step_a_call() -> None:
    network: Any = nn.NADE(4, 3)
    parametrizations.spectral_norm(network, "hidden_bias", dim=0)
    parametrizations.weight_norm(network, "output")
    parametrizations.spectral_norm(network, "weight")
    torch.nn.init.normal_(network.parametrizations.weight.original)  # its vectors have yet to turn to these weights
    density = network()
    first = density.log_prob(X)
    vector = network.parametrizations.weight[0]._u.clone()
    assert torch.equal(density.log_prob(X), first)  # in training mode each reading of the weight would move it
    assert torch.equal(network.parametrizations.weight[0]._u, vector)
    network()
    assert not torch.equal(network.parametrizations.weight[0]._u, vector)
    first.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_other_orders_of_a_parametrised_network_have_its_weights() -> None:
    deep = nn.DeepNADE(4, [5], order_agnostic=False)
    order = (3, 1, 2, 0)
    expected = deep(order=order).log_prob(X)
    parametrize.register_parametrization(deep, "weight", Halved())
    torch.testing.assert_close(deep(order=order).log_prob(X), expected)
    torch.testing.assert_close(nn.EoNADE(deep, [order])().log_prob(X), expected)


class Halved(torch.nn.Module):
    """Half of a weight that starts doubled."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2

    def right_inverse(self, x: Tensor) -> Tensor:
        return 2 * x


def test_masks_are_made_once_for_all_densities(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nn.MADE(4, [5])
    made.resample(1)
    calls: list[torch.device] = []
    plain = nn.MADE._new_masks

    def counted(network: nn.MADE, device: torch.device) -> list[Tensor]:
        calls.append(device)
        return plain(network, device)

    monkeypatch.setattr(nn.MADE, "_new_masks", counted)
    for _ in range(3):
        made().log_prob(X)
    assert len(calls) == 1
    density = made()
    expected = density.log_prob(X)
    made.resample(2)
    assert torch.equal(density.log_prob(X), expected)  # under the masks of its call


def test_compiled_steps_give_the_same_numbers() -> None:
    torch._dynamo.reset()
    network = nn.MADE(4, [5])
    compiled = torch.compile(lambda x: network().log_prob(x), backend="eager")
    torch.testing.assert_close(compiled(X), network().log_prob(X))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1)
    torch.testing.assert_close(compiled(X), network().log_prob(X))
    torch._dynamo.reset()
