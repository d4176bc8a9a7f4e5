"""Functions of tensors as CUDA graphs: captured at the second call with the same
shapes, replayed from then on.

Inputs are copied into the graph's own tensors and results are copied out, so
callers may pass any tensors. Every stream has graphs of its own, since two
replays of one graph must not overlap.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

KEPT = 8
"""Graphs, with the memory they work in, that are kept.

The one not used for the longest time goes first.
"""

LARGEST = 2**26
"""Bytes of arguments up to which a call is captured: more work hides its launches,
and its graph would keep memory.
"""

Function = Callable[..., tuple[Tensor, ...]]


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]


_captured: OrderedDict[Hashable, _Captured | None] = OrderedDict()
_refused: set[Hashable] = set()
_lock = threading.RLock()


@torch.no_grad()
def call(
    function: Function, key: Hashable, tensors: tuple[Tensor, ...], capture: bool = True
) -> tuple[Tensor, ...]:
    """``function(*tensors)``, from the second call on as one CUDA graph; on a CPU (the
    interpreter) as it is.

    Args:
        function: launches on the current stream only, reads nothing but its
            arguments, and never waits for the device.
        key: tells apart functions that are called with tensors of the same
            shapes.
        tensors: the arguments.
        capture: whether there may be a graph.

    Returns:
        Fresh tensors.
    """
    device = tensors[0].device
    if device.type != "cuda":
        return function(*tensors)
    with torch.cuda.device(device):
        size = sum(x.numel() * x.element_size() for x in tensors)
        if not capture or capturing() or size > LARGEST:
            return function(*tensors)
        stream = torch.cuda.current_stream().cuda_stream
        # Another thread on this stream must not come between the copies into a
        # graph, its replay, and the copies out.
        with _lock:
            shapes = tuple((x.shape, x.stride(), x.dtype) for x in tensors)
            return _remembered(function, (key, device, stream, shapes), tensors)


def clear() -> None:
    """Give up all graphs and the memory that they keep."""
    with _lock:
        while _captured:
            _drop()
        _refused.clear()


def capturing() -> bool:
    """True if the caller captures a graph of its own, of which the launches become part."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _remembered(
    function: Function, key: Hashable, tensors: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Plain at the first call with this key, captured at the second, replayed from then on."""
    if key in _refused:
        return function(*tensors)
    if key not in _captured:
        _keep(key, None)
        return function(*tensors)
    captured = _captured[key]
    if captured is None:
        try:
            captured = _capture(function, tensors)
        except RuntimeError as error:
            logger.debug("no CUDA graph: %s", error)
            _refused.add(key)
            return function(*tensors)
    _keep(key, captured)
    return _replay(captured, tensors)


def _keep(key: Hashable, captured: _Captured | None) -> None:
    _captured[key] = captured
    _captured.move_to_end(key)
    while len(_captured) > KEPT:
        _drop()


def _drop() -> None:
    _, oldest = _captured.popitem(last=False)
    if oldest is not None:
        # it may still be running, and its memory goes with it
        torch.cuda.synchronize(oldest.inputs[0].device)


def _capture(function: Function, tensors: tuple[Tensor, ...]) -> _Captured:
    before = torch.cuda.current_stream()
    try:
        # the graph's own tensors are written to by calls in and out of that mode
        with torch.inference_mode(False):
            inputs = [x.detach().clone() for x in tensors]
            function(
                *inputs
                # compiles for these strides and alignments, which must not happen
                # during the capture
            )
            before.synchronize()
            graph = torch.cuda.CUDAGraph()
            # The stream that torch captures on by default is on the device that
            # made the process's first graph.
            with torch.cuda.graph(
                graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"
            ):
                outputs = function(*inputs)
    finally:
        # torch does not come back to it where the end of the capture fails
        torch.cuda.set_stream(before)
    return _Captured(graph, inputs, outputs)


def _replay(captured: _Captured, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    for buffer, tensor in zip(captured.inputs, tensors, strict=True):
        buffer.copy_(tensor)
    captured.graph.replay()
    return tuple(x.clone() for x in captured.outputs)
