"""Machine code of the Triton kernels without a GPU: no stack, no spills, tensor cores, 128-bit asynchronous loads.

The kernels are compiled for sm_80 and sm_90 at the tile shapes that the ops use, and the assembly is read.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from pyro_gen.kernels.triton import missing

if missing():
    pytest.skip(f"no gate to pass: {missing()}", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pyro_gen.kernels.ais import triton as ais
from pyro_gen.kernels.contrastive import triton as contrastive
from pyro_gen.kernels.free_energy import triton as free_energy
from pyro_gen.kernels.gibbs import triton as gibbs
from pyro_gen.kernels.triton import interpreted, operands

if interpreted():
    pytest.skip("TRITON_INTERPRET=1: nothing is compiled", allow_module_level=True)

ARCHITECTURES = (80, 90)
SHARED_MEMORY = {80: 99 * 1024, 90: 227 * 1024}
"""Bytes a program may have: sm_80 itself has 163 KiB, but sm_86, sm_89 and sm_120 run the same pipelines with 99."""

TYPES = {"fp16": "*fp16", "int8": "*i8", "fp32": "*fp32"}
POINTERS = {
    "largest": "*fp32",
    "bias": "*fp32",
    "vbias": "*fp32",
    "hbias": "*fp32",
    "beta": "*fp32",
    "base": "*fp32",
    "clock": "*i64",
    "schedule": "*fp64",
    "sums": "*fp64",
    "probs": "*fp16",
    "gradient": "*fp32",
    "high": "*fp16",
    "low": "*fp16",
    "new_v": "*fp32",
    "new_h": "*fp32",
    "v": "*fp32",
}
PADDED = ("depth", "stride", "plane_stride", "out_stride", "probs_stride", "states_stride", "sums_stride")
"""Multiples of 16 at every call, as Triton finds out by itself; rows and units of the problem are not."""


@dataclass(frozen=True)
class Gate:
    """One kernel as one call of an op launches it."""

    name: str
    kernel: Any
    arch: int
    storage: str
    warps: int
    stages: int
    constants: tuple[tuple[str, Any], ...]
    pointers: tuple[tuple[str, str], ...] = ()
    pipelined: bool = True
    multiplies: bool = True

    def __str__(self) -> str:
        constants = dict(self.constants)
        sides = [str(constants[key]) for key in ("block_m", "block_n", "side") if key in constants]
        return f"{self.name}-{self.storage}-{'x'.join(sides)}-sm{self.arch}"

    def signature(self) -> dict[str, str]:
        """Types of the arguments, constants included."""
        states = dict.fromkeys(("states", "weight", "out"), TYPES[self.storage])
        known = POINTERS | states | dict(self.pointers) | {name: "constexpr" for name, _ in self.constants}
        return {name: known.get(name, "i32") for name in self.kernel.arg_names}


def product_gates(arch: int) -> Iterator[Gate]:
    """Kernels whose main loop multiplies states by split weights."""
    for name, form in operands.FORMATS.items():
        halves = dict.fromkeys(("bias", "beta", "base"), "*bf16") if name == "fp16" else {}
        pointers, planes = tuple(halves.items()), f" x{form.planes}"
        for number, tile in enumerate(operands.TILES):
            if number < form.largest_tile and arch // 10 != operands.HOPPER:
                continue
            blocks = {"block_m": tile.block_m, "block_n": tile.block_n, "block_k": form.block_k}
            constants = tuple({"storage": form.storage, "planes": form.planes, **blocks}.items())
            settings = (arch, form.storage, tile.num_warps, tile.num_stages)
            yield Gate("gibbs" + planes, gibbs._half_step, *settings, (*constants, ("beta", None)), pointers)
            yield Gate("gibbs with beta" + planes, gibbs._half_step, *settings, constants, pointers)
            yield Gate("probabilities" + planes, contrastive._probability_planes, *settings, constants, pointers)
            if name != "fp16":
                yield Gate("free energy" + planes, free_energy._hidden_sums, *settings, constants, (("sums", "*fp32"),))
            if number >= ais.LARGEST_TILE:
                for upwards in (True, False):
                    way = f"annealing {'up' if upwards else 'down'}{planes}"
                    constant = (*constants, ("upwards", upwards))
                    yield Gate(way, ais._annealed_half_step, *settings, constant, pointers)


def other_gates(arch: int) -> Iterator[Gate]:
    """The gradient's product, and the kernel that keeps its weights."""
    for storage, tile in ((storage, tile) for storage in ("fp16", "int8") for tile in contrastive.GRADIENT_TILES):
        depth = 32 if tile.block_m > 64 else 64
        sides = (("block_m", tile.block_m), ("block_n", tile.block_n), ("block_k", depth))
        yield Gate("gradient", contrastive._stacked_product, arch, storage, tile.num_warps, tile.num_stages, sides)
    for storage, planes, rows in ((s, p, m) for s, p in (("fp16", 2), ("fp16", 1), ("int8", 2)) for m in (16, 32)):
        own = {"beta": None, "v_stride_i": 1, "stride_j": 1, "storage": storage, "planes": planes}
        constants = (*own.items(), ("block_m", rows), ("side", gibbs.RESIDENT))
        weight = (("weight", "*fp32"),)
        yield Gate(f"resident x{planes}", gibbs._resident, arch, storage, 4, 3, constants, weight, pipelined=False)
        tempered = tuple(pair for pair in constants if pair[0] != "beta")
        name = f"resident with beta x{planes}"
        yield Gate(name, gibbs._resident, arch, storage, 4, 3, tempered, weight, pipelined=False)
        halves = tuple(dict.fromkeys(("weight", "vbias", "hbias", "v", "new_v", "new_h"), "*bf16").items())
        name = f"resident bfloat16 x{planes}"
        yield Gate(name, gibbs._resident, arch, storage, 4, 3, constants, halves, pipelined=False)


def helper_gates(arch: int) -> Iterator[Gate]:
    """Kernels without a product: the splitting of weights, sums of columns."""
    for form in operands.FORMATS.values():
        constants = (("stride_j", 1), ("storage", form.storage), ("planes", form.planes), ("block", operands.SPLIT))
        pointers = (("weight", "*fp32"), ("up", TYPES[form.storage]), ("down", TYPES[form.storage]))
        name = f"split x{form.planes}"
        yield Gate(name, operands._split, arch, form.storage, 4, 3, constants, pointers, False, False)
    for storage, planes in (("fp16", 1), ("fp16", 2), ("int8", 1)):
        sides = (("planes", planes), ("block_m", 64), ("block_n", 32))
        source, name = TYPES[storage], f"columns x{planes}"
        pointers = (("high", source), ("low", source), ("sums", "*fp32"))
        yield Gate(name, contrastive._column_sums, arch, storage, 4, 3, sides, pointers, False, False)


GATES = [gate for arch in ARCHITECTURES for make in (product_gates, other_gates, helper_gates) for gate in make(arch)]


@lru_cache(maxsize=1)
def tools() -> Path:
    """Where Triton keeps the assembler's companions."""
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def assembly(gate: Gate, folder: Path) -> tuple[Any, str, str]:
    """The compiled kernel, its machine code as text, its use of registers and stack."""
    signature = gate.signature()
    places = {name: place for place, name in enumerate(gate.kernel.arg_names)}
    constants: Any = {(places[name],): value for name, value in gate.constants}
    aligned = [name for name, kind in signature.items() if kind.startswith("*") or name in PADDED]
    attributes: Any = {(places[name],): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(gate.kernel, signature, constants, attributes)
    options = {"num_warps": gate.warps, "num_stages": gate.stages}
    kernel = triton.compile(source, target=GPUTarget("cuda", gate.arch, 32), options=options)
    file = folder / "kernel.cubin"
    file.write_bytes(kernel.asm["cubin"])

    def output(tool: str, option: str) -> str:
        command = [str(tools() / tool), option, str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return kernel, output("nvdisasm", "-c"), output("cuobjdump", "-res-usage")


def faults(gate: Gate, kernel: Any, code: str, usage: str) -> list[str]:
    """What is wrong with the machine code."""

    def count(pattern: str) -> int:
        return len(re.findall(pattern, code))

    found = []
    if not re.search(r"STACK:0\b", usage) or count(r"\b(LDL|STL)\b"):
        found.append(
            f"stack or spills: {count(r'LDL')} loads, {count(r'STL')} stores; {usage.strip().splitlines()[-1]}"
        )
    if kernel.metadata.shared > SHARED_MEMORY[gate.arch]:
        found.append(f"{kernel.metadata.shared} bytes of shared memory")
    wide = gate.arch >= 90 and dict(gate.constants).get("block_m", 0) >= 64
    integer = gate.storage == "int8" and gate.name != "gradient"
    wanted = ("IGMMA" if wide else "IMMA") if integer else ("HGMMA" if wide else "HMMA")
    if gate.multiplies and not count(rf"\b{wanted}\b"):
        found.append(f"no {wanted}")
    if gate.pipelined and not count(r"\bLDGSTS\.E\.(\w+\.)*128\b"):
        found.append("no 128-bit LDGSTS")
    if gate.pipelined and count(r"\bLDGSTS\b") != count(r"\bLDGSTS\.E\.(\w+\.)*128\b"):
        found.append("an LDGSTS of less than 128 bits")
    return found


FIRST = {gate.name: gate for gate in reversed(GATES)}
"""One gate a kernel."""


def every_gate() -> Iterator[Any]:
    """Kernels of two planes where there are such, which need more registers and memory than those of one.

    The other kernels, tiles and architectures are compiled by `make evidence`.
    """
    for gate in GATES:
        lighter = gate.name.endswith(" x1") and gate.name.replace(" x1", " x2") in FIRST
        repeated = lighter or FIRST[gate.name] is not gate
        yield pytest.param(gate, id=str(gate), marks=pytest.mark.slow if repeated else ())


@pytest.mark.parametrize("gate", list(every_gate()))
def test_the_machine_code_is_what_the_design_says(gate: Gate, tmp_path: Path) -> None:
    assert not faults(gate, *assembly(gate, tmp_path))
