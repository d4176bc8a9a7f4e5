"""The optional compiled kernels for a CPU: float32, Philox streams, two to four
times as quick as torch on AVX-512.

The library is plain C (``src/``) behind ctypes; where no compiler was at hand
on installation it is missing, and the torch paths serve. States are the
reference's under Philox, except where a uniform lies within rounding of its
probability.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

from pyro_gen.kernels.native import team

SETS = ("portable", "AVX2", "AVX-512")
"""Instruction sets by the library's number."""

PARALLEL_FROM = 4_000_000
"""Multiply-adds of a call from which a second thread pays for its start."""

INTERFACE = 4
"""``pyro_gen_interface()`` of the library that this module speaks to."""

_WHOLE, _SAMPLE, _DIFFERENTIATE = range(3)  # phases of a contrast

_ADDRESS = ctypes.c_void_p
_COUNT = ctypes.c_int64
_KEY = ctypes.c_uint64
_INT = ctypes.c_int
_PARAMETERS = [_INT, _ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT]
_SIGNATURES = {
    "pyro_gen_interface": [],
    "pyro_gen_best_set": [],
    "pyro_gen_rbm_gibbs": [
        *_PARAMETERS,
        *[_ADDRESS] * 3,
        _COUNT,
        _ADDRESS,
        _COUNT,
        _KEY,
        _KEY,
        _KEY,
    ],
    "pyro_gen_rbm_ais": [
        *_PARAMETERS,
        *[_ADDRESS] * 3,
        _COUNT,
        _ADDRESS,
        _ADDRESS,
        _COUNT,
        _KEY,
        _KEY,
    ],
    "pyro_gen_rbm_contrast": [
        *[*_PARAMETERS, _ADDRESS, _COUNT, _ADDRESS, _COUNT, _COUNT, _KEY, _KEY, _KEY],
        *[*[_ADDRESS] * 5, _INT, _COUNT, _COUNT],
    ],
    "pyro_gen_rbm_contrast_space": [_COUNT, _COUNT, _COUNT, _COUNT, _INT],
    "pyro_gen_nade": [_INT, *[_ADDRESS] * 4, *[_COUNT] * 6, _ADDRESS, _COUNT, _COUNT],
    "pyro_gen_nade_sample": [
        *[_INT, *[_ADDRESS] * 4, *[_COUNT] * 4, _ADDRESS, _COUNT],
        *[_ADDRESS, _ADDRESS, _COUNT, _COUNT],
    ],
    "pyro_gen_nade_backward": [
        _INT,
        *[_ADDRESS] * 4,
        *[_COUNT] * 6,
        *[_ADDRESS] * 4,
        _COUNT,
        _COUNT,
    ],
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled library, loaded on first use.

    None where it was not built or cannot be loaded.
    """
    for suffix in EXTENSION_SUFFIXES:
        file = Path(__file__).with_name("_native" + suffix)
        if file.exists():
            try:
                return _declare(ctypes.CDLL(str(file)))
            except (OSError, AttributeError):  # another machine's, or an older version's
                return None
    return None


def _declare(library_: ctypes.CDLL) -> ctypes.CDLL | None:
    for name, arguments in _SIGNATURES.items():
        function = getattr(library_, name)
        function.argtypes = arguments
        function.restype = _COUNT if name.endswith("_space") else _INT
    if library_.pyro_gen_interface() == INTERFACE:
        return library_
    return None


def _loaded() -> ctypes.CDLL:
    loaded = library()
    if loaded is None:
        raise RuntimeError("the compiled library is not installed: ask `impossible` first")
    return loaded


@lru_cache(maxsize=1)
def best_set() -> int:
    """Index into :data:`SETS` of the best that this processor has, or -1 without the library."""
    loaded = library()
    if loaded is None:
        return -1
    return int(loaded.pyro_gen_best_set())


_forced_set: int | None = None  # tests run the lesser sets too


def instruction_set() -> int:
    """Index into :data:`SETS` of what is used."""
    if _forced_set is None:
        return best_set()
    return _forced_set


def impossible(states: Tensor, weight: Tensor) -> str | None:
    """Reason why the compiled kernels cannot run on these tensors; None where they can."""
    if library() is None:
        return (
            "the compiled library is not installed (no C compiler on installation, or left from "
            "an older version?)"
        )
    if states.dtype != torch.float32 or weight.dtype != torch.float32:
        return f"the compiled kernels know float32 only, got {states.dtype} and {weight.dtype}"
    if (
        states.is_neg()
        or weight.is_neg()
        or states.layout != torch.strided
        or weight.layout != torch.strided
    ):
        return "the compiled kernels read plain strided tensors"
    if states.device.type != "cpu" or weight.device.type != "cpu":
        return f"the compiled kernels run on a CPU, got tensors on {states.device}"
    return None


def slower(states: Tensor, weight: Tensor) -> str | None:
    """Reason why another path is faster on this processor; None where the compiled kernels are."""
    # for all sizes or for none: the streams differ, and states must not depend on a split
    if instruction_set():
        return None
    return "torch is faster than the compiled kernels on a processor without AVX2"


def _parameters(weight: Tensor, vbias: Tensor, hbias: Tensor) -> tuple[int, ...]:
    rows, columns = weight.stride()
    address = weight.data_ptr()
    visible_address = vbias.data_ptr()
    hidden_address = hbias.data_ptr()
    return (
        instruction_set(),
        address,
        rows,
        columns,
        visible_address,
        hidden_address,
        *weight.shape,
    )


def _contiguous(weight: Tensor, vbias: Tensor, hbias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Strides that the kernels read quickly: one of the weight's is 1."""
    return (
        weight if 1 in weight.stride() else weight.contiguous(),
        vbias.contiguous(),
        hbias.contiguous(),
    )


def _raise_for(status: int) -> None:
    if status == 1:
        raise MemoryError("the compiled kernels found no memory for their workspace")
    if status == 2:
        raise RuntimeError(f"the compiled library has no instruction set {instruction_set()}")
    if status:
        raise ValueError(
            "states must hold only zeros and ones for the compiled kernels, got other values"
        )


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pyro_gen")


def _submit(
    pool: ThreadPoolExecutor, call: Callable[[int, int], int], first: int, end: int
) -> Future[int]:
    """A part on a thread of the pool; here and now where the interpreter is shutting down."""
    try:
        return pool.submit(call, first, end)
    except RuntimeError:
        done: Future[int] = Future()
        done.set_result(call(first, end))
        return done


def _threads(work: int) -> int:
    if work >= PARALLEL_FROM:
        return torch.get_num_threads()
    return 1


def _in_parts(call: Callable[[int, int], int], count: int, multiple: int, work: int) -> None:
    """Run ``call(first, end)`` over [0, count) on torch's number of threads; ctypes
    releases the interpreter's lock.

    ``call`` must keep alive the tensors whose addresses it passes: an interrupt
    may end the caller before its threads.
    """
    threads = _threads(work)
    size = -(-count // (threads * multiple)) * multiple
    if size >= count:
        return _raise_for(call(0, count))
    if team.available():
        starts = range(0, count, size)
        return _raise_for(
            max(
                team.run(
                    [partial(call, first, min(first + size, count)) for first in starts], threads
                )
            )
        )
    pool = _pool(os.getpid(), threads)
    futures = [
        _submit(pool, call, first, min(first + size, count)) for first in range(size, count, size)
    ]
    try:
        statuses = [call(0, size), *(other.result() for other in futures)]
    finally:  # an interrupt may come at any time: no thread may be left writing
        wait(futures)
    return _raise_for(max(statuses))


def rbm_gibbs(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    beta: Tensor | None,
    seed: int,
    step: int,
    chain_offset: int,
) -> tuple[Tensor, Tensor]:
    """Sweeps of block Gibbs sampling; see :func:`pyro_gen.kernels.rbm_gibbs`.

    Args:
        v: states (chains, visible).
        weight: (visible, hidden), any strides.
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: sweeps.
        beta: inverse temperature of each chain (chains,), or None for 1.
        seed: 64-bit key.
        step: index of the first sweep.
        chain_offset: global index of the first chain.

    Returns:
        The last visible states and the hidden states they were drawn from.
    """
    lib = _loaded()
    weight, vbias, hbias = _contiguous(weight, vbias, hbias)
    start = v.contiguous()
    chains, visible = start.shape
    hidden = hbias.shape[0]
    v = torch.empty_like(start)
    h = start.new_empty(chains, hidden)
    parameters = _parameters(weight, vbias, hbias)
    beta = None if beta is None else beta.contiguous()
    alive = start, v, h, weight, vbias, hbias, beta
    addresses = (
        start.data_ptr(),
        v.data_ptr(),
        h.data_ptr(),
        None if beta is None else beta.data_ptr(),
    )

    def part(first: int, end: int, alive: object = alive) -> int:
        v0, v1, h1, temper = addresses
        rows = 4 * first * visible
        status = lib.pyro_gen_rbm_gibbs(
            *parameters,
            v0 + rows,
            v1 + rows,
            h1 + 4 * first * hidden,
            end - first,
            temper and temper + 4 * first,
            num_steps,
            seed,
            step,
            chain_offset + first,
        )
        return int(status)

    _in_parts(part, chains, 64, num_steps * chains * weight.numel())
    return v, h


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    seed: int,
    step: int,
    chain_offset: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradient of the mean free energy of ``batch`` less that of particles; see
    :func:`pyro_gen.kernels.rbm_contrast`.

    Args:
        batch: rows of data in {0, 1}, (n, visible).
        start: where the particles start, (m, visible); where it is the batch
            itself, a product is saved.
        weight: (visible, hidden), any strides.
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: sweeps; with 0 ``start`` are the particles.
        seed: 64-bit key.
        step: index of the first sweep.
        chain_offset: global index of the first particle.

    Returns:
        Gradients of the three parameters, contiguous, and the particles.
    """
    lib = _loaded()
    weight, vbias, hbias = _contiguous(weight, vbias, hbias)
    same = (
        batch.data_ptr() == start.data_ptr()
        and batch.shape == start.shape
        and batch.stride() == start.stride()
    )
    batch = batch.contiguous()
    start = batch if same else start.contiguous()
    rows = len(batch)
    chains = len(start)
    particles = torch.empty_like(start)
    weight_gradient = weight.new_empty(weight.shape)
    results = particles, weight_gradient, torch.empty_like(vbias), torch.empty_like(hbias)
    arguments = (
        *_parameters(weight, vbias, hbias),
        *(batch.data_ptr(), rows, start.data_ptr(), chains, num_steps, seed, step, chain_offset),
        *(result.data_ptr() for result in results),
    )
    work = (2 * num_steps * chains + 2 * (rows + chains)) * weight.numel()
    if _threads(work) == 1:
        _raise_for(lib.pyro_gen_rbm_contrast(*arguments, None, _WHOLE, 0, 0))
    else:
        # as the library sees it
        shared = batch.data_ptr() == start.data_ptr() and rows == chains and num_steps > 0
        space = batch.new_empty(
            lib.pyro_gen_rbm_contrast_space(*weight.shape, rows, chains, shared)
        )
        alive = batch, start, weight, vbias, hbias, results, space

        def part(phase: int) -> Callable[[int, int], int]:
            def call(first: int, end: int, alive: object = alive) -> int:
                return int(
                    lib.pyro_gen_rbm_contrast(*arguments, space.data_ptr(), phase, first, end)
                )

            return call

        _in_parts(part(_SAMPLE), max(rows, chains), 64, work)
        _in_parts(part(_DIFFERENTIATE), len(hbias), 16, work)
    return *results[1:], particles


def rbm_ais(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    base: Tensor,
    betas: list[float],
    seed: int,
    chain_offset: int,
) -> tuple[Tensor, Tensor]:
    """Annealed importance weights; see :func:`pyro_gen.kernels.rbm_ais`.

    Args:
        v: starting states (chains, visible).
        weight: (visible, hidden), any strides.
        vbias: (visible,).
        hbias: (hidden,).
        base: logits of the base (visible,).
        betas: inverse temperatures.
        seed: 64-bit key.
        chain_offset: global index of the first chain.

    Returns:
        Log weights in float64 (chains,), and the last states.
    """
    lib = _loaded()
    weight, vbias, hbias = _contiguous(weight, vbias, hbias)
    base = base.contiguous()
    start = v.contiguous()
    chains, visible = start.shape
    v = torch.empty_like(start)
    log_weight = start.new_empty(chains, dtype=torch.float64)
    schedule = (ctypes.c_double * len(betas))(*betas)
    parameters = _parameters(weight, vbias, hbias)
    addresses = start.data_ptr(), v.data_ptr(), log_weight.data_ptr(), base.data_ptr()
    alive = start, v, log_weight, base, schedule, weight, vbias, hbias

    def part(first: int, end: int, alive: object = alive) -> int:
        v0, v1, weights, logits = addresses
        rows = 4 * first * visible
        status = lib.pyro_gen_rbm_ais(
            *parameters,
            v0 + rows,
            logits,
            ctypes.addressof(schedule),
            len(betas),
            v1 + rows,
            weights + 8 * first,
            end - first,
            seed,
            chain_offset + first,
        )
        return int(status)

    _in_parts(part, chains, 64, len(betas) * chains * weight.numel())
    return log_weight, v


def _nade(
    x: Tensor, weight: Tensor, start: Tensor, output: Tensor
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Operands as the kernels read them, to be kept alive, and their addresses and sizes."""
    alive = x.contiguous(), weight.contiguous(), _dense(start), output.contiguous()
    rows, features, width = x.shape
    sizes = rows, features, width, start.shape[1], output.shape[1], alive[2].stride(0)
    return alive, (instruction_set(), *(operand.data_ptr() for operand in alive), *sizes)


def nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    """Fields of NADE; see :func:`pyro_gen.kernels.nade_fields`.

    Args:
        x: (rows, features, width).
        weight: (features, width, hidden).
        start: (rows, hidden).
        output: (features, parameters, hidden).

    Returns:
        (rows, features, parameters).
    """
    lib = _loaded()
    operands, arguments = _nade(x, weight, start, output)
    fields = x.new_empty(len(x), x.shape[1], output.shape[1])
    address = fields.data_ptr()

    def part(first: int, end: int, alive: object = (operands, fields)) -> int:
        return int(lib.pyro_gen_nade(*arguments, address, first, end))

    _in_parts(part, len(x), 8, start.numel() * x.shape[1])
    return fields


def nade_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of weight, start and output from that of the fields.

    See :func:`pyro_gen.kernels.nade_fields`.

    Args:
        gradient: (rows, features, parameters).
        x: (rows, features, width).
        weight: (features, width, hidden).
        start: (rows, hidden).
        output: (features, parameters, hidden).

    Returns:
        Gradients, contiguous.
    """
    lib = _loaded()
    operands, arguments = _nade(x, weight, start, output)
    gradient = gradient.contiguous()
    results = (
        weight.new_empty(weight.shape),
        start.new_empty(start.shape),
        output.new_empty(output.shape),
    )
    addresses = gradient.data_ptr(), *(result.data_ptr() for result in results)

    def part(first: int, end: int, alive: object = (operands, gradient, results)) -> int:
        return int(lib.pyro_gen_nade_backward(*arguments, *addresses, first, end))

    _in_parts(part, start.shape[1], 64, 2 * start.numel() * x.shape[1])
    return results


def nade_sample(
    uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary draws and the fields that they were drawn from.

    See :func:`pyro_gen.kernels.nade_sample`.

    Args:
        uniforms: (features, rows).
        weight: (features, 1, hidden).
        start: (rows, hidden).
        output: (features, 1, hidden).
        bias: (rows, features).

    Returns:
        Zeros and ones, and fields, both (rows, features).
    """
    lib = _loaded()
    features, rows = uniforms.shape
    operands = (
        uniforms.contiguous(),
        weight.contiguous(),
        _dense(start),
        output.contiguous(),
        _dense(bias),
    )
    addresses = [operand.data_ptr() for operand in operands]
    sizes = rows, features, start.shape[1], operands[2].stride(0)
    outputs = uniforms.new_empty(rows, features), uniforms.new_empty(rows, features)
    arguments = instruction_set(), *addresses[:4], *sizes, addresses[4], operands[4].stride(0)
    results = [x.data_ptr() for x in outputs]

    def part(first: int, end: int, alive: object = (operands, outputs)) -> int:
        return int(lib.pyro_gen_nade_sample(*arguments, *results, first, end))

    _in_parts(part, rows, 8, start.numel() * features)
    return outputs


def _dense(rows: Tensor) -> Tensor:
    """Rows whose numbers lie side by side; one row may stand for all."""
    if rows.stride(-1) == 1:
        return rows
    return rows.contiguous()
