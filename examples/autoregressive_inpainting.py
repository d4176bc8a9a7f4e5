"""Cover half of a character and let autoregressive densities fill it in:
`density.given(observed, mask)`.

A DeepNADE is trained for all orders at once on Binary AlphaDigits. Half of the
pixels of validation images are then hidden, a different half in each row of one
batch. `ObservedFirst()` puts the visible half first in the order of each row,
so that the distribution of the hidden half is exact: draws, and their log
probabilities. The same question put to the density in one fixed order, pixels
row by row, has no exact answer unless the visible half is the upper one, and
`Importance(...)` says how far its estimate can be trusted. The picture shows
the original, what was left of it, three exact fillings, and the mean of many.
The figures printed are the share of hidden pixels that the mean gets right, the
log probability of the true hidden half, and what importance weights say of the
visible half.

    python examples/autoregressive_inpainting.py
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.distributions import Importance, ObservedFirst
from pyro_gen.training import fit


def train(data: datasets.BinaryDataset, args: argparse.Namespace) -> nn.DeepNADE:
    """Order-agnostic training by SVI with an empty guide, on images shifted by a pixel."""
    deep = nn.DeepNADE.from_data(data.train, [args.hidden] * args.layers)
    optimizer = pyro.optim.Adam({"lr": 1e-3})

    def model(x: Tensor) -> None:
        pyro.module("deep", deep)
        with pyro.plate("images", len(data.train), subsample=x):
            # in training mode an estimate of the mean over all orders
            pyro.sample("x", deep(), obs=x)

    svi = SVI(model, lambda x: None, optimizer, Trace_ELBO())

    def step(x: Tensor) -> float:
        return svi.step(datasets.shifted(x, data.image_shape)) / len(data.train)

    state = {"deep": deep, "optimizer": optimizer}
    settings = {
        "data": data.name,
        "hidden": args.hidden,
        "layers": args.layers,
        "epochs": args.epochs,
        "seed": args.seed,
    }
    checkpoint = {
        "checkpoint": args.out / "deep_nade.pt",
        "checkpoint_every": 50,
        "settings": settings,
    }
    fit(step, datasets.minibatches(data.train, 100), args.epochs, state=state, **checkpoint)
    return deep.eval()


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


def share_right(guess: Tensor, x: Tensor, mask: Tensor) -> str:
    """Share of hidden pixels guessed right, in percent, and its standard error over the images."""
    right = 100 * ((guess.round() == x) & ~mask).sum(-1) / (~mask).sum(-1)
    return f"{right.mean():.1f} +/- {right.std() / len(x) ** 0.5:.1f} % of the hidden pixels right"


def weigh(deep: nn.DeepNADE, observed: Tensor, mask: Tensor, args: argparse.Namespace) -> None:
    """What importance weights in one fixed order know of the visible half, for each
    kind of half.
    """
    with warnings.catch_warnings():
        # that few particles are effective is what is shown
        warnings.simplefilter("ignore", UserWarning)
        found = deep().evidence_estimate(observed, mask, Importance(args.particles))
    exact = deep().log_evidence(observed, mask, ObservedFirst())
    print(
        f"log p(visible half), {args.particles} particles in the order row by row, beside the "
        "exact one of its order:"
    )
    for kind, name in enumerate(("left", "right", "top", "bottom")):
        value, error, size = (x[kind::4].mean().item() for x in found[:3])
        print(
            f"  {name:7}{value:8.2f} +/- {error:4.2f} nats, {size:6.1f} effective; "
            f"{exact[kind::4].mean():8.2f} nats"
        )


def draw(x: Tensor, mask: Tensor, fillings: Tensor, shape: tuple[int, int], path: Path) -> None:
    """A row for two characters: original, visible half, three fillings, mean of all."""
    left = torch.where(mask, x, 0.5)
    images = (
        torch.stack([x, left, *fillings[:3], fillings.mean(0)], 1).flatten(0, 1).view(-1, *shape)
    )
    titles = ["original", "given", "filled in", "filled in", "filled in", "mean"] * 2
    titles = (titles + [""] * len(images))[: len(images)]
    plotting.save(plotting.sample_grid(images, titles=titles, columns=12), path)


def main(args: argparse.Namespace) -> None:
    """Train, fill in, compare and draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load(args.data)
    deep = train(data, args)
    x = data.valid[torch.randperm(len(data.valid))[: args.images]]
    mask = cover(len(x), data.image_shape)
    observed = torch.where(mask, x, torch.nan)  # what is not observed is never looked at
    with torch.no_grad():
        given = deep().given(observed, mask, ObservedFirst())
        fillings = given.sample((args.fillings,))
        log_prob = given.log_prob(x)
        print(
            "pixel rates of the training set:",
            share_right(data.train.mean(0).expand_as(x), x, mask),
        )
        print("DeepNADE, mean of exact draws:", share_right(fillings.mean(0), x, mask))
        print(
            f"log p(true hidden half | visible half): {log_prob.mean():.2f} +/- "
            f"{log_prob.std() / len(x) ** 0.5:.2f}"
        )
        weigh(deep, observed, mask, args)
    shown = slice(args.shown)
    draw(
        x[shown],
        mask[shown],
        fillings[:, shown],
        data.image_shape,
        args.out / "autoregressive_inpainting.png",
    )


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
    parser.add_argument("--hidden", type=int, default=500, help="units of a hidden layer")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--fillings", type=int, default=20, help="draws an image")
    parser.add_argument(
        "--particles", type=int, default=100, help="of the importance weights, an image"
    )
    parser.add_argument("--images", type=int, default=40, help="validation images to fill in")
    parser.add_argument("--shown", type=int, default=16, help="images in the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of the picture and the checkpoint"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(hidden=20, epochs=2, fillings=3, particles=20, images=8)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
