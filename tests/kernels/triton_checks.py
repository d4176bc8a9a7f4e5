"""What the Triton kernels must do, as plain functions: in Triton's interpreter on CPU tensors, or compiled on CUDA.

``triton_run.py`` runs them. Checks of a sampler also judge samplers with one mistake.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.kernels.ais import reference as ais_reference
from pyro_gen.kernels.ais import triton as ais
from pyro_gen.kernels.contrastive import triton as contrastive
from pyro_gen.kernels.free_energy import triton as free_energy
from pyro_gen.kernels.gibbs import triton as gibbs
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Key, Uniforms, philox_uniforms
from pyro_gen.kernels.triton import blocks, graphs, interpreted, operands, refusal
from pyro_gen.testing import goodness_of_fit
from tests.kernels.oracle import P_LIMIT, Weights, code, end_distribution, fixed_uniforms, philox_uniform

INTERPRETED = interpreted()
DEVICE = "cpu" if INTERPRETED else "cuda"
if INTERPRETED:
    operands.PROGRAMS = 1  # the interpreter takes its time for a program, not for its numbers
ROUNDING = 5e-6
"""Error of a probability: float32 sums of a thousand terms and an exponential."""
SIZES = [(1, 1, 1), (63, 50, 1), (64, 64, 40), (1, 500, 7), (500, 1, 3), (65, 7, 4097), (200, 160, 130), (784, 500, 33)]
CONTRAST_SIZES = [(1, 1, 1, 1), (63, 50, 5, 9), (1, 130, 7, 3), (200, 160, 70, 131), (130, 1, 200, 3)]


class Call(NamedTuple):
    """What a sampler is asked for besides states and parameters."""

    num_steps: int = 1
    beta: Tensor | None = None
    seed: int = 3
    step: int = 2**40 + 5
    chain_offset: int = 17
    form: str | None = None

    @property
    def key(self) -> Key:
        """Of the random numbers."""
        return Key(self.seed, self.step, self.chain_offset)

    def uniforms(self, v: Tensor) -> Uniforms:
        """The uniforms that this call must use."""
        return philox_uniforms(self.seed, len(v), self.chain_offset, v.float())


Path = Callable[[Tensor, RBMParameters, Call], tuple[Tensor, Tensor]]


def clock(call: Call, v: Tensor) -> Tensor:
    """The call's seed, step and offset on the device."""
    return operands.clock(call.key, v)


def by_launches(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """Two launches a step, whatever the size."""
    weight, vbias, hbias = parameters
    tensors = (v, weight, vbias.contiguous(), hbias.contiguous(), clock(call, v))
    return gibbs.sweeps(*tensors, call.beta, num_steps=call.num_steps, form=call.form)


def by_choice(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """As the op chooses: one launch for small sizes, else on CUDA a graph from the second call on."""
    for states in (v,) if INTERPRETED else (v, 1 - v, v):
        drawn = gibbs.rbm_gibbs(states, parameters, call.num_steps, call.beta, call.key, call.form)
    return drawn


PATHS: tuple[Path, ...] = (by_launches, by_choice)


def problem(visible: int, hidden: int, chains: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, RBMParameters]:
    """States and parameters with fields of order one."""
    weight, vbias, hbias = Weights.normal(visible, hidden, seed=visible + hidden).tensors(torch.float64, DEVICE)
    v = fixed_uniforms(chains, torch.float64, seed=99)(0, 0, visible).round().to(DEVICE, dtype)
    return v, RBMParameters((weight / max(visible, hidden) ** 0.5).to(dtype), vbias.to(dtype), hbias.to(dtype))


def stored(weight: Tensor, form: str | None) -> Tensor:
    """The weights that a format samples from, in float64, from the format's definition."""
    if form != "int8x2":
        return weight.double()
    high, low, scale = split_int8(weight)
    return scale.double() * (256 * high + low).double()


def split_int8(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Planes as int64 and the scale of the int8x2 format, in torch."""
    largest = weight.float().abs().max()
    scale = torch.where(largest == 0, 1.0, largest / 32639)
    whole = (weight.float() / scale).round().long()
    high = (whole + 128) >> 8
    return high, (whole - 256 * high).clamp(-127, 127), scale


def wrong_states(path: Path, v: Tensor, parameters: RBMParameters, call: Call) -> int:
    """States of one sweep that differ from [u < sigmoid(beta z)] in float64, but where u is within rounding."""
    new_v, new_h = path(v, parameters, call)
    weight, vbias, hbias = stored(parameters[0], call.form), parameters[1].double(), parameters[2].double()
    factor = 1.0 if call.beta is None else call.beta.double()[:, None]
    expected = (
        (new_h, v.double() @ weight + hbias, HIDDEN),
        (new_v, new_h.double() @ weight.mT + vbias, VISIBLE),
    )
    wrong = 0
    for drawn, field, stream in expected:
        u, p = call.uniforms(v)(call.step, stream, field.shape[1]).double(), (factor * field).sigmoid()
        assert drawn.dtype == v.dtype, "the states' dtype is not that of v"
        assert drawn.is_contiguous()
        wrong += int((((drawn == 1) != (u < p)) & ((u - p).abs() > ROUNDING)).sum())
        wrong += int((drawn * drawn != drawn).sum())
    return wrong


@triton.jit
def _uniforms(
    clock: tl.tensor, out: tl.tensor, t: tl.tensor, stream: tl.tensor, m: tl.constexpr, n: tl.constexpr
) -> None:
    u = blocks.uniforms(clock, t, stream, tl.arange(0, m), 0, n // 4)
    tl.store(out + tl.arange(0, m)[:, None] * n + tl.arange(0, n)[None, :], u)


def check_words() -> None:
    """Philox words are those of the reference, 0 mismatches, and of the scalar oracle."""
    for seed, step, offset in [
        (0, 0, 0),
        (-5, 2**40 + 3, 17),
        (2**63 - 1, 2**32 - 1, 5),
        (-(2**63), 2**55, 2**32 - 40),
    ]:
        for stream in (HIDDEN, VISIBLE, 2):
            out = torch.full((32, 128), torch.nan, device=DEVICE)
            _uniforms[(1,)](operands.clock(Key(seed, step, offset), out), out, 2, stream, 32, 128)
            assert torch.equal(out, philox_uniforms(seed, 32, offset, out)(step + 2, stream, 128))
    scalar = philox_uniform(7, 5, HIDDEN, 3 + 9, 6)
    _uniforms[(1,)](operands.clock(Key(7, 4, 9), out), out, 1, HIDDEN, 32, 128)
    assert out[3, 6].item() == scalar


def check_one_sweep(sizes: Sequence[tuple[int, int, int]] = SIZES) -> None:
    """One sweep is the formula with the same uniforms: awkward sizes, every format, both paths."""
    for size, path, form in itertools.product(sizes, PATHS, ("fp16x2", "int8x2", "tf32x3")):
        v, parameters = problem(*size)
        wrong = wrong_states(path, v, parameters, Call(form=form))
        assert not wrong, f"{size}, {path.__name__}, {form}: {wrong} wrong states"


def check_beta() -> None:
    """Every chain has its own inverse temperature, negative and zero included."""
    for chains, size, path in itertools.product((1, 33), ((20, 30), (70, 130)), PATHS):
        v, parameters = problem(*size, chains)
        beta = torch.linspace(-1, 2, chains, device=DEVICE)
        assert not wrong_states(path, v, parameters, Call(beta=beta)), f"{size}, {chains} chains"


def check_dtypes() -> None:
    """Parameters and states of any float dtype: the probabilities are those of the rounded parameters."""
    for size, path in itertools.product(((30, 20, 9), (70, 130, 9)), PATHS):
        for dtype in (torch.float16, torch.bfloat16):
            v, parameters = problem(*size, dtype)
            assert not wrong_states(path, v, parameters, Call()), f"{size}, {dtype}"
            single = RBMParameters(*(x.float() for x in parameters))
            assert not wrong_states(path, v, single, Call()), f"states {dtype}, parameters float32"


def check_layouts() -> None:
    """Strides of the operands do not matter."""
    for size, path in itertools.product(((30, 20, 9), (70, 130, 9)), PATHS):
        v, (weight, vbias, hbias) = problem(*size)
        for odd in (weight.mT.contiguous().mT, torch.stack((weight, weight), -1)[..., 0]):
            spread = torch.stack((vbias, vbias), -1)[:, 0]
            parameters = RBMParameters(odd, spread, hbias.expand(2, -1)[0])
            assert not wrong_states(path, v.mT.contiguous().mT, parameters, Call())
        parameters = RBMParameters(weight, vbias[:1].expand(size[0]), hbias)
        assert not wrong_states(path, v[:1].expand(5, -1), parameters, Call())


def check_weights_of_every_magnitude() -> None:
    """Splitting holds from all-zero to huge weights, and where one weight dwarfs the others; saturation is certain."""
    v, (weight, vbias, hbias) = problem(70, 130, 9)
    for factor, path in itertools.product((0.0, 1e-30, 1e-5, 30.0, 1e6), PATHS):
        scaled = RBMParameters(weight * factor, vbias, hbias)
        assert not wrong_states(path, v, scaled, Call()), f"weights times {factor}"
    lone = weight.clone()
    lone[3, 5] = 1e4
    assert not wrong_states(by_launches, v, RBMParameters(lone, vbias, hbias), Call())
    large = torch.tensor([200.0, -200.0], device=DEVICE).repeat(65)
    for path in PATHS:
        _, h = path(v, RBMParameters(weight * 0, vbias, large), Call())
        assert torch.equal(h, (large > 0).float().expand(9, -1))


@triton.jit
def _fields(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    out: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    scale, first_row, first = (
        blocks.scale_of(tl.load(largest), "int8"),
        tl.program_id(0) * block_m,
        tl.program_id(1) * block_n,
    )
    z = blocks.total(
        states, weight, scale, first_row, first, depth, stride, plane_stride, "int8", 2, block_m, block_n, block_k
    )
    place = out + (first_row + tl.arange(0, block_m))[:, None] * 256 + first + tl.arange(0, block_n)[None, :]
    tl.store(place, z)


def check_int8() -> None:
    """Planes and fields of the int8 format are those of its definition, to the last bit, whatever the tile."""
    v, (weight, *_) = problem(300, 200, 60)
    split, states = operands.weights(weight, operands.FORMATS["int8x2"]), operands.pad(v, torch.int8)
    high, low, scale = split_int8(weight)
    for own, plane in zip(split.down, (high, low), strict=True):
        assert torch.equal(own[:300, :200].long(), plane)
    assert torch.equal(split.up, split.down.mT)
    assert not split.down[:, 300:].any()
    assert not split.down[:, :, 200:].any()
    exact = scale * (256 * (v.long().cpu() @ high.cpu()) + v.long().cpu() @ low.cpu()).float().to(DEVICE)
    for block_m, block_n, block_k in ((32, 32, 64), (128, 64, 128), (64, 128, 64)):
        out = torch.full((128, 256), torch.nan, device=DEVICE)
        grid = (128 // block_m, 256 // block_n)
        _fields[grid](states, split.up, split.largest, out, 384, 384, 256 * 384, block_m, block_n, block_k)
        assert torch.equal(out[:60, :200], exact), f"{int((out[:60, :200] != exact).sum())} fields differ"


def check_splits() -> None:
    """K sweeps in one call are k calls; rows do not depend on how chains are split or which tile they fall in."""
    for size, path in itertools.product(((9, 6, 70), (70, 66, 140)), PATHS):
        v, parameters = problem(*size)
        for seed, step in ((0, 2**31 - 2), (-5, 2**32 - 2)):
            at_once = path(v, parameters, Call(4, seed=seed, step=step))
            now = v
            for t in range(4):
                now, h = path(now, parameters, Call(1, seed=seed, step=step + t))
            assert torch.equal(now, at_once[0])
            assert torch.equal(h, at_once[1])
        beta = torch.linspace(0, 1, size[2], device=DEVICE)
        at_once = path(v, parameters, Call(3, beta, chain_offset=17))
        for start, stop in itertools.pairwise([0, 1, 46, size[2]]):
            part = path(v[start:stop], parameters, Call(3, beta[start:stop], chain_offset=17 + start))
            assert torch.equal(part[0], at_once[0][start:stop])
            assert torch.equal(part[1], at_once[1][start:stop])


@contextmanager
def only(shape: operands.Tile) -> Iterator[None]:
    """Every kernel in this tile; graphs of other tiles are forgotten."""
    before = operands.TILES, contrastive.GRADIENT_TILES
    operands.TILES, contrastive.GRADIENT_TILES = (shape,) * len(operands.TILES), (shape,)
    graphs.clear()
    try:
        yield
    finally:
        operands.TILES, contrastive.GRADIENT_TILES = before
        graphs.clear()


def check_tiles() -> None:
    """Every tile shape that this device may take gives the formulas; with int8 all give the same states."""
    v, parameters = problem(130, 70, 70)
    for form in ("fp16x2", "int8x2", "tf32x3"):
        for shape in operands.fitting(operands.FORMATS[form], v.device):
            with only(shape):
                assert not wrong_states(by_launches, v, parameters, Call(form=form)), f"{form}, {shape}"
                states = by_launches(v, parameters, Call(2, form=form))
            if form == "int8x2":
                assert torch.equal(states[0], by_launches(v, parameters, Call(2, form=form))[0])
    for shape in operands.fitting(operands.FORMATS["tf32x3"], v.device):
        with only(shape):
            check_free_energy([(70, 40, 35)])
    for shape in contrastive.GRADIENT_TILES:
        with only(shape):
            check_contrast([(130, 70, 33, 40)])
    for shape in operands.TILES[ais.LARGEST_TILE :]:
        with only(shape):
            check_annealing([(70, 40, 35)])


def check_no_chains() -> None:
    """No chains give no states."""
    v, parameters = problem(9, 6, 3)
    new_v, new_h = gibbs.rbm_gibbs(v[:0], parameters, 2, None, Key(0))
    assert new_v.shape == (0, 9)
    assert new_h.shape == (0, 6)
    assert free_energy.rbm_free_energy(v[:0], parameters).shape == (0,)
    assert ais.rbm_ais(v[:0], parameters, parameters[1], torch.linspace(0, 1, 3), Key(0))[0].shape == (0,)


def check_no_unwritten_memory_is_read() -> None:
    """Fresh memory holds NaN (or the largest integer) and nothing changes."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    graphs.clear()  # their memory was filled by other rules
    try:
        assert torch.empty(3, device=DEVICE).isnan().all()
        check_one_sweep(((5, 3, 65), (200, 160, 33)))
        check_contrast(((63, 50, 5, 9), (200, 160, 70, 131)))
        check_annealing()
        check_free_energy()
    finally:
        torch.use_deterministic_algorithms(False)


def check_contrast(sizes: Sequence[tuple[int, int, int, int]] = CONTRAST_SIZES) -> None:
    """The particles are the sampler's, and the gradient is that of the formula at them."""
    for (p, q, n, m), dtype in itertools.product(sizes, (torch.float32, torch.bfloat16)):
        batch, parameters = problem(p, q, n, dtype)
        start = problem(p, q, m, dtype)[0].flip(0)
        for form in (None, "int8x2"):
            got = contrastive.rbm_contrast(batch, start, parameters, 2, Key(3, 7, 11), form, graph=False)
            if not INTERPRETED:
                for _ in range(2):
                    again = contrastive.rbm_contrast(batch, start, parameters, 2, Key(3, 7, 11), form)
                assert all(torch.equal(x, y) for x, y in zip(got, again, strict=True))
            particles, _ = by_launches(start, parameters, Call(2, step=7, chain_offset=11, form=form))
            assert torch.equal(got[3], particles)
            error = gradient_error(got, batch, parameters, form)
            assert error < (2e-6 if dtype == torch.float32 else 8e-3), f"{(p, q, n, m)}, {dtype}, {form}: {error}"


def gradient_error(got: tuple[Tensor, ...], batch: Tensor, parameters: RBMParameters, form: str | None) -> float:
    """Largest error of a gradient against autograd in float64."""
    weight, vbias, hbias = (x.double() for x in (stored(parameters[0], form), *parameters[1:]))
    leaves = [x.clone().requires_grad_() for x in (weight, vbias, hbias)]

    def mean_free_energy(v: Tensor) -> Tensor:
        return (-v @ leaves[1] - softplus(v @ leaves[0] + leaves[2]).sum(-1)).mean()

    (mean_free_energy(batch.double()) - mean_free_energy(got[3].double())).backward()
    pairs = zip(got[:3], leaves, strict=True)
    return max((x.double() - y.grad).abs().max().item() for x, y in pairs if y.grad is not None)


def check_free_energy(sizes: Sequence[tuple[int, int, int]] = SIZES) -> None:
    """Free energies are the formula in float64, for states and for real numbers."""
    for size in sizes:
        v, parameters = problem(*size)
        weight, vbias, hbias = parameters
        for states, form in ((v, "tf32x3"), (v, "fp16x2"), (v * 1.7 - 0.3, "tf32x3")):
            exact = -states.double() @ vbias.double() - softplus(states.double() @ weight.double() + hbias).sum(-1)
            own = free_energy.rbm_free_energy(states, parameters, form)
            assert ((own - exact).abs() <= 1e-5 * (1 + exact.abs())).all(), f"{size}, {form}"


def sure_path(
    v: Tensor, parameters: RBMParameters, base: Tensor, betas: Tensor, uniforms: Uniforms
) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights and last states by the reference in float64, and which chains no error of ``ROUNDING`` can change."""

    def shifted(by: float) -> tuple[Tensor, Tensor]:
        exact = RBMParameters(*(x.double() for x in parameters))
        moved: Uniforms = lambda *which: uniforms(*which).double() + by  # noqa: E731
        return ais_reference.rbm_ais(v.double(), exact, base.double(), betas.double().tolist(), moved)

    (early, first), (late, last) = shifted(-ROUNDING), shifted(ROUNDING)
    log_weight, states = shifted(0)
    return log_weight, states.to(v.dtype), (early == late) & (first == last).all(-1)


ANNEALING_SIZES = [(1, 1, 1), (63, 50, 5), (1, 130, 7), (200, 160, 70)]


def check_annealing(sizes: Sequence[tuple[int, int, int]] = ANNEALING_SIZES) -> None:
    """Log weights and states are the formula's in float64, forwards and backwards, whatever the chunks and splits."""
    before = ais.CHUNK
    for size, betas in itertools.product(sizes, (torch.linspace(0, 1, 8), torch.tensor([1.0, 0.99, 0.4]))):
        v, parameters = problem(*size)
        base = parameters.vbias.flip(0) * 0.5
        expected, states, sure = sure_path(v, parameters, base, betas, philox_uniforms(3, len(v), 5, v))
        assert sure.float().mean() > 0.9, f"{size}: {int(sure.sum())} chains are sure"
        for chunk in (2, before):
            ais.CHUNK = chunk
            got, now = ais.rbm_ais(v, parameters, base, betas, Key(3, 0, 5))
            assert got.dtype == torch.float64
            assert torch.equal(now[sure], states[sure]), f"{size}: states differ"
            error = (got - expected)[sure].abs().max().item()
            assert error < 1e-4, f"{size}: log weights differ by {error}"
        last = Key(3, 0, 5 + len(v) - len(v[-2:]))
        tail = ais.rbm_ais(v[-2:], parameters, base, betas, last, graph=False)[0]
        assert (tail - got[-2:]).abs().max() < 1e-6
    ais.CHUNK = before


def check_few_sizes() -> None:
    """Gradients, free energies and annealing where they take seconds; the checks of each go on to larger sizes."""
    check_contrast([(1, 1, 1, 1), (63, 50, 5, 9), (130, 1, 200, 3)])
    check_free_energy([(1, 1, 1), (64, 64, 40), (1, 500, 7), (500, 1, 3)])
    check_annealing([(1, 1, 1), (63, 50, 5)])


RUNS = ((0, 1), (1, 3))
"""One sweep from all visible units off, three from all on."""


def fit(path: Path, weights: Weights) -> float:
    """Smallest p-value of (visible, hidden) after each of ``RUNS``."""
    parameters, number, ps = weights.tensors(torch.float32, DEVICE), 3000 if INTERPRETED else 100_000, []
    for start, sweeps in RUNS:
        v = torch.full((number, len(weights.vbias)), float(start), device=DEVICE)
        new_v, h = path(v, parameters, Call(sweeps, seed=10 * start + sweeps, chain_offset=0))
        distribution = end_distribution(weights, -start % 2 ** len(weights.vbias), sweeps)
        counts = np.bincount(code(new_v) * distribution.shape[1] + code(h), minlength=distribution.size)
        ps.append(goodness_of_fit(torch.from_numpy(counts), torch.from_numpy(distribution.reshape(-1))))
    return min(ps)


def swapped_biases(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """A mistake."""
    return by_launches(v, RBMParameters(parameters[0], parameters[2], parameters[1]), call)


def transposed_weight(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """A mistake."""
    return by_launches(v, parameters._replace(weight=parameters.weight.mT), call)


def biased_threshold(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """A mistake: probabilities of the hidden units are one nat off."""
    return by_launches(v, parameters._replace(hbias=parameters.hbias + 1), call)


def v_used_twice(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """A mistake: the hidden states are drawn again, from the new visible states, with the same uniforms."""
    new_v, _ = by_launches(v, parameters, call)
    last = call._replace(num_steps=1, step=call.step + call.num_steps - 1)
    return new_v, by_launches(new_v, parameters, last)[1]


def every_sweep_from_the_start(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """A mistake."""
    return by_launches(v, parameters, call._replace(num_steps=1, step=call.step + call.num_steps - 1))


def dropped_word(v: Tensor, parameters: RBMParameters, call: Call) -> tuple[Tensor, Tensor]:
    """A mistake: the second unit has the first one's random word; by the reference, with the kernels' uniforms."""
    from pyro_gen.kernels.gibbs import reference

    def uniforms(step: int, stream: int, units: int) -> Tensor:
        columns = torch.arange(units, device=v.device)
        columns[1:2] = 0
        return call.uniforms(v)(step, stream, units)[:, columns]

    return reference.rbm_gibbs(v, parameters, call.num_steps, call.beta, uniforms, call.step)


MISTAKES: tuple[Path, ...] = (
    swapped_biases,
    transposed_weight,
    biased_threshold,
    v_used_twice,
    every_sweep_from_the_start,
    dropped_word,
)


def check_distribution() -> None:
    """The distribution after k sweeps is the enumerated one; samplers with one mistake are caught by it."""
    strong = Weights.normal(4, 4, scale=1.5, seed=5)
    for path in PATHS:
        p = fit(path, strong)
        assert p > P_LIMIT, f"{path.__name__}: p-value {p}"
    for mistake in MISTAKES:
        assert fit(mistake, strong) < P_LIMIT, f"{mistake.__name__} was not caught"


def check_mistakes() -> None:
    """The comparison with the formula catches every sampler with one mistake in its first sweep."""
    v, parameters = problem(64, 64, 40)
    for mistake in MISTAKES:
        if mistake is not every_sweep_from_the_start:
            assert wrong_states(mistake, v, parameters, Call()), f"{mistake.__name__} was not caught"


def check_refusals() -> None:
    """What the kernels do not serve they refuse with a reason."""
    v, (weight, vbias, hbias) = problem(3, 2, 4)
    assert refusal(v, weight, vbias, hbias) is None
    assert "float32" in str(refusal(v.double(), weight, vbias, hbias))
    assert "float32" in str(refusal(v, weight, vbias.double(), hbias))
    assert "batched" in str(refusal(v, weight.expand(2, -1, -1)))
    assert "batched" in str(refusal(v, weight, vbias.expand(2, -1)))
    assert "units" in str(refusal(v, weight[:, :0]))
    assert "different devices" in str(refusal(v, weight.to("meta")))
