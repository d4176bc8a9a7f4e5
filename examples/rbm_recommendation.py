"""Recommend films: hide one film that a user has watched, and see whether it is
among the ten suggested.

An RBM over users (rows) and films (visible units) is trained on the training
users of `bnetflix`. Of every other user one watched film, drawn at random, is
marked as not watched, and all films not watched are ranked. If each watched
film is as likely to be the hidden one, the best score of film j is p(v_j = 1 |
all other cells of the user), which is what `rbm().given(observed, mask)` gives
with a different cell missing in each row of a batch. Rivals: popularity,
scikit-learn's truncated SVD and NMF, and a ridge regression of each film on all
others; their ranks and strengths are chosen on the validation users. `--test`
ranks for the test users with what was chosen there.

    # validation users, a few minutes on one core
    python examples/rbm_recommendation.py
    python examples/rbm_recommendation.py --test
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import torch
from sklearn.decomposition import NMF, TruncatedSVD
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.distributions import RBM
from pyro_gen.infer import PersistentChains, contrastive_gradient
from pyro_gen.training import fit, keep_best, small_batch

Scorer = Callable[[Tensor], Tensor]
TOP = 10
MONITOR = "valid pseudo log likelihood"


class Users(NamedTuple):
    """Users of whom one watched film is hidden: what is left, and the number of the
    hidden film.
    """

    x: Tensor
    hidden: Tensor


def hide(x: Tensor, seed: int) -> Users:
    """Mark one watched film of each user as not watched.

    Users with fewer than two are left out.
    """
    x = x[x.sum(-1) >= 2].clone()
    hidden = x.multinomial(1, generator=torch.Generator().manual_seed(seed)).squeeze(-1)
    x[torch.arange(len(x)), hidden] = 0
    return Users(x, hidden)


def hits(score: Scorer, users: Users) -> Tensor:
    """For each user whether the hidden film is among the best unwatched ones."""
    scores = score(users.x).masked_fill(users.x == 1, -torch.inf)
    own = scores.gather(-1, users.hidden.unsqueeze(-1))
    return ((scores > own).sum(-1) < TOP).double()


def train(data: datasets.BinaryDataset, args: argparse.Namespace) -> RBM:
    """Persistent chains by a gradient step of our own, the learning rate falling to 0."""
    x = data.train
    batch_size = small_batch(len(x))
    rbm = nn.RBM.from_data(
        x, args.hidden, negative_phase=PersistentChains(num_chains=100, num_steps=args.steps)
    )
    optimizer = torch.optim.SGD(
        rbm.parameters(), lr=args.rate * (batch_size / 100), weight_decay=args.decay
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.epochs)

    def step(rows: Tensor) -> Tensor:
        contrast = contrastive_gradient(rbm, rows, return_contrast=True)
        optimizer.step()
        return contrast

    def score() -> Tensor:
        return rbm().pseudo_log_likelihood(data.valid).mean()

    state = {"rbm": rbm, "optimizer": optimizer}
    names = ("data", "hidden", "epochs", "steps", "rate", "decay", "seed", "smoke")
    kept: dict[str, Any] = {
        "checkpoint": args.out / "recommendation.pt",
        "settings": {name: getattr(args, name) for name in names},
    }
    kept |= keep_best(score, len(x), args.epochs, MONITOR)
    fit(
        step,
        datasets.minibatches(x, batch_size),
        args.epochs,
        state=state,
        scheduler=scheduler,
        **kept,
    )
    with torch.no_grad():
        return rbm.eval()()


def each_film_given_the_others(rbm: RBM) -> Scorer:
    """P(v_j = 1 | all other cells) for every film j: as many rows as there are
    films for each user.
    """

    def score(x: Tensor) -> Tensor:
        all_but_one = ~torch.eye(x.shape[-1], dtype=torch.bool)
        parts = (rbm.given(rows.unsqueeze(-2), all_but_one).marginals() for rows in x.split(50))
        return torch.cat([part.diagonal(dim1=-2, dim2=-1) for part in parts])

    return score


def reconstruction(rbm: RBM) -> Scorer:
    """One pass up and down with probabilities, as in the literature."""
    return lambda x: torch.sigmoid(
        torch.sigmoid(x @ rbm.weight + rbm.hbias) @ rbm.weight.mT + rbm.vbias
    )


def factorised(model: TruncatedSVD | NMF, x: Tensor) -> Scorer:
    """Each user's row in the model's factors and back."""
    model.fit(x.numpy())
    return lambda rows: torch.from_numpy(model.inverse_transform(model.transform(rows.numpy())))


def regression(x: Tensor, strength: float) -> Scorer:
    """Ridge regression of each film on all others in closed form (Steck 2019,
    Embarrassingly shallow autoencoders).
    """
    precision = torch.linalg.inv(
        x.double().T @ x.double() + strength * torch.eye(x.shape[-1], dtype=torch.float64)
    )
    slopes = -precision / precision.diagonal()
    slopes.fill_diagonal_(0)
    return lambda rows: rows.double() @ slopes


def rivals(x: Tensor, args: argparse.Namespace) -> dict[str, list[tuple[str, Scorer]]]:
    """By family, the settings to choose from."""
    ranks = (5,) if args.smoke else (2, 5, 10, 20, 40)
    svd = [(f"rank {k}", factorised(TruncatedSVD(k, random_state=args.seed), x)) for k in ranks]
    nmf = [
        (f"rank {k}", factorised(NMF(k, init="nndsvda", max_iter=400, tol=1e-3), x))
        for k in ranks[:4]
    ]
    ridge = [(f"strength {s}", regression(x, s)) for s in (10.0, 100.0, 1000.0)]
    popular = x.mean(0)
    return {
        "popularity": [("", popular.expand_as)],
        "matrix factorisation, SVD": svd,
        "matrix factorisation, NMF": nmf,
        "ridge regression on the other films": ridge,
    }


def main(args: argparse.Namespace) -> None:
    """Train, choose on the validation users, and rank for the validation or the test users."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    data = example_data() if args.data == "generated" else datasets.load(args.data)
    rbm = train(data, args)
    valid = hide(data.valid, args.seed)
    evaluated, name = (hide(data.test, args.seed), "test") if args.test else (valid, "validation")
    families = rivals(data.train, args)
    families["RBM, up and down"] = [("", reconstruction(rbm))]
    families["RBM, each film given all others"] = [("", each_film_given_the_others(rbm))]
    best = {
        k: max(group, key=lambda one: hits(one[1], valid).mean().item())
        for k, group in families.items()
    }
    found = {family: hits(scorer, evaluated) for family, (_, scorer) in best.items()}
    print(f"hit rate at {TOP}, {len(evaluated.x)} {name} users, one hidden film each")
    for family, hit in found.items():
        gain = found["RBM, each film given all others"] - hit
        if gain.any():
            paired = f"RBM better by {100 * gain.mean():.1f} +/- {100 * error(gain):.1f}"
        else:
            paired = ""
        print(
            f"{family + ' ' + best[family][0]:45} {100 * hit.mean():.1f} +/- "
            f"{100 * error(hit):.1f} %  {paired}"
        )
    films = data.train.shape[1]
    tiles = math.gcd(10, films)
    figure = plotting.filters(
        rbm.weight, (tiles, films // tiles), title="films as tiles: weights of hidden units"
    )
    plotting.save(figure, args.out / "recommendation.png")


def error(x: Tensor) -> float:
    """Standard error of a mean."""
    return (x.std() / len(x) ** 0.5).item()


def example_data() -> datasets.BinaryDataset:
    """Made-up users of two tastes, for a look whether the script runs."""
    taste = torch.rand(2, 40)
    rows = torch.bernoulli(taste[torch.randint(2, (300,))])
    return datasets.BinaryDataset("made up", rows[:200], rows[200:250], rows[250:])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help="users by films: bnetflix (default), generated, or an .npz file",
    )
    parser.add_argument("--hidden", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument(
        "--steps", type=int, default=5, help="Gibbs sweeps of the chains an update"
    )
    parser.add_argument(
        "--rate", type=float, default=0.05, help="learning rate, falling linearly to 0"
    )
    parser.add_argument("--decay", type=float, default=1e-4, help="weight decay")
    parser.add_argument("--test", action="store_true", help="rank for the test users instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of the checkpoint and the picture"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(data="generated", hidden=10, epochs=2)
        args = parser.parse_args()
    args.data = args.data or datasets.available("bnetflix", instead="generated")
    return args


if __name__ == "__main__":
    main(parse())
