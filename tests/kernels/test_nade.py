"""The fields of NADE: every path against the reference, its derivative, draws, and what torch makes of the op."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from pyro_gen.kernels import nade_fields, nade_sample, native
from pyro_gen.kernels.nade import cpu, reference
from pyro_gen.kernels.nade.native import nade_backward as native_backward
from pyro_gen.kernels.nade.native import nade_fields as native_fields
from pyro_gen.kernels.nade.native import nade_sample as native_sample
from tests.kernels.oracle import BACKENDS

Operands = tuple[Tensor, Tensor, Tensor, Tensor]
Size = tuple[int, int, int, int, int]

SIZES: list[Size] = [  # rows, features, width, hidden, parameters
    (1, 1, 1, 1, 1),
    (3, 1, 1, 500, 1),
    (17, 63, 1, 1, 1),
    (9, 7, 1, 63, 1),
    (130, 5, 1, 65, 1),
    (2, 20, 1, 500, 1),
    (5, 4, 3, 600, 2),
    (19, 6, 2, 33, 5),
]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
every_backend = pytest.mark.parametrize("backend", BACKENDS)
compiled = pytest.mark.skipif(native.library() is None, reason="the compiled library was not built here")


def problem(
    rows: int, features: int, width: int, hidden: int, parameters: int, dtype: torch.dtype = torch.float32
) -> Operands:
    """Operands with activations and fields of order one; binary rows, or numbers and zeros where the width is not 1."""
    torch.manual_seed(rows + features + hidden)
    x = torch.randn(rows, features, width, dtype=dtype) * (torch.rand(rows, features, width) < 0.6)
    weight = torch.randn(features, width, hidden, dtype=dtype) / (features * width) ** 0.5
    output = torch.randn(features, parameters, hidden, dtype=dtype) / hidden**0.5
    return x.ne(0).to(dtype) if width == 1 else x, weight, torch.randn(rows, hidden, dtype=dtype), output


def close(found: Tensor, expected: Tensor) -> None:
    """To the rounding of a sum of a thousand terms."""
    tolerance = TOLERANCE[expected.dtype] * max(1.0, expected.detach().abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fresh memory is NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all(), "torch.utils.deterministic.fill_uninitialized_memory is off"
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=range(3), ids=native.SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One instruction set after the other, in place of the best."""
    if request.param > native.best_set():
        pytest.skip(f"this processor has no {native.SETS[request.param]}")
    monkeypatch.setattr(native, "_forced_set", request.param)


@pytest.mark.usefixtures("poisoned")
@every_backend
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.smoke
def test_every_path_gives_the_reference_and_its_gradients(
    size: Size, backend: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "native" and dtype == torch.float64:
        pytest.skip("the compiled kernels know float32 only")
    operands = problem(*size, dtype=dtype)
    gradient = torch.randn(size[0], size[1], size[4], dtype=dtype)
    own = [y.clone().requires_grad_() for y in operands]
    reference.nade_fields(*own).backward(gradient)
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    for need_x in (True, False):  # without it the compiled kernel serves
        asked = [y.clone().requires_grad_(need_x or i > 0) for i, y in enumerate(operands)]
        found = nade_fields(*asked)
        close(found, reference.nade_fields(*operands))
        found.backward(gradient)
        for mine, theirs in zip(asked[not need_x :], own[not need_x :], strict=True):
            assert mine.grad is not None
            close(mine.grad, torch.zeros_like(mine) if theirs.grad is None else theirs.grad)


@compiled
@pytest.mark.usefixtures("poisoned", "instruction_set")
@pytest.mark.parametrize("size", SIZES)
def test_every_instruction_set_gives_the_reference(size: Size) -> None:
    operands, gradient = problem(*size), torch.randn(size[0], size[1], size[4])
    close(native_fields(*operands), reference.nade_fields(*operands))
    for found, expected in zip(
        native_backward(gradient, *operands), reference.nade_backward(gradient, *operands)[1:], strict=True
    ):
        close(found, expected)


@compiled
def test_threads_do_not_change_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = problem(33, 9, 1, 150, 1)
    gradient, uniforms, bias = torch.randn(33, 9, 1), torch.rand(9, 33), torch.randn(33, 9)

    def results() -> list[Tensor]:
        drawn = native_sample(uniforms, *operands[1:], bias)
        return [native_fields(*operands), *native_backward(gradient, *operands), *drawn]

    expected, before = results(), torch.get_num_threads()
    monkeypatch.setattr(native, "PARALLEL_FROM", 0)
    torch.set_num_threads(2)
    try:
        assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))
    finally:
        torch.set_num_threads(before)


@every_backend
def test_layouts_do_not_matter(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    x, weight, start, output = problem(6, 5, 1, 7, 2)
    spread = x.mT.contiguous().mT, weight.mT.contiguous().mT, start.mT.contiguous().mT, output.mT.contiguous().mT
    close(nade_fields(*spread), nade_fields(x, weight, start, output))
    one = start[:1].expand(6, -1).requires_grad_()  # a row that stands for all
    fields_of_one = nade_fields(x, weight, one, output)
    close(fields_of_one, reference.nade_fields(x, weight, one, output))
    grad = torch.autograd.grad(fields_of_one[:, ::2].sum(), one)[0]
    close(grad, torch.autograd.grad(reference.nade_fields(x, weight, one, output)[:, ::2].sum(), one)[0])


def test_chunks_of_any_size_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    operands, gradient = problem(4, 11, 2, 5, 2, torch.float64), torch.randn(4, 11, 2, dtype=torch.float64)
    for sigmoids in (1, 40, 64, 10**6):
        monkeypatch.setattr(cpu, "CHUNK", sigmoids)
        close(cpu.nade_fields(*operands), reference.nade_fields(*operands))
        for found, expected in zip(
            cpu.nade_backward(gradient, *operands), reference.nade_backward(gradient, *operands), strict=True
        ):
            close(found, expected)


def test_derivatives_of_first_and_second_order_are_right() -> None:
    operands = [y.requires_grad_() for y in problem(2, 4, 2, 3, 2, torch.float64)]
    assert torch.autograd.gradcheck(nade_fields, operands)
    assert torch.autograd.gradgradcheck(nade_fields, operands)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ops_are_registered_soundly(dtype: torch.dtype) -> None:
    x, weight, start, output = problem(4, 5, 1, 6, 1, dtype)
    opcheck(torch.ops.pyro_gen.nade_fields.default, (x, *(y.requires_grad_() for y in (weight, start, output))))
    arguments = torch.rand(5, 4, dtype=dtype), weight.detach(), start.detach(), output.detach(), start.detach()[:, :5]
    opcheck(torch.ops.pyro_gen.nade_sample.default, arguments)


def test_a_model_that_calls_it_compiles_in_one_graph() -> None:
    x, *parameters = problem(6, 5, 1, 7, 1)
    parameters = [y.requires_grad_() for y in parameters]

    def gradients(f: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(f(x, *parameters).square().sum(), parameters)

    torch.compiler.reset()
    compiled = torch.compile(nade_fields, backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(gradients(compiled), gradients(nade_fields), strict=True):
        close(mine, theirs)
    torch.compiler.reset()


def test_vmap_is_a_loop() -> None:
    x, weight, start, output = problem(6, 5, 1, 7, 1, torch.float64)
    rows, starts = x.view(2, 3, 5, 1), start.view(2, 3, 7)
    folded = torch.vmap(nade_fields, in_dims=(0, None, 0, None))(rows, weight, starts, output)
    close(folded.flatten(0, 1), nade_fields(x, weight, start, output))
    ensemble = torch.stack((weight, 2 * weight))
    found = torch.vmap(nade_fields, in_dims=(None, 0, None, None))(x, ensemble, start, output)
    close(found[1], nade_fields(x, 2 * weight, start, output))

    def total(own: Tensor, w: Tensor) -> Tensor:
        return nade_fields(own[None], w, start[:1], output).square().sum()

    each = torch.vmap(torch.func.grad(total, argnums=1), in_dims=(0, None))(x, weight)
    close(each[3], torch.func.grad(total, argnums=1)(x[3], weight))

    def slope(w: Tensor) -> Tensor:
        return torch.func.grad(total, argnums=1)(x[3], w).square().sum()

    twice, step = torch.func.grad(slope)(weight), 1e-6 * torch.ones_like(weight)
    difference = (slope(weight + step) - slope(weight - step)) / 2e-6
    torch.testing.assert_close(twice.sum(), difference, rtol=1e-6, atol=1e-8)
    uniforms, bias = torch.rand(2, 5, 6, dtype=torch.float64), torch.zeros(6, 5, dtype=torch.float64)
    drawn = torch.vmap(lambda u: nade_sample(u, weight, start, output, bias)[0])(uniforms)
    assert torch.equal(drawn[1], nade_sample(uniforms[1], weight, start, output, bias)[0])


@every_backend
@pytest.mark.parametrize("size", [(1, 1, 1), (9, 30, 70), (130, 6, 500)])
def test_draws_are_those_of_a_pass_a_feature(
    size: tuple[int, int, int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, features, hidden = size
    _, weight, start, output = problem(rows, features, 1, hidden, 1)
    uniforms, bias = torch.rand(features, rows), torch.randn(1, features).expand(rows, -1)
    monkeypatch.setenv("PYRO_GEN_BACKEND", backend)
    x, logits = nade_sample(uniforms, weight, start, output, bias)
    # Whole passes over the draws themselves: a draw that rounding turned would turn all after it.
    expected = reference.nade_fields(x.unsqueeze(-1), weight, start, output).squeeze(-1) + bias
    close(logits, expected)
    sure = (uniforms.mT - expected.sigmoid()).abs() > 1e-5
    assert torch.equal(x[sure], (uniforms.mT < expected.sigmoid()).float()[sure])
    assert sure.float().mean() > 0.99


def test_the_tape_holds_no_hidden_layer_of_every_feature() -> None:
    operands = [y.requires_grad_() for y in problem(8, 200, 1, 100, 1)]
    kept: list[Tensor] = []

    def keep(y: Tensor) -> Tensor:
        kept.append(y)
        return y

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda y: y):
        nade_fields(*operands)
    assert sum(y.numel() for y in kept) == sum(y.numel() for y in operands)


WRONG: dict[str, Callable[[Operands], Operands]] = {
    r"`x` must have shape \(n, 5, 1\) to match `weight`, got \(4, 4, 1\)": lambda o: (o[0][:, :4], *o[1:]),
    r"`weight` must have shape \(features, width, hidden\), got \(5, 6\)": lambda o: (o[0], o[1][:, 0], *o[2:]),
    r"`start` must have shape \(4, 6\) to match `weight`, got \(4, 5\)": lambda o: (*o[:2], o[2][:, :5], o[3]),
    r"`output` must have shape \(5, parameters, 6\) to match `weight`, got \(5, 6\)": lambda o: (*o[:3], o[3][:, 0]),
    "`x` must be torch.float32 on cpu like `weight`, got torch.bool": lambda o: (o[0].bool(), *o[1:]),
}


@pytest.mark.parametrize("message", WRONG)
def test_operands_that_do_not_fit_are_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nade_fields(*WRONG[message](problem(4, 5, 1, 6, 1)))


def test_draws_of_wide_features_or_another_bias_are_refused() -> None:
    _, weight, start, output = problem(4, 5, 2, 6, 1)
    with pytest.raises(ValueError, match=r"`x` must have shape|must have shape \(features, 1, hidden\)"):
        nade_sample(torch.rand(5, 4), weight, start, output, torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"`bias` must be \(4, 5\) and torch.float32 on cpu, got \(5,\)"):
        nade_sample(torch.rand(5, 4), weight[:, :1], start, output, torch.zeros(5))


def test_no_rows_are_served_and_a_forced_path_that_cannot_run_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, start, output = problem(4, 5, 1, 6, 1)
    weight.requires_grad_()
    nade_fields(x[:0], weight, start[:0], output).sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()
    monkeypatch.setenv("PYRO_GEN_BACKEND", "native")
    with pytest.raises(ValueError, match=r"PYRO_GEN_BACKEND=native is impossible for nade_fields: .*float64"):
        nade_fields(x.double(), weight.detach().double(), start.double(), output.double())
