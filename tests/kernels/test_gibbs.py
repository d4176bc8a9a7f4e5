"""Block Gibbs: every path against the formula with the same uniforms, on awkward sizes and layouts; its plumbing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gen.kernels import rbm_gibbs
from pyro_gen.kernels.gibbs import cpu, native, reference
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Key, Uniforms, philox_uniforms, source
from tests.kernels.oracle import BACKENDS, DEVICES, Array, Weights, fixed_uniforms, sigmoid

ROUNDING = {torch.float32: 2e-6, torch.float64: 1e-14}
SIZES = [(1, 1, 1), (63, 500, 1), (1, 500, 7), (500, 1, 3), (63, 7, 4097), (5, 3, 65), (200, 160, 512)]

Path = Callable[..., tuple[Tensor, Tensor]]
SEED = 3


def compiled(
    v: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    beta: Tensor | None,
    uniforms: Uniforms,
    step: int,
) -> tuple[Tensor, Tensor]:
    """The compiled kernels behind the other paths' seam; they draw their uniforms, Philox under SEED, themselves."""
    if v.dtype != torch.float32:
        pytest.skip("the compiled kernels know float32 only")
    return native.rbm_gibbs(v, parameters, num_steps, beta, Key(SEED, step))


PATHS: list[Path] = [reference.rbm_gibbs, cpu.rbm_gibbs, *([compiled] if "native" in BACKENDS else [])]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_GEN_BACKEND", raising=False)
    monkeypatch.delenv("PYRO_GEN_RNG", raising=False)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds NaN, in torch and in the numpy arrays that the uniforms are drawn into."""

    def poison(shape: tuple[int, ...], dtype: type = float) -> np.ndarray:
        return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 77, dtype)

    monkeypatch.setattr(np, "empty", poison)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all(), "torch.utils.deterministic.fill_uninitialized_memory is off"
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def problem(visible: int, hidden: int, chains: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, RBMParameters]:
    """States and parameters with fields of order one."""
    weight, vbias, hbias = Weights.normal(visible, hidden, seed=visible + hidden).tensors(dtype)
    v = fixed_uniforms(chains, dtype, seed=99)(0, 0, visible).round()
    return v, RBMParameters(weight / max(visible, hidden) ** 0.5, vbias, hbias)


def wrong_units(drawn: Tensor, uniform: Tensor, probs: Array, rounding: float) -> int:
    """How many states disagree with [u < p] where u is not within rounding of p; states must be zeros and ones."""
    assert torch.equal(drawn, drawn * drawn)
    u = uniform.double().numpy()
    differ = (drawn.numpy() == 1) != (u < probs)
    return int((differ & (np.abs(u - probs) > rounding)).sum())


def check_sweep(path: Path, v: Tensor, parameters: RBMParameters, beta: Tensor | None = None) -> None:
    """One sweep of ``path`` equals h = [u < p(h|v)], v = [u < p(v|h)] in float64, but for rounding."""
    rounding, chains = ROUNDING[v.dtype], len(v)
    uniforms = philox_uniforms(SEED, chains, 0, v)
    new_v, new_h = path(v, parameters, 1, beta, uniforms, 5)
    weight, vbias, hbias = (x.double().numpy() for x in parameters)
    scale = np.ones((chains, 1)) if beta is None else beta.double().numpy()[:, None]
    hidden_probs = sigmoid(scale * (v.double().numpy() @ weight + hbias))
    visible_probs = sigmoid(scale * (new_h.double().numpy() @ weight.T + vbias))
    assert new_v.dtype == new_h.dtype == v.dtype
    assert new_h.shape == hidden_probs.shape
    assert new_v.shape == v.shape
    assert wrong_units(new_h, uniforms(5, HIDDEN, hidden_probs.shape[1]), hidden_probs, rounding) == 0
    assert wrong_units(new_v, uniforms(5, VISIBLE, v.shape[1]), visible_probs, rounding) == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_sweep_is_the_formula(path: Path, size: tuple[int, int, int], dtype: torch.dtype) -> None:
    v, parameters = problem(*size, dtype)
    check_sweep(path, v, parameters)


@pytest.mark.parametrize("path", PATHS)
def test_each_chain_has_its_own_beta(path: Path) -> None:
    for chains in (1, 33):
        v, parameters = problem(20, 30, chains)
        check_sweep(path, v, parameters, torch.linspace(-1, 2, chains))


def layouts(x: Tensor) -> list[Tensor]:
    """The same matrix with other strides: column-major, every other column of a wider one, a slice at an odd offset."""
    wide = torch.full((x.shape[0], 2 * x.shape[1]), 7.0, dtype=x.dtype)
    wide[:, ::2] = x
    framed = torch.full((x.shape[0] + 2, x.shape[1] + 3), 7.0, dtype=x.dtype)
    framed[1:-1, 1:-2] = x
    return [x.mT.contiguous().mT, wide[:, ::2], framed[1:-1, 1:-2]]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [(6, 5, 9), (200, 160, 512)])
def test_layout_of_the_operands_does_not_matter(path: Path, size: tuple[int, int, int]) -> None:
    v, (weight, vbias, hbias) = problem(*size)
    for odd_v, odd_weight in itertools.product(layouts(v), layouts(weight)):
        spread = torch.stack((vbias, vbias), -1)[:, 0]
        check_sweep(path, odd_v, RBMParameters(odd_weight, spread, hbias.expand(1, -1)[0]))
    zero = torch.zeros(()).expand(size[0])  # stride 0
    check_sweep(path, v[:1].expand(size[2], -1), RBMParameters(weight, zero, hbias))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [(1, 1, 1), (5, 3, 65), (63, 500, 1), (200, 160, 512)])
def test_no_unwritten_memory_is_read(path: Path, size: tuple[int, int, int]) -> None:
    v, parameters = problem(*size)
    check_sweep(path, v, parameters)
    for states in rbm_gibbs(v, *parameters, 2, seed=3, chain_offset=5):
        assert torch.equal(states, states * states)


def test_the_fused_path_is_taken_and_agrees_with_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    if cpu._FUSED is None:
        pytest.skip("this torch has no oneDNN")
    v, (weight, _, hbias) = problem(784, 500, 64)
    calls: list[int] = []
    fused = cpu._FUSED

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return fused(*arguments)

    monkeypatch.setattr(cpu, "_FUSED", counted)
    probs = cpu.mean_field(v, weight, hbias)
    exact = sigmoid(v.double().numpy() @ weight.double().numpy() + hbias.double().numpy())
    assert calls
    assert np.abs(probs.numpy() - exact).max() < 1e-6


def test_without_onednn_the_states_are_those_of_addmm(monkeypatch: pytest.MonkeyPatch) -> None:
    v, parameters = problem(200, 160, 512)
    monkeypatch.setattr(cpu, "_FUSED", None)
    check_sweep(cpu.rbm_gibbs, v, parameters)


def test_saturated_units_are_certain() -> None:
    v = torch.zeros(1000, 3)
    parameters = RBMParameters(torch.zeros(3, 2), torch.full((3,), 200.0), torch.tensor([200.0, -200.0]))
    for path in PATHS:
        new_v, new_h = path(v, parameters, 1, None, philox_uniforms(SEED, 1000, 0, v), 0)
        assert torch.equal(new_h, torch.tensor([1.0, 0.0]).expand(1000, 2))
        assert bool(new_v.all())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weight_batch", [(2,), (3, 1), (3, 2), (1,), ()])
@pytest.mark.parametrize("bias_batch", [(), (2,), (3, 1)])
def test_batched_parameters_equal_a_loop(
    device: str, weight_batch: tuple[int, ...], bias_batch: tuple[int, ...]
) -> None:
    draw = np.random.default_rng(0).normal
    tensors = [draw(size=(*weight_batch, 4, 5)), draw(size=(*bias_batch, 4)), draw(size=5)]
    weight, vbias, hbias = (torch.tensor(x, device=device) for x in tensors)
    v = torch.zeros(7, 3, 2, 4, dtype=torch.float64, device=device)
    beta = torch.linspace(0, 1, 2, dtype=torch.float64, device=device).expand(7, 3, 2)
    uniforms = source(8, 42, 0, v, fast=False)
    new_v, new_h = reference.rbm_gibbs(v, RBMParameters(weight, vbias, hbias), 2, beta, uniforms, 0)
    weight, vbias = weight.expand(3, 2, 4, 5), vbias.expand(3, 2, 4)
    for r, c in itertools.product(range(3), range(2)):

        def cell(step: int, stream: int, units: int, r: int = r, c: int = c) -> Tensor:
            return uniforms(step, stream, units).view(7, 3, 2, units)[:, r, c]

        parameters = RBMParameters(weight[r, c], vbias[r, c], hbias)
        one = reference.rbm_gibbs(v[:, r, c], parameters, 2, beta[:, r, c], cell, 0)
        assert torch.equal(new_v[:, r, c], one[0])
        assert torch.equal(new_h[:, r, c], one[1])


@pytest.mark.parametrize("rng", ["fast", "philox"])
@pytest.mark.parametrize("seed", [0, -5, 2**63 - 1, -(2**63)])
def test_k_sweeps_in_one_call_are_k_calls(monkeypatch: pytest.MonkeyPatch, rng: str, seed: int) -> None:
    monkeypatch.setenv("PYRO_GEN_RNG", rng)
    v, parameters = problem(9, 6, 70)
    for step in (0, 2**31 - 2, 2**32 - 2, 2**40):
        whole = rbm_gibbs(v, *parameters, 4, seed=seed, step=step)
        now = v
        for t in range(4):
            now, h = rbm_gibbs(now, *parameters, 1, seed=seed, step=step + t)
        assert torch.equal(now, whole[0])
        assert torch.equal(h, whole[1])


@pytest.mark.parametrize("rng", ["fast", "philox"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_splits_of_the_chains_give_the_same_rows(monkeypatch: pytest.MonkeyPatch, rng: str, backend: str) -> None:
    monkeypatch.setenv("PYRO_GEN_RNG", rng)
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    v, (weight, vbias, hbias) = problem(9, 6, 200, torch.float32 if backend == "native" else torch.float64)
    beta = torch.linspace(0, 1, 200)
    whole = rbm_gibbs(v, weight, vbias, hbias, 3, beta, seed=5, chain_offset=17)
    for start, stop in itertools.pairwise([0, 1, 46, 47, 48, 111, 150, 200]):
        rows = slice(start, stop)
        part = rbm_gibbs(v[rows], weight, vbias, hbias, 3, beta[rows], seed=5, chain_offset=17 + start)
        assert torch.equal(part[0], whole[0][rows])
        assert torch.equal(part[1], whole[1][rows])


def test_leading_dimensions_count_chains_in_memory_order() -> None:
    v, parameters = problem(5, 4, 24)
    flat = rbm_gibbs(v, *parameters, 2, seed=1)
    folded = rbm_gibbs(v.view(2, 3, 4, 5), *parameters, 2, seed=1)
    assert torch.equal(folded[0].view(24, 5), flat[0])
    assert torch.equal(folded[1].view(24, 4), flat[1])
    single = rbm_gibbs(v[0], *parameters, 2, seed=1)
    assert torch.equal(single[0], flat[0][0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_no_chains_give_no_states(monkeypatch: pytest.MonkeyPatch, backend: str, shape: tuple[int, ...]) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    _, parameters = problem(5, 4, 1)
    v, h = rbm_gibbs(torch.zeros(*shape, 5), *parameters, 2, seed=1)
    assert (v.shape, h.shape) == ((*shape, 5), (*shape, 4))


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_does_not_matter() -> None:
    for size in [(9, 6, 200), (200, 160, 512)]:
        v, parameters = problem(*size)
        torch.set_num_threads(2)
        two = rbm_gibbs(v, *parameters, 3, seed=5)
        torch.set_num_threads(1)
        one = rbm_gibbs(v, *parameters, 3, seed=5)
        assert torch.equal(two[0], one[0])
        assert torch.equal(two[1], one[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(9, 6, 300), (64, 64, 64)])
def test_one_stream_makes_all_backends_agree(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setenv("PYRO_GEN_RNG", "philox")
    v, parameters = problem(*size, dtype)
    results = {}
    for backend in BACKENDS if dtype == torch.float32 else ("reference", "cpu"):
        monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
        results[backend] = rbm_gibbs(v, *parameters, 3, seed=5)
    for v, h in results.values():
        assert torch.equal(v, results["reference"][0])
        assert torch.equal(h, results["reference"][1])


def test_impossible_backends_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    v, (weight, vbias, hbias) = problem(3, 2, 4)
    monkeypatch.setenv("PYRO_GEN_BACKEND", "triton")
    with pytest.raises(ValueError, match="PYRO_GEN_BACKEND=triton is impossible"):
        rbm_gibbs(v, weight, vbias, hbias, 1, seed=0)
    monkeypatch.setenv("PYRO_GEN_BACKEND", "nonsense")
    with pytest.raises(ValueError, match=r"PYRO_GEN_BACKEND must be one of .* got 'nonsense'"):
        rbm_gibbs(v, weight, vbias, hbias, 1, seed=0)
    monkeypatch.setenv("PYRO_GEN_BACKEND", "cpu")
    with pytest.raises(ValueError, match="PYRO_GEN_BACKEND=cpu is impossible"):
        rbm_gibbs(v, weight.expand(4, 3, 2), vbias, hbias, 1, seed=0)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_no_sweep_is_refused(num_steps: int) -> None:
    v, parameters = problem(3, 2, 4)
    with pytest.raises(ValueError, match=f"`num_steps` must be at least 1, got {num_steps}"):
        rbm_gibbs(v, *parameters, num_steps, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_are_left_alone_and_results_carry_no_gradient(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    v0, (weight, vbias, hbias) = problem(6, 5, 8)
    tensors = [x.requires_grad_() for x in (v0, weight, vbias, hbias)]
    beta = torch.linspace(0, 1, 8)
    before = [(x.detach().clone(), x._version) for x in (*tensors, beta)]
    state = torch.get_rng_state()
    v, h = rbm_gibbs(v0, weight, vbias, hbias, 2, beta, seed=0)
    assert not v.requires_grad
    assert not h.requires_grad
    for x, (value, version) in zip((*tensors, beta), before, strict=True):
        assert torch.equal(x, value)
        assert x._version == version
    assert torch.equal(torch.get_rng_state(), state)
    v.fill_(7.0)
    h.fill_(7.0)
    assert torch.equal(tensors[0], before[0][0])


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("strided", [False, True])
def test_the_op_is_registered_soundly(batched: bool, strided: bool) -> None:
    v, (weight, vbias, hbias) = problem(6, 5, 8)
    weight = weight.expand(8, 6, 5) if batched else weight
    v = v.mT.contiguous().mT if strided else v
    op = torch.ops.pyro_gen.rbm_gibbs.default
    torch.library.opcheck(op, (v, weight, vbias, hbias, 2, None, 3, 1, 0))
    torch.library.opcheck(op, (v, weight, vbias, hbias, 2, torch.linspace(0, 1, 8), 3, 1, 70))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_in_one_graph(backend: str) -> None:
    v, parameters = problem(6, 5, 8)

    def double_sweep(v: Tensor, step: int) -> Tensor:
        return rbm_gibbs(1 - v, *parameters, 2, seed=3, step=step)[0] * 2

    torch.compiler.reset()
    compiled = torch.compile(double_sweep, backend=backend, fullgraph=True)
    for step in (0, 1, 2):
        assert torch.equal(compiled(v, step), double_sweep(v, step))
    torch.compiler.reset()


def test_vmap_does_not_share_uniforms_between_its_slices() -> None:
    """Folded into the chains, or refused: slices with the same uniforms would be the same chain many times."""
    _, (weight, vbias, hbias) = problem(16, 12, 1)
    v = torch.zeros(50, 4, 16)
    try:
        new_v = torch.vmap(lambda x: rbm_gibbs(x, weight, vbias, hbias, 1, seed=0)[0], randomness="different")(v)
    except (RuntimeError, NotImplementedError):
        return
    assert torch.equal(new_v, rbm_gibbs(v, weight, vbias, hbias, 1, seed=0)[0])
