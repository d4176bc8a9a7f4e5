"""A deep belief network on binarized MNIST, layer by layer, and the lower bound of
its log likelihood.

The first RBM learns the images, the second learns the hidden states of the
first and starts as its mirror image, so that the stack of both is at first the
same model as the first alone: what the second learns shows in the bound. Both
train by persistent chains with a falling rate and centred gradients, and keep
the running averages of their weights. Afterwards the script prints the
variational bound of Salakhutdinov and Murray (2008), an importance-weighted
one, and log Z of the top RBM from two sides. Everything resumes from `--out`.

    # about an hour on one core; validation rows
    python examples/dbn_mnist.py
    # the one figure to report
    python examples/dbn_mnist.py --split test
    # fine-tune the whole stack by wake-sleep, through SVI
    python examples/dbn_mnist.py --awake 20
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.infer import (
    AIS,
    PersistentChains,
    WakeSleep,
    contrastive_gradient,
    log_partition_bracket,
)
from pyro_gen.infer.elbo.importance import LowerBound
from pyro_gen.models import DeepBeliefNetwork
from pyro_gen.training import SMALL_SET, fit, keep_best, running_average, small_batch, use_average


@dataclass(frozen=True)
class Layer:
    """How one RBM of the stack is trained."""

    hidden: int
    epochs: int
    rate: float
    num_steps: int
    sparsity: float  # scale of the L1 penalty on the weights, per image
    num_chains: int = 100


@dataclass(frozen=True)
class Recipe:
    """All settings of a run."""

    first: Layer = Layer(hidden=500, epochs=300, rate=0.05, num_steps=1, sparsity=2e-4)
    second: Layer = Layer(hidden=1000, epochs=250, rate=0.02, num_steps=2, sparsity=2e-5)
    batch_size: int = 100
    particles: int = 20
    betas: int = 20_000
    annealed_chains: int = 200
    burn_in: int = 2000
    rows: int = 50_000
    data: str = "binarized_mnist"


MONITOR = "valid pseudo log likelihood"
SMOKE = Recipe(
    Layer(20, 2, 0.05, 1, 0.0),
    Layer(320, 2, 0.01, 1, 0.0),
    particles=2,
    betas=100,
    annealed_chains=20,
    burn_in=10,
    rows=500,
)


def train(
    rbm: nn.RBM,
    rates: Tensor,
    valid: Tensor | None,
    layer: Layer,
    recipe: Recipe,
    file: Path,
    progress: bool,
) -> nn.RBM:
    """Persistent chains against rows drawn from `rates`.

    Returns an RBM with averaged weights and the last chains.

    Of few rows the best state on `valid`, rows of zeros and ones, is kept, the
    start included.
    """
    small = len(rates) < SMALL_SET
    batch_size = small_batch(len(rates), recipe.batch_size)
    batches = datasets.minibatches(rates, batch_size)
    if small:
        decay = max(0.0, 1 - 5 / max(1, layer.epochs * len(batches)))
    else:
        decay = 0.9997
    optimizer = torch.optim.SGD(rbm.parameters(), lr=layer.rate * (batch_size / recipe.batch_size))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.2, total_iters=layer.epochs)
    average, averaged = running_average(rbm, decay)

    def step(rates: Tensor) -> float:
        batch = torch.bernoulli(rates)
        contrastive_gradient(rbm, batch)
        cast(Tensor, rbm.weight.grad).add_(rbm.weight.detach().sign(), alpha=layer.sparsity)
        optimizer.step()
        average.update_parameters(rbm)
        return 0.0

    def score() -> Tensor:
        return averaged().pseudo_log_likelihood(valid).mean()

    best: dict[str, Any] = {}
    if valid is not None:
        best = keep_best(score, len(rates), layer.epochs, MONITOR)
    fit(
        step,
        batches,
        layer.epochs,
        state={"rbm": rbm, "optimizer": optimizer, "average": average},
        scheduler=scheduler,
        checkpoint=file,
        checkpoint_every=10,
        settings=vars(layer) | {"data": recipe.data, "rows": len(rates)},
        progress=progress,
        **best,
    )
    # the noise of a rate that stays up costs several nats, its average nothing
    use_average(rbm, average)
    return rbm


def stack(
    recipe: Recipe, x: Tensor, valid: Tensor | None, out: Path, progress: bool
) -> DeepBeliefNetwork:
    """Train both RBMs, the second on the hidden units of the first.

    `valid` holds validation rows, if any are left.
    """
    low = recipe.first
    high = recipe.second
    evaluation = AIS(recipe.annealed_chains, recipe.betas)
    phase = PersistentChains(low.num_chains, low.num_steps)
    first = nn.RBM.from_data(x, low.hidden, negative_phase=phase, centring=True)
    train(first, x, valid, low, recipe, out / "first.pt", progress)
    phase = PersistentChains(high.num_chains, high.num_steps)
    second = DeepBeliefNetwork.mirrored(
        first, high.hidden, x, negative_phase=phase, evaluation=evaluation, centring=True
    )
    hidden = first.transform(x).detach()
    valid_hidden = None
    if valid is not None and len(x) < SMALL_SET:
        generator = torch.Generator().manual_seed(0)
        valid_hidden = torch.bernoulli(first.transform(valid).detach(), generator=generator)
    train(second, hidden, valid_hidden, high, recipe, out / "second.pt", progress)
    return DeepBeliefNetwork.from_rbms([first, second], size=len(x))


def tune(
    network: DeepBeliefNetwork, recipe: Recipe, x: Tensor, epochs: int, out: Path, progress: bool
) -> None:
    """All parts together: reweighted wake-sleep, with the RBM's chains as its negative phase."""
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 1e-4}}
    optimizer = pyro.optim.LinearLR(
        settings | {"start_factor": 1.0, "end_factor": 0.0, "total_iters": epochs}
    )
    svi = SVI(network.model, network.guide, optimizer, WakeSleep(5))
    batches = datasets.minibatches(x, small_batch(len(x), recipe.batch_size))
    state = {"network": network, "optimizer": optimizer}
    fit(
        svi.step,
        batches,
        epochs,
        state=state,
        scheduler=optimizer,
        checkpoint=out / "tuned.pt",
        settings={"data": recipe.data, "epochs": epochs},
        progress=progress,
    )


def judge(network: DeepBeliefNetwork, recipe: Recipe, x: Tensor, rows: Tensor) -> LowerBound:
    """Both bounds, with log Z of the top RBM from two sides."""
    bound = network.eval().lower_bound(rows, recipe.particles)
    with torch.no_grad():
        states = torch.bernoulli(network.up[0](x[: recipe.annealed_chains]).sigmoid())
        bracket = log_partition_bracket(network.prior(), states, burn_in=recipe.burn_in)
    print(f"log Z of the top RBM: {bracket.summary}")
    print(
        f"at the upper end of log Z: {bound.against(bracket.upper).value:.2f} nats "
        f"({bracket.verdict})"
    )
    return bound


def main(args: argparse.Namespace) -> None:
    """Train, judge, draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = SMOKE if args.smoke else Recipe()
    first = _chosen(args, "first", recipe.first)
    second = _chosen(args, "second", recipe.second)
    name = args.data or "alphadigits"
    if args.data is None and not args.smoke:
        name = datasets.available("binarized_mnist", instead="alphadigits")
    data = datasets.load(name)
    recipe = replace(recipe, first=first, second=second, data=data.name)
    x = (torch.cat([data.train, data.valid]) if args.all else data.train)[
        : 60_000 if args.all else recipe.rows
    ]
    valid = None if args.all else data.valid
    network = stack(recipe, x, valid, args.out, not args.smoke)
    rows = getattr(data, args.split)
    print(f"two layers, {args.split} rows: log p(v) {judge(network, recipe, x, rows)}")
    if args.awake:
        tune(network, recipe, x, args.awake, args.out, not args.smoke)
        print(
            f"fine-tuned by wake-sleep, {args.split} rows: log p(v) "
            f"{judge(network, recipe, x, rows)}"
        )
    samples = network.sample(36, num_steps=recipe.burn_in)
    images = samples.unflatten(-1, data.shape or (1, x.shape[1]))
    plotting.save(plotting.sample_grid(images), args.out / "samples.png")


def _chosen(args: argparse.Namespace, name: str, layer: Layer) -> Layer:
    """The layer with what the command line says of it."""
    given = {
        key: getattr(args, f"{name}_{key}")
        for key in ("hidden", "epochs", "rate", "sparsity", "num_steps")
    }
    return replace(layer, **{key: value for key, value in given.items() if value is not None})


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("first", "second"):
        parser.add_argument(f"--{name}-hidden", type=int, help=f"hidden units of the {name} RBM")
        parser.add_argument(f"--{name}-epochs", type=int, help="passes over the training images")
        parser.add_argument(f"--{name}-rate", type=float, help="learning rate at the start")
        parser.add_argument(
            f"--{name}-sparsity", type=float, help="L1 penalty on the weights, per image"
        )
        parser.add_argument(f"--{name}-num-steps", type=int, help="Gibbs sweeps an update")
    parser.add_argument("--awake", type=int, default=0, help="epochs of wake-sleep at the end")
    parser.add_argument(
        "--all",
        action="store_true",
        help="train on the validation rows as well, once all is chosen",
    )
    parser.add_argument(
        "--data",
        help="alphadigits, a set of the data folder, or an .npz file (default: binarized_mnist)",
    )
    parser.add_argument(
        "--split", choices=("test", "valid"), default="valid", help="rows to report"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out/dbn"), help="folder of everything written"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few seconds on shipped letters, to see that it runs",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
