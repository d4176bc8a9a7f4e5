"""The two-dimensional Ising model, a Boltzmann machine that was solved exactly,
from order to disorder.

Lattices are run through a range of temperatures by cluster moves; their energy
is set beside Onsager's and their magnetisation beside Yang's, which hold for
the infinite lattice. Pictures show one lattice below, at and above the critical
temperature. At the critical temperature chromatic Gibbs sampling and cluster
moves are compared by effective sample size, through ArviZ, and both are timed.

    python examples/ising.py --size 64
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import arviz
import pyro
import torch
from torch import Tensor

from pyro_gen import plotting
from pyro_gen.arviz import from_chains, to_netcdf
from pyro_gen.distributions import ising_lattice
from pyro_gen.infer import BlockGibbs, SwendsenWang

CRITICAL = 2 / math.log(1 + math.sqrt(2))


def onsager_energy(temperature: float) -> float:
    """Energy a site of the infinite lattice (Onsager 1944), the elliptic integral
    by the arithmetic-geometric mean.
    """
    k = 2 / temperature
    modulus = 2 * math.tanh(k) ** 2 - 1
    big = 1.0
    small = max(abs(modulus), 1e-300)
    while big - small > 1e-15 * big:
        big, small = (big + small) / 2, math.sqrt(big * small)
    return -(1 + modulus / big) / math.tanh(k)


def yang_magnetisation(temperature: float) -> float:
    """Spontaneous magnetisation of the infinite lattice (Yang 1952)."""
    if temperature < CRITICAL:
        return max(0.0, 1 - math.sinh(2 / temperature) ** -4) ** 0.125
    return 0.0


def run(kernel: BlockGibbs, warmup: int, draws: int) -> dict[str, Tensor]:
    """Energy a site, in units of the coupling, and magnetisation: (chains, draws) each.

    And the last states.
    """
    machine = kernel.distribution
    state = kernel.init()
    found: dict[str, list[Tensor]] = {"energy": [], "magnetisation": []}
    for t in range(warmup + draws):
        state, info = kernel.step(state)
        if t >= warmup:
            sites = state.value.shape[-1] * machine.parameters[0][0]
            found["energy"].append(info.free_energy / sites)
            found["magnetisation"].append(state.value.mean(-1))
    return {name: torch.stack(values, 1) for name, values in found.items()} | {
        "state": state.value
    }


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean over chains and draws, and its standard error from the independent chains."""
    chains = values.double().mean(1)
    return chains.mean().item(), (chains.std() / math.sqrt(len(chains))).item()


def curves(args: argparse.Namespace) -> list[dict[str, float]]:
    """Energy and magnetisation through the temperatures, beside the exact ones."""
    print(f"{'T':>6}{'energy':>10}{'error':>9}{'Onsager':>10}{'|m|':>9}{'error':>9}{'Yang':>9}")
    rows = []
    for temperature in torch.linspace(1.6, 3.2, args.temperatures).tolist():
        machine = ising_lattice(args.size, args.size, 1 / temperature)
        found = run(SwendsenWang(machine, num_chains=args.chains), args.warmup, args.draws)
        energy = mean_and_error(found["energy"])
        magnetisation = mean_and_error(found["magnetisation"].abs())
        exact = onsager_energy(temperature), yang_magnetisation(temperature)
        rows.append(
            {
                "T": temperature,
                "u": energy[0],
                "du": energy[1],
                "m": magnetisation[0],
                "dm": magnetisation[1],
            }
        )
        print(
            f"{temperature:6.3f}{energy[0]:10.4f}{energy[1]:9.4f}{exact[0]:10.4f}"
            f"{magnetisation[0]:9.4f}{magnetisation[1]:9.4f}{exact[1]:9.4f}"
        )
    return rows


def draw_curves(rows: list[dict[str, float]], args: argparse.Namespace) -> None:
    """Points with error bars over the exact curves."""
    line = torch.linspace(rows[0]["T"], rows[-1]["T"], 400).tolist()
    exact: dict[str, tuple[str, Callable[[float], float]]] = {
        "u": ("energy a site / J", onsager_energy),
        "m": ("|magnetisation| a site", yang_magnetisation),
    }
    for name, (label, function) in exact.items():
        temperatures = [row["T"] for row in rows]
        values = [row[name] for row in rows]
        errors = [row[f"d{name}"] for row in rows]
        title = f"{args.size} x {args.size} lattice (points), infinite lattice (line)"
        figure = plotting.sweep(
            temperatures, values, errors, xlabel="temperature / J", ylabel=label, title=title
        )
        axes = figure.axes[0]
        for points in axes.lines:
            points.set_linestyle("")
        axes.plot(line, [function(t) for t in line], color=plotting.COLORS[1], zorder=0)
        axes.axvline(CRITICAL, color=plotting.LINE, zorder=0)
        axes.set_xticks([1.6, 2.0, CRITICAL, 2.8, 3.2], ["1.6", "2.0", "$T_c$", "2.8", "3.2"])
        plotting.save(
            figure, args.out / f"ising_{'energy' if name == 'u' else 'magnetisation'}.png"
        )


def draw_lattices(args: argparse.Namespace) -> None:
    """One lattice at each of three temperatures, after cluster moves."""
    temperatures = {"0.9 Tc": 0.9 * CRITICAL, "Tc": CRITICAL, "1.2 Tc": 1.2 * CRITICAL}
    images = []
    for temperature in temperatures.values():
        machine = ising_lattice(2 * args.size, 2 * args.size, 1 / temperature)
        state = run(SwendsenWang(machine, num_chains=1), args.warmup, 1)["state"]
        images.append((state.view(2 * args.size, -1) + 1) / 2)
    grid = plotting.sample_grid(torch.stack(images), titles=list(temperatures), columns=3)
    plotting.save(grid, args.out / "ising_lattices.png")


def compare_samplers(args: argparse.Namespace) -> None:
    """Effective sample size and speed at the critical temperature.

    The draws go to a NetCDF file.
    """
    machine = ising_lattice(args.size, args.size, 1 / CRITICAL)
    for name, kind in {"Gibbs": BlockGibbs, "Swendsen-Wang": SwendsenWang}.items():
        kernel = kind(machine, num_chains=args.chains)
        start = time.perf_counter(), time.process_time()
        found = run(kernel, args.warmup, args.draws)
        wall = time.perf_counter() - start[0]
        cpu = time.process_time() - start[1]
        draws = {site: found[site] for site in ("energy", "magnetisation")}
        posterior = from_chains(draws, attrs={"sampler": name})
        to_netcdf(posterior, args.out / f"ising_{kind.__name__}.nc")
        size = arviz.ess(posterior)
        updates = args.chains * args.size**2 * (args.warmup + args.draws)
        print(
            f"{name:14} effective draws of {args.chains * args.draws}: energy "
            f"{float(size['energy']):.0f}, "
            f"magnetisation {float(size['magnetisation']):.0f}; {updates / wall / 1e6:.1f} "
            "million spins a second "
            f"({updates / cpu / 1e6:.1f} a second of one core)"
        )


def main(args: argparse.Namespace) -> None:
    """Run the temperatures, draw the pictures, compare the samplers."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    draw_curves(curves(args), args)
    draw_lattices(args)
    compare_samplers(args)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=64, help="rows and columns; the pictures have twice as many"
    )
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--temperatures", type=int, default=17)
    parser.add_argument("--warmup", type=int, default=50, help="moves before the first draw")
    parser.add_argument("--draws", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of pictures and draws"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(size=8, chains=4, temperatures=3, warmup=5, draws=20)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
