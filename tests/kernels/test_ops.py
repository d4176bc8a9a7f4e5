"""The ops as torch sees them: opcheck, one graph under torch.compile, vmap against a loop, gradients."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from pyro_gen.kernels import rbm_ais, rbm_contrast, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.free_energy import forward_only, reference
from tests.kernels.oracle import BACKENDS, Weights, log_z

Parameters = tuple[Tensor, Tensor, Tensor]


def problem(chains: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Parameters]:
    v = torch.randint(2, (chains, 6), generator=torch.Generator().manual_seed(0)).to(dtype)
    return v, Weights.normal(6, 5).tensors(dtype)


def closer(f: Callable[..., object], v: Tensor) -> None:
    """In one graph, with a changing step, the same as eagerly, and without a compilation for every step."""
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(f, backend=counter, fullgraph=True)
    for step in range(12):
        torch.testing.assert_close(compiled(v, step), f(v, step), rtol=0, atol=0)
    assert counter.frame_count <= 3  # for 0, for 1, and for all others
    torch.compiler.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batched", [False, True])
def test_annealing_is_registered_soundly(dtype: torch.dtype, batched: bool) -> None:
    v, (weight, vbias, hbias) = problem(dtype=dtype)
    weight = weight.expand(8, 6, 5) if batched else weight
    opcheck(torch.ops.pyro_gen.rbm_ais.default, (v, weight, vbias, hbias, vbias, torch.linspace(0, 1, 4), 3, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contrast_and_free_energy_are_registered_soundly(dtype: torch.dtype) -> None:
    v, parameters = problem(dtype=dtype)
    opcheck(torch.ops.pyro_gen.rbm_contrast.default, (v, v[:3], *parameters, 2, 3, 1, 0))
    opcheck(torch.ops.pyro_gen.rbm_free_energy.default, (v, *(x.requires_grad_() for x in parameters)))


def test_every_op_compiles_in_one_graph() -> None:
    v, parameters = problem()
    closer(lambda v, step: rbm_gibbs(1 - v, *parameters, 2, seed=3, step=step)[0] * 2, v)
    closer(lambda v, step: rbm_ais(v, *parameters, parameters[1], torch.linspace(0, 1, 4), seed=step)[0] * 2, v)
    closer(lambda v, step: rbm_contrast(v, v, *parameters, 2, seed=3, step=step), v)
    closer(lambda v, step: rbm_free_energy(v, *parameters) * step, v)


def test_vmapped_chains_are_further_chains() -> None:
    v, parameters = problem(24)
    folded = v.view(3, 8, 6)
    expected = rbm_gibbs(folded, *parameters, 2, torch.linspace(0, 1, 8), seed=1)
    beta = torch.linspace(0, 1, 8)
    found = torch.vmap(lambda x: rbm_gibbs(x, *parameters, 2, beta, seed=1))(folded)
    moved = torch.vmap(lambda x: rbm_gibbs(x, *parameters, 2, beta, seed=1), in_dims=1)(folded.transpose(0, 1))
    for states, other, same in zip(found, moved, expected, strict=True):
        assert torch.equal(states, same)
        assert torch.equal(other, same)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vmapped_parameters_give_the_distribution_of_each_slice(dtype: torch.dtype) -> None:
    """Certain units show which slice's parameters were used; states of all slices differ."""
    v, (weight, _, hbias) = problem(8, dtype)
    certain = torch.tensor([[50.0], [-50.0]], dtype=dtype).expand(2, 6)
    states, _ = torch.vmap(lambda a: rbm_gibbs(v, 0 * weight, a, hbias, 1, seed=1))(certain)
    assert torch.equal(states, torch.stack((torch.ones_like(v), torch.zeros_like(v))))
    free, _ = torch.vmap(lambda w: rbm_gibbs(v, w, 0 * certain[0], hbias, 1, seed=1))(
        torch.stack((0 * weight, 0 * weight))
    )
    assert not torch.equal(free[0], free[1])
    tempered, _ = torch.vmap(lambda b: rbm_gibbs(v, 0 * weight, certain[0], hbias, 1, b, seed=1))(
        torch.tensor([1.0, -1.0])
    )
    assert torch.equal(tempered, states)


def test_vmapped_annealing_is_unbiased_in_each_slice() -> None:
    weights = [Weights.normal(4, 3, seed=s, scale=0.7) for s in range(3)]
    weight, vbias, hbias = (torch.stack(x) for x in zip(*(w.tensors() for w in weights), strict=True))
    base, betas, start = torch.zeros(4, dtype=torch.float64), torch.linspace(0, 1, 9), torch.zeros(4000, 4).double()
    start[:] = torch.rand(4000, 4, generator=torch.Generator().manual_seed(1)).round()
    log_weight, _ = torch.vmap(lambda w, a, b: rbm_ais(start, w, a, b, base, betas, seed=1))(weight, vbias, hbias)
    for row, one in zip(log_weight.exp(), weights, strict=True):
        expected = torch.tensor(log_z(one)).sub(7 * torch.tensor(2.0).log()).exp()
        assert abs(row.mean() - expected) < 5 * row.std() / 4000**0.5
    with pytest.raises(NotImplementedError, match="vmap over `betas`"):
        torch.vmap(lambda t: rbm_ais(start, weight[0], vbias[0], hbias[0], base, t, seed=1))(betas.expand(2, 9))


def test_vmapped_contrasts_are_a_loop_with_numbers_of_their_own() -> None:
    v, parameters = problem(8)
    ensemble = tuple(torch.stack((x, 2 * x)) for x in parameters)
    found = torch.vmap(lambda w, a, b: rbm_contrast(v, v, w, a, b, 2, seed=3))(*ensemble)
    for k in range(2):
        weight, vbias, hbias = (x[k] for x in ensemble)
        expected = rbm_contrast(v, v, weight, vbias, hbias, 2, seed=3, chain_offset=8 * k)
        assert all(torch.equal(a[k], b) for a, b in zip(found, expected, strict=True))


def test_the_fused_free_energy_is_for_plain_tensors_without_tangents() -> None:
    tensors = torch.rand(3, 4), torch.rand(4, 2), torch.rand(4), torch.rand(2)
    assert forward_only(*tensors)
    assert not forward_only(tensors[0], torch.nn.Parameter(tensors[1]), *tensors[2:])
    with torch.no_grad():
        assert forward_only(tensors[0], torch.nn.Parameter(tensors[1]), *tensors[2:])
    with torch.autograd.forward_ad.dual_level():
        assert not forward_only(*tensors)  # any of them may carry a tangent
    with FakeTensorMode() as mode:
        assert not forward_only(*(mode.from_tensor(x) for x in tensors))


def test_one_temperature_may_be_a_number_of_another_dtype() -> None:
    v, weight, biases = torch.ones(5, 3), torch.ones(3, 2), (torch.zeros(3), torch.zeros(2))
    one = rbm_gibbs(v, weight, *biases, 1, torch.tensor(0.5, dtype=torch.float64), seed=0)
    each = rbm_gibbs(v, weight, *biases, 1, torch.full((5,), 0.5), seed=0)
    assert torch.equal(one[0], each[0])


def test_free_energy_has_the_right_gradients_of_first_and_second_order() -> None:
    v, parameters = problem(3, torch.float64)
    tensors = v.requires_grad_(), *(x.requires_grad_() for x in parameters)
    assert torch.autograd.gradcheck(rbm_free_energy, tensors)
    assert torch.autograd.gradgradcheck(rbm_free_energy, tensors)
    found = torch.vmap(rbm_free_energy, in_dims=(0, None, None, None))(*tensors)
    torch.testing.assert_close(found, reference.rbm_free_energy(v, *parameters))


@pytest.mark.parametrize("num_steps", [0, -1])
def test_a_contrast_without_sweeps_is_refused(num_steps: int) -> None:
    v, parameters = problem()
    with pytest.raises(ValueError, match=f"`num_steps` must be at least 1, got {num_steps}"):
        rbm_contrast(v, v, *parameters, num_steps, seed=0)


def test_results_carry_no_gradient() -> None:
    v, (weight, vbias, hbias) = problem()
    weight.requires_grad_(), vbias.requires_grad_(), hbias.requires_grad_()
    contrast = rbm_contrast(v, v, weight, vbias, hbias, 1, seed=0)
    results = (*contrast, *rbm_ais(v, weight, vbias, hbias, vbias, torch.ones(2), seed=0))
    assert not any(x.requires_grad for x in results)


COMPILED_VMAP = pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="torch before 2.6 fails an internal assertion of its own here"
)


@COMPILED_VMAP
def test_nested_vmap_and_compiled_vmap_are_one_fold() -> None:
    v, parameters = problem(24)
    grid = v.view(2, 3, 4, 6)

    def sweep(x: Tensor) -> Tensor:
        return rbm_gibbs(x, *parameters, 2, seed=1)[0]

    expected = rbm_gibbs(grid, *parameters, 2, seed=1)[0]
    assert torch.equal(torch.vmap(torch.vmap(sweep))(grid), expected)
    torch.compiler.reset()
    assert torch.equal(torch.compile(torch.vmap(sweep), backend="aot_eager", fullgraph=True)(grid), expected)
    torch.compiler.reset()


@COMPILED_VMAP
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiling_leaves_eager_calls_alone(dtype: torch.dtype) -> None:
    v, (weight, vbias, hbias) = problem(dtype=dtype)
    stacked = torch.stack((weight, weight))
    ensemble = torch.vmap(lambda w: rbm_contrast(v, v, w, vbias, hbias, 1, seed=0)[0])
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(ensemble, backend="aot_eager")(stacked), ensemble(stacked))
    torch.compiler.reset()
    assert rbm_contrast(v, v, weight, vbias, hbias, 1, seed=0)[0].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    v, parameters = problem(100)
    betas = torch.linspace(0, 1, 4)

    def calls() -> tuple[Tensor, ...]:
        annealed = rbm_ais(v, *parameters, parameters[1], betas, seed=0)
        return *rbm_contrast(v, v, *parameters, 1, seed=0), *rbm_gibbs(v, *parameters, 1, seed=0), *annealed

    expected = calls()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = calls()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


WRONG: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]] = {
    "hbias` must have shape (..., 5)": lambda v, w, a, b: (v, w, a, b[:1]),
    "vbias` must have shape (..., 6)": lambda v, w, a, b: (v, w, a[:1], b),
    "vbias` must be torch.float32 on cpu": lambda v, w, a, b: (v, w, a.double(), b),
    "must have shape (..., 6) to match `weight`, got (8, 5)": lambda v, w, a, b: (v[:, :5], w, a, b),
    "must be torch.float32 on cpu like `weight`, got torch.bool": lambda v, w, a, b: (v.bool(), w, a, b),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("backend", [None, "cpu", "reference"])
def test_operands_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, message: str, backend: str | None
) -> None:
    if backend:
        monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    v, (weight, vbias, hbias) = problem()
    v, weight, vbias, hbias = WRONG[message](v, weight, vbias, hbias)
    for call in (
        lambda: rbm_gibbs(v, weight, vbias, hbias, 1, seed=0),
        lambda: rbm_ais(v, weight, vbias, hbias, torch.zeros(6), torch.linspace(0, 1, 3), seed=0),
        lambda: rbm_contrast(v, v, weight, vbias, hbias, 1, seed=0),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


def test_a_base_or_batch_that_does_not_fit_is_refused() -> None:
    v, parameters = problem()
    with pytest.raises(ValueError, match=r"`base` must be torch\.float32"):
        rbm_ais(v, *parameters, parameters[1].double(), torch.linspace(0, 1, 3), seed=0)
    for batch in (v[:0], v[0], v[None]):
        with pytest.raises(ValueError, match=r"`batch` must have shape \(rows, visible\) with at least one row"):
            rbm_contrast(batch, v, *parameters, 1, seed=0)
    with pytest.raises(ValueError, match=r"`start` must have shape \(rows, visible\) with at least one row"):
        rbm_contrast(v, v[:0], *parameters, 1, seed=0)


@pytest.mark.parametrize("chain_offset", [-1, 2**32 - 7, 2**40])
def test_chain_numbers_beyond_the_counter_are_refused(chain_offset: int) -> None:
    v, parameters = problem()
    with pytest.raises(ValueError, match=r"`chain_offset` must lie in \[0, 2\*\*32 - chains\]"):
        rbm_gibbs(v, *parameters, 1, seed=0, chain_offset=chain_offset)
    rbm_gibbs(v, *parameters, 1, seed=0, chain_offset=2**32 - 8)


@pytest.mark.parametrize("op", ["rbm_gibbs", "rbm_contrast"])
def test_the_bare_ops_check_too(op: str) -> None:
    v, parameters = problem()
    ops = torch.ops.pyro_gen
    calls = {
        "rbm_gibbs": lambda: ops.rbm_gibbs(v, *parameters, 0, None, 0, 0, 0),
        "rbm_contrast": lambda: ops.rbm_contrast(v, v, *parameters, 0, 0, 0, 0),
    }
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        calls[op]()


def test_one_temperature_gives_fresh_states_and_no_weight() -> None:
    for dtype in (torch.float32, torch.float64):
        v, parameters = problem(dtype=dtype)
        log_weight, last = rbm_ais(v, *parameters, parameters[1], torch.ones(1), seed=0)
        assert torch.equal(last, v)
        assert last.data_ptr() != v.data_ptr()
        assert not log_weight.any()


def test_tempered_states_carry_no_gradient() -> None:
    v, parameters = problem()
    states = rbm_gibbs(v, *parameters, 1, torch.ones(8, requires_grad=True), seed=0)
    assert not any(x.requires_grad for x in states)
