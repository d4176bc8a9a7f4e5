"""The Triton kernels as users call them: public ops, the module, streams, threads, graphs of the caller, huge tensors.

``triton_run.py`` runs these functions. Those that need a device say so in ``triton_run.ON_CUDA``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, PersistentChains, contrastive_gradient
from pyro_gen.kernels import rbm_ais, rbm_contrast, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.ais import triton as ais
from pyro_gen.kernels.contrastive import triton as contrastive
from pyro_gen.kernels.gibbs import triton as gibbs
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, Key, philox_uniforms
from pyro_gen.kernels.triton import graphs
from pyro_gen.nn import RBM
from tests.kernels.triton_checks import DEVICE, Call, by_launches, problem


@contextmanager
def forced(name: str) -> Iterator[None]:
    """``PYRO_GEN_BACKEND``."""
    before = os.environ.get("PYRO_GEN_BACKEND")
    os.environ["PYRO_GEN_BACKEND"] = name
    try:
        yield
    finally:
        os.environ.pop("PYRO_GEN_BACKEND")
        if before is not None:
            os.environ["PYRO_GEN_BACKEND"] = before


def check_ops() -> None:
    """The public ops call the kernels, also under vmap and torch.compile; a number on the CPU may be a temperature."""
    v, parameters = problem(70, 130, 12)
    base, betas = parameters[1] * 0.5, torch.linspace(0, 1, 5)

    def hidden(x: Tensor, beta: Tensor | None = None) -> Tensor:
        return rbm_gibbs(x, *parameters, 2, beta, seed=3, step=7, chain_offset=17)[1]

    with forced("triton"):
        expected = by_launches(v, parameters, Call(2, step=7))[1]
        assert torch.equal(hidden(v), expected)
        assert torch.equal(torch.vmap(hidden)(v.view(3, 4, 70)).flatten(0, 1), expected)
        assert torch.equal(torch.compile(hidden, backend="eager")(v), expected)
        cold = Call(2, torch.full((12,), 0.5, device=DEVICE), step=7)
        assert torch.equal(hidden(v, torch.tensor(0.5)), by_launches(v, parameters, cold)[1])
        found = rbm_contrast(v, v, *parameters, 1, seed=3, chain_offset=17)
        alone = contrastive.rbm_contrast(v, v, parameters, 1, Key(3, 0, 17), graph=False)
        assert all(torch.equal(x, y) for x, y in zip(found, alone, strict=True))
        annealed = rbm_ais(v, *parameters, base, betas, seed=3, chain_offset=17)[0]
        assert torch.equal(annealed, ais.rbm_ais(v, parameters, base, betas, Key(3, 0, 17), graph=False)[0])
        exact = -v @ parameters[1] - softplus(v @ parameters[0] + parameters[2]).sum(-1)
        torch.testing.assert_close(rbm_free_energy(v, *parameters), exact, rtol=1e-5, atol=1e-4)


def check_module() -> None:
    """The module learns, samples and anneals on the device, and its gradients are the reference's."""
    torch.manual_seed(0)
    x = (torch.rand(20, 70) < 0.3).float().to(DEVICE)
    for phase in (PersistentChains(9), ContrastiveDivergence(2)):
        ours = RBM.from_data(x, 90, negative_phase=phase)
        with torch.no_grad():
            ours.weight.mul_(20)
        theirs = copy.deepcopy(ours)
        for name, rbm in (("triton", ours), ("reference", theirs)):
            with forced(name):
                for _ in range(3):  # plain, captured, replayed
                    contrastive_gradient(rbm, x)
        assert ours.chains.device == x.device
        assert (ours.chains != theirs.chains).sum() <= 0.01 * ours.chains.numel()
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert own.grad is not None
            assert own.grad.device == x.device
            assert other.grad is not None
            assert (own.grad - other.grad).abs().mean() < 1e-3
        with forced("triton"):
            ours().log_prob(x).mean().backward()
    small = RBM.from_data(x, 8, evaluation=AIS(num_betas=40, num_chains=100), num_steps=5).eval()
    with forced("triton"):
        estimate = small().log_partition()
        assert small().sample((6,)).shape == (6, 70)
    small.evaluation = Exact()
    error = (estimate.value - small().log_partition().value).abs()
    assert error < 6 * estimate.standard_error + 1e-3, f"log Z is {error} nats off"


def check_streams() -> None:
    """Calls on two streams and in two threads give what they give alone."""
    sizes = ((200, 160, 64), (300, 70, 64))
    problems = [problem(*size) for size in sizes]

    def call(number: int, seed: int) -> Tensor:
        v, parameters = problems[number]
        return gibbs.rbm_gibbs(v, parameters, 20, None, Key(seed))[1]

    alone = [[call(number, seed) for seed in range(30)] for number in range(2)]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    found: list[list[Tensor]] = [[], []]
    for seed in range(30):
        for mine, stream in zip(found, streams, strict=True):
            with torch.cuda.stream(stream):
                mine.append(call(0, seed))
    torch.cuda.synchronize()
    assert all(torch.equal(x, y) for mine in found for x, y in zip(mine, alone[0], strict=True))
    found = [[], []]

    def work(number: int) -> None:
        for seed in range(number, 30, 2):
            found[number].append(call(1, seed))

    threads = [Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(x, y) for k in range(2) for x, y in zip(found[k], alone[1][k::2], strict=True))


def check_captured_by_the_caller() -> None:
    """A graph of the caller may hold calls; its replays repeat them, key included, with what its tensors hold then."""
    for size in ((200, 160, 33), (40, 30, 33)):
        v, parameters = problem(*size)
        held, expected = v.clone(), gibbs.rbm_gibbs(v, parameters, 3, None, Key(5, 7, 11))
        other = gibbs.rbm_gibbs(1 - v, parameters, 3, None, Key(5, 7, 11))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            drawn = gibbs.rbm_gibbs(held, parameters, 3, None, Key(5, 7, 11))
        for states, wanted in ((v, expected), (1 - v, other)):
            held.copy_(states)
            graph.replay()
            assert all(torch.equal(x, y) for x, y in zip(drawn, wanted, strict=True))


def check_more_than_two_billion_elements() -> None:
    """Addresses do not overflow: weights, and states of few and of many units, beyond 2^31 elements each."""
    graphs.clear()
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        print("less than 60 GiB of memory are free: not checked beyond 2^31 elements")
        return
    for units, chains in ((64, 2**25 + 100), (100, 2**24 + 100)):
        v, parameters = problem(units, units, 100)
        many = torch.zeros(units, chains, device=DEVICE)  # transposed: the longest stride there is
        many[:, -100:] = v.T
        new_v, new_h = gibbs.rbm_gibbs(many.T, parameters, 1, None, Key(3))
        expected = gibbs.rbm_gibbs(v, parameters, 1, None, Key(3, 0, chains - 100))
        assert torch.equal(new_v[-100:], expected[0])
        assert torch.equal(new_h[-100:], expected[1])
        del many, new_v, new_h
    visible, hidden = 65_536, 32_896
    weight = torch.zeros(visible, hidden, device=DEVICE)
    weight[-1] = torch.tensor([200.0, -200.0], device=DEVICE).repeat(hidden // 2)
    parameters = RBMParameters(weight, weight.new_zeros(visible), weight.new_zeros(hidden))
    v = torch.zeros(3, visible, device=DEVICE)
    v[1:, -1] = 1
    u = philox_uniforms(3, 3, 0, v)
    for form in ("fp16x2", "int8x2"):
        new_v, h = gibbs.rbm_gibbs(v, parameters, 1, None, Key(3), form)
        assert torch.equal(h[0], (u(0, HIDDEN, hidden)[0] < 0.5).float())
        assert torch.equal(h[1:], (weight[-1] > 0).float().expand(2, -1))
        assert torch.equal(new_v[1:, :-1], (u(0, 1, visible)[1:, :-1] < 0.5).float())
        assert new_v[1:, -1].all()
