"""Gibbs on weights in two int8 planes: the exact sampler of the quantised weights, and mistakes are caught."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gen.kernels import rbm_gibbs
from pyro_gen.kernels.gibbs import int8, reference
from pyro_gen.kernels.quantise import MOST_TERMS, SplitWeight, merge, split
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Uniforms, philox_uniforms, sfc64_uniforms
from tests.kernels.oracle import Weights, fixed_uniforms, sigmoid
from tests.kernels.test_gibbs import Parameters, Path, layouts, problem, wrong_units
from tests.kernels.test_gibbs_distribution import STRONG, judge

ROUNDING = 2e-6
SIZES = [(1, 1, 1), (1, 500, 7), (500, 1, 3), (63, 500, 1), (63, 7, 4097), (5, 3, 65), (129, 67, 33), (200, 160, 512)]

pytestmark = pytest.mark.skipif(not hasattr(torch, "_int_mm"), reason="this torch has no _int_mm")


@pytest.fixture(params=["plain", "padded"])
def grain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands as a CPU takes them, and padded as a GPU wants them."""
    if request.param == "padded":
        monkeypatch.setitem(int8._GRAINS, "cpu", int8._COARSE)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory of torch and numpy holds NaN, or the largest integer."""

    def poison(shape: tuple[int, ...], dtype: type = float) -> np.ndarray:
        return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 77, dtype)

    monkeypatch.setattr(np, "empty", poison)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3, dtype=torch.int32).eq(2**31 - 1).all()
    yield
    torch.use_deterministic_algorithms(False)


def merged(weight: Tensor) -> Tensor:
    return merge(split(weight), torch.float64)


def count_wrong_units(path: Path, v: Tensor, parameters: Parameters, beta: Tensor | None = None) -> int:
    """States of one sweep of ``path`` that disagree with the float64 formula of the quantised weight."""
    uniforms = fixed_uniforms(len(v), torch.float32)
    new_v, new_h = path(v, *parameters, 1, beta, uniforms, 5)
    weight = merged(parameters[0]).numpy()
    vbias, hbias = (bias.double().numpy() for bias in parameters[1:])
    scale = np.ones((len(v), 1)) if beta is None else beta.double().numpy()[:, None]
    hidden_probs = sigmoid(scale * (v.double().numpy() @ weight + hbias))
    visible_probs = sigmoid(scale * (new_h.double().numpy() @ weight.T + vbias))
    assert new_v.dtype == new_h.dtype == v.dtype
    assert (new_v.shape, new_h.shape) == (v.shape, hidden_probs.shape)
    wrong_hidden = wrong_units(new_h.float(), uniforms(5, HIDDEN, len(hbias)), hidden_probs, ROUNDING)
    return wrong_hidden + wrong_units(new_v.float(), uniforms(5, VISIBLE, len(vbias)), visible_probs, ROUNDING)


@pytest.mark.usefixtures("grain")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_sweep_is_the_formula_of_the_quantised_weight(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    v, parameters = problem(*size)
    weight, vbias, hbias = (x.to(dtype) for x in parameters)
    assert count_wrong_units(int8.rbm_gibbs, v.to(dtype), (weight, vbias, hbias)) == 0


@pytest.mark.usefixtures("grain", "poisoned")
@pytest.mark.parametrize("size", [(1, 1, 1), (5, 3, 65), (129, 67, 33)])
def test_no_unwritten_memory_is_read(size: tuple[int, int, int]) -> None:
    v, parameters = problem(*size)
    assert count_wrong_units(int8.rbm_gibbs, v, parameters) == 0


@pytest.mark.usefixtures("grain")
@pytest.mark.parametrize("chains", [1, 33])
def test_each_chain_has_its_own_beta(chains: int) -> None:
    v, parameters = problem(20, 30, chains)
    assert count_wrong_units(int8.rbm_gibbs, v, parameters, torch.linspace(-1, 2, chains)) == 0


@pytest.mark.usefixtures("grain")
@pytest.mark.parametrize("size", [(6, 5, 9), (65, 40, 130)])
def test_layout_of_the_operands_does_not_matter(size: tuple[int, int, int]) -> None:
    v, (weight, vbias, hbias) = problem(*size)
    for odd_v, odd_weight in itertools.product(layouts(v), layouts(weight)):
        spread = torch.stack((vbias, vbias), -1)[:, 0]
        assert count_wrong_units(int8.rbm_gibbs, odd_v, (odd_weight, spread, hbias.expand(1, -1)[0])) == 0
    zero = torch.zeros(()).expand(size[0])  # stride 0
    assert count_wrong_units(int8.rbm_gibbs, v[:1].expand(size[2], -1), (weight, zero, hbias)) == 0


@pytest.mark.usefixtures("grain")
def test_several_sweeps_are_those_of_the_float64_reference_on_the_quantised_weight() -> None:
    """Equal to the last state: no uniform of this seed lies within rounding."""
    v, (weight, vbias, hbias) = problem(30, 20, 50)
    expected = reference.rbm_gibbs(
        v.double(), merged(weight), vbias.double(), hbias.double(), 4, None, fixed_uniforms(50), 9
    )
    states = int8.rbm_gibbs(v, weight, vbias, hbias, 4, None, fixed_uniforms(50, torch.float32), 9)
    for one, other in zip(states, expected, strict=True):
        assert torch.equal(one.double(), other)


def test_k_sweeps_in_one_call_are_k_calls_of_a_kept_quantised_weight() -> None:
    v, (weight, vbias, hbias) = problem(65, 40, 70)
    uniforms = sfc64_uniforms(3, 70, 0, v)
    whole = int8.rbm_gibbs(v, weight, vbias, hbias, 4, None, uniforms, 7)
    planes, now = split(weight), v
    for t in range(7, 11):
        now, h = int8.sweeps(now, planes, vbias, hbias, 1, None, uniforms, t)
    assert torch.equal(now, whole[0])
    assert torch.equal(h, whole[1])


@pytest.mark.usefixtures("grain")
@pytest.mark.parametrize("size", [(1, 1, 1), (70_000 // 8, 3, 2), (784, 500, 33)])
def test_the_sums_are_the_exact_integers(size: tuple[int, int, int]) -> None:
    """At the ends of the format as well, where float32 holds no more: every weight at 32639 and every unit on."""
    visible, hidden, chains = size
    for weight in (torch.randn(visible, hidden), torch.ones(visible, hidden), -torch.ones(visible, hidden)):
        v = torch.ones(chains, visible)
        v[1:] = torch.randint(2, (chains - 1, visible))
        planes, grain = split(weight), int8._GRAINS["cpu"]
        hi, lo = (int8._padded(plane, grain.multiple) for plane in planes[:2])
        rows = max(chains, grain.rows)
        side = int8._Side(int8._beside(hi, lo), 1.0, torch.zeros(hidden), None, chains, rows)
        side.draw(int8._binary(v, rows, len(hi)), torch.zeros(chains, hidden))
        assert torch.equal(
            side.lo.long(), v.long() @ merge(planes._replace(scale=torch.ones(())), torch.float64).long()
        )


def test_saturated_units_are_certain() -> None:
    v, large = torch.zeros(1000, 3), torch.tensor([200.0, -200.0])
    drawn = fixed_uniforms(1000, torch.float32)
    new_v, new_h = int8.rbm_gibbs(v, torch.zeros(3, 2), torch.full((3,), 200.0), large, 1, None, drawn, 0)
    assert torch.equal(new_h, torch.tensor([1.0, 0.0]).expand(1000, 2))
    assert bool(new_v.all())


@pytest.mark.usefixtures("grain")
def test_no_chains_give_no_states() -> None:
    v, parameters = problem(5, 4, 1)
    v, h = int8.rbm_gibbs(v[:0], *parameters, 2, None, fixed_uniforms(0, torch.float32), 0)
    assert (v.shape, h.shape) == ((0, 5), (0, 4))


def test_the_number_of_threads_does_not_matter() -> None:
    v, parameters = problem(200, 160, 512)
    results, before = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(int8.rbm_gibbs(v, *parameters, 3, None, sfc64_uniforms(0, 512, 0, v), 0))
    torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("wrong", [0.5, 2.0, -1.0, 257.0, float("nan")])
def test_states_other_than_zeros_and_ones_are_refused(wrong: float) -> None:
    v, parameters = problem(5, 4, 3)
    v[1, 2] = wrong
    with pytest.raises(ValueError, match="`v` must hold only zeros and ones for the int8 path"):
        int8.rbm_gibbs(v, *parameters, 1, None, fixed_uniforms(3, torch.float32), 0)


def test_arguments_are_left_alone_and_results_carry_no_gradient() -> None:
    v, (weight, vbias, hbias) = problem(6, 5, 8)
    tensors = [*(x.requires_grad_() for x in (v, weight, vbias, hbias)), torch.linspace(0, 1, 8)]
    before = [(x.detach().clone(), x._version) for x in tensors]
    states = int8.rbm_gibbs(v, weight, vbias, hbias, 2, tensors[-1], fixed_uniforms(8, torch.float32), 0)
    for x in states:
        assert not x.requires_grad
        x.fill_(7.0)
    for x, (value, version) in zip(tensors, before, strict=True):
        assert torch.equal(x, value)
        assert x._version == version


def test_refusals_name_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    v, weight = torch.zeros(512, 200), torch.zeros(200, 160)
    assert int8.impossible(v, weight) is None
    reasons = {
        "float64": (v.double(), weight),
        "float64 asks": (v, weight.double()),
        "batched": (v, weight.expand(3, 200, 160)),
        "overflow": (torch.zeros(1, 1).expand(512, MOST_TERMS + 1), torch.zeros(1, 1).expand(MOST_TERMS + 1, 1)),
        "meta": (v.to("meta"), weight.to("meta")),
    }
    for reason, (states, weights) in reasons.items():
        assert reason in str(int8.impossible(states, weights))
    monkeypatch.setattr(int8, "_int_mm", None)
    assert int8.impossible(v, weight) == "this torch has no _int_mm"
    with pytest.raises(NotImplementedError, match="_int_mm"):
        int8.rbm_gibbs(v, weight, v[0], weight[0], 1, None, fixed_uniforms(512), 0)


def test_probabilities_are_off_by_as_much_as_the_format_says() -> None:
    """Against float64 on the weights as they were: 3e-4 at most on 784x500, where bf16 is off by ten times as much."""
    v, (weight, _, hbias) = problem(784, 500, 128)
    exact, near, coarse = (
        sigmoid(v.double().numpy() @ w.double().numpy() + hbias.double().numpy())
        for w in (weight, merged(weight), weight.bfloat16())
    )
    error = np.abs(near - exact)
    assert 1e-5 < error.max() < 4e-4
    assert abs((near - exact).mean()) < 1e-5
    assert np.abs(coarse - exact).max() > 3 * error.max()


def test_the_distribution_is_the_enumerated_one_of_the_quantised_weight() -> None:
    quantised = Weights(merged(torch.tensor(STRONG.weight)).numpy(), STRONG.vbias, STRONG.hbias)

    def sampler(v: Tensor, parameters: Parameters, num_steps: int, seed: int) -> tuple[Tensor, Tensor]:
        return int8.rbm_gibbs(v, *parameters, num_steps, None, sfc64_uniforms(seed, len(v), 0, v), 0)

    verdict = judge(sampler, quantised)
    assert verdict.passes, verdict


def on_planes(
    planes: SplitWeight, v: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms
) -> tuple[Tensor, Tensor]:
    return int8.sweeps(v, planes, vbias, hbias, 1, None, uniforms, 5)


def right(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    return on_planes(split(weight), v, vbias, hbias, uniforms)


def without_lo(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    planes = split(weight)
    return on_planes(planes._replace(lo=torch.zeros_like(planes.lo)), v, vbias, hbias, uniforms)


def lo_off_by_one(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    planes = split(weight)
    return on_planes(planes._replace(lo=planes.lo + (planes.lo < 0)), v, vbias, hbias, uniforms)


def scale_off(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    planes = split(weight)
    return on_planes(planes._replace(scale=planes.scale * (1 + 2**-10)), v, vbias, hbias, uniforms)


def by_columns(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    columns = torch.stack([merged(column) for column in weight.mT], -1).float()
    return reference.rbm_gibbs(v, columns, vbias, hbias, 1, None, uniforms, 5)


def coarse_bias(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    return right(v, weight, vbias.bfloat16(), hbias, uniforms)


def no_bias(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    return right(v, weight, vbias, torch.zeros_like(hbias), uniforms)


def rounded(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    return reference.rbm_gibbs(v, weight, vbias, hbias, 1, None, uniforms, 5)


MISTAKES = {
    "the low plane dropped": without_lo,
    "negative low parts off by one": lo_off_by_one,
    "a scale off by 0.1 %": scale_off,
    "a scale for each column": by_columns,
    "the weight not quantised": rounded,
    "a bias in bf16": coarse_bias,
    "a bias dropped": no_bias,
}


def wrong_units_of(name: str) -> int:
    v, parameters = problem(784, 500, 1024)
    mutant = MISTAKES.get(name, right)

    def path(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        return mutant(v, weight, vbias, hbias, fixed_uniforms(len(v), torch.float32))

    return count_wrong_units(path, v, parameters)


def test_the_path_without_a_mistake_passes_what_catches_mistakes() -> None:
    assert wrong_units_of("none") == 0


@pytest.mark.parametrize("name", MISTAKES)
def test_a_path_with_one_mistake_is_caught(name: str) -> None:
    assert wrong_units_of(name) > 0


def test_the_path_runs_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    v, parameters = problem(60, 50, 40)
    monkeypatch.setenv("PYRO_GEN_RNG", "philox")
    monkeypatch.setenv("PYRO_GEN_BACKEND", "int8")
    weight, vbias, hbias = parameters
    uniforms = philox_uniforms(5, 40, 0, v)
    assert torch.equal(rbm_gibbs(v, *parameters, 3, seed=5)[0], int8.rbm_gibbs(v, *parameters, 3, None, uniforms, 0)[0])
    with pytest.raises(ValueError, match="PYRO_GEN_BACKEND=int8 is impossible for rbm_gibbs: float64"):
        rbm_gibbs(v.double(), weight.double(), vbias.double(), hbias.double(), 3, seed=5)
    monkeypatch.delenv("PYRO_GEN_BACKEND")
    parameters[0][0, 0] = 500.0  # the planes' step is 0.015: what the default draws shows that it is not they
    expected = reference.rbm_gibbs(v, *parameters, 3, None, uniforms, 0)[0]
    assert torch.equal(rbm_gibbs(v, *parameters, 3, seed=5)[0], expected)
    assert not torch.equal(int8.rbm_gibbs(v, *parameters, 3, None, uniforms, 0)[0], expected)
