"""Bayesian networks learned where cells are missing, and approximate answers beside exact ones.

    python -m benchmarks.evidence_network_learning

The trap: rows of asia whose bronchitis is recorded with probability 0.8 without
dyspnoea and 0.175 with it, where P(bronchitis | smoker) is 0.60. Approximate
marginals of alarm for evidence on a random third of the nodes or fewer: the
largest error of a probability beside the method's own diagnostics; and the time
of a Gibbs sweep over alarm beside that of ``DiscreteGibbs`` on the network's
program. The JSON is `benchmarks/results/bayesian_network_learning.json`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import MCMC, SVI, Trace_ELBO
from torch import Tensor

from benchmarks.bayesian_network_peers import bif_file
from benchmarks.machine import describe
from pyro_gen._files import json_text, replacing
from pyro_gen.infer import (
    AmortisedPosterior,
    DiscreteGibbs,
    Gibbs,
    belief_propagation,
    gibbs_marginals,
    likelihood_weighting,
)
from pyro_gen.models import BayesianNetwork

RESULTS = Path(__file__).parent / "results"


def taught_by_em(truth: BayesianNetwork, data: Tensor) -> BayesianNetwork:
    """Tables by EM; from counts where the rows are complete."""
    learned = BayesianNetwork(truth.structure)
    learned.fit(data)
    return learned


def taught_by_svi(truth: BayesianNetwork, data: Tensor) -> BayesianNetwork:
    """Tables by gradients of the exact log evidence."""
    pyro.clear_param_store()
    learned = BayesianNetwork(truth.structure)
    svi = SVI(learned.evidence_model, learned.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(150):
        svi.step(data)
    return learned


def trap(rows: int, seeds: int) -> dict[str, Any]:
    """P(bronc=yes | smoke=yes) by three ways, for each seed."""
    truth = BayesianNetwork.from_bif(bif_file("asia"))
    bronc, dysp = (truth.nodes.index(node) for node in ("bronc", "dysp"))
    found: dict[str, list[float]] = {"complete rows": [], "EM": [], "SVI": []}
    for seed in range(seeds):
        pyro.set_rng_seed(seed)
        data = truth.sample(rows)
        recorded = torch.rand(rows) < torch.where(data[:, dysp] == 0, 0.175, 0.8)
        data[~recorded, bronc] = -1
        for name, learned in (
            ("complete rows", taught_by_em(truth, data[recorded])),
            ("EM", taught_by_em(truth, data)),
            ("SVI", taught_by_svi(truth, data)),
        ):
            found[name].append(learned().table("bronc")[0, 0].item())
    mean = {name: float(torch.tensor(values).mean()) for name, values in found.items()}
    spread = {name: float(torch.tensor(values).std()) for name, values in found.items()}
    return {
        "rows": rows,
        "truth": 0.6,
        "mean": mean,
        "standard deviation": spread,
        "values": found,
    }


def approximations(cases: int, draws: int, steps: int) -> dict[str, Any]:
    """Each method on all cases in one call."""
    network = BayesianNetwork.from_bif(bif_file("alarm"))
    pyro.set_rng_seed(0)
    evidence = network.sample(cases)
    evidence[torch.rand(evidence.shape) > torch.rand(cases, 1) / 3] = -1
    exact = network.marginals(evidence)
    guide = AmortisedPosterior(network, (128,))
    start = time.perf_counter()
    guide.learn(steps, 256, 5e-3)
    report: dict[str, Any] = {"cases": cases, "draws": draws, "guide's steps": steps}
    report["guide's seconds"] = time.perf_counter() - start
    methods: dict[str, Callable[[], Any]] = {
        "likelihood weighting": lambda: likelihood_weighting(network, evidence, draws),
        "amortised guide": lambda: guide.marginals(evidence, draws),
        "Gibbs": lambda: gibbs_marginals(network, evidence, draws // 10, 10, 100),
        "loopy belief propagation": lambda: belief_propagation(network, evidence, damping=0.2),
    }
    for name, method in methods.items():
        start = time.perf_counter()
        found = method()
        own: dict[str, Any] = {"seconds": time.perf_counter() - start}
        error = torch.stack(
            [
                (found.marginals[node] - distribution).abs().amax(-1)
                for node, distribution in exact.items()
            ]
        ).amax(0)
        own |= {
            "largest error, median case": float(error.median()),
            "worst case": float(error.max()),
        }
        if hasattr(found, "pareto_k"):
            size = found.effective_sample_size
            k = found.pareto_k
            own |= {
                "ESS, median": float(size.median()),
                "ESS, worst": float(size.min()),
                "k-hat, worst": float(k.max()),
            }
        elif hasattr(found, "r_hat"):
            own["R-hat, worst"] = max(float(x.max()) for x in found.r_hat.values())
        else:
            own |= {
                "converged": float(found.converged.double().mean()),
                "rounds": found.num_iterations,
            }
        report[name] = own
        print(name, own, flush=True)
    return report


def sweeps(rows: int) -> dict[str, float]:
    """Milliseconds of one sweep over alarm without its four observed nodes."""
    network = BayesianNetwork.from_bif(bif_file("alarm"))
    data = dict(zip(network.nodes, network.sample(rows).unbind(1), strict=True))
    seen = {node: data[node] for node in ("HRBP", "CO", "PRESS", "EXPCO2")}
    start = time.perf_counter()
    gibbs_marginals(network, seen, 50, 1, 0, nodes=["CVP"])
    blanket = (time.perf_counter() - start) / 50
    latent = [node for node in network.nodes if node not in seen]
    kernel = Gibbs([(DiscreteGibbs(), latent)], network.model)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a start that the model rules out
        try:
            MCMC(kernel, num_samples=2, warmup_steps=1, disable_progbar=True).run(seen)
        except (ValueError, RuntimeError) as error:
            print("DiscreteGibbs:", error)
            return {"rows": rows, "Markov blankets [ms]": 1e3 * blanket}
    whole = (time.perf_counter() - start) / 3
    return {
        "rows": rows,
        "Markov blankets [ms]": 1e3 * blanket,
        "DiscreteGibbs, set-up included [ms]": 1e3 * whole,
    }


def main(args: argparse.Namespace) -> None:
    """Everything into one file."""
    report: dict[str, Any] = {"trap": trap(args.rows, args.seeds)}
    print(report["trap"]["mean"], report["trap"]["standard deviation"], flush=True)
    report["approximations"] = approximations(args.cases, args.draws, args.steps)
    report["sweeps"] = [sweeps(1), sweeps(100)]
    print(report["sweeps"])
    with replacing(args.json) as path:
        Path(path).write_text(json_text({"run": describe(), **report}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--json", type=Path, default=RESULTS / "bayesian_network_learning.json")
    main(parser.parse_args())
