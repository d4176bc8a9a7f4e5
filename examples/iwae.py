"""Tighter bounds, better models: the ELBO, IWAE with 5 and 50 draws, DReG and STL
on the same small autoencoder.

All learn from the same rows for the same number of steps, by `pyro.infer.SVI`;
what differs is the loss. The table has lower bounds of the log likelihood of
held-out rows (by importance sampling, with the median effective sample size),
the bound that each has at them with one draw, and how many latent dimensions
are active. The pictures: learning curves, and the signal-to-noise ratio of the
encoder's gradient, which falls with the number of draws under IWAE and rises
under DReG.

    python examples/iwae.py                       # AlphaDigits, some minutes on one core
    python examples/iwae.py --epochs 1000 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor

from pyro_gen import datasets, models, plotting
from pyro_gen.infer import DoublyReparametrizedELBO, ImportanceWeightedELBO, StickingTheLandingELBO
from pyro_gen.training import fit

Loss = (
    TraceMeanField_ELBO
    | ImportanceWeightedELBO
    | DoublyReparametrizedELBO
    | StickingTheLandingELBO
)
LOSSES: dict[str, Callable[[], Loss]] = {
    "ELBO": TraceMeanField_ELBO,
    "STL": StickingTheLandingELBO,
    "IWAE-5": lambda: ImportanceWeightedELBO(5),
    "DReG-5": lambda: DoublyReparametrizedELBO(5),
    "IWAE-50": lambda: ImportanceWeightedELBO(50),
    "DReG-50": lambda: DoublyReparametrizedELBO(50),
}


@dataclass(frozen=True)
class Row:
    """What one loss came to."""

    loss: str
    seed: int
    log_likelihood: float
    row_error: float
    median_size: float
    elbo: float
    active: int


def train(
    name: str, data: datasets.BinaryDataset, seed: int, args: argparse.Namespace
) -> tuple[models.VAE, dict[int, float]]:
    """Train by one loss: the model of the best epoch, and the held-out log likelihood
    along the way.

    Args:
        name: of the loss.
        data: rows to learn from, and validation rows that choose the epoch.
        seed: of everything random.
        args: the command line; the run goes on where a checkpoint in
            ``args.out`` stopped.
    """
    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    vae = models.VAE.from_data(data.train, args.latent, hidden=(args.hidden, args.hidden))
    optimizer = {"optimizer": torch.optim.Adam, "optim_args": {"lr": args.rate}}
    schedule = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": args.epochs}
    scheduler = pyro.optim.LinearLR(optimizer | schedule)
    svi = SVI(vae.model, vae.guide, scheduler, LOSSES[name]())
    recipe = {key: getattr(args, key) for key in ("latent", "hidden", "epochs", "rate", "draws")}
    history = fit(
        svi.step,
        datasets.minibatches(data.train, 50),
        args.epochs,
        state={"vae": vae},
        evaluate=lambda: {"valid": bound(vae, data.valid, args.draws // 10)},
        evaluate_every=max(1, args.epochs // 20),
        evaluate_start=True,
        monitor="valid",
        scheduler=scheduler,
        checkpoint=args.out / f"{name}-{seed}.pt",
        checkpoint_every=max(1, args.epochs // 20),
        settings=recipe | {"loss": name, "seed": seed},
        progress=not args.smoke,
    )
    return vae, {int(row["epoch"]): row["valid"] for row in history if "valid" in row}


def bound(vae: models.VAE, x: Tensor, draws: int) -> float:
    """Lower bound of the log likelihood that chooses the epoch, without a warning
    at every evaluation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return vae.test_log_likelihood(x, draws).value


def learn(
    name: str, data: datasets.BinaryDataset, seed: int, args: argparse.Namespace
) -> tuple[Row, dict[int, float]]:
    """Train by one loss; its row of the table, and the held-out log likelihood along the way."""
    vae, curve = train(name, data, seed, args)
    rows = getattr(data, args.split)
    likelihood = vae.test_log_likelihood(rows, args.draws)
    size = likelihood.effective_sample_size.median().item()
    active = int(vae.latent_use(rows).active.sum())
    elbo = vae.lower_bound(rows, 20).value
    return Row(name, seed, likelihood.value, likelihood.row_error, size, elbo, active), curve


def signal_to_noise(loss: Loss, vae: models.VAE, x: Tensor, repeats: int) -> float:
    """Mean over the encoder's weights of |mean| / standard deviation of a gradient
    over repetitions.
    """
    weights = list(vae.encoder.parameters())
    found = []
    for _ in range(repeats):
        vae.zero_grad()
        loss.loss_and_grads(vae.model, vae.guide, x)
        found.append(torch.cat([w.grad.flatten() for w in weights if w.grad is not None]))
    table = torch.stack(found)
    return (table.mean(0).abs() / table.std(0).clamp(min=1e-12)).mean().item()


def draw_ratios(data: datasets.BinaryDataset, args: argparse.Namespace) -> None:
    """Signal to noise against draws, for a model that the ELBO trained for a tenth of the time."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    vae = models.VAE.from_data(data.train, args.latent, hidden=(args.hidden, args.hidden))
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": args.rate}), TraceMeanField_ELBO())
    for _ in range(max(1, args.epochs // 10)):
        for x in datasets.minibatches(data.train, 50):
            svi.step(x)
    counts = [1, 2] if args.smoke else [1, 3, 10, 30, 100]
    repeats = 3 if args.smoke else 30
    ratios = {
        kind.__name__: [signal_to_noise(kind(k), vae, data.train[:20], repeats) for k in counts]
        for kind in (ImportanceWeightedELBO, DoublyReparametrizedELBO)
    }
    (first, values), (second, others) = ratios.items()
    ylabel = "signal to noise of the encoder's gradient"
    figure = plotting.sweep(counts, values, xlabel="draws K a row", ylabel=ylabel, log=True)
    axes = figure.axes[0]
    axes.lines[0].set_label(first)
    axes.plot(counts, others, color=plotting.COLORS[1], marker="o", markersize=5, label=second)
    axes.set_ylim(0, 1.1 * max(*values, *others))
    axes.legend(frameon=False)
    plotting.save(figure, args.out / "signal_to_noise.png")


def main(args: argparse.Namespace) -> None:
    """Train by every loss, print the table, draw."""
    pyro.enable_validation(False)  # the rows are checked once
    args.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load(args.data)
    rows = []
    curves = {}
    print(f"{'loss':10}{'seed':>5}{'log likelihood':>16}", end="")
    print(f"{'rows':>8}{'ESS':>8}{'ELBO':>10}{'active':>8}")
    for seed in args.seeds:
        for name in args.losses:
            row, curves[name] = learn(name, data, seed, args)
            rows.append(row)
            errors = f"{row.row_error:8.2f}{row.median_size:8.1f}"
            print(
                f"{name:10}{seed:5}{row.log_likelihood:16.2f}{errors}{row.elbo:10.2f}{row.active:8}",
                flush=True,
            )
    with (args.out / "iwae.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(vars(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(vars, rows))
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    table = [{"epoch": e} | {name: curve[e] for name, curve in curves.items()} for e in epochs]
    figure = plotting.learning_curve(table, ylabel="log likelihood of held-out rows [nats]")
    plotting.save(figure, args.out / "iwae.png")
    draw_ratios(data, args)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, or other arguments in its place."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, the name of a set of the data folder, or the path of an .npz file",
    )
    parser.add_argument("--losses", choices=LOSSES, nargs="+", default=list(LOSSES))
    parser.add_argument("--latent", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument(
        "--draws", type=int, default=5000, help="of the reported log likelihood, an image"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="rows to report"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of everything written"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args(arguments)
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(
            hidden=8, latent=3, epochs=1, draws=20, losses=["ELBO", "IWAE-5", "DReG-5"]
        )
        args = parser.parse_args(arguments)
    return args


if __name__ == "__main__":
    main(parse())
