"""An RBM inside scikit-learn: a pipeline, a grid search, and the weights in three formats.

The handwritten digits that come with scikit-learn (1797 grey images of 8 x 8)
go through `RBMTransformer` into logistic regression. Cross-validation on the
training images chooses the number of hidden units, what to do with the grey
(`binarize`: a threshold, or each value as the probability of ink) and the
strength of the classifier; the best pipeline is evaluated once on images held
out. scikit-learn's BernoulliRBM goes through the same search.

    python examples/rbm_sklearn_pipeline.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import Pipeline

import pyro_gen
from pyro_gen import datasets, interop, plotting
from pyro_gen.estimators import RBMTransformer


class Images(NamedTuple):
    """Images to learn from and images held out, as rows of values from 0 to 1, and
    their labels.
    """

    x: np.ndarray
    x_test: np.ndarray
    y: np.ndarray
    y_test: np.ndarray
    shape: tuple[int, int]


def read(name: str, seed: int) -> Images:
    """scikit-learn's digits, or binary images of known classes with their own test images."""
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        x, x_test, y, y_test = train_test_split(
            images / 16, labels, test_size=0.3, random_state=seed, stratify=labels
        )
        return Images(x, x_test, y, y_test, (8, 8))
    data = datasets.load_images(name)
    parts = (data.train, data.test, data.train_labels, data.test_labels)
    x, x_test, y, y_test = (part.numpy() for part in parts)
    return Images(x, x_test, y, y_test, data.shape)


def search(
    rbm: Any, grid: dict[str, list[Any]], x: np.ndarray, y: np.ndarray, args: argparse.Namespace
) -> Any:
    """Cross-validate every combination.

    The cache trains each RBM once for all strengths of the classifier.
    """
    with TemporaryDirectory() as cache:
        steps = [("rbm", rbm), ("classifier", LogisticRegression(max_iter=3000))]
        grid = {f"rbm__{name}": values for name, values in grid.items()} | {
            "classifier__C": args.strengths
        }
        return GridSearchCV(
            Pipeline(steps, memory=cache), grid, cv=args.folds, error_score="raise"
        ).fit(x, y)


def report(name: str, found: Any, x: np.ndarray, y: np.ndarray, seconds: float) -> None:
    """The choice, and the accuracy on images held out, with its standard error."""
    share = found.score(x, y)
    error = (share * (1 - share) / len(y)) ** 0.5
    choice = ", ".join(
        f"{key.partition('__')[2]} = {value}" for key, value in found.best_params_.items()
    )
    print(
        f"{name}: {100 * share:.1f} +/- {100 * error:.1f} % right ({choice}; search "
        f"{seconds:.0f} s)"
    )


def main(args: argparse.Namespace) -> None:
    """Search with both estimators, judge, draw the filters, hand the weights on."""
    args.out.mkdir(parents=True, exist_ok=True)
    x, x_test, y, y_test, shape = read(args.data, args.seed)
    common = {"n_iter": args.iterations, "random_state": args.seed}
    rivals: dict[str, tuple[Any, dict[str, list[Any]]]] = {
        "BernoulliRBM": (
            BernoulliRBM(**common),
            {"n_components": args.hidden, "learning_rate": args.rates},
        ),
        "pyro_gen RBM": (
            RBMTransformer(**common),
            {
                "n_components": args.hidden,
                "learning_rate": args.rates,
                "binarize": [0.5, "sample"],
            },
        ),
    }
    for name, (rbm, grid) in rivals.items():
        start = time.perf_counter()
        found = search(rbm, grid, x, y, args)
        report(name, found, x_test, y_test, time.perf_counter() - start)

    best = found.best_estimator_["rbm"]
    print(f"mean pseudo-log-likelihood of the images held out: {best.score(x_test):.2f} nats")
    plotting.save(
        plotting.filters(best.rbm_.weight.detach(), shape), args.out / "digits_filters.png"
    )
    pyro_gen.save(best.rbm_, args.out / "digits.safetensors")
    theirs = interop.to_sklearn(pyro_gen.load(args.out / "digits.safetensors"))
    binary = (x_test > 0.5).astype(float)
    difference = np.abs(theirs.transform(binary) - best.transform(binary)).max()
    print(f"features of the same weights in scikit-learn differ by at most {difference:.0e}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="digits",
        help="digits, alphadigits, a set of the data folder, or an .npz file",
    )
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[64, 256], help="numbers of hidden units to try"
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[0.05, 0.2], help="learning rates to try"
    )
    parser.add_argument(
        "--strengths", type=float, nargs="+", default=[1.0, 10.0, 100.0], help="C to try"
    )
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of the picture and the weights"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(hidden=[16], rates=[0.1], strengths=[1.0], iterations=1, folds=2)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
