"""What RBMs reach on the sets of the literature, by the recipes of this page, with
log Z from both sides.

    # to choose by
    python -m benchmarks.evidence_family mnist16 --split valid --seeds 0 1 2
    # once; adds its row to the test ledger
    python -m benchmarks.evidence_family mnist500 --split test
    # a recipe on a set of your own
    python -m benchmarks.evidence_family dna --data mine.npz

Training resumes from `out/family`. The JSON goes to
`benchmarks/results/family/<recipe>_<split>.json`. A recipe that is evaluated on
the validation rows of thresholded MNIST trains without them; for the test rows
it trains on all 60,000. On fewer than 1000 rows batches and rate are smaller,
the validation rows are looked at along the way, from the start on, and the best
state is kept: it is no worse on them than the independent units that training
starts at.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor

from benchmarks.evidence_alphadigits import LEDGER, RESULTS, enter
from benchmarks.machine import describe
from pyro_gen import datasets, nn
from pyro_gen._files import json_text
from pyro_gen.infer import (
    AIS,
    Exact,
    NegativePhase,
    PersistentChains,
    contrastive_gradient,
    log_likelihood,
    log_partition_bracket,
)
from pyro_gen.training import fit, small_batch

HELD_OUT = 10_000
"""Training images of thresholded MNIST that are its validation rows."""
SMALL = 1000
"""Training rows below which the best state on the validation rows is kept."""


@dataclass(frozen=True)
class Recipe:
    """All settings of a run, chosen on validation rows."""

    data: str
    hidden: int
    epochs: int
    rate: float
    phase: NegativePhase = field(default_factory=lambda: PersistentChains(100, 1))
    l1: float = 0.0  # scale of the L1 penalty on the weights, nats an image
    shift: float = 0.0  # share of the images that are moved by one pixel in each epoch
    centring: bool = True
    plain: bool = False  # `nn.RBM(visible, hidden)` as it comes: its own phase and initial values
    adam: bool = False  # by Adam, which has rates of its own for every parameter
    batch_size: int = 100
    annealed_chains: int = 500
    betas: int = 10_000
    burn_in: int = 2000


RECIPES = {
    "mnist16": Recipe("mnist_thresholded", 16, 100, 0.05),
    "mnist16_flipped": Recipe("mnist_flipped", 16, 100, 0.05),
    "mnist500": Recipe("mnist_thresholded", 500, 30, 0.05),
    "binarized500": Recipe("binarized_mnist", 500, 300, 0.05, l1=0.00012),
    "binarized500_plain": Recipe("binarized_mnist", 500, 300, 0.05, l1=0.00012, plain=True),
    "binarized500_short": Recipe("binarized_mnist", 500, 30, 0.05, plain=True),
    "binarized500_adam": Recipe("binarized_mnist", 500, 30, 0.001, plain=True, adam=True),
    "alphadigits_plain": Recipe("alphadigits", 400, 1500, 0.1, l1=0.0025, shift=0.5, plain=True),
    "alphadigits_adam": Recipe(
        "alphadigits", 400, 1500, 0.001, l1=0.0025, shift=0.5, plain=True, adam=True
    ),
    "mushrooms": Recipe("mushrooms", 200, 800, 0.1, PersistentChains(100, 5), l1=0.0005),
    "adult": Recipe("adult", 200, 400, 0.1, PersistentChains(100, 5), l1=0.0005),
    "dna": Recipe("dna", 200, 400, 0.1, PersistentChains(100, 5), l1=0.0005),
}


class Rows(NamedTuple):
    """What to train on, what to judge on, the shape of an image, and what to choose
    the epoch on.
    """

    train: Tensor
    evaluated: Tensor
    shape: tuple[int, ...] | None
    valid: Tensor | None = None


def rows(name: str, split: str) -> Rows:
    """The rows of a set, by its name or its path."""
    if name not in ("mnist_thresholded", "mnist_flipped"):
        data = datasets.load(name)
        return Rows(data.train, getattr(data, split), data.shape, data.valid)
    gray = datasets.load_gray("mnist_gray")
    flip = name == "mnist_flipped"
    train, test = ((x.flatten(1) >= 0.5).float() for x in (gray.train, gray.test))
    train, test = (1 - train, 1 - test) if flip else (train, test)
    if split == "test":
        return Rows(train, test, (28, 28))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
    return Rows(train[order[HELD_OUT:]], train[order[:HELD_OUT]], (28, 28))


def adapted(recipe: Recipe, count: int) -> Recipe:
    """The recipe for so many rows: a small set has small batches, and the rate is
    as much smaller.
    """
    batch_size = small_batch(count, recipe.batch_size)
    return replace(
        recipe, batch_size=batch_size, rate=recipe.rate * (batch_size / recipe.batch_size)
    )


@torch.no_grad()
def held_out(rbm: nn.RBM, x: Tensor) -> float:
    """Mean log likelihood of rows where log Z is exact, else their mean pseudo log likelihood."""
    distribution = rbm.eval()()
    exact = isinstance(rbm.evaluation, Exact)
    if exact:
        values = distribution.log_prob(x)
    else:
        values = distribution.pseudo_log_likelihood(x)
    rbm.train()
    return values.mean().item()


def train(recipe: Recipe, data: Rows, name: str, out: Path) -> nn.RBM:
    """Stochastic maximum likelihood by `contrastive_gradient` and SGD with a rate
    that falls linearly to 0.
    """
    x, _, shape, valid = data
    evaluation: Exact | AIS
    if recipe.hidden <= 20:
        evaluation = Exact()
    else:
        evaluation = AIS(recipe.annealed_chains, recipe.betas)
    if recipe.plain:
        rbm = nn.RBM(x.shape[1], recipe.hidden, evaluation=evaluation)
    else:
        settings = {
            "negative_phase": recipe.phase,
            "evaluation": evaluation,
            "centring": recipe.centring,
        }
        rbm = nn.RBM.from_data(x, recipe.hidden, **settings)
    kind = torch.optim.Adam if recipe.adam else torch.optim.SGD
    optimizer = kind(rbm.parameters(), lr=recipe.rate)
    batches = datasets.minibatches(x, recipe.batch_size)
    updates = recipe.epochs * len(batches)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)

    def step(batch: Tensor) -> float:
        if recipe.shift and shape is not None:
            batch = datasets.shifted(batch, (shape[0], shape[1]), recipe.shift)
        contrastive_gradient(rbm, batch)
        if recipe.l1 and rbm.weight.grad is not None:
            rbm.weight.grad.add_(rbm.weight.detach().sign(), alpha=recipe.l1)
        optimizer.step()
        scheduler.step()
        return 0.0

    state = {"rbm": rbm, "optimizer": optimizer, "scheduler": scheduler}
    settings = vars(recipe) | {"phase": str(recipe.phase)}
    checkpoint = out / f"{name}.pt"
    every = max(1, recipe.epochs // 20)
    watched: dict[str, Any] = {}
    if valid is not None and len(x) < SMALL:
        watched = {"evaluate": lambda: {"valid": held_out(rbm, valid)}, "evaluate_every": every}
        watched |= {"evaluate_start": True, "monitor": "valid"}
    fit(
        step,
        batches,
        recipe.epochs,
        state=state,
        checkpoint=checkpoint,
        checkpoint_every=every,
        settings=settings,
        **watched,
    )
    return rbm.eval()


def judge(rbm: nn.RBM, recipe: Recipe, evaluated: Tensor) -> dict[str, Any]:
    """Mean log likelihood with both errors; where log Z is estimated, from both sides."""
    distribution = rbm()
    exact = isinstance(rbm.evaluation, Exact)
    if exact:
        bracket = None
    else:
        bracket = log_partition_bracket(distribution, burn_in=recipe.burn_in)
    result = log_likelihood(distribution, evaluated, bracket)
    figures: dict[str, Any] = {
        "log likelihood": result.value,
        "row error": result.row_error,
        "log Z error": result.partition_error,
        "rows": len(evaluated),
        "method": result.partition.method,
        "lower end": result.lower,
    }
    if bracket is None:
        return figures
    return figures | {
        "effective sample size": bracket.forward.effective_sample_size.item(),
        "upper end": result.upper,
        "by reverse AIS": result.against(bracket.reverse.value),
        "starts": {
            kind: result.against(estimate.value) for kind, estimate in bracket.starts.items()
        },
        "gap": bracket.gap.item(),
        "statement": str(result),
        "resolved": bracket.resolved,
    }


def measure(name: str, split: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train (or resume) a recipe with one seed and judge it."""
    pyro.set_rng_seed(seed)
    chosen = {
        key: getattr(args, key) for key in ("data", "epochs") if getattr(args, key) is not None
    }
    recipe = replace(RECIPES[name], **chosen)
    data = rows(recipe.data, split)
    recipe = adapted(recipe, len(data.train))
    start = time.perf_counter()
    cpu = time.process_time()
    run = f"{title(args)}-{split}-{recipe.epochs}-seed{seed}"
    rbm = train(recipe, data, run, args.out)
    trained = time.perf_counter()
    cpu_trained = time.process_time()
    pyro.set_rng_seed(seed + 1000)
    return {
        "seed": seed,
        "recipe": vars(recipe) | {"phase": str(recipe.phase)},
        **judge(rbm, recipe, data.evaluated),
        "minutes of training in this call": (trained - start) / 60,
        "processor minutes of training in this call": (cpu_trained - cpu) / 60,
        "minutes of judging": (time.perf_counter() - trained) / 60,
    }


def title(args: argparse.Namespace) -> str:
    """The recipe, and the set where it is not the recipe's."""
    if args.data is None:
        return args.recipe
    return f"{args.recipe}_{Path(args.data).stem}"


def main(args: argparse.Namespace) -> None:
    """Measure a recipe with every seed and write the JSON."""
    args.out.mkdir(parents=True, exist_ok=True)
    provenance = describe()
    runs = []
    for seed in args.seeds:
        runs.append(measure(args.recipe, args.split, seed, args))
        print(json_text(runs[-1], indent=1), flush=True)
        if args.split == "test":
            enter(
                runs[-1],
                args.recipe,
                str(provenance["commit"]),
                Path(args.data or RECIPES[args.recipe].data).stem,
            )
    seeds = " ".join(map(str, args.seeds))
    other = "" if args.data is None else f" --data {args.data}"
    command = (
        f"python -m benchmarks.evidence_family {args.recipe} --split {args.split} --seeds "
        f"{seeds}{other}"
    )
    report = {**provenance, "command": command, "threads": torch.get_num_threads(), "runs": runs}
    file = RESULTS / "family" / f"{title(args)}_{args.split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json_text(report, indent=2) + "\n")
    print(f"written to {file}" + (f" and {LEDGER}" if args.split == "test" else ""))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument(
        "--data",
        help="alphadigits, a set of the data folder, or an .npz file, in place of the recipe's",
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("out/family"))
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
