"""Train a restricted Boltzmann machine on Binary AlphaDigits inside a Pyro model, and judge it.

The model is one `pyro.sample` in a plate, trained by `pyro.infer.SVI`.
Afterwards the script prints the test log likelihood with both of its standard
errors and the lower end of a two-sided statement, draws new characters from
noise beside their nearest training images, and hands the Gibbs chains to ArviZ.
Pictures, metrics, checkpoint and a NetCDF file go to `--out`.

    python examples/rbm_alphadigits.py                         # a few minutes on two cores
    python examples/rbm_alphadigits.py --characters A,B,C --hidden 100
    python examples/rbm_alphadigits.py --recipe best           # up to ten times the time
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import arviz as az
import pyro
import torch
from pyro import poutine
from pyro.infer import MCMC, SVI, Trace_ELBO
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.arviz import from_chains, to_netcdf
from pyro_gen.infer import (
    AIS,
    BlockGibbs,
    PersistentChains,
    free_energy_gap,
    log_likelihood,
    log_partition_bracket,
)
from pyro_gen.infer.energy.bracket import Bracket
from pyro_gen.infer.energy.likelihood import LogLikelihood
from pyro_gen.training import SMALL_SET, History, fit, small_batch


@dataclass(frozen=True)
class Recipe:
    """All settings of a run; both recipes were chosen on the validation rows."""

    hidden: int = 400
    epochs: int = 1500
    batch_size: int = 100
    num_steps: int = 5
    num_chains: int = 100
    rate: float = 0.1
    sparsity: float = 0.0025  # scale of the L1 penalty on the weights, per image: a Laplace prior
    shift: float = 0.5  # share of the training images that are moved by one pixel in each epoch
    warp: float = 0.0  # share that is bent, smoothly
    elastic: float = 0.5  # standard deviation of the bends, in pixels
    betas: int = 10_000
    annealed_chains: int = 1000
    burn_in: int = 2000
    sweeps_from_noise: int = 3000
    thinning: int = 100


RECIPES = {
    "demo": Recipe(),
    "best": Recipe(hidden=600, epochs=6000, sparsity=0.0005, warp=0.9, elastic=0.7),
}
SMOKE = Recipe(
    hidden=20,
    epochs=2,
    num_steps=1,
    num_chains=20,
    betas=200,
    annealed_chains=50,
    burn_in=20,
    sweeps_from_noise=20,
    thinning=2,
)


def train(
    recipe: Recipe, data: datasets.LabelledImages, out: Path, name: str
) -> tuple[nn.RBM, History]:
    """Maximum likelihood with a Laplace prior on the weights, by SVI without a guide.

    Goes on where `name` stopped.

    Fewer than 1000 rows are learned in smaller batches at a rate as much
    smaller, and of the evaluations, the start included, the state of the best
    is kept.
    """
    count = len(data.train)
    small = count < SMALL_SET
    batch_size = small_batch(count, recipe.batch_size)
    rate = recipe.rate * (batch_size / recipe.batch_size)
    phase = PersistentChains(recipe.num_chains, recipe.num_steps)
    evaluation = AIS(recipe.annealed_chains, recipe.betas)
    rbm = nn.RBM.from_data(data.train, recipe.hidden, negative_phase=phase, evaluation=evaluation)

    @poutine.scale(scale=1 / count)  # nats an image
    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        pyro.factor("sparse weights", -recipe.sparsity * count * rbm.weight.abs().sum())
        with pyro.plate("images", count, subsample=x):
            pyro.sample("v", rbm(), obs=x)

    settings = {"optimizer": torch.optim.SGD, "optim_args": {"lr": rate}}
    optimizer = pyro.optim.LinearLR(
        settings | {"start_factor": 1.0, "end_factor": 0.0, "total_iters": recipe.epochs}
    )
    svi = SVI(model, lambda x: None, optimizer, Trace_ELBO())
    batches = datasets.minibatches(data.train, batch_size)

    def step(x: Tensor) -> float:
        if recipe.warp:
            bent = datasets.warped(x, data.shape, recipe.warp, elastic=recipe.elastic)
        else:
            bent = x
        return svi.step(datasets.shifted(bent, data.shape, recipe.shift))

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        gap = free_energy_gap(rbm, data.train[: len(data.valid)], data.valid)
        pseudo = rbm().pseudo_log_likelihood(data.valid).mean()
        return {"valid pseudo log likelihood": pseudo.item(), "free energy gap": gap.value.item()}

    history = fit(
        step,
        batches,
        recipe.epochs,
        state={"rbm": rbm},
        evaluate=evaluate,
        evaluate_every=10,
        evaluate_start=small,
        monitor="valid pseudo log likelihood" if small else None,
        scheduler=optimizer,
        metrics=out / f"{name}.csv",
        checkpoint=out / f"{name}.pt",
        checkpoint_every=50,
        settings=vars(recipe) | {"classes": data.classes},
    )
    return rbm.eval(), history


def judge(
    rbm: nn.RBM, recipe: Recipe, train_rows: Tensor, rows: Tensor
) -> tuple[LogLikelihood, Bracket]:
    """Log likelihood of `rows`, with log Z from both sides."""
    distribution = rbm()
    start = train_rows[torch.randint(len(train_rows), (recipe.annealed_chains // 3,))]
    bracket = log_partition_bracket(distribution, start, burn_in=recipe.burn_in)
    print(f"log Z: {bracket.summary}")
    result = log_likelihood(distribution, rows, bracket)
    print(f"lower end of the two-sided statement: {result.lower:.2f} nats ({bracket.verdict})")
    return result, bracket


def draw(rbm: nn.RBM, recipe: Recipe, shape: tuple[int, int], out: Path) -> Tensor:
    """Sample from noise by `pyro.infer.MCMC`, hand the chains to ArviZ, and return the
    last state of each chain.
    """
    # each pixel by itself, as often on as in the data
    noise = torch.bernoulli(rbm.base_rates.expand(36, -1))
    kernel = BlockGibbs(rbm(), recipe.thinning, len(noise), start=noise)
    mcmc = MCMC(
        kernel,
        num_samples=100,
        warmup_steps=recipe.sweeps_from_noise // recipe.thinning,
        disable_progbar=True,
    )
    mcmc.run()
    images = mcmc.get_samples()["v"].transpose(0, 1)  # chain, draw, visible
    energy = kernel.diagnostics()["free_energy"]
    draws = {"v": images.unflatten(-1, shape), "free_energy": energy}
    chains = from_chains(draws, dims={"v": ["row", "column"]})
    to_netcdf(chains, out / "chains.nc")
    ess, rhat = (
        f(chains, var_names=["free_energy"])["free_energy"].item() for f in (az.ess, az.rhat)
    )
    print(
        f"free energy of {len(images)} chains from noise: {energy.mean():.1f} nats, ESS "
        f"{ess:.0f}, R-hat {rhat:.3f}"
    )
    return images[:, -1]


def nearest(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Hamming distance to the nearest training image, and which one that is."""
    distance, index = torch.cdist(images, train, p=1).min(1)
    return distance, index


def compare(samples: Tensor, data: datasets.LabelledImages, rows: Tensor) -> None:
    """Say how far samples and held-out images lie from the training images, and how
    sure a classifier is of them.
    """
    classifier = LogisticRegression(C=0.1, max_iter=1000).fit(
        data.train.numpy(), data.train_labels.numpy()
    )
    print(f"{'':28}{'samples':>10}{'held out':>10}")
    distances = [nearest(x, data.train)[0] for x in (samples, rows)]
    print(f"{'pixels to nearest training':28}" + "".join(f"{d.mean():>10.1f}" for d in distances))
    print(
        f"{'share of copies (0 pixels)':28}"
        + "".join(f"{(d == 0).float().mean():>10.3f}" for d in distances)
    )
    sure = [classifier.predict_proba(x.numpy()).max(1).mean() for x in (samples, rows)]
    print(f"{'confidence of a classifier':28}" + "".join(f"{c:>10.3f}" for c in sure))


def picture(
    rbm: nn.RBM, samples: Tensor, data: datasets.LabelledImages, history: History, out: Path
) -> None:
    """Samples beside their nearest training images, filters, learning curves."""
    shape = data.shape
    neighbours = data.train[nearest(samples, data.train)[1]]
    grid = plotting.sample_grid(
        samples.unflatten(-1, shape), nearest=neighbours.unflatten(-1, shape)
    )
    plotting.save(grid, out / "samples.png")
    plotting.save(plotting.filters(rbm.weight.detach(), shape), out / "filters.png")
    plotting.save(plotting.learning_curve(history), out / "learning_curve.png")


def main(args: argparse.Namespace) -> None:
    """Train, judge, draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = SMOKE if args.smoke else RECIPES[args.recipe]
    chosen = {
        name: getattr(args, name)
        for name in ("hidden", "epochs")
        if getattr(args, name) is not None
    }
    recipe = replace(recipe, **chosen)
    data = datasets.load_images(
        args.data, classes=args.characters.split(",") if args.characters else None
    )
    rows = getattr(data, args.split)
    characters = "".join(data.classes) if args.characters else "all"
    of_data = "" if args.data == "alphadigits" else f"{data.name}-"
    name = f"rbm-{of_data}{characters}-{recipe.hidden}-{recipe.epochs}-seed{args.seed}"
    rbm, history = train(recipe, data, args.out, name)
    samples = draw(rbm, recipe, data.shape, args.out)
    if len(data.classes) > 1:
        compare(samples, data, rows)
    picture(rbm, samples, data, history, args.out)
    result, _ = judge(rbm, recipe, data.train, rows)
    print(f"{args.split} log likelihood: {result.summary}")


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
    parser.add_argument("--characters", help="classes to train on, such as A,B,C (default: all)")
    parser.add_argument("--hidden", type=int, help="number of hidden units")
    parser.add_argument("--epochs", type=int, help="passes over the training images")
    parser.add_argument(
        "--recipe", choices=RECIPES, default="demo", help="settings chosen on validation"
    )
    parser.add_argument(
        "--split", choices=("test", "valid"), default="test", help="rows to report"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of everything written"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
