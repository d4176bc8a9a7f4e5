"""Where contrastive divergence goes wrong, seen exactly: bars and stripes, a
distribution that can be enumerated.

The same RBM is trained by SVI with the exact log Z, with CD-1, PCD-1 and
PCD-10. Its true log likelihood, which the sampled gradients never see, is
followed along training: CD-1 and PCD-1 rise, peak and fall, while the exact
gradient reaches the optimum -log n of the n distinct patterns.

    python examples/rbm_bars_and_stripes.py --size 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.infer import ContrastiveDivergence, Exact, Partition, PersistentChains
from pyro_gen.training import fit

PHASES: dict[str, Partition] = {
    "exact": Exact(),
    "CD-1": ContrastiveDivergence(1),
    "PCD-1": PersistentChains(num_steps=1, num_chains=100),
    "PCD-10": PersistentChains(num_steps=10, num_chains=100),
}


def train(x: Tensor, phase: Partition, args: argparse.Namespace) -> list[float]:
    """True mean log likelihood along training, evaluated every 20 steps."""
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    rbm = nn.RBM.from_data(x, args.hidden, negative_phase=phase, evaluation=Exact())
    torch.nn.init.normal_(rbm.weight, std=0.1)

    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("patterns", len(x)):
            pyro.sample("v", rbm(), obs=x)

    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())

    def evaluate() -> dict[str, float]:
        with torch.no_grad():
            return {"log likelihood": rbm().log_prob(x).mean().item()}

    history = fit(svi.step, [x] * 20, args.epochs, evaluate=evaluate, progress=not args.smoke)
    return [row["log likelihood"] for row in history]


def main(args: argparse.Namespace) -> None:
    """Train with every negative phase, print and plot."""
    args.out.mkdir(parents=True, exist_ok=True)
    x = datasets.bars_and_stripes(args.size, args.size)
    optimum = -torch.tensor(float(len(x))).log().item()
    print(f"{len(x)} patterns, optimum {optimum:.3f} nats")
    print(f"{'':8}{'best':>10}{'final':>10}")
    curves = {name: train(x, phase, args) for name, phase in PHASES.items()}
    for name, curve in curves.items():
        print(f"{name:8}{max(curve):>10.3f}{curve[-1]:>10.3f}")
    history = [dict(zip(curves, row, strict=True)) for row in zip(*curves.values(), strict=True)]
    rows = [{"epoch": epoch} | row for epoch, row in enumerate(history, 1)]
    plotting.save(plotting.learning_curve(rows), args.out / f"bars_and_stripes_{args.size}.png")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4, help="rows and columns")
    parser.add_argument("--hidden", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=150, help="times 20 steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(size=3, hidden=4, epochs=3)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
