"""A variational autoencoder of binarized MNIST, evaluated by importance sampling
with 5000 draws an image.

The model and its guide are one object, trained by `pyro.infer.SVI`. Progress
goes to a CSV file and a learning curve, a checkpoint lets a killed run go on,
validation decides which epoch counts, and the running average of the weights is
what is evaluated. Pictures: samples from the prior, reconstructions, and with
`--latent 2` a map of the latent plane.

    # half an hour on one core, then as long to judge
    python examples/vae.py --split test
    python examples/vae.py --prior vamp --epochs 100
    python examples/vae.py --objective iwae --particles 50 --rate 0.001
    # pixels that depend on each other, given the latent
    python examples/vae.py --likelihood made
    # for the map
    python examples/vae.py --latent 2 --epochs 30
    # how far ten times the draws move the bound
    python examples/vae.py --split test --draws 5000 50000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pyro
import torch
from pyro.infer import ELBO, SVI, TraceMeanField_ELBO
from torch import Tensor

from pyro_gen import datasets, models, nn, plotting
from pyro_gen._files import json_text
from pyro_gen.infer import DoublyReparametrizedELBO, ImportanceWeightedELBO, StickingTheLandingELBO
from pyro_gen.infer.elbo.importance_sampling import ImportanceLogLikelihood
from pyro_gen.training import History, fit, running_average, small_batch, use_average


@dataclass(frozen=True)
class Recipe:
    """All settings of a run, chosen on validation rows."""

    latent: int = 40
    hidden: int = 400
    context: int = 64  # of an autoregressive likelihood
    prior: str = "normal"
    pseudo_inputs: int = 500
    likelihood: str = "bernoulli"
    objective: str = "elbo"
    particles: int = 1
    epochs: int = 150
    warm_up: int = 10
    patience: int = 6
    batch_size: int = 100
    rate: float = 0.002
    weight_decay: float = 0.05
    decay: float = 0.999  # of the running average of the weights
    every: int = 10  # epochs between evaluations
    valid_rows: int = 1000
    valid_draws: int = 200
    draws: int = 5000
    bfloat16: bool = True  # products of the training in half the digits


SMOKE = Recipe(
    latent=2,
    hidden=16,
    pseudo_inputs=8,
    epochs=2,
    warm_up=2,
    every=1,
    decay=0.5,
    valid_rows=20,
    valid_draws=5,
    draws=20,
    bfloat16=False,
)
OWN = (
    "bfloat16",
    "latent",
    "hidden",
    "prior",
    "likelihood",
    "objective",
    "particles",
    "epochs",
    "batch_size",
    "rate",
    "weight_decay",
    "patience",
)


def build(recipe: Recipe, x: Tensor) -> models.VAE:
    """The model, which starts near the marginal distributions of the pixels."""
    features = x.shape[1]
    if recipe.prior == "vamp":
        prior = nn.VampPrior(recipe.pseudo_inputs, features)
    else:
        prior = None
    hidden = (recipe.hidden, recipe.hidden)
    if recipe.likelihood == "made":
        likelihood = nn.MADE(features, [recipe.hidden], context=recipe.context)
        return models.VAE.from_data(
            x, recipe.latent, hidden=hidden, prior=prior, likelihood=likelihood
        )
    return models.VAE.from_data(x, recipe.latent, hidden=hidden, prior=prior)


def loss_of(recipe: Recipe) -> ELBO:
    """What is minimised."""
    if recipe.objective == "iwae":
        return ImportanceWeightedELBO(recipe.particles)
    if recipe.objective == "dreg":
        return DoublyReparametrizedELBO(recipe.particles)
    if recipe.objective == "stl":
        return StickingTheLandingELBO(recipe.particles)
    return TraceMeanField_ELBO()


def train(
    recipe: Recipe, data: datasets.BinaryDataset, args: argparse.Namespace
) -> tuple[models.VAE, History]:
    """SVI by Adam with a rate that falls to 0.

    Goes on where a checkpoint of the same settings stopped.
    """
    vae = build(recipe, data.train).to(args.device)
    average, averaged = running_average(vae, recipe.decay)
    adam = {"lr": recipe.rate, "weight_decay": recipe.weight_decay, "fused": True}
    schedule = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": recipe.epochs}
    optimizer = pyro.optim.LinearLR(
        {"optimizer": torch.optim.AdamW, "optim_args": adam} | schedule
    )
    svi = SVI(vae.model, vae.guide, optimizer, loss_of(recipe))
    batches = datasets.minibatches(data.train, recipe.batch_size)
    rows = data.valid[: recipe.valid_rows].to(args.device)

    def warmed(epoch: int) -> Iterable[Tensor]:
        vae.beta = models.warm_up(epoch, recipe.warm_up if recipe.objective == "elbo" else 0)
        return batches

    def step(x: Tensor) -> float:
        with torch.autocast(
            torch.device(args.device).type, torch.bfloat16, enabled=recipe.bfloat16
        ):
            loss = svi.step(x.to(args.device)) / len(data.train)  # nats an image
        average.update_parameters(vae)
        return loss

    def evaluate() -> dict[str, float]:
        return {"valid": averaged.test_log_likelihood(rows, recipe.valid_draws).value}

    history = fit(
        step,
        warmed,
        recipe.epochs,
        state={"vae": vae, "average": average},
        evaluate=evaluate,
        evaluate_every=recipe.every,
        evaluate_start=True,
        monitor="valid",
        patience=recipe.patience,
        scheduler=optimizer,
        metrics=args.out / "vae.csv",
        checkpoint=args.out / "vae.pt",
        checkpoint_every=recipe.every,
        settings=vars(recipe) | {"data": data.name, "seed": args.seed},
        progress=not args.smoke,
    )
    use_average(vae, average)
    return vae.eval(), history


@torch.no_grad()
def draw(
    vae: models.VAE, data: datasets.BinaryDataset, history: History, args: argparse.Namespace
) -> None:
    """Learning curve, samples, reconstructions.

    A map of the plane where there are two latent dimensions.
    """
    shape = data.shape or (1, data.train.shape[1])
    curve = plotting.learning_curve(
        history, ["valid"], ylabel="log likelihood of validation rows [nats]"
    )
    plotting.save(curve, args.out / "learning_curve.png")
    distribution = vae.decode(vae.sample_prior(64))
    if isinstance(vae.likelihood, nn.AutoregressiveNetwork):
        samples = distribution.sample()
    else:
        samples = distribution.mean
    plotting.save(
        plotting.sample_grid(samples.cpu().unflatten(-1, shape), columns=8),
        args.out / "samples.png",
    )
    rows = data.valid[:32].to(args.device)
    pairs = [x.cpu().unflatten(-1, shape) for x in (rows, vae.reconstruct(rows))]
    grid = plotting.sample_grid(
        torch.cat(pairs, -1), columns=4, title="validation images and their reconstructions"
    )
    plotting.save(grid, args.out / "reconstructions.png")
    if vae.latent == 2:
        places = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, 15))
        z = torch.cartesian_prod(-places, places).flip(-1).to(args.device)
        distribution = vae.decode(z)
        if isinstance(vae.likelihood, nn.AutoregressiveNetwork):
            images = distribution.sample()
        else:
            images = distribution.mean
        grid = plotting.sample_grid(images.cpu().unflatten(-1, shape), columns=15)
        plotting.save(grid, args.out / "latent_map.png")


def main(args: argparse.Namespace) -> None:
    """Train, judge, draw."""
    pyro.set_rng_seed(args.seed)
    pyro.enable_validation(False)  # the rows are checked once
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = SMOKE if args.smoke else Recipe()
    recipe = replace(
        recipe, **{name: getattr(args, name) for name in OWN if getattr(args, name) is not None}
    )
    name = args.data or "alphadigits"
    if args.data is None and not args.smoke:
        name = datasets.available("binarized_mnist", instead="alphadigits")
    data = datasets.load(name)
    if args.batch_size is None:
        recipe = replace(recipe, batch_size=small_batch(len(data.train), recipe.batch_size))
    vae, history = train(recipe, data, args)
    best = max((row for row in history if "valid" in row), key=lambda row: row["valid"])
    print(f"{history[-1]['epoch']:.0f} epochs, the best is {best['epoch']:.0f}")
    draw(vae, data, history, args)
    rows = getattr(data, args.split)[: args.rows].to(args.device)
    print(f"{args.split}: {vae.latent_use(rows)}")
    bound = vae.lower_bound(rows, num_particles=1)
    print(f"{args.split} ELBO: {bound.value:.2f} +/- {bound.row_error:.2f} nats")
    counts = args.draws or [recipe.draws]
    evaluated = []
    for count in counts:
        likelihood = vae.test_log_likelihood(rows, count)
        print(f"{args.split} log likelihood: {likelihood}")
        evaluated.append(figures_of(likelihood, count))
    for less, more in pairwise(evaluated):
        print(
            f"from {less['draws']} to {more['draws']} draws: "
            f"{more['value'] - less['value']:+.3f} nats"
        )
    figures = {"command": sys.argv, "settings": vars(recipe), "estimates": evaluated}
    (args.out / "log_likelihood.json").write_text(
        json_text(figures, indent=2) + "\n", encoding="utf-8"
    )


def figures_of(likelihood: ImportanceLogLikelihood, draws: int) -> dict[str, float | int]:
    """Lower bound of the log likelihood by importance sampling, with the signs of
    whether it is close.
    """
    return {
        "draws": draws,
        "rows": len(likelihood.rows),
        "value": likelihood.value,
        "row error": likelihood.row_error,
        "median ESS": likelihood.effective_sample_size.median().item(),
        "unreliable rows": int(likelihood.unreliable.sum()),
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help="alphadigits, a set of the data folder, or an .npz file (default: binarized_mnist)",
    )
    parser.add_argument("--latent", type=int, help="latent dimensions")
    parser.add_argument("--hidden", type=int, help="units of each of two hidden layers")
    parser.add_argument("--prior", choices=("normal", "vamp"))
    parser.add_argument("--likelihood", choices=("bernoulli", "made"))
    parser.add_argument("--objective", choices=("elbo", "iwae", "dreg", "stl"))
    parser.add_argument("--particles", type=int, help="draws a row of the last three objectives")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--patience", type=int, help="evaluations without a better one before it stops"
    )
    parser.add_argument(
        "--rate", type=float, help="of Adam, in the first epoch; falls to 0 linearly"
    )
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        help="train with products in half the digits (default); slow on older processors",
    )
    parser.add_argument(
        "--draws", type=int, nargs="+", help="of the reported log likelihood, an image"
    )
    parser.add_argument(
        "--rows", type=int, help="first so many images to report on (default: all)"
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
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
