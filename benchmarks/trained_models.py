"""RBMs of at most 25 hidden units, trained well, badly and far too long, on which
an estimate of log Z can be checked.

Contrastive divergence of one step at a large rate leaves large weights, chains
that freeze and mass away from the data; scaled weights are colder still.
`python -m benchmarks.trained_models` trains them all and prints how they mix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from pyro_gen import datasets, distributions, infer, nn
from pyro_gen.infer import ContrastiveDivergence, PersistentChains, contrastive_gradient

Phase = ContrastiveDivergence | PersistentChains


@dataclass(frozen=True)
class Recipe:
    """How one model comes about."""

    data: str
    hidden: int
    updates: int
    rate: float
    phase: Phase
    scale: float = 1.0  # of all parameters, after the training


@dataclass(frozen=True)
class TrainedModel:
    """Parameters in float64, and the rows that they were trained on."""

    name: str
    parameters: tuple[Tensor, Tensor, Tensor]
    rows: Tensor

    def distribution(self, partition: infer.Partition | None = None) -> distributions.RBM:
        """The model as a distribution."""
        return distributions.RBM(*self.parameters, partition)


CD = ContrastiveDivergence(1)
PCD = PersistentChains(num_chains=100, num_steps=1)
GOOD = PersistentChains(num_chains=100, num_steps=10)

EMBEDDED: dict[str, Recipe] = {
    "bars 3x3, PCD-10, 10 hidden": Recipe("bars 3", 10, 4000, 0.1, GOOD),
    "bars 4x4, PCD-10, 20 hidden": Recipe("bars 4", 20, 4000, 0.1, GOOD),
    "bars 4x4, PCD-10, 25 hidden": Recipe("bars 4", 25, 4000, 0.1, GOOD),
    "bars 4x4, PCD-1, 20 hidden": Recipe("bars 4", 20, 4000, 0.1, PCD),
    "bars 4x4, CD-1, 20 hidden": Recipe("bars 4", 20, 6000, 0.2, CD),
    "bars 4x4, CD-1 far too long, 25 hidden": Recipe("bars 4", 25, 20_000, 0.5, CD),
    "bars 4x4, CD-1, 20 hidden, weights x 2": Recipe("bars 4", 20, 6000, 0.2, CD, scale=2.0),
    "bars 4x4, PCD-10, 25 hidden, weights x 2": Recipe("bars 4", 25, 4000, 0.1, GOOD, scale=2.0),
    "bars 4x4, PCD-10, 20 hidden, weights x 4": Recipe("bars 4", 20, 4000, 0.1, GOOD, scale=4.0),
    "letters ABC, PCD-10, 16 hidden": Recipe("letters", 16, 2000, 0.1, GOOD),
    "letters ABC, CD-1 far too long, 20 hidden": Recipe("letters", 20, 6000, 0.3, CD),
    "AlphaDigits, PCD-1, 20 hidden": Recipe("alphadigits", 20, 3000, 0.1, PCD),
    "AlphaDigits, CD-1, 20 hidden": Recipe("alphadigits", 20, 3000, 0.1, CD),
    "AlphaDigits, CD-1, 20 hidden, weights x 1.5": Recipe(
        "alphadigits", 20, 3000, 0.1, CD, scale=1.5
    ),
    "AlphaDigits, PCD-1, 16 hidden, weights x 2": Recipe(
        "alphadigits", 16, 3000, 0.1, PCD, scale=2.0
    ),
}
FROM_FILES: dict[str, Recipe] = {
    "nltcs, PCD-10, 25 hidden": Recipe("nltcs", 25, 4000, 0.1, GOOD),
    "nltcs, CD-1 far too long, 25 hidden": Recipe("nltcs", 25, 20_000, 0.5, CD),
    "plants, PCD-1, 25 hidden": Recipe("plants", 25, 4000, 0.1, PCD),
    "plants, CD-1, 25 hidden": Recipe("plants", 25, 6000, 0.2, CD),
    "plants, CD-1, 20 hidden, weights x 2": Recipe("plants", 20, 6000, 0.2, CD, scale=2.0),
    "dna, CD-1, 20 hidden": Recipe("dna", 20, 4000, 0.1, CD),
    "mushrooms, CD-1 far too long, 20 hidden": Recipe("mushrooms", 20, 8000, 0.3, CD),
    "mushrooms, PCD-1, 25 hidden": Recipe("mushrooms", 25, 4000, 0.1, PCD),
    "adult, PCD-1, 20 hidden": Recipe("adult", 20, 4000, 0.1, PCD),
    "binarized MNIST, PCD-1, 16 hidden": Recipe("binarized_mnist", 16, 4000, 0.1, PCD),
    "binarized MNIST, CD-1, 16 hidden": Recipe("binarized_mnist", 16, 4000, 0.1, CD),
}
RECIPES = EMBEDDED | FROM_FILES

GENERATORS: dict[str, Callable[[], Tensor]] = {
    "bars 3": lambda: datasets.bars_and_stripes(3, 3),
    "bars 4": lambda: datasets.bars_and_stripes(4, 4),
    "letters": lambda: datasets.alphadigits("ABC").train,
    "alphadigits": lambda: datasets.alphadigits().train,
}


def rows_of(data: str) -> Tensor:
    """The training rows of a data set, generated, embedded or from the user's folder."""
    if data in GENERATORS:
        return GENERATORS[data]()
    return datasets.load(data).train


def train(name: str, seed: int = 0, recipe: Recipe | None = None) -> TrainedModel:
    """Train the model of that name by plain stochastic gradient steps.

    Args:
        name: a key of `RECIPES`, unless `recipe` is given.
        seed: of the initial weights, the minibatches and the chains.
        recipe: another recipe.

    Returns:
        The model.
    """
    pyro.set_rng_seed(seed)
    recipe = recipe or RECIPES[name]
    rows = rows_of(recipe.data)
    rbm = nn.RBM.from_data(rows, recipe.hidden, negative_phase=recipe.phase, centring=False)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=recipe.rate)
    for _ in range(recipe.updates):
        contrastive_gradient(rbm, rows[torch.randint(len(rows), (min(100, len(rows)),))])
        optimizer.step()
    weight, vbias, hbias = (
        recipe.scale * p.detach().double() for p in (rbm.weight, rbm.vbias, rbm.hbias)
    )
    return TrainedModel(name, (weight, vbias, hbias), rows)


def main() -> None:
    """Train them all and say how large their weights are and how often a chain at
    the data turns over.
    """
    for name in RECIPES:
        model = train(name)
        exact = model.distribution(infer.Exact())
        start = model.rows[:200].double()
        turned = (exact.gibbs(start, 100) != start).double().mean().item()
        largest = model.parameters[0].abs().max().item()
        log_z = exact.log_partition().value.item()
        print(
            f"{name:50} largest weight {largest:6.1f}  changed after 100 sweeps {turned:.3f}  "
            f"log Z {log_z:10.2f}"
        )


if __name__ == "__main__":
    main()
