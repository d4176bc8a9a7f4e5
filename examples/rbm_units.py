"""One RBM, four kinds of visible units: grey levels as categories, counts, cut and
plain Gaussian numbers.

Pixels with the levels 0 to 4 (2 x 2 blocks of AlphaDigits, or USPS in five
shades) are modelled by categorical units (`PottsUnits`), by stepped sigmoids
(`NReLUUnits`) and, with uniform noise that fills the steps, by `ReLUUnits` and
`GaussianUnits`, whose log density then is a lower bound of a log probability:
all figures are nats of the same levels. The RBM starts at independent units
with the data's moments and learns through SVI with persistent chains; with few
hidden units its log Z is exact, whatever the visible ones are.

    python examples/rbm_units.py --data usps --hidden 16
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.distributions import GaussianUnits, NReLUUnits, PottsUnits, ReLUUnits, Units
from pyro_gen.infer import Exact, PersistentChains
from pyro_gen.training import fit

LEVELS = 5
UNITS: dict[str, tuple[Units, float]] = {  # and a learning rate: precise units take smaller steps
    "Potts": (PottsUnits(LEVELS), 0.01),
    "NReLU": (NReLUUnits(), 0.003),
    "ReLU": (ReLUUnits(), 0.001),
    "Gaussian": (GaussianUnits(), 0.001),
}


def levels(name: str) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Training and held-out pixels with levels 0 to 4, and the shape of an image."""
    if name != "alphadigits":
        gray = datasets.load_gray(name)
        counts = (gray.train * (LEVELS - 1)).round()
        cut = len(gray.train) - min(1000, len(gray.train) // 5)
        return counts[:cut], counts[cut:], (gray.shape[0], gray.shape[1])
    data = datasets.load(name)
    blocks = [x.view(-1, 10, 2, 8, 2).sum((2, 4)).flatten(1) for x in (data.train, data.valid)]
    return blocks[0], blocks[1], (10, 8)


def encode(units: Units, counts: Tensor) -> Tensor:
    """Levels as states of the units; real-valued ones get noise that fills the steps."""
    if isinstance(units, PottsUnits):
        return units.encode(counts)
    if isinstance(units, NReLUUnits):
        return counts
    return counts + torch.rand_like(counts)


def decode(units: Units, states: Tensor) -> Tensor:
    """States of the units as levels between 0 and 1."""
    counts = units.decode(states) if isinstance(units, PottsUnits) else states
    return counts.float().clamp(0, LEVELS - 1) / (LEVELS - 1)


def train(name: str, train_counts: Tensor, args: argparse.Namespace) -> nn.RBM:
    """An RBM with these visible units, after training."""
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    units, rate = UNITS[name]
    phase = PersistentChains(num_chains=100, num_steps=args.steps)
    rows = encode(units, train_counts)
    rbm = nn.RBM.from_data(
        rows, args.hidden, negative_phase=phase, evaluation=Exact(), visible_units=units
    )

    def model(counts: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(counts)):
            pyro.sample("v", rbm(), obs=encode(units, counts))

    optimizer = torch.optim.Adam
    schedule = pyro.optim.LinearLR(
        {
            "optimizer": optimizer,
            "optim_args": {"lr": rate},
            "start_factor": 1.0,
            "end_factor": 0.0,
            "total_iters": args.epochs,
        }
    )
    svi = SVI(model, lambda counts: None, schedule, Trace_ELBO())
    batches = datasets.minibatches(train_counts, 100)
    fit(svi.step, batches, args.epochs, scheduler=schedule, progress=not args.smoke)
    return rbm.eval()


@torch.no_grad()
def report(name: str, rbm: nn.RBM, train_counts: Tensor, held_out: Tensor) -> None:
    """Held-out log likelihood of the RBM and of independent units with the same
    moments, in nats an image.
    """
    units, _ = UNITS[name]
    start = nn.RBM.from_data(
        encode(units, train_counts), 1, evaluation=Exact(), visible_units=units
    ).eval()
    torch.nn.init.zeros_(start.weight)
    rows = encode(units, held_out)
    log_prob = rbm().log_prob(rows)
    error = (log_prob.std() / len(rows) ** 0.5).item()
    print(
        f"{name:9} {start().log_prob(rows).mean():10.1f} {log_prob.mean():10.1f} +/- {error:.1f}",
        flush=True,
    )


def main(args: argparse.Namespace) -> None:
    """Train with every kind of units, print and draw samples."""
    args.out.mkdir(parents=True, exist_ok=True)
    train_counts, held_out, shape = levels(args.data)
    if args.smoke:
        train_counts = train_counts[:200]
        held_out = held_out[:50]
    print(f"held-out nats an image\n{'units':9} {'no weights':>10} {'RBM':>10}")
    for name in args.units:
        rbm = train(name, train_counts, args)
        report(name, rbm, train_counts, held_out)
        drawn = decode(UNITS[name][0], rbm().sample((40,)))
        figure = plotting.sample_grid(
            drawn.view(-1, *shape), title=f"{name} units, {args.hidden} hidden"
        )
        plotting.save(figure, args.out / f"units_{name}.png")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, usps, or other grey images: a set of the data folder or an .npz file",
    )
    parser.add_argument("--units", nargs="+", choices=tuple(UNITS), default=list(UNITS))
    parser.add_argument("--hidden", type=int, default=16, help="at most 25, for the exact log Z")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=5, help="sweeps of the chains an update")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(hidden=4, epochs=2, steps=1)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
