"""Mixing against learning rate, seen exactly: the two terms of the contrastive
loss along training.

Contrastive divergence follows KL(P|Q) - KL(R|Q): P is the distribution of the
data, Q the model's, and R the distribution of the chains that stand for the
model. As long as R stays close to Q the second term is nothing and learning is
maximum likelihood; where the weights move faster than the chains mix, R lags
behind and the gradient loses sight of the model. Here everything is enumerated:
with infinitely many chains R is a vector, a Gibbs sweep two products with
matrices, and CD-k, PCD and fast weights differ in R alone.

    python examples/rbm_mixing.py --rates 0.5 2 8
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pyro
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gen import datasets, plotting
from pyro_gen.distributions import RBM
from pyro_gen.infer import Exact

Parameters = tuple[Tensor, Tensor, Tensor]
METHODS = ("CD-1", "CD-10", "PCD-1", "FPCD-1")


class Terms(NamedTuple):
    """KL(P|Q) and KL(R|Q) in nats."""

    data: float
    chains: float


@torch.no_grad()
def swept(
    distribution: Tensor, parameters: Parameters, visible: Tensor, hidden: Tensor, steps: int
) -> Tensor:
    """The distribution of visible states after Gibbs sweeps from another one, both as
    vectors over all states.
    """
    weight, vbias, hbias = parameters
    log_joint = (visible @ vbias)[:, None] + hidden @ hbias + visible @ weight @ hidden.mT
    up, down = log_joint.softmax(1), log_joint.softmax(0).mT  # p(h|v) and p(v|h), (from, to)
    for _ in range(steps):
        distribution = distribution @ up @ down
    return distribution


def divergence(p: Tensor, log_q: Tensor) -> float:
    """KL(P|Q) of a vector of probabilities from log probabilities, in nats."""
    inside = p > 0
    return (p[inside] * (p[inside].log() - log_q[inside])).sum().item()


def moved(
    parameters: Parameters, gradient: Sequence[Tensor], rate: float, decay: float = 1.0
) -> Parameters:
    """A step down the gradient from decayed parameters."""
    weight, vbias, hbias = (
        decay * p.detach() - rate * g for p, g in zip(parameters, gradient, strict=True)
    )
    return weight, vbias, hbias


def learn(method: str, x: Tensor, args: argparse.Namespace, rate: float) -> Iterator[Terms]:
    """Both terms after each update.

    The chains are infinitely many, so nothing here is random but the start.
    """
    pyro.set_rng_seed(args.seed)
    shape = x.shape[-1], args.hidden
    zeros = (
        torch.zeros(shape).double(),
        torch.zeros(shape[0]).double(),
        torch.zeros(shape[1]).double(),
    )
    parameters = (0.5 * torch.randn(shape).double(), *zeros[1:])
    fast = zeros
    visible = RBM(*parameters).enumerate_support()
    hidden = RBM(parameters[0].mT, parameters[2], parameters[1]).enumerate_support()
    data = (visible.unsqueeze(1) == x).all(-1).double().mean(1)
    chains = data
    steps = int(method.partition("-")[2])
    for _ in range(args.updates):
        start = data if method.startswith("CD") else chains
        if method != "FPCD-1":
            moving = parameters
        else:
            moving = moved(parameters, fast, rate=-1.0)
        chains = swept(start, moving, visible, hidden, steps)
        for p in parameters:
            p.requires_grad_()
        rbm = RBM(*parameters, Exact(), validate_args=False)
        gradient = torch.autograd.grad((data - chains) @ rbm.free_energy(visible), parameters)
        log_q = rbm.log_prob(visible).detach()
        yield Terms(divergence(data, log_q), divergence(chains, log_q))
        parameters = moved(parameters, gradient, rate)
        fast = moved(fast, gradient, args.fast_rate, args.decay)


def picture(curves: dict[tuple[str, float], list[Terms]], rates: list[float]) -> Figure:
    """A row of panels, one a learning rate: KL(P|Q) as lines, KL(R|Q) dashed."""
    figure, panels = plt.subplots(
        1, len(rates), figsize=(4 * len(rates) + 2, 3.6), sharey=True, squeeze=False
    )
    for panel, rate in zip(panels[0], rates, strict=True):
        for i, method in enumerate(METHODS):
            terms = curves[method, rate]
            panel.semilogy([t.data for t in terms], color=f"C{i}", label=f"{method}: KL(P|Q)")
            panel.semilogy(
                [t.chains for t in terms],
                "--",
                color=f"C{i}",
                linewidth=1,
                label=f"{method}: KL(R|Q)",
            )
        panel.set(title=f"learning rate {rate:g}", xlabel="update", ylim=(1e-4, 20))
    panels[0, 0].set_ylabel("nats")
    panels[0, -1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1.0))
    figure.tight_layout()
    return figure


def main(args: argparse.Namespace) -> None:
    """Follow all methods at all rates, print where they end, and plot."""
    args.out.mkdir(parents=True, exist_ok=True)
    x = datasets.bars_and_stripes(args.size, args.size).double()
    curves = {
        (method, rate): list(learn(method, x, args, rate))
        for rate in args.rates
        for method in METHODS
    }
    print(f"{'rate':>6} {'method':>8} {'KL(P|Q)':>9} {'lowest':>9} {'KL(R|Q)':>9} {'highest':>9}")
    for (method, rate), terms in curves.items():
        data = [t.data for t in terms]
        chains = [t.chains for t in terms]
        print(
            f"{rate:6g} {method:>8} {data[-1]:9.3f} {min(data):9.3f} {chains[-1]:9.4f} "
            f"{max(chains):9.4f}"
        )
    plotting.save(picture(curves, args.rates), args.out / "mixing.png")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=3, help="rows and columns of the bars and stripes, at most 3"
    )
    parser.add_argument("--hidden", type=int, default=8)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 2.0, 8.0])
    parser.add_argument("--fast-rate", type=float, default=0.3)
    parser.add_argument("--decay", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(size=2, hidden=2, updates=20, rates=[0.2])
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
