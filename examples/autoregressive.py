r"""Any autoregressive density on any binary data set, both by name, by maximum
likelihood: SVI with an empty guide.

Progress goes to a CSV file and a learning curve, a checkpoint lets a killed run
go on, validation decides which epoch counts, and the running average of the
weights is what is evaluated. Several members, in several orders say, become one
mixture: their probabilities are averaged, and so are those of the orders of a
DeepNADE, which is trained for all of them at once, and those of the masks of a
MADE that changes them at every step. Images may be moved by a pixel while
training, ever fewer of them, which keeps wide networks from learning the
training set by heart. The last columns of the table are of the rows that do not
occur in the training set.

    python examples/autoregressive.py --family nade --data nltcs
    python examples/autoregressive.py --family made --data adult --order random --members 8
    python examples/autoregressive.py --family deepnade --data alphadigits --orders 16 \
        --layers 2 --dropout 0.2
    python examples/autoregressive.py --data binarized_mnist --hidden 500 --epochs 70 \
        --shift 0.5 --rate 0.001 --weight-decay 0.02 --average 0.999
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn, plotting
from pyro_gen.training import SMALL_SET, History, fit, running_average, small_batch, use_average


@dataclass(frozen=True)
class Recipe:
    """All settings of a run."""

    family: str = "nade"
    hidden: int = 200  # units, channels or width of a layer
    layers: int = 1
    dropout: float = 0.0  # of hidden units, in the families that take an activation
    masks: int = 0  # sets of masks that a MADE goes through; 0 for the even ones alone
    orders: int = 8  # of a DeepNADE, in evaluation
    members: int = 1  # networks trained one by one
    order: str = (
        "data"  # the data's own one, or for each member another: "random", or "scans" of an image
    )
    epochs: int = 100
    patience: int = 10  # evaluations without a better validation figure
    evaluate_every: int = 1
    batch_size: int = 100
    rate: float = 0.002
    weight_decay: float = 0.0  # of weights, not of biases
    clip: float = 5.0  # largest norm of a gradient, each parameter by itself
    average: float = 0.99  # decay of the running average of the weights
    shift: float = (
        0.0  # share of the images moved by one pixel; falls to 0 in four fifths of the epochs
    )
    # matrix products of the training in half the digits: twice as quick on many
    # machines
    bfloat16: bool = False


SMOKE = {"hidden": 8, "epochs": 2, "orders": 2, "masks": 2, "members": 2}

Maker = Callable[[Tensor, Recipe, dict[str, Any]], nn.AutoregressiveNetwork]
FAMILIES: dict[str, Maker] = {
    "tabular": lambda x, _, settings: nn.TabularAR.from_data(x, **settings),
    "fvsbn": lambda x, _, settings: nn.FVSBN.from_data(x, **settings),
    "mlp": lambda x, r, settings: nn.PerConditionalMLP.from_data(
        x, r.hidden, activation=activation(r), **settings
    ),
    "nade": lambda x, r, settings: nn.NADE.from_data(x, r.hidden, **settings),
    "made": lambda x, r, settings: nn.MADE.from_data(
        x, [r.hidden] * r.layers, activation=activation(r), skip=True, **settings
    ),
    "deepnade": lambda x, r, settings: nn.DeepNADE.from_data(
        x, [r.hidden] * r.layers, activation=activation(r), **settings
    ),
    "gru": lambda x, r, settings: nn.RecurrentAR.from_data(x, r.hidden, r.layers, **settings),
    "lstm": lambda x, r, settings: nn.RecurrentAR.from_data(
        x, r.hidden, r.layers, cell="lstm", **settings
    ),
    "transformer": lambda x, r, settings: nn.CausalTransformer.from_data(
        x, r.hidden, num_layers=r.layers, **settings
    ),
    "pixelcnn": lambda x, r, _: nn.PixelCNN.from_data(
        x, r.hidden, r.layers
    ),  # it has the order of its masks
}


def activation(recipe: Recipe) -> torch.nn.Module:
    """Rectified units, some of which are left out in training."""
    return torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(recipe.dropout))


def load(name: str, images: bool = False, smoke: bool = False) -> datasets.BinaryDataset:
    """A set by its name, its rows as images on request."""
    data = datasets.load(name)
    splits = {
        split: getattr(data, split)[: 100 if smoke else None]
        for split in ("train", "valid", "test")
    }
    if images:
        splits = {split: x.unflatten(-1, data.image_shape) for split, x in splits.items()}
    return replace(data, **splits)


def build(recipe: Recipe, data: datasets.BinaryDataset, member: int) -> nn.AutoregressiveNetwork:
    """Network whose biases start at the marginal distributions.

    On a small set it starts as the independent model.
    """
    settings = {}
    if recipe.order == "random":
        settings["order"] = torch.randperm(data.train[0].numel())
    elif recipe.order == "scans":
        settings["order"] = scan(data.image_shape, member)
    network = FAMILIES[recipe.family](data.train, recipe, settings)
    output = dict(network.named_parameters()).get("output")
    if len(data.train) < SMALL_SET and output is not None:
        # random weights from hundreds of columns cost nats that few rows do not win back
        torch.nn.init.zeros_(output)
    return network


def scan(shape: tuple[int, int], member: int) -> Tensor:
    """One of eight ways to read an image: by rows or by columns, from any of the corners."""
    pixels = torch.arange(shape[0] * shape[1]).view(shape)
    if member & 1:
        pixels = pixels.flip(0, 1)
    if member & 4:
        pixels = pixels.flip(1)
    return (pixels.mT if member & 2 else pixels).flatten()


def views(network: nn.AutoregressiveNetwork, recipe: Recipe) -> list[nn.AutoregressiveNetwork]:
    """The densities that one set of weights is: one an order, or one a set of masks."""
    if isinstance(network, nn.DeepNADE):
        generator = torch.Generator().manual_seed(0)
        orders = [
            torch.randperm(network.features, generator=generator) for _ in range(recipe.orders)
        ]
        return [network.with_order(order) for order in orders]
    if isinstance(network, nn.MADE) and recipe.masks:
        return [network.masked(seed) for seed in range(recipe.masks)]
    return [network]


def decayed(recipe: Recipe) -> Callable[[str], dict[str, float]]:
    """Options of AdamW for a parameter, by its name."""
    return lambda name: {
        "lr": recipe.rate,
        "weight_decay": 0.0 if "bias" in name else recipe.weight_decay,
    }


def train(
    recipe: Recipe, data: datasets.BinaryDataset, args: argparse.Namespace, member: int = 0
) -> tuple[nn.AutoregressiveNetwork, History]:
    """Maximum likelihood; goes on where a checkpoint of the same settings stopped."""
    pyro.set_rng_seed(args.seed + 1000 * member)
    pyro.clear_param_store()
    network = build(recipe, data, member).to(args.device)
    average, averaged = running_average(network, recipe.average)
    averaged.eval()
    count = len(data.train)

    @poutine.scale(scale=1 / count)  # nats a row
    def model(x: Tensor) -> None:
        pyro.module("network", network)
        with pyro.plate("rows", count, subsample=x):
            # in training mode DeepNADE gives its estimate for all orders
            pyro.sample("x", network(), obs=x)

    adam = {"optimizer": torch.optim.AdamW, "optim_args": decayed(recipe)}
    schedule = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": recipe.epochs}
    optimizer = pyro.optim.LinearLR(adam | schedule, {"clip_norm": recipe.clip})
    svi = SVI(model, lambda x: None, optimizer, Trace_ELBO())

    def step(x: Tensor) -> float:
        if isinstance(network, nn.MADE) and recipe.masks:
            network.resample(int(torch.randint(recipe.masks, ())))
        with torch.autocast(
            torch.device(args.device).type, torch.bfloat16, enabled=recipe.bfloat16
        ):
            loss = svi.step(x.to(args.device))
        average.update_parameters(network)
        return loss

    def batches(epoch: int) -> Iterator[Tensor]:
        share = recipe.shift * max(0.0, 1 - 1.25 * epoch / recipe.epochs)
        for x in datasets.minibatches(data.train, recipe.batch_size):
            yield (
                datasets.shifted(x.flatten(1), data.image_shape, share).view_as(x) if share else x
            )

    def evaluate() -> dict[str, float]:
        return {
            "valid": log_likelihoods(views(averaged, recipe)[:4], data.valid, args.device)
            .mean()
            .item()
        }

    file = args.out / f"{data.name}-{recipe.family}-{member}"
    history = fit(
        step,
        batches,
        recipe.epochs,
        state={"network": network, "average": average},
        evaluate=evaluate,
        evaluate_every=recipe.evaluate_every,
        evaluate_start=True,
        monitor="valid",
        patience=recipe.patience,
        scheduler=optimizer,
        metrics=file.with_suffix(".csv"),
        checkpoint=file.with_suffix(".pt"),
        checkpoint_every=10,
        settings=vars(recipe) | {"data": data.name, "seed": args.seed, "member": member},
    )
    use_average(network, average)
    return network.eval(), history


@torch.no_grad()
def log_likelihoods(
    networks: Sequence[nn.AutoregressiveNetwork], x: Tensor, device: str = "cpu"
) -> Tensor:
    """Nats of each row under the mixture of all networks, with equal weights."""
    density = nn.AutoregressiveEnsemble(networks)()
    return torch.cat([density.log_prob(part.to(device)).cpu() for part in x.split(500)])


def unseen(x: Tensor, train: Tensor) -> Tensor:
    """Which rows do not occur in the training set."""
    known = {row.tobytes() for row in train.flatten(1).bool().numpy()}
    return torch.tensor([row.tobytes() not in known for row in x.flatten(1).bool().numpy()])


def judge(
    networks: Sequence[nn.AutoregressiveNetwork],
    data: datasets.BinaryDataset,
    args: argparse.Namespace,
) -> None:
    """Log likelihoods with the standard error over the rows: of all, and of those
    that are not in the training set.
    """
    print(f"{'':8}{'nats':>10}{'+/-':>8}{'N':>8}{'unseen':>10}{'+/-':>8}{'N':>8}")
    for split in ("valid", "test") if args.test else ("valid",):
        x = getattr(data, split)
        nats = log_likelihoods(networks, x, args.device)
        columns = [f"{split:8}"]
        for part in (nats, nats[unseen(x, data.train)]):
            columns.append(
                f"{part.mean():>10.3f}{part.std() / math.sqrt(len(part)):>8.3f}{len(part):>8}"
            )
        print("".join(columns))


def main(args: argparse.Namespace) -> None:
    """Train the members, draw their learning curves, judge their mixture."""
    args.out.mkdir(parents=True, exist_ok=True)
    given = {
        f.name: getattr(args, f.name) for f in fields(Recipe) if getattr(args, f.name) is not None
    }
    recipe = replace(Recipe(), **(SMOKE | given if args.smoke else given))
    data = load(args.data, recipe.family == "pixelcnn", args.smoke)
    if args.batch_size is None:
        recipe = replace(recipe, batch_size=small_batch(len(data.train), recipe.batch_size))
    networks: list[nn.AutoregressiveNetwork] = []
    for member in range(recipe.members):
        network, history = train(recipe, data, args, member)
        networks += views(network, recipe)
        best = max(row.get("valid", -math.inf) for row in history)
        epochs = int(history[-1]["epoch"])
        print(
            f"member {member}: {network.num_parameters} parameters, {epochs} epochs, {best:.3f} "
            "on validation"
        )
        curve = plotting.learning_curve(history, ["valid"], ylabel="nats a row")
        plotting.save(curve, args.out / f"{data.name}-{recipe.family}-{member}.png")
    print(f"{recipe.family} on {data.name}, a mixture of {len(networks)}:")
    judge(networks, data, args)


def parse() -> argparse.Namespace:
    """Read the command line; every setting of the recipe is an option."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, a set of the data folder, or an .npz file",
    )
    for field in fields(Recipe):
        choices = {"family": tuple(FAMILIES), "order": ("data", "random", "scans")}.get(field.name)
        option = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(option, action="store_true", default=None)
        else:
            parser.add_argument(option, type=type(field.default), choices=choices)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--test", action="store_true", help="judge on the test rows too, once all choices are made"
    )
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
