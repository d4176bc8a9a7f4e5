"""What the hidden units are good for: fewer dimensions, and features for a classifier.

An RBM is trained on Binary AlphaDigits without labels, here by the custom
gradient step and a plain torch optimiser instead of SVI. Its hidden
probabilities then stand in for the pixels in scikit-learn's logistic regression
on the 36 classes, whose regularisation is chosen on the validation rows.

    python examples/rbm_features.py --hidden 400
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyro
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.infer import PersistentChains, contrastive_gradient
from pyro_gen.training import fit, keep_best, small_batch

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
MONITOR = "valid pseudo log likelihood"


def train(data: datasets.LabelledImages, args: argparse.Namespace) -> nn.RBM:
    """Persistent contrastive divergence by a gradient step of our own.

    Of few rows the best state is kept.
    """
    batch_size = small_batch(len(data.train))
    rbm = nn.RBM.from_data(
        data.train, args.hidden, negative_phase=PersistentChains(num_steps=5, num_chains=100)
    )
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1 * (batch_size / 100), weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.epochs)

    def step(x: Tensor) -> Tensor:
        contrast = contrastive_gradient(rbm, datasets.shifted(x, data.shape), return_contrast=True)
        optimizer.step()
        return contrast

    def score() -> Tensor:
        return rbm().pseudo_log_likelihood(data.valid).mean()

    def evaluate() -> dict[str, float]:
        return {"wrong pixels of a reconstruction": rbm.reconstruction_error(data.valid).item()}

    watched: dict[str, Any] = {"evaluate": evaluate, "evaluate_every": 50}
    watched |= keep_best(score, len(data.train), args.epochs, MONITOR)
    batches = datasets.minibatches(data.train, batch_size)
    state = {"rbm": rbm, "optimizer": optimizer}
    fit(step, batches, args.epochs, state=state, scheduler=scheduler, **watched)
    print(
        f"reconstruction: {rbm.reconstruction_error(data.test):.1f} of {data.test.shape[1]} "
        "pixels wrong"
    )
    return rbm


@torch.no_grad()
def accuracy(
    features: dict[str, Tensor], data: datasets.LabelledImages
) -> tuple[float, float, float]:
    """Test accuracy of logistic regression with its standard error, and the
    strength chosen on validation.
    """
    x = {split: tensor.numpy() for split, tensor in features.items()}

    def fitted(strength: float) -> LogisticRegression:
        # Tightly: at the default tolerance the choice of the strength depended
        # on the number of threads.
        return LogisticRegression(C=strength, tol=1e-7, max_iter=5000).fit(
            x["train"], data.train_labels
        )

    models = {strength: fitted(strength) for strength in STRENGTHS}
    best = max(
        STRENGTHS, key=lambda strength: models[strength].score(x["valid"], data.valid_labels)
    )
    share = models[best].score(x["test"], data.test_labels)
    return share, (share * (1 - share) / len(x["test"])) ** 0.5, best


def main(args: argparse.Namespace) -> None:
    """Train, classify, draw the filters."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load_images(args.data)
    rbm = train(data, args)
    splits = {split: getattr(data, split) for split in ("train", "valid", "test")}
    hidden = {split: rbm.transform(x).detach() for split, x in splits.items()}
    for name, features in (("pixels", splits), (f"{args.hidden} hidden units", hidden)):
        share, error, strength = accuracy(features, data)
        print(
            f"logistic regression on {name}: {100 * share:.1f} +/- {100 * error:.1f} % right (C "
            f"= {strength})"
        )
    plotting.save(plotting.filters(rbm.weight.detach(), data.shape), args.out / "features.png")


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
    parser.add_argument("--hidden", type=int, default=400, help="number of hidden units")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(hidden=20, epochs=2)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
