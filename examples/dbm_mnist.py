"""A deep Boltzmann machine on binarized MNIST, and the lower bound of its log likelihood.

A machine of two hidden layers is an RBM between the layers (v, h2) and h1:
block Gibbs by even and odd layers, AIS and the kernels serve unchanged. It
starts as a trained RBM whose second layer hardly couples, and all layers then
learn together: mean-field hidden states for the data, persistent chains for the
model. The script prints the variational and the importance-weighted bound, with
log Z from two sides. Everything resumes from `--out`; the first RBM of
`examples/dbn_mnist.py` can be taken over by `--first`.

    python examples/dbn_mnist.py --out out/dbn
    python examples/dbm_mnist.py --first out/dbn/first.pt      # about 40 minutes on one core
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen._archives import load_tensors
from pyro_gen.infer import AIS, PersistentChains, contrastive_gradient, log_partition_bracket
from pyro_gen.infer.elbo.importance import LowerBound
from pyro_gen.models import DeepBoltzmannMachine
from pyro_gen.training import SMALL_SET, fit, keep_best, running_average, small_batch, use_average

MONITOR = "valid"


def first_layer(data: datasets.BinaryDataset, args: argparse.Namespace) -> nn.RBM:
    """The RBM of `--first`, or one trained here by persistent chains with a falling rate."""
    x = data.train
    rbm = nn.RBM.from_data(
        x, args.hidden[0], negative_phase=PersistentChains(100, 5), centring=True
    )
    if args.first:
        payload = load_tensors(args.first, "checkpoint")
        states = payload["best"] or payload["state"]  # the best is kept of few rows only
        average = states["average"]
        rbm.load_state_dict(
            {name[7:]: value for name, value in average.items() if name.startswith("module.")}
        )
        return rbm
    batch_size = small_batch(len(x))
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.05 * (batch_size / 100))
    scheduler = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1.0, 0.0, total_iters=args.first_epochs
    )

    def step(batch: Tensor) -> float:
        contrastive_gradient(rbm, batch)
        optimizer.step()
        return 0.0

    def score() -> Tensor:
        return rbm().pseudo_log_likelihood(data.valid).mean()

    batches = datasets.minibatches(x, batch_size)
    state = {"rbm": rbm, "optimizer": optimizer}
    file = args.out / "first.pt"
    kept = {"checkpoint": file, "settings": {"data": data.name, "hidden": args.hidden[0]}}
    kept |= keep_best(score, len(x), args.first_epochs, MONITOR)
    fit(
        step,
        batches,
        args.first_epochs,
        state=state,
        scheduler=scheduler,
        progress=not args.smoke,
        **kept,
    )
    return rbm


def train(
    machine: DeepBoltzmannMachine, data: datasets.BinaryDataset, args: argparse.Namespace
) -> None:
    """All layers together: by SVI, or by the same step without a tape, which is faster.

    Of few rows the best state by the lower bound of the validation rows is
    kept, with log Z by a short run of AIS.
    """
    batch_size = small_batch(len(data.train))
    batches = datasets.minibatches(data.train, batch_size)
    small = len(data.train) < SMALL_SET
    if small:
        decay = max(0.0, 1 - 5 / max(1, args.epochs * len(batches)))
    else:
        decay = 0.9997
    optimizer = torch.optim.SGD(machine.parameters(), lr=args.rate * (batch_size / 100))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.3, total_iters=args.epochs)
    average, averaged = running_average(machine, decay)
    averaged.rbm.evaluation = AIS(100, min(args.betas, 1000))

    def step(batch: Tensor) -> float:
        machine.contrastive_gradient(batch)
        optimizer.step()
        average.update_parameters(machine)
        return 0.0

    def score() -> float:
        return averaged.lower_bound(data.valid, 1).value

    state = {"machine": machine, "optimizer": optimizer, "average": average}
    file = args.out / "machine.pt"
    settings = {
        "data": data.name,
        "epochs": args.epochs,
        "rate": args.rate,
        "hidden": args.hidden,
        "chains": args.num_chains,
    }
    fit(
        step,
        batches,
        args.epochs,
        state=state,
        scheduler=scheduler,
        checkpoint=file,
        checkpoint_every=5,
        settings=settings,
        progress=not args.smoke,
        **keep_best(score, len(data.train), args.epochs, MONITOR),
    )
    # of the last steps: the noise of a rate that stays up, without its harm
    use_average(machine, average)


def is_svi(machine: DeepBoltzmannMachine, x: Tensor) -> None:
    """One step of the ordinary Pyro program, which needs no method of the machine
    but `model` and `guide`.
    """
    svi = SVI(machine.model, machine.guide, pyro.optim.SGD({"lr": 0.0}), Trace_ELBO())
    print(f"one step of SVI, contrast a row: {svi.step(x) / machine.size:.2f}")


def judge(
    machine: DeepBoltzmannMachine, args: argparse.Namespace, x: Tensor, rows: Tensor
) -> LowerBound:
    """Both bounds, with log Z from two sides."""
    bound = machine.eval().lower_bound(rows, args.particles)
    with torch.no_grad():
        seen = x[: args.annealed_chains]
        states = torch.cat([seen, torch.bernoulli(machine.mean_field(seen)[1])], -1)
        bracket = log_partition_bracket(machine.rbm(), states, burn_in=args.burn_in)
    print(f"log Z: {bracket.summary}")
    print(
        f"at the upper end of log Z: {bound.against(bracket.upper).value:.2f} nats "
        f"({bracket.verdict})"
    )
    return bound


def main(args: argparse.Namespace) -> None:
    """Train, judge, draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    name = args.data or "alphadigits"
    if args.data is None and not args.smoke:
        name = datasets.available("binarized_mnist", instead="alphadigits")
    data = datasets.load(name)
    x = data.train
    rows = getattr(data, args.split)
    first = first_layer(data, args)
    phase = PersistentChains(args.num_chains, 5)
    evaluation = AIS(args.annealed_chains, args.betas)
    settings: dict[str, Any] = {
        "negative_phase": phase,
        "evaluation": evaluation,
        "mean_field_steps": 5,
        "centring": True,  # without it the same rates diverge
    }
    machine = DeepBoltzmannMachine.from_rbm(first, args.hidden[1:], x, **settings)
    is_svi(machine, x[:100])
    train(machine, data, args)
    print(f"{args.split} rows: log p(v) {judge(machine, args, x, rows)}")
    samples = machine.sample(36, num_steps=args.burn_in)
    images = samples.unflatten(-1, data.shape or (1, x.shape[1]))
    plotting.save(plotting.sample_grid(images), args.out / "samples.png")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help="alphadigits, a set of the data folder, or an .npz file (default: binarized_mnist)",
    )
    parser.add_argument(
        "--hidden", type=int, nargs=2, default=[500, 500], help="widths of h1 and h2"
    )
    parser.add_argument(
        "--first", type=Path, help="checkpoint of the first RBM, written by examples/dbn_mnist.py"
    )
    parser.add_argument(
        "--first-epochs", type=int, default=150, help="where there is no such checkpoint"
    )
    parser.add_argument(
        "--epochs", type=int, default=60, help="passes over the images with all layers"
    )
    parser.add_argument("--rate", type=float, default=0.005, help="learning rate at the start")
    parser.add_argument("--num-chains", type=int, default=100)
    parser.add_argument("--particles", type=int, default=20, help="draws a row for the bounds")
    parser.add_argument("--betas", type=int, default=20_000)
    parser.add_argument("--annealed-chains", type=int, default=200)
    parser.add_argument("--burn-in", type=int, default=2000)
    parser.add_argument(
        "--split", choices=("test", "valid"), default="valid", help="rows to report"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out/dbm"), help="folder of everything written"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few seconds on shipped letters, to see that it runs",
    )
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(
            hidden=[20, 10],
            first_epochs=2,
            epochs=2,
            particles=2,
            betas=100,
            annealed_chains=20,
            burn_in=10,
        )
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
