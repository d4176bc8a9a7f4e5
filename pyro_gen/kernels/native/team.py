"""The threads that torch's own operations run on, for calls that release the
interpreter's lock.

After an operation torch's OpenMP threads spin for milliseconds, waiting for the
next. Threads of our own would share their cores with them: an update made of a
compiled call and ``weight.sub_`` took longer on two threads than on one. So the
call's parts run on that very team, through ``GOMP_parallel``, which GNU's and
LLVM's runtimes export.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

_RUNTIMES = ("libgomp", "libomp", "libiomp5")
_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_process = os.getpid()


@lru_cache(maxsize=1)
def _runtime() -> tuple[Callable[..., None], Callable[[], int]] | None:
    """``GOMP_parallel`` and ``omp_get_thread_num`` of the OpenMP runtime that torch
    loaded, or None.
    """
    try:
        torch.get_num_threads()  # so that it is loaded
        files = _files(Path("/proc/self/maps").read_text(), Path(torch.__file__).resolve().parent)
        if len(files) != 1:  # it is unknown which is torch's
            return None
        library = ctypes.CDLL(files[0])
        parallel = library.GOMP_parallel
        number = library.omp_get_thread_num
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    number.argtypes = []
    number.restype = ctypes.c_int
    return parallel, number


def _files(maps: str, home: Path) -> list[str]:
    """OpenMP runtimes in the text of ``/proc/self/maps``: those of torch at
    ``home``, else all of them.
    """
    mapped = {
        line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/" in line
    }  # a path may hold spaces
    files = [file for file in mapped if Path(file).name.startswith(_RUNTIMES)]
    homes = home, home.with_name(home.name + ".libs")  # where wheels keep them
    return [
        file for file in files if any(map(Path(file).is_relative_to, homes))
    ] or files  # scikit-learn has its own


def has_runtime() -> bool:
    """True if :func:`run` can run: neither in the child of a fork nor while the
    interpreter ends.

    In the child the runtime's threads have died; at the end they die where they
    ask for the interpreter's lock, and the caller would wait for them for ever.
    """
    return os.getpid() == _process and not sys.is_finalizing() and _runtime() is not None


def run(calls: list[Callable[[], int]], threads: int = 1) -> list[int]:
    """Run every part, one on each thread of the team.

    Args:
        calls: at most as many as threads; each releases the interpreter's lock
            soon.
        threads: of the team, torch's number: a smaller team would end the other
            threads, and torch's next operation would start them again. Those
            without a part do nothing.

    Returns:
        Their results, in order.

    Raises:
        BaseException: what a part raised, after all parts have ended.
    """
    runtime = _runtime()
    if runtime is None:
        raise RuntimeError("torch's OpenMP runtime was not found: ask `has_runtime` first")
    parallel, number = runtime
    results: list[int | None] = [None] * len(calls)
    raised: list[BaseException] = []

    def body(_: int | None) -> None:
        try:
            mine = number()
            if mine < len(calls):
                results[mine] = calls[mine]()
        except BaseException as error:  # nothing may cross the C frames; raised below
            raised.append(error)

    parallel(_BODY(body), None, max(threads, len(calls)), 0)
    for i, result in enumerate(results):  # a team may be smaller than asked for
        if result is None and not raised:
            results[i] = calls[i]()
    if raised:
        raise raised[0]
    return [result for result in results if result is not None]
