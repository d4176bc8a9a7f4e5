"""Classify handwritten digits with a class-RBM: one layer of hidden units shared
by the pixels and the label.

The label's distribution given the pixels, p(y | v), is exact, so it is observed
in an ordinary Pyro model; `--alpha` adds the joint distribution p(v, y) under
persistent chains to the same model (hybrid training). Images are thresholded at
one half and moved by a pixel at random while training. Everything is chosen on
validation images, the last sixth of the training set; `--test` looks at the
test images once, after the last epoch. A run that is stopped goes on from its
checkpoint.

    # validation error, about 10 minutes on one core
    python examples/class_rbm.py
    # the same run, and its error on the test images
    python examples/class_rbm.py --test
    # 36 classes, a minute
    python examples/class_rbm.py --data alphadigits
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.infer import PersistentChains
from pyro_gen.training import fit


class Split(NamedTuple):
    """Binary images and their labels."""

    v: Tensor
    y: Tensor


class Labelled(NamedTuple):
    """A data set in three parts."""

    train: Split
    valid: Split
    test: Split
    shape: tuple[int, int]
    classes: int


def default_data() -> str:
    """MNIST, or what is there in its place."""
    return datasets.available("mnist_gray", instead="alphadigits").removesuffix("_gray")


def read(name: str) -> Labelled:
    """MNIST thresholded at one half, or images of known classes."""
    if name != "mnist":
        images = datasets.load_images(name)
        parts = (
            Split(getattr(images, part), getattr(images, f"{part}_labels"))
            for part in ("train", "valid", "test")
        )
        train, valid, test = parts
        return Labelled(train, valid, test, images.shape, len(images.classes))
    gray = datasets.load_gray("mnist_gray")
    rows, columns = gray.shape
    v = (gray.train >= 0.5).float()
    y = gray.train_labels
    cut = len(v) * 5 // 6
    test = Split((gray.test >= 0.5).float(), gray.test_labels)
    return Labelled(Split(v[:cut], y[:cut]), Split(v[cut:], y[cut:]), test, (rows, columns), 10)


def train(data: Labelled, args: argparse.Namespace) -> nn.ClassRBM:
    """Discriminative (`--alpha 0`) or hybrid training by SVI, without a guide.

    Goes on from the checkpoint.
    """
    count = len(data.train.v)
    rbm = nn.ClassRBM(
        data.train.v.shape[1],
        args.hidden,
        data.classes,
        PersistentChains(100, 1),
        dropout=args.dropout,
    )

    @poutine.scale(scale=1 / count)  # nats an image
    def model(v: Tensor, y: Tensor) -> None:
        pyro.module("class_rbm", rbm)
        with pyro.plate("images", count, subsample=v), ExitStack() as stack:
            pyro.sample("y", rbm(v), obs=y)
            if args.alpha:
                stack.enter_context(poutine.scale(scale=args.alpha))
                pyro.sample("joint", rbm.joint(), obs=rbm.encode(v, y))

    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": args.rate}}
    optimizer = pyro.optim.LinearLR(
        settings | {"start_factor": 1.0, "end_factor": 0.0, "total_iters": args.epochs}
    )
    svi = SVI(model, lambda v, y: None, optimizer, Trace_ELBO())

    def step(index: Tensor) -> float:
        return svi.step(
            datasets.shifted(data.train.v[index], data.shape, args.shift), data.train.y[index]
        )

    fit(
        step,
        datasets.minibatches(torch.arange(count), 100),
        args.epochs,
        state={"rbm": rbm},
        evaluate=lambda: {"valid error": 100 * (1 - accuracy(rbm, data.valid))},
        scheduler=optimizer,
        metrics=args.out / f"class_rbm_{Path(args.data).stem}.csv",
        checkpoint=args.out / f"class_rbm_{Path(args.data).stem}.pt",
        settings={
            name: value
            for name, value in vars(args).items()
            if name not in ("out", "test", "smoke")
        },
    )
    return rbm.eval()


@torch.no_grad()
def accuracy(rbm: nn.ClassRBM, split: Split) -> float:
    """Share of images whose most probable label is right."""
    rbm.eval()
    right = sum(
        (rbm(v).logits.argmax(-1) == y).sum().item()
        for v, y in zip(*(x.split(500) for x in split), strict=True)
    )
    rbm.train()
    return right / len(split.y)


def report(name: str, rbm: nn.ClassRBM, split: Split) -> None:
    """Print an error with its standard error."""
    count = len(split.y)
    error = 1 - accuracy(rbm, split)
    print(
        f"{name} error: {100 * error:.2f} +/- {100 * (error * (1 - error) / count) ** 0.5:.2f} "
        f"%, N={count}"
    )


def main(args: argparse.Namespace) -> None:
    """Train, judge, and draw what the hidden units look for."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    data = read(args.data)
    rbm = train(data, args)
    report("validation", rbm, data.valid)
    if args.test:
        report("test", rbm, data.test)
    plotting.save(
        plotting.filters(rbm.weight.detach(), data.shape),
        args.out / f"class_rbm_{Path(args.data).stem}.png",
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help="mnist (default), alphadigits, another set of labelled images, or an .npz file",
    )
    parser.add_argument("--hidden", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.004, help="Adam's, falling linearly to 0")
    parser.add_argument(
        "--dropout", type=float, default=0.2, help="share of hidden units left out"
    )
    parser.add_argument(
        "--shift", type=float, default=0.8, help="share of images moved by a pixel"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.0, help="weight of the joint log likelihood, 0 for none"
    )
    parser.add_argument("--test", action="store_true", help="judge on the test images too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of picture, metrics and checkpoint"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(data="alphadigits", hidden=20, epochs=2, alpha=0.01)
        args = parser.parse_args()
    args.data = args.data or default_data()
    return args


if __name__ == "__main__":
    main(parse())
