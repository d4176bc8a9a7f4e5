"""Cover half of a character and let an RBM fill it in: `rbm().given(observed, mask)`.

An RBM is trained on Binary AlphaDigits. Half of the pixels of validation images
are then hidden, a different half in each row of one batch, and drawn again
given the other half by clamped Gibbs chains. The picture shows the original,
what was left of it, two fillings, and the mean of many. The figure printed is
the share of hidden pixels that the mean gets right, beside that of the training
set's pixel rates and of the training image nearest on the visible half.

    python examples/rbm_inpainting.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyro
import torch
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.distributions import RBM
from pyro_gen.infer import PersistentChains, contrastive_gradient
from pyro_gen.training import fit, keep_best, small_batch

HALVES = ("left", "right", "top", "bottom")
MONITOR = "valid pseudo log likelihood"


def train(data: datasets.BinaryDataset, args: argparse.Namespace) -> nn.RBM:
    """Persistent chains, a Laplace prior on the weights and shifted images, by a
    gradient step of our own.
    """
    batch_size = small_batch(len(data.train))
    phase = PersistentChains(num_chains=100, num_steps=5)
    rbm = nn.RBM.from_data(data.train, args.hidden, negative_phase=phase, num_steps=args.sweeps)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1 * (batch_size / 100))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.epochs)

    def step(x: Tensor) -> Tensor:
        contrast = contrastive_gradient(
            rbm, datasets.shifted(x, data.image_shape), return_contrast=True
        )
        if rbm.weight.grad is not None:
            rbm.weight.grad += args.sparsity * rbm.weight.detach().sign()
        optimizer.step()
        return contrast

    def score() -> Tensor:
        return rbm().pseudo_log_likelihood(data.valid).mean()

    state = {"rbm": rbm, "optimizer": optimizer}
    settings = {
        "data": data.name,
        "hidden": args.hidden,
        "epochs": args.epochs,
        "sparsity": args.sparsity,
        "seed": args.seed,
    }
    kept = {"checkpoint": args.out / "inpainting.pt", "checkpoint_every": 50, "settings": settings}
    kept |= keep_best(score, len(data.train), args.epochs, MONITOR)
    batches = datasets.minibatches(data.train, batch_size)
    fit(step, batches, args.epochs, state=state, scheduler=scheduler, **kept)
    return rbm.eval()


def cover(count: int, shape: tuple[int, int]) -> Tensor:
    """For each image a mask of its visible half: left, right, top and bottom in turn."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    halves = [
        columns < shape[1] // 2,
        columns >= shape[1] // 2,
        rows < shape[0] // 2,
        rows >= shape[0] // 2,
    ]
    return torch.stack(halves).flatten(1)[torch.arange(count) % len(halves)]


def nearest(x: Tensor, mask: Tensor, train_rows: Tensor) -> Tensor:
    """For each image the training image that differs least on the visible half."""
    seen = x * mask
    distance = seen.sum(-1, keepdim=True) + mask.float() @ train_rows.T - 2 * seen @ train_rows.T
    return train_rows[distance.argmin(-1)]


def score(guess: Tensor, x: Tensor, mask: Tensor) -> tuple[float, float]:
    """Share of hidden pixels guessed right, in percent, and its standard error over the images."""
    right = ((guess.round() == x) & ~mask).sum(-1) / (~mask).sum(-1)
    return 100 * right.mean().item(), 100 * (right.std() / len(x) ** 0.5).item()


def draw(
    given_all: RBM,
    x: Tensor,
    mask: Tensor,
    args: argparse.Namespace,
    shape: tuple[int, int],
    path: Path,
) -> None:
    """A row for each character: original, visible half, two fillings, mean of the fillings."""
    chosen = torch.randperm(len(x))[: args.shown]
    given = given_all.given(x[chosen], mask[chosen])
    left = torch.where(mask[chosen], x[chosen], 0.5 * torch.ones(()))
    columns = [x[chosen], left, *given.sample((2,)), given.marginals(args.chains)]
    images = torch.stack(columns, 1).flatten(0, 1).view(-1, *shape)
    titles = ["original", "given", "filled in", "filled in", "mean"] * 2
    titles += [""] * (len(images) - len(titles))
    plotting.save(plotting.sample_grid(images, titles=titles[: len(images)], columns=10), path)


def main(args: argparse.Namespace) -> None:
    """Train, fill in, compare and draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load(args.data)
    rbm = train(data, args)
    x = data.valid[: args.images]
    mask = cover(len(x), data.image_shape)
    with torch.no_grad():
        distribution = rbm()
    hidden_away = torch.where(mask, x, torch.nan)  # what is not observed is never looked at
    guesses = {
        "pixel rates of the training set": data.train.mean(0).expand_as(x),
        "nearest training image": nearest(x, mask, data.train),
        "RBM, mean of clamped chains": distribution.given(hidden_away, mask).marginals(
            args.chains
        ),
    }
    for name, guess in guesses.items():
        share, error = score(guess, x, mask)
        print(f"{name}: {share:.1f} +/- {error:.1f} % of the hidden pixels right")
    draw(distribution, x, mask, args, data.image_shape, args.out / "inpainting.png")


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
    parser.add_argument("--hidden", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument(
        "--sparsity", type=float, default=0.001, help="L1 penalty on the weights, an image"
    )
    parser.add_argument(
        "--sweeps", type=int, default=500, help="clamped Gibbs sweeps of a filling"
    )
    parser.add_argument(
        "--chains", type=int, default=20, help="clamped chains an image behind its mean"
    )
    parser.add_argument("--images", type=int, default=180, help="validation images to fill in")
    parser.add_argument("--shown", type=int, default=16, help="images in the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of the picture and the checkpoint"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(hidden=30, epochs=2, sweeps=10, chains=3, images=12)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
