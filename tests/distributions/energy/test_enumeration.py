"""Sums over all states: the streamed ones equal those in one block, and stay small in memory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gen.distributions import RBM, BernoulliUnits, streaming
from pyro_gen.distributions.energy import enumeration
from pyro_gen.distributions.energy.enumeration import smaller_first
from pyro_gen.infer import Exact
from tests.evidence import evidence
from tests.kernels.oracle import Weights, bits, joint, log_z
from tests.marks import slow

Batches = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Parameters = tuple[Tensor, Tensor, Tensor]
BATCHES: list[Batches] = [((), (), ()), ((3, 1), (2,), ()), ((), (2,), (3, 1)), ((2,), (3, 1), (2,))]
SIZES = [(6, 4), (3, 7)]


def close(actual: Tensor | None, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def parameters(size: tuple[int, int], batches: Batches) -> Parameters:
    draw = np.random.default_rng(sum(size)).normal
    weight = torch.tensor(draw(size=(*batches[0], *size)), requires_grad=True)
    vbias = torch.tensor(draw(size=(*batches[1], size[0])), requires_grad=True)
    return weight, vbias, torch.tensor(draw(size=(*batches[2], size[1])), requires_grad=True)


def value_and_gradients(leaves: Parameters) -> list[Tensor]:
    value = RBM(*leaves).log_partition().value
    share = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).view(value.shape)
    return [value, *torch.autograd.grad((share * value).sum(), leaves)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("block_bytes", [1, 200, 1000])
def test_streamed_sums_equal_one_block(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], batches: Batches, block_bytes: int
) -> None:
    leaves = parameters(size, batches)
    whole = value_and_gradients(leaves)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", block_bytes)
    for streamed, expected in zip(value_and_gradients(leaves), whole, strict=True):
        close(streamed, expected)


def test_small_blocks_take_the_streamed_path(monkeypatch: pytest.MonkeyPatch) -> None:
    side, *tensors = smaller_first(parameters((6, 4), BATCHES[0]), (BernoulliUnits(), BernoulliUnits()))
    for block_bytes, streamed in ((2**24, False), (200, True)):
        monkeypatch.setattr(streaming, "BLOCK_BYTES", block_bytes)
        total = enumeration.log_sum(side, tensors[0], tensors[1], tensors[2])
        assert ("Streamed" in type(total.grad_fn).__name__) == streamed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block_bytes", [200, 2**24])
def test_values_gradients_and_draws_are_enumerated(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], block_bytes: int
) -> None:
    """The moments: d log Z / d W_ij = E[v_i h_j], d log Z / d a_i = E[v_i], d log Z / d b_j = E[h_j]."""
    monkeypatch.setattr(streaming, "BLOCK_BYTES", block_bytes)
    weights = Weights.normal(*size, seed=2)
    distribution, v, h = joint(weights), bits(size[0]), bits(size[1])
    weight, vbias, hbias = weights.tensors()
    leaves = weight.requires_grad_(), vbias.requires_grad_(), hbias.requires_grad_()
    value, *gradients = value_and_gradients(leaves)
    expected = [v.T @ distribution @ h, distribution.sum(1) @ v, distribution.sum(0) @ h]
    close(value, torch.tensor(log_z(weights), dtype=torch.float64))
    for gradient, moment in zip(gradients, expected, strict=True):
        close(gradient, -torch.tensor(moment))
    drawn = RBM(*weights.tensors()).sample((50_000,)).numpy().mean(0)
    rates = expected[1]
    assert (np.abs(drawn - rates) < 6 * np.sqrt(rates * (1 - rates) / 50_000)).all()


def test_second_derivatives_of_the_streamed_sum_are_right_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never silently without the share of log Z."""
    leaves = parameters((6, 4), BATCHES[0])

    def curvature() -> Tensor:
        (gradient,) = torch.autograd.grad(RBM(*leaves).log_prob(torch.ones(6)), leaves[0], create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), leaves[0])[0]

    expected = curvature()
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 200)
    try:
        streamed = curvature()
    except RuntimeError:
        return
    close(streamed, expected)


def test_parameters_without_gradient_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 200)
    weight, vbias, hbias = parameters((6, 4), BATCHES[0])
    RBM(weight, vbias.detach(), hbias.detach()).log_partition().value.backward()
    expected = value_and_gradients((weight, vbias, hbias))[1]
    close(weight.grad, -expected)


def test_float32_agrees_with_float64_to_its_precision() -> None:
    weights = Weights.normal(30, 14, scale=0.5)
    exact = RBM(*weights.tensors()).log_partition().value
    single = RBM(*weights.tensors(torch.float32)).log_partition().value
    torch.testing.assert_close(single.double(), exact, rtol=1e-6, atol=0)


def test_exact_refuses_more_units_than_it_was_given() -> None:
    with pytest.raises(ValueError, match=r"Exact\(max_units=3\) expects at most .* got 4: use AIS"):
        RBM(*parameters((6, 4), BATCHES[0]), Exact(3))


MEASURE = """
import json, time, torch
from pyro_gen.distributions import RBM
def peak():  # of this process alone: getrusage's ru_maxrss would start at the parent's size
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
shapes = {shapes}
parameters = [(0.05 * torch.randn(shape, generator=generator)).requires_grad_() for shape in shapes]
value = torch.ones(10, *(1,) * {batch}, shapes[1][-1])
RBM(torch.ones(4, 4, requires_grad=True), torch.ones(4), torch.ones(4)).log_prob(torch.ones(10, 4)).sum().backward()
before, start = peak(), time.perf_counter()
RBM(*parameters).log_prob(value).sum().backward()
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "mebibytes": peak() - before}}))
"""


def measure(shapes: list[tuple[int, ...]], batch: int = 0) -> dict[str, float]:
    """Seconds and peak memory beyond what imports take, of log_prob and backward in a fresh process."""
    code = MEASURE.format(shapes=shapes, batch=batch)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(("hidden", "limit"), [(16, 128), *slow((18, 128), (20, 256))])
def test_peak_memory_is_bounded(hidden: int, limit: int) -> None:
    """At 20 x 784, log_prob and backward stay below 256 MB; at 16 and 18 below half of it: no growth with the blocks.

    The energies of the 2^16 states in single precision alone would fill 200 MB.
    """
    figures = measure([(784, hidden), (784,), (hidden,)])
    evidence(f"exact_memory_784x{hidden}", **figures)
    assert figures["mebibytes"] < limit, figures


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory_is_bounded_for_many_biases_of_the_enumerated_side() -> None:
    figures = measure([(30, 10), (30,), (4000, 10)], batch=1)
    assert figures["mebibytes"] < 256, figures
