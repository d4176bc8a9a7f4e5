"""A gated PixelCNN of binarized MNIST, or of small pictures in three colours, by
maximum likelihood: SVI with no guide.

Progress goes to a CSV file and a learning curve, a checkpoint lets a killed run
go on, validation decides which epoch counts, and the running average of the
weights is evaluated: nats an image (of the *fixed* binarisation) with the
standard error over the rows, and samples drawn pixel after pixel.

    # 65 minutes on one core
    python examples/pixelcnn_mnist.py --bfloat16 --epochs 10 --split test
    # for a GPU
    python examples/pixelcnn_mnist.py --hidden 128 --layers 15 --epochs 100 --device cuda
    # the colours of a pixel, one given the others
    python examples/pixelcnn_mnist.py --data colours
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.training import History, fit, running_average, use_average


@dataclass(frozen=True)
class Recipe:
    """All settings of a run."""

    hidden: int = 32
    layers: int = 8
    kernel_size: int = 3
    first_kernel_size: int = (
        27  # with one input channel it may see half the image: cheap, and worth 3 nats early
    )
    gated: bool = True
    epochs: int = 15
    patience: int = 3
    batch_size: int = 16
    rate: float = 0.002
    decay: float = 0.999  # of the running average of the weights
    bfloat16: bool = (
        False  # convolutions of the training in half the digits: twice as quick on many machines
    )
    samples: int = 36


SMOKE = Recipe(
    hidden=6, layers=2, first_kernel_size=3, epochs=2, batch_size=100, decay=0.5, samples=4
)


@dataclass(frozen=True)
class Images:
    """Train, validation and test images, (n,) + shape."""

    train: Tensor
    valid: Tensor
    test: Tensor


def default_data() -> str:
    """MNIST, or what is there in its place."""
    return datasets.available("binarized_mnist", instead="alphadigits").removeprefix("binarized_")


def images(name: str, smoke: bool) -> Images:
    """A set of images, of MNIST the fixed binarisation; for a smoke test some of the images."""
    data = datasets.load("binarized_mnist" if name == "mnist" else name)
    splits = (getattr(data, split) for split in ("train", "valid", "test"))
    return Images(*(x[: 100 if smoke else None].unflatten(-1, data.image_shape) for x in splits))


def colours() -> Images:
    """Bars and stripes in red, their negative in green, and one coin for all of
    blue: log(2 * 30) nats an image.
    """
    red = datasets.bars_and_stripes(4, 4).unflatten(-1, (4, 4))
    blue = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, len(red), 4, 4)
    red = red.expand_as(blue)
    x = torch.stack([red, 1 - red, blue], 2).flatten(0, 1)
    return Images(x.repeat(20, 1, 1, 1), x, x)


def train(recipe: Recipe, data: Images, args: argparse.Namespace) -> tuple[nn.PixelCNN, History]:
    """Maximum likelihood; goes on where a checkpoint of the same settings stopped."""
    settings = (
        recipe.hidden,
        recipe.layers,
        recipe.kernel_size,
        recipe.first_kernel_size,
        recipe.gated,
    )
    network = nn.PixelCNN.from_data(data.train, *settings).to(args.device)
    average, averaged = running_average(network, recipe.decay)
    count = len(data.train)

    @poutine.scale(scale=1 / count)  # nats an image
    def model(x: Tensor) -> None:
        pyro.module("pixelcnn", network)
        with pyro.plate("images", count, subsample=x):
            pyro.sample("x", network(), obs=x)

    adam = {"optimizer": torch.optim.Adam, "optim_args": {"lr": recipe.rate}}
    optimizer = pyro.optim.LinearLR(
        adam | {"start_factor": 1.0, "end_factor": 0.0, "total_iters": recipe.epochs}
    )
    svi = SVI(model, lambda x: None, optimizer, Trace_ELBO())

    def step(x: Tensor) -> float:
        with torch.autocast(
            torch.device(args.device).type, torch.bfloat16, enabled=recipe.bfloat16
        ):
            loss = svi.step(x.to(args.device))
        average.update_parameters(network)
        return loss

    def evaluate() -> dict[str, float]:
        return {"valid": log_likelihoods(averaged, data.valid, args.device).mean().item()}

    history = fit(
        step,
        datasets.minibatches(data.train, recipe.batch_size),
        recipe.epochs,
        state={"network": network, "average": average},
        evaluate=evaluate,
        monitor="valid",
        patience=recipe.patience,
        scheduler=optimizer,
        metrics=args.out / "pixelcnn.csv",
        checkpoint=args.out / "pixelcnn.pt",
        settings=vars(recipe) | {"data": args.data, "seed": args.seed},
        progress=not args.smoke,
    )
    use_average(network, average)
    return network, history


@torch.no_grad()
def log_likelihoods(network: nn.PixelCNN, x: Tensor, device: str) -> Tensor:
    """Nats of each image."""
    return torch.cat([network().log_prob(part.to(device)).cpu() for part in x.split(100)])


def judge(network: nn.PixelCNN, x: Tensor, split: str, device: str) -> None:
    """Log likelihood with the standard error over the rows, and bits a number."""
    nats = log_likelihoods(network, x, device)
    error = nats.std() / math.sqrt(len(nats))
    bits = -nats.mean() / (network.features * math.log(2))
    print(
        f"{split}: {nats.mean():.3f} +/- {error:.3f} nats an image, {bits:.4f} bits a pixel, "
        f"N={len(nats)}"
    )


@torch.no_grad()
def judge_colours(network: nn.PixelCNN, data: Images, device: str) -> None:
    """What each colour costs given those before it: green is known from red, and
    blue from its first pixel.
    """
    x = data.test.to(device)
    nats = network().conditionals(x).log_prob(x).sum((-1, -2)).mean(0).tolist()
    print("red {:.3f}, green {:.3f}, blue {:.3f} nats".format(*nats), end="; ")
    print(f"at best {-math.log(30):.3f}, 0 and {-math.log(2):.3f}")


def draw(network: nn.PixelCNN, recipe: Recipe, out: Path) -> None:
    """Samples, colours side by side, and what they cost in full passes."""
    density = network()
    tic = time.perf_counter()
    x = density.sample((recipe.samples,))
    sampling = time.perf_counter() - tic
    tic = time.perf_counter()
    with torch.no_grad():
        density.log_prob(x)
    one_pass = time.perf_counter() - tic
    passes = sampling / one_pass
    print(
        f"{recipe.samples} samples cost {passes:.1f} passes ({sampling:.2f} s), naively "
        f"{network.features}"
    )
    tiles = x.cpu() if x.dim() == 3 else torch.cat(x.cpu().unbind(1), -1)
    plotting.save(plotting.sample_grid(tiles), out / "samples.png")


def main(args: argparse.Namespace) -> None:
    """Train, judge, draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = SMOKE if args.smoke else Recipe()
    own = {
        name: getattr(args, name)
        for name in ("hidden", "layers", "epochs", "rate", "batch_size", "bfloat16")
    }
    recipe = replace(recipe, **{name: value for name, value in own.items() if value is not None})
    if args.data == "colours":
        data = colours()
    else:
        data = images(args.data, args.smoke)
    network, history = train(recipe, data, args)
    print(f"{network.num_parameters} parameters, {len(history)} epochs")
    plotting.save(
        plotting.learning_curve(history, ["valid"], ylabel="nats an image"),
        args.out / "learning_curve.png",
    )
    draw(network, recipe, args.out)
    if args.data == "colours":
        judge_colours(network, data, args.device)
    judge(network, getattr(data, args.split), args.split, args.device)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help="mnist (default), colours, alphadigits, another set of images, or an .npz file",
    )
    parser.add_argument("--hidden", type=int, help="channels of a layer")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument(
        "--rate", type=float, help="of Adam, in the first epoch; falls to 0 linearly"
    )
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--bfloat16", action="store_true", help="convolutions in half the digits while training"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="rows to report"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of everything written"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few seconds on shipped letters, to see that it runs",
    )
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(data="alphadigits")
        args = parser.parse_args()
    args.data = args.data or default_data()
    return args


if __name__ == "__main__":
    main(parse())
