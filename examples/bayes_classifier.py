"""Classify by densities: p(digit | image) from p(image | digit), beside logistic
regression, at many sizes of data.

A discriminative classifier learns p(y | x) alone. A generative one learns what
each class looks like, p(x | y), and Bayes' rule does the rest. Here p(x | y) is
an autoregressive density for each class, an FVSBN by default, which starts at
the rates of the single pixels: without any training the classifier is naive
Bayes, the generative twin of logistic regression. Its weights are learned by
SVI under a normal prior. All classifiers see the same rows, a few or many of
each class, drawn anew for each seed; the penalty of logistic regression is
chosen on validation rows at every size, and so is the precision of the prior
where several are given. `--test` looks at the test images once. The picture
shows the errors by number of rows.

    # MNIST, thresholded at one half: validation errors
    python examples/bayes_classifier.py
    # 36 classes, at most 29 rows of each
    python examples/bayes_classifier.py --data alphadigits
    # the same runs, and their errors on the test images
    python examples/bayes_classifier.py --test
"""

from __future__ import annotations

import argparse
import csv
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.models import BayesClassifier
from pyro_gen.training import fit

FAMILIES: dict[str, Callable[[Tensor], nn.AutoregressiveNetwork]] = {
    "FVSBN": nn.FVSBN.from_data,
    "NADE": lambda x: nn.NADE.from_data(x, 50),
}
PENALTIES = (0.01, 0.03, 0.1, 0.3)
"""Of logistic regression: its argument C."""


class Split(NamedTuple):
    """Binary images and their labels."""

    x: Tensor
    y: Tensor


class Data(NamedTuple):
    """A labelled data set in three parts."""

    name: str
    train: Split
    valid: Split
    test: Split
    classes: int


class Result(NamedTuple):
    """Share of errors of one classifier on some rows, in percent."""

    classifier: str
    rows: int
    split: str
    seed: int
    error: float


def default_data() -> str:
    """MNIST, or what is there in its place."""
    return datasets.available("mnist_gray", instead="alphadigits").removesuffix("_gray")


def read(name: str, held_out: int) -> Data:
    """Images of known classes, or MNIST whose last training images are for validation."""
    if name != "mnist":
        images = datasets.load_images(name)
        train = Split(images.train, images.train_labels)
        valid = Split(images.valid, images.valid_labels)
        title = "Binary AlphaDigits" if name == "alphadigits" else images.name
        return Data(
            title, train, valid, Split(images.test, images.test_labels), len(images.classes)
        )
    gray = datasets.load_gray("mnist_gray")
    x = (gray.train >= 0.5).float()
    y = gray.train_labels
    train = Split(x[:50_000], y[:50_000])
    valid = Split(x[50_000:][:held_out], y[50_000:][:held_out])
    return Data(
        "MNIST, thresholded at one half",
        train,
        valid,
        Split((gray.test >= 0.5).float(), gray.test_labels),
        10,
    )


def few(split: Split, count: int, classes: int) -> Split:
    """Rows of each class, drawn at random."""
    rows = [(split.y == k).nonzero().squeeze(-1) for k in range(classes)]
    index = torch.cat([own[torch.randperm(len(own))[:count]] for own in rows])
    return Split(split.x[index], split.y[index])


def learn(
    name: str, x: Tensor, precision: float, args: argparse.Namespace
) -> nn.AutoregressiveNetwork:
    """The density of one class, by SVI without a guide, under a normal prior on all
    weights but the biases.
    """
    network = FAMILIES[args.family](x)
    weights = [p for key, p in network.named_parameters() if "bias" not in key]

    def model(rows: Tensor) -> None:
        pyro.module(name, network)
        pyro.factor(
            "prior", -precision / 2 * torch.stack([w.square().sum() for w in weights]).sum()
        )
        with pyro.plate("rows", len(x), subsample=rows):
            pyro.sample("x", network(), obs=rows)

    svi = SVI(model, lambda rows: None, pyro.optim.Adam({"lr": args.rate}), Trace_ELBO())
    batches = datasets.minibatches(x, min(args.batch_size, len(x)))
    fit(svi.step, batches, max(args.epochs, -(-args.steps // len(batches))), progress=False)
    return network


def densities(
    train: Split, classes: int, precision: float | None, args: argparse.Namespace
) -> BayesClassifier:
    """A density for each class, and Bayes' rule.

    Without a prior, single pixels only: naive Bayes.
    """
    pyro.clear_param_store()
    own = [train.x[train.y == k] for k in range(classes)]
    networks: list[nn.AutoregressiveNetwork]
    if precision is None:
        networks = [nn.FVSBN.from_data(x) for x in own]
    else:
        networks = [learn(f"class {k}", x, precision, args) for k, x in enumerate(own)]
    return BayesClassifier(nn.AutoregressivePerClass(networks), classes, len(train.x))


@torch.no_grad()
def error_of(classifier: BayesClassifier, split: Split) -> float:
    """Percent of rows whose most probable class is wrong."""
    guess = torch.cat([classifier(x).logits.argmax(-1) for x in split.x.split(500)])
    return 100 * (guess != split.y).double().mean().item()


def compare(train: Split, data: Data, seed: int, args: argparse.Namespace) -> list[Result]:
    """Errors of the three classifiers on validation rows, and on test rows if wanted."""
    splits = {"valid": data.valid} | ({"test": data.test} if args.test else {})
    found = [("naive Bayes", densities(train, data.classes, None, args))]
    trained = [densities(train, data.classes, precision, args) for precision in args.precisions]
    found.append((f"{args.family} a class", min(trained, key=lambda c: error_of(c, data.valid))))
    results = [
        Result(name, len(train.x), part, seed, error_of(classifier, split))
        for name, classifier in found
        for part, split in splits.items()
    ]
    with warnings.catch_warnings():
        # many classes with few rows, and iterations that end early
        warnings.simplefilter("ignore")
        made = [
            LogisticRegression(C=c, max_iter=200).fit(train.x.numpy(), train.y.numpy())
            for c in PENALTIES
        ]
    errors = [
        {
            part: 100 * (1 - m.score(split.x.numpy(), split.y.numpy()))
            for part, split in splits.items()
        }
        for m in made
    ]
    best = min(errors, key=lambda e: e["valid"])
    return results + [
        Result("logistic regression", len(train.x), part, seed, e) for part, e in best.items()
    ]


class Point(NamedTuple):
    """Mean error in percent at a number of rows, its standard error over the seeds,
    and that of the evaluated rows.
    """

    rows: int
    mean: float
    seeds: float
    evaluated: float


Curves = dict[str, list[Point]]


def summary(results: list[Result], count: int) -> Curves:
    """For each classifier the error at each number of training rows."""
    curves: Curves = {}
    for name, rows in dict.fromkeys((r.classifier, r.rows) for r in results):
        errors = torch.tensor(
            [r.error for r in results if (r.classifier, r.rows) == (name, rows)]
        ).double()
        mean = errors.mean().item()
        if len(errors) > 1:
            seeds = errors.std().item() / len(errors) ** 0.5
        else:
            seeds = 0.0
        curves.setdefault(name, []).append(
            Point(rows, mean, seeds, (mean * (100 - mean) / count) ** 0.5)
        )
    return curves


def draw(curves: Curves, title: str, split: str, path: Path) -> None:
    """Errors by number of rows, with bars of one standard error, of seeds and
    evaluated rows together.
    """
    lines = {
        name: (
            [p.rows for p in points],
            [p.mean for p in points],
            [math.hypot(p.seeds, p.evaluated) for p in points],
        )
        for name, points in curves.items()
    }
    first, *others = lines
    label = "validation error [%]" if split == "valid" else "test error [%]"
    figure = plotting.sweep(
        *lines[first], xlabel="labelled training rows", ylabel=label, log=True, title=title
    )
    axes = figure.axes[0]
    axes.lines[0].set_label(first)
    for color, name in zip(plotting.COLORS[1:], others, strict=False):
        axes.errorbar(*lines[name], color=color, marker="o", markersize=5, capsize=3, label=name)
    axes.legend(frameon=False)
    plotting.save(figure, path)


def report(results: list[Result], data: Data, split: str, path: Path) -> None:
    """Print a table of the seeds so far, and draw the curves."""
    count = len(data.test.y if split == "test" else data.valid.y)
    seeds = len({r.seed for r in results})
    curves = summary([r for r in results if r.split == split], count)
    print(
        f"{split} error in percent, +/- standard error of {count} rows, and of the mean over "
        f"{seeds} seeds"
    )
    for name, points in curves.items():
        for point in points:
            spread = f", +/- {point.seeds:.2f}" if seeds > 1 else ""
            print(
                f"  {name:20}{point.rows:7} rows {point.mean:6.2f} +/- "
                f"{point.evaluated:.2f}{spread}"
            )
    draw(curves, f"{data.name}: {data.classes} classes", split, path)


def main(args: argparse.Namespace) -> None:
    """Learn from more and more rows, compare, and draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    data = read(args.data, args.held_out)
    results: list[Result] = []
    splits = 2 if args.test else 1
    for seed in range(args.seeds):
        for count in args.counts:
            pyro.set_rng_seed(seed)
            results += compare(few(data.train, count, data.classes), data, seed, args)
            errors = [
                f"{r.classifier} {r.error:.2f}"
                for r in results[-3 * splits :]
                if r.split == "valid"
            ]
            print(f"{count} rows a class, seed {seed}, validation errors: {', '.join(errors)}")
        with (args.out / f"bayes_classifier_{Path(args.data).stem}.csv").open(
            "w", newline=""
        ) as file:
            csv.writer(file, lineterminator="\n").writerows([Result._fields, *results])
        for split in ("valid", "test")[:splits]:
            report(
                results,
                data,
                split,
                args.out / f"bayes_classifier_{Path(args.data).stem}_{split}.png",
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
    parser.add_argument(
        "--family", choices=tuple(FAMILIES), default="FVSBN", help="density of each class"
    )
    parser.add_argument("--counts", type=int, nargs="+", help="training rows of each class")
    parser.add_argument(
        "--precisions", type=float, nargs="+", default=[10.0], help="of the prior, to choose from"
    )
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument(
        "--steps", type=int, default=100, help="gradient steps of each class, at least"
    )
    parser.add_argument(
        "--epochs", type=int, default=3, help="passes over the rows of each class, at least"
    )
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--held-out", type=int, default=2000, help="validation images of MNIST")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the training rows")
    parser.add_argument("--test", action="store_true", help="judge on the test images too")
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of table and picture"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(data="alphadigits", counts=[1, 2], steps=2, epochs=1, seeds=2)
        args = parser.parse_args()
    args.data = args.data or default_data()
    args.counts = args.counts or (
        [1, 3, 10, 29] if args.data != "mnist" else [3, 10, 30, 100, 300, 1000]
    )
    return args


if __name__ == "__main__":
    main(parse())
