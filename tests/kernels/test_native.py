"""The compiled kernels on every instruction set of this processor, against the references."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gen.kernels import backend, native, rbm_ais, rbm_gibbs
from pyro_gen.kernels.ais import reference as ais_reference
from pyro_gen.kernels.ais.native import rbm_ais as native_ais
from pyro_gen.kernels.contrastive import rbm_contrast
from pyro_gen.kernels.contrastive.native import rbm_contrast as native_contrast
from pyro_gen.kernels.contrastive.reference import contrast
from pyro_gen.kernels.gibbs import reference
from pyro_gen.kernels.gibbs.native import rbm_gibbs as native_gibbs
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Key, philox_uniforms
from tests.kernels.oracle import Weights, sigmoid

SIZES = [
    (1, 1, 1),
    (3, 33, 15),
    (33, 3, 17),
    (31, 32, 129),
    (70, 45, 5),
    (33, 64, 8),
    (65, 127, 63),
    (128, 96, 64),
    (130, 70, 300),
    (37, 41, 145),
    (1100, 5, 40),
    (9, 21, 1100),
]

pytestmark = pytest.mark.skipif(native.library() is None, reason="the compiled library was not built here")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_GEN_BACKEND", raising=False)
    monkeypatch.delenv("PYRO_GEN_RNG", raising=False)


@pytest.fixture(params=range(3), ids=native.SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One instruction set after the other, in place of the best."""
    if request.param > native.best_set():
        pytest.skip(f"this processor has no {native.SETS[request.param]}")
    monkeypatch.setattr(native, "_forced_set", request.param)
    return native.SETS[request.param]


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads for calls of any size."""
    before = torch.get_num_threads()
    monkeypatch.setattr(native, "PARALLEL_FROM", 0)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def problem(visible: int, hidden: int, rows: int, seed: int = 0) -> tuple[Tensor, RBMParameters]:
    """States and parameters with fields of order one."""
    weight, vbias, hbias = Weights.normal(visible, hidden, seed=seed).tensors(torch.float32)
    v = torch.tensor(np.random.default_rng(seed + 1).integers(0, 2, (rows, visible)), dtype=torch.float32)
    return v, RBMParameters(weight / max(visible, hidden) ** 0.5, vbias, hbias)


def statistics(batch: Tensor, particles: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor) -> tuple[Tensor, ...]:
    """Gradients of a contrast whose particles are given: no sweep leads to them."""
    *gradients, same = native_contrast(batch, particles, RBMParameters(weight, vbias, hbias), 0, Key(0))
    assert torch.equal(same, particles)
    return tuple(gradients)


def disputed(drawn: Tensor, uniform: Tensor, field: np.ndarray) -> int:
    """How many states disagree with [u < sigmoid(field)] though u is not within rounding."""
    probs, u = sigmoid(field), uniform.double().numpy()
    wrong = (drawn.numpy() == 1) != (u < probs)
    return int((wrong & (np.abs(u - probs) > 2e-6)).sum())


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.smoke
def test_a_sweep_is_the_formula_with_philox(size: tuple[int, int, int]) -> None:
    start, (weight, vbias, hbias) = problem(*size)
    beta = torch.linspace(-0.5, 1.5, size[2])
    v, h = native_gibbs(start, RBMParameters(weight, vbias, hbias), 1, beta, Key(-7, 2**33 + 5, 11))
    uniforms, scale = philox_uniforms(-7, size[2], 11, start), beta.double().numpy()[:, None]
    exact, visible_bias, hidden_bias = (x.double().numpy() for x in (weight, vbias, hbias))
    up = scale * (start.double().numpy() @ exact + hidden_bias)
    down = scale * (h.double().numpy() @ exact.T + visible_bias)
    assert torch.equal(h, h * h)
    assert torch.equal(v, v * v)
    assert disputed(h, uniforms(2**33 + 5, HIDDEN, size[1]), up) == 0
    assert disputed(v, uniforms(2**33 + 5, VISIBLE, size[0]), down) == 0


@pytest.mark.usefixtures("instruction_set")
def test_long_runs_stay_with_the_reference() -> None:
    """Two hundred sweeps of a hundred chains: one differing state would send a chain elsewhere for good."""
    start, parameters = problem(20, 15, 100)
    v, h = native_gibbs(start, parameters, 200, None, Key(1))
    expected = reference.rbm_gibbs(start, parameters, 200, None, philox_uniforms(1, 100, 0, start), 0)
    assert torch.equal(v, expected[0])
    assert torch.equal(h, expected[1])


@pytest.mark.usefixtures("instruction_set")
def test_a_chain_does_not_know_how_many_others_there_are() -> None:
    """Few chains are summed by another loop, in the same order: neither fields nor log weights differ in a bit."""
    start, parameters = problem(70, 45, 1200)
    betas = [0.0, 0.3, 0.8, 1.0]
    whole = native_ais(start, parameters, parameters[1], betas, Key(3))
    for first, end in ((0, 1), (1, 9), (9, 25), (25, 90), (90, 200), (200, 1200)):
        part = native_ais(start[first:end], parameters, parameters[1], betas, Key(3, 0, first))
        assert torch.equal(part[0], whole[0][first:end])
        assert torch.equal(part[1], whole[1][first:end])


def test_all_instruction_sets_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    start, parameters = problem(130, 70, 300)
    found = []
    for number in range(native.best_set() + 1):
        monkeypatch.setattr(native, "_forced_set", number)
        log_weight, v = native_ais(start, parameters, parameters[1] / 2, [0.0, 0.4, 1.0], Key(3))
        found.append((*native_gibbs(start, parameters, 20, None, Key(3)), v, log_weight))
    for v, h, annealed, log_weight in found[1:]:
        assert torch.equal(v, found[0][0])
        assert torch.equal(h, found[0][1])
        assert torch.equal(annealed, found[0][2])
        torch.testing.assert_close(log_weight, found[0][3], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("instruction_set")
def test_states_stay_what_they_were() -> None:
    """Stored chains can be continued: the order of summation and the streams may not change unnoticed."""
    start, parameters = problem(130, 70, 300)
    v, h = native_gibbs(start, parameters, 20, None, Key(3, 2**33, 0))
    assert zlib.crc32(np.packbits(torch.cat((v, h), 1).numpy().astype(bool)).tobytes()) == 181975910


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("size", SIZES)
def test_sweeps_of_one_call_are_those_of_many(size: tuple[int, int, int]) -> None:
    """From the second sweep of a call on tables may be the first one's."""
    v, parameters = problem(*size)
    expected = native_gibbs(v, parameters, 4, None, Key(8, 3, 0))
    for step in range(3, 7):
        v, h = native_gibbs(v, parameters, 1, None, Key(8, step, 0))
    assert torch.equal(v, expected[0])
    assert torch.equal(h, expected[1])


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_contrast_from_the_data_is_one_from_a_copy_of_it(size: tuple[int, int, int], num_steps: int) -> None:
    """Probabilities that the first half step leaves behind are those that would be computed anew."""
    batch, parameters = problem(*size)
    shared = native_contrast(batch, batch, parameters, num_steps, Key(5, 2, 6))
    apart = native_contrast(batch, batch.clone(), parameters, num_steps, Key(5, 2, 6))
    assert all(torch.equal(a, b) for a, b in zip(shared, apart, strict=True))
    particles = native_gibbs(batch, parameters, num_steps, None, Key(5, 2, 6))[0]
    assert torch.equal(shared[3], particles)
    for found, expected in zip(shared, statistics(batch, particles, *parameters), strict=False):
        assert torch.equal(found, expected)


@pytest.mark.usefixtures("instruction_set")
def test_certain_and_impossible_units_are_so_for_every_uniform() -> None:
    start = torch.zeros(50_000, 1)
    parameters = RBMParameters(torch.zeros(1, 4), torch.zeros(1), torch.tensor([-1e4, -200.0, 200.0, 1e4]))
    h = native_gibbs(start, parameters, 1, None, Key(0))[1]
    assert torch.equal(h, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand_as(h))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_is_that_of_the_mean_free_energies(size: tuple[int, int, int]) -> None:
    batch, parameters = problem(*size)
    particles, _ = problem(size[0], size[1], 2 * size[2] + 1, seed=5)
    found = statistics(batch, particles, *parameters)
    exact = [x.double().requires_grad_() for x in parameters]
    contrast(batch.double(), particles.double(), *exact).backward()
    for gradient, tensor in zip(found, exact, strict=True):
        assert tensor.grad is not None
        torch.testing.assert_close(gradient.double(), tensor.grad, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("betas", [[0.0, 0.3, 0.35, 1.0], [1.0, 0.5, 0.0], [0.5]])
def test_annealed_weights_are_those_of_the_reference_in_float64(size: tuple[int, int, int], betas: list[float]) -> None:
    start, parameters = problem(*size)
    base = parameters[1].flip(0) / 2
    log_weight, v = native_ais(start, parameters, base, betas, Key(9, 0, 4))
    states, exact = start.double(), RBMParameters(*(x.double() for x in parameters))
    uniforms = philox_uniforms(9, size[2], 4, states)
    expected, last = ais_reference.rbm_ais(states, exact, base.double(), betas, uniforms)
    assert torch.equal(v.double(), last)
    torch.testing.assert_close(log_weight, expected, rtol=0, atol=3e-5)


def test_an_error_of_one_part_in_a_thousand_would_be_seen() -> None:
    """The comparisons above fail for weights that are 0.1 % too large."""
    start, (weight, vbias, hbias) = problem(130, 70, 300)
    right = statistics(start, start.flip(0)[:100], weight, vbias, hbias)
    wrong = statistics(start, start.flip(0)[:100], 1.001 * weight, vbias, hbias)
    assert (right[0] - wrong[0]).abs().max() > 2e-6
    on, off = (
        native_ais(start, RBMParameters(w, vbias, hbias), vbias, [0.0, 1.0], Key(0))[0]
        for w in (weight, 1.001 * weight)
    )
    assert (off - on).abs().max() > 3e-5


def layouts(x: Tensor) -> list[Tensor]:
    """The same matrix by rows, by columns, with no stride of 1, and by rows and columns with NaN all around."""
    wide = torch.full((x.shape[0], 2 * x.shape[1]), torch.nan)
    wide[:, ::2] = x
    framed = torch.full((x.shape[0] + 20, x.shape[1] + 20), torch.nan)
    framed[1:-19, 1:-19] = x
    by_columns = framed.mT.contiguous().mT
    return [x, x.mT.contiguous().mT, wide[:, ::2], framed[1:-19, 1:-19], by_columns[1:-19, 1:-19]]


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("rows", [145, 6])
def test_layouts_do_not_matter(rows: int) -> None:
    batch, (weight, vbias, hbias) = problem(37, 41, rows)
    spread = torch.stack((vbias, vbias), -1)[:, 0]
    base = torch.zeros(()).expand(37)
    expected = (
        *native_gibbs(batch, RBMParameters(weight, vbias, hbias), 2, None, Key(0)),
        *statistics(batch, batch[3:], weight, vbias, hbias),
        *native_ais(batch, RBMParameters(weight, vbias, hbias), base.contiguous(), [0.0, 1.0], Key(0)),
    )
    for x, w in itertools.product(layouts(batch), layouts(weight)):
        found = (
            *native_gibbs(x, RBMParameters(w, spread, hbias), 2, None, Key(0)),
            *statistics(x, x[3:], w, spread, hbias),
            *native_ais(x, RBMParameters(w, spread, hbias), base, [0.0, 1.0], Key(0)),
        )
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.usefixtures("instruction_set", "two_threads")
@pytest.mark.parametrize("size", SIZES)
def test_two_threads_give_the_same(size: tuple[int, int, int]) -> None:
    batch, parameters = problem(*size)
    two = (
        *native_gibbs(batch, parameters, 3, torch.linspace(-1, 2, size[2]), Key(5, 0, 7)),
        *statistics(batch, batch, *parameters),
        *native_contrast(batch, batch, parameters, 2, Key(5, 0, 7)),
        *native_contrast(batch, batch[: len(batch) // 3 + 1], parameters, 1, Key(5, 0, 7)),
        *native_ais(batch, parameters, parameters[1], [0.0, 0.5, 1.0], Key(5, 0, 7)),
    )
    torch.set_num_threads(1)
    one = (
        *native_gibbs(batch, parameters, 3, torch.linspace(-1, 2, size[2]), Key(5, 0, 7)),
        *statistics(batch, batch, *parameters),
        *native_contrast(batch, batch, parameters, 2, Key(5, 0, 7)),
        *native_contrast(batch, batch[: len(batch) // 3 + 1], parameters, 1, Key(5, 0, 7)),
        *native_ais(batch, parameters, parameters[1], [0.0, 0.5, 1.0], Key(5, 0, 7)),
    )
    assert all(torch.equal(a, b) for a, b in zip(two, one, strict=True))


@pytest.mark.usefixtures("instruction_set")
def test_results_are_written_in_full() -> None:
    """Results are the same where fresh tensors hold NaN."""
    batch, parameters = problem(37, 41, 19)

    def results() -> tuple[Tensor, ...]:
        annealed = native_ais(batch, parameters, parameters[1], [0.0, 1.0], Key(0))
        gradients = [
            *native_contrast(batch, batch, parameters, 1, Key(0)),
            *native_contrast(batch, batch[:7], parameters, 1, Key(0)),
        ]
        return *native_gibbs(batch, parameters, 1, None, Key(0)), *gradients, *annealed

    torch.use_deterministic_algorithms(True)
    try:
        poisoned = results()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(poisoned, results(), strict=True))


def test_the_op_takes_the_compiled_path_by_default_and_the_reference_elsewhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    if native.best_set() < 1:
        pytest.skip("torch is faster here")
    start, parameters = problem(20, 15, 10)
    weight, vbias, hbias = parameters
    fast = rbm_gibbs(start, *parameters, 3, seed=1)
    assert torch.equal(fast[0], native_gibbs(start, parameters, 3, None, Key(1))[0])
    with caplog.at_level(logging.DEBUG, "pyro_gen"):
        backend._explained.clear()
        for _ in range(2):
            rbm_gibbs(start.double(), weight.double(), vbias.double(), hbias.double(), 3, seed=1)
    messages = [record.message for record in caplog.records]
    expected = "rbm_gibbs: not by native: the compiled kernels know float32 only, got torch.float64 and torch.float64"
    assert messages.count(expected) == 1


@pytest.mark.parametrize("op", ["rbm_gibbs", "rbm_ais", "rbm_contrast"])
def test_a_forced_backend_that_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    v, (weight, vbias, hbias) = problem(3, 2, 4)
    calls = {
        "rbm_gibbs": lambda w: rbm_gibbs(v.to(w), w, vbias.to(w), hbias.to(w), 1, seed=0),
        "rbm_ais": lambda w: rbm_ais(v.to(w), w, vbias.to(w), hbias.to(w), vbias.to(w), torch.ones(2), seed=0),
        "rbm_contrast": lambda w: rbm_contrast(v.to(w), v.to(w), w, vbias.to(w), hbias.to(w), 1, seed=0),
    }
    monkeypatch.setenv("PYRO_GEN_BACKEND", "native")
    with pytest.raises(
        ValueError, match=f"PYRO_GEN_BACKEND=native is impossible for {op}: .* float32 only, got torch.float64"
    ):
        calls[op](weight.double())
    if op != "rbm_contrast":
        with pytest.raises(ValueError, match=f"impossible for {op}: the parameters have batch dimensions"):
            calls[op](weight.expand(4, 3, 2))


def test_a_library_of_another_version_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "INTERFACE", native.INTERFACE + 1)
    assert native.library.__wrapped__() is None


def test_children_of_a_fork_have_threads_of_their_own(two_threads: None) -> None:
    start, parameters = problem(130, 70, 300)
    expected = native_gibbs(start, parameters, 3, None, Key(5))[0]
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs dies of it
        try:
            found = native_gibbs(start, parameters, 3, None, Key(5))[0]
            os._exit(0 if bytes(found.numpy()) == bytes(expected.numpy()) else 1)  # torch's own threads die in a fork
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("wrong", [0.5, float("nan"), -1.0])
def test_other_states_than_zero_and_one_are_refused(wrong: float) -> None:
    batch, parameters = problem(37, 41, 145)
    odd = batch.clone()
    odd[144, 36] = wrong
    with pytest.raises(ValueError, match="states must hold only zeros and ones"):
        native_gibbs(odd, parameters, 1, None, Key(0))
    with pytest.raises(ValueError, match="states must hold only zeros and ones"):
        native_ais(odd, parameters, parameters[1], [0.0, 1.0], Key(0))
    for rows in ((odd, batch), (batch, odd), (odd, odd)):
        with pytest.raises(ValueError, match="states must hold only zeros and ones"):
            native_contrast(*rows, parameters, 1, Key(0))


@pytest.mark.usefixtures("instruction_set")
def test_nan_in_the_parameters_stays_nan() -> None:
    batch, (weight, vbias, hbias) = problem(6, 5, 20)
    weight[2, 3] = float("nan")
    gradient = statistics(torch.ones_like(batch), batch, weight, vbias, hbias)
    assert gradient[0][:, 3].isnan().all()
    assert gradient[2][3].isnan()
    assert not gradient[0][:, 2].isnan().any()
    log_weight, _ = native_ais(torch.ones_like(batch), RBMParameters(weight, vbias, hbias), vbias, [0.0, 1.0], Key(0))
    assert log_weight.isnan().all()


@pytest.mark.usefixtures("instruction_set")
def test_gradients_over_many_rows_do_not_lose_digits() -> None:
    batch, parameters = problem(9, 7, 30_011)
    particles, _ = problem(9, 7, 5_003, seed=3)
    found = statistics(batch, particles, *parameters)
    exact = [x.double().requires_grad_() for x in parameters]
    contrast(batch.double(), particles.double(), *exact).backward()
    for gradient, tensor in zip(found, exact, strict=True):
        assert tensor.grad is not None
        torch.testing.assert_close(gradient.double(), tensor.grad, rtol=0, atol=3e-7)


@pytest.mark.parametrize("op", ["rbm_gibbs", "rbm_ais", "rbm_contrast"])
def test_defaults_of_dtype_and_device_do_not_reach_the_results(op: str) -> None:
    v, parameters = problem(6, 5, 8)

    def call() -> tuple[Tensor, ...]:
        if op == "rbm_gibbs":
            return rbm_gibbs(v, *parameters, 1, seed=0)
        if op == "rbm_ais":
            return rbm_ais(v, *parameters, parameters[1], torch.tensor([0.0, 1.0], device="cpu"), seed=0)
        return rbm_contrast(v, v, *parameters, 1, seed=0)

    expected = call()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = call()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_threads_that_outlive_their_caller_write_to_memory_that_still_is_theirs(two_threads: None) -> None:
    """An interrupt of the caller while another thread's part runs: the part's tensors stay alive, the call waits."""
    started, finish, log = threading.Event(), threading.Event(), []

    def part(first: int, end: int) -> int:
        if first:
            started.set()
            finish.wait(10)
            log.append("written")
            return 0
        started.wait(10)
        threading.Timer(0.1, finish.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        native.in_parts(part, 2, 1, native.PARALLEL_FROM)
    assert log == ["written"]


def test_parts_run_even_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    class Closed:
        def submit(self, *_: object) -> None:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(native, "_pool", lambda *_: Closed())
    ran: list[int] = []

    def part(first: int, end: int) -> int:
        ran.append(first)
        return 0

    native.in_parts(part, 2, 1, native.PARALLEL_FROM)
    assert sorted(ran) == [0, 1]
