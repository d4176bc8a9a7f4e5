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
from pyro_gen.kernels.parameters import RBMParameters

SETS = ("portable", "AVX2", "AVX-512")
"""Instruction sets by the library's number."""

PARALLEL_FROM = 4_000_000
"""Multiply-adds of a call from which a second thread pays for its start."""

INTERFACE = 4
"""``pyro_gen_interface()`` of the library that this module speaks to."""

_ADDRESS = ctypes.c_void_p
_COUNT = ctypes.c_int64
_INT = ctypes.c_int
_KEY = [ctypes.c_uint64] * 3
_PARAMETERS = [_INT, _ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT]
_SIGNATURES = {
    "pyro_gen_interface": [],
    "pyro_gen_best_set": [],
    "pyro_gen_rbm_gibbs": [*_PARAMETERS, *[_ADDRESS] * 3, _COUNT, _ADDRESS, _COUNT, *_KEY],
    "pyro_gen_rbm_ais": [
        *[*_PARAMETERS, *[_ADDRESS] * 3, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _KEY[0], _KEY[2]]
    ],
    "pyro_gen_rbm_contrast": [
        *[*_PARAMETERS, _ADDRESS, _COUNT, _ADDRESS, _COUNT, _COUNT, *_KEY],
        *[*[_ADDRESS] * 5, _INT, _COUNT, _COUNT],
    ],
    "pyro_gen_rbm_contrast_space": [_COUNT, _COUNT, _COUNT, _COUNT, _INT],
    "pyro_gen_nade": [_INT, *[_ADDRESS] * 4, *[_COUNT] * 6, _ADDRESS, _COUNT, _COUNT],
    "pyro_gen_nade_sample": [
        *[_INT, *[_ADDRESS] * 4, *[_COUNT] * 4, _ADDRESS, _COUNT],
        *[_ADDRESS, _ADDRESS, _COUNT, _COUNT],
    ],
    "pyro_gen_nade_backward": [
        *[_INT, *[_ADDRESS] * 4, *[_COUNT] * 6, *[_ADDRESS] * 4, _COUNT, _COUNT]
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


def loaded() -> ctypes.CDLL:
    """The compiled library.

    Raises:
        RuntimeError: there is none.
    """
    compiled = library()
    if compiled is None:
        raise RuntimeError("the compiled library is not installed: ask `impossible` first")
    return compiled


@lru_cache(maxsize=1)
def best_set() -> int:
    """Index into :data:`SETS` of the best that this processor has, or -1 without the library."""
    compiled = library()
    if compiled is None:
        return -1
    return int(compiled.pyro_gen_best_set())


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
    if not (states.is_cpu and weight.is_cpu):
        return f"the compiled kernels run on a CPU, got tensors on {states.device}"
    return None


def slower(states: Tensor, weight: Tensor) -> str | None:
    """Reason why another path is faster on this processor; None where the compiled kernels are."""
    # for all sizes or for none: the streams differ, and states must not depend on a split
    if instruction_set():
        return None
    return "torch is faster than the compiled kernels on a processor without AVX2"


def parameters_of(parameters: RBMParameters) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Parameters as the kernels read them quickly (a stride of the weight is 1), to be
    kept alive, and the arguments by which the library takes them.
    """
    weight, vbias, hbias = parameters
    if 1 not in weight.stride():
        weight = weight.contiguous()
    vbias = vbias.contiguous()
    hbias = hbias.contiguous()
    rows, columns = weight.stride()
    visible, hidden = weight.shape
    addresses = weight.data_ptr(), rows, columns, vbias.data_ptr(), hbias.data_ptr()
    return (weight, vbias, hbias), (instruction_set(), *addresses, visible, hidden)


def raise_for(status: int) -> None:
    """Raise the error that a status of the library stands for."""
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


def threads_for(work: int) -> int:
    """Threads for so many multiply-adds."""
    if work >= PARALLEL_FROM:
        return torch.get_num_threads()
    return 1


def in_parts(call: Callable[[int, int], int], count: int, multiple: int, work: int) -> None:
    """Run ``call(first, end)`` over [0, count) on torch's number of threads; ctypes
    releases the interpreter's lock.

    ``call`` must keep alive the tensors whose addresses it passes: an interrupt
    may end the caller before its threads.
    """
    threads = threads_for(work)
    size = -(-count // (threads * multiple)) * multiple
    if size >= count:
        return raise_for(call(0, count))
    if team.has_runtime():
        starts = range(0, count, size)
        return raise_for(
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
    return raise_for(max(statuses))


def dense(rows: Tensor) -> Tensor:
    """Rows whose numbers lie side by side; one row may stand for all."""
    if rows.stride(-1) == 1:
        return rows
    return rows.contiguous()
