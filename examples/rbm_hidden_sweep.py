"""How many hidden units? Validation log likelihood against their number, with error bars.

Each RBM is trained by the custom gradient step with the same number of updates
and evaluated on the validation rows by annealed importance sampling. The error
bar is the standard error over the rows; that of log Z is printed beside it.

    python examples/rbm_hidden_sweep.py --hidden 25,50,100,200,400
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyro
import torch
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.infer import AIS, PersistentChains, contrastive_gradient, log_likelihood
from pyro_gen.infer.energy.likelihood import LogLikelihood
from pyro_gen.training import fit, keep_best, small_batch

MONITOR = "valid pseudo log likelihood"


def train(data: datasets.BinaryDataset, hidden: int, args: argparse.Namespace) -> LogLikelihood:
    """Log likelihood of the validation rows after training with ``hidden`` units."""
    pyro.set_rng_seed(args.seed)
    batch_size = small_batch(len(data.train))
    phase = PersistentChains(num_steps=5, num_chains=100)
    evaluation = AIS(200, args.betas)
    rbm = nn.RBM.from_data(data.train, hidden, negative_phase=phase, evaluation=evaluation)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1 * (batch_size / 100))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.epochs)

    def step(x: Tensor) -> Tensor:
        contrast = contrastive_gradient(
            rbm, datasets.shifted(x, data.image_shape), return_contrast=True
        )
        rbm.weight.grad += args.sparsity * rbm.weight.detach().sign()
        optimizer.step()
        return contrast

    def score() -> Tensor:
        return rbm().pseudo_log_likelihood(data.valid).mean()

    batches = datasets.minibatches(data.train, batch_size)
    best = keep_best(score, len(data.train), args.epochs, MONITOR)
    fit(step, batches, args.epochs, state={"rbm": rbm}, scheduler=scheduler, **best)
    return log_likelihood(rbm.eval()(), data.valid)


def main(args: argparse.Namespace) -> None:
    """Sweep, print and plot."""
    args.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load(args.data)
    results = []
    for hidden in args.hidden:
        result = train(data, hidden, args)
        print(
            f"{hidden:5} hidden units: valid {result.value:.2f} nats "
            f"(log Z +/- {result.partition_error:.2f}, rows +/- {result.row_error:.2f})",
            flush=True,
        )
        results.append(result)
    values = [r.value for r in results]
    errors = [r.row_error for r in results]
    ylabel = "validation log likelihood (nats)"
    figure = plotting.sweep(args.hidden, values, errors, xlabel="hidden units", ylabel=ylabel)
    plotting.save(figure, args.out / "hidden_sweep.png")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, a set of the data folder, or an .npz file",
    )
    parser.add_argument(
        "--hidden", default="25,50,100,200,400", help="numbers of hidden units, with commas"
    )
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--sparsity", type=float, default=0.002, help="L1 penalty on the weights")
    parser.add_argument("--betas", type=int, default=2000, help="temperatures of AIS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(hidden="5,10", epochs=2, betas=300)
        args = parser.parse_args()
    args.hidden = [int(number) for number in args.hidden.split(",")]
    return args


if __name__ == "__main__":
    main(parse())
