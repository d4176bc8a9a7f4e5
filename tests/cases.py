"""The table of distributions: one row each, and every check of the conformance suite runs over it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import (
    RBM,
    Autoregressive,
    AutoregressiveEnsemble,
    AutoregressiveStrings,
    BayesianNetwork,
    BernoulliConditional,
    BernoulliUnits,
    BoltzmannMachine,
    CategoricalConditional,
    ClampedAutoregressive,
    ClampedRBM,
    ClassRBM,
    Completion,
    Conditional,
    CouplingGraph,
    DiscretizedLogisticConditional,
    Enumeration,
    Factorised,
    FixedScaleGaussianConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    GaussianUnits,
    InverseWishart,
    MultinomialUnits,
    NReLUUnits,
    ObservedFirst,
    PottsUnits,
    ReLUUnits,
    SpinUnits,
    UnitLayer,
    Units,
    lattice_edges,
)
from pyro_gen.infer import Exact
from pyro_gen.testing import Case, normal_parameters, states
from pyro_gen.testing.case import Parameters, seeded
from pyro_gen.testing.networks import random_structure

BERNOULLI, SPIN, POTTS, COUNTS = BernoulliUnits(), SpinUnits(), PottsUnits(3), NReLUUnits()
GAUSSIAN, RELU = GaussianUnits(), ReLUUnits()
SIX = torch.zeros(6, dtype=torch.float64)


def listed(units: Units, number: int) -> Tensor:
    """All states of a layer of six units."""
    return units.states(torch.arange(number), len(SIX), SIX)


def rbm_of(visible: Units, hidden: Units) -> Callable[..., RBM]:
    """A constructor of RBMs with these units, which takes their parameters by the names of the RBM's attributes."""

    def build(weight: Tensor, vbias: Tensor, hbias: Tensor, validate_args: bool | None = None, **own: Tensor) -> RBM:
        of_side = {
            side: {name.removeprefix(side): x for name, x in own.items() if name.startswith(side)}
            for side in ("visible_", "hidden_")
        }
        units = visible.replace(**of_side["visible_"]), hidden.replace(**of_side["hidden_"])
        return RBM(weight, vbias, hbias, validate_args=validate_args, visible_units=units[0], hidden_units=units[1])

    return build


def layer_of(units: Units) -> Callable[..., UnitLayer]:
    """A constructor of layers of these units."""
    return partial(UnitLayer, units=units)


def sized(visible: int, hidden: int, scale: float = 1.0, **own: tuple[int, ...]) -> Callable[..., dict[str, Tensor]]:
    """Normal parameters of an RBM and of its units."""
    return normal_parameters(scale, weight=(visible, hidden), vbias=(visible,), hbias=(hidden,), **own)


def symmetric_parameters(batch_shape: torch.Size) -> Parameters:
    """A symmetric matrix with zero diagonal, and a bias, of four units."""
    drawn = normal_parameters(coupling=(4, 4), bias=(4,))(batch_shape)
    upper = drawn["coupling"].triu(1)
    return drawn | {"coupling": upper + upper.mT}


def wishart_parameters(batch_shape: torch.Size) -> Parameters:
    """Degrees of freedom, and a scale of two features so alike that no small number will do for a variance."""
    drawn = normal_parameters(root=(2, 2))(batch_shape)["root"]
    base = torch.full((2, 2), 99.0).fill_diagonal_(100).to(drawn)
    return {"df": 4 + torch.rand(batch_shape, dtype=drawn.dtype), "scale": drawn @ drawn.mT + base}


EVIDENCE = torch.tensor([[2, 2, 2, 1], [2, 0, 1, 1], [0, 1, 0, 1]])  # of three rows; 2 where a cell is missing


def clamped(
    weight: Tensor, vbias: Tensor, hbias: Tensor, observed: Tensor, validate_args: bool | None = None
) -> ClampedRBM:
    """The RBM given the cells of ``observed`` that are not 2."""
    cells = torch.where(observed == 2, torch.nan, observed.to(vbias.dtype))
    return RBM(weight, vbias, hbias, validate_args=validate_args).given(cells, observed != 2)


def clamped_parameters(batch_shape: torch.Size) -> dict[str, Tensor]:
    """Other evidence in every row of a batch."""
    rows = EVIDENCE[torch.arange(batch_shape.numel()) % len(EVIDENCE)]
    draw = normal_parameters(weight=(4, 3), vbias=(4,), hbias=(3,))
    return draw(batch_shape) | {"observed": rows.reshape(*batch_shape, 4)}


def autoregressive(make: Callable[[], nn.AutoregressiveNetwork], scale: float = 0.7) -> Callable[..., Autoregressive]:
    """A constructor of densities of a fixed random network, which takes their context."""

    def build(context: Tensor, validate_args: bool | None = None) -> Autoregressive:
        with seeded(7):
            network = make().double()
            for p in network.parameters():
                torch.nn.init.normal_(p, std=scale)
        kind = AutoregressiveStrings if isinstance(network, nn.SequenceAR) else Autoregressive
        return kind(network.to(context), context, validate_args)

    return build


def given(make: Callable[[], nn.AutoregressiveNetwork], completion: Completion | None) -> Callable[..., Any]:
    """A constructor of densities of a fixed random network given the features of ``observed`` that are not 2."""

    def build(context: Tensor, observed: Tensor, validate_args: bool | None = None) -> ClampedAutoregressive:
        cells = torch.where(observed == 2, torch.nan, observed.to(context.dtype))
        return autoregressive(make)(context, validate_args).given(cells, observed != 2, completion)

    return build


def evidence_of(rows: Tensor) -> Callable[[torch.Size], Parameters]:
    """A context, and other evidence in every row of a batch."""

    def draw(batch_shape: torch.Size) -> Parameters:
        observed = rows[torch.arange(batch_shape.numel()) % len(rows)].reshape(*batch_shape, rows.shape[-1])
        return CONTEXT(batch_shape) | {"observed": observed}

    return draw


def factorised(conditional: Conditional, event_shape: tuple[int, ...] | None = None) -> Callable[..., Factorised]:
    """A constructor of independent features."""
    return partial(Factorised, conditional, event_shape=event_shape)


def ensemble(logits: Tensor, validate_args: bool | None = None) -> AutoregressiveEnsemble:
    """Three fixed random networks, each of a family and with an order of its own."""
    made = (nn.FVSBN(4), nn.PerConditionalMLP(4, 2, order=(3, 1, 0, 2)), nn.DeepNADE(4, [3], order=(2, 0, 3, 1)).eval())
    with seeded(7):
        for p in itertools.chain.from_iterable(network.double().parameters() for network in made):
            torch.nn.init.normal_(p)
    return AutoregressiveEnsemble([network.to(logits)() for network in made], logits, validate_args)


CONTEXT = normal_parameters(context=(2,))
PREFIXES = torch.tensor([[2, 2, 1, 2], [0, 2, 1, 2], [1, 2, 0, 0]])  # of the order 2, 0, 3, 1
PAIRS = states(4).view(16, 2, 2)
ARITIES, LEVELS = CategoricalConditional((2, 3, 1)), DiscretizedLogisticConditional(4, 2)


NETWORK = random_structure(4, 2, states=(2, 3), seed=5)


def conditional_tables(batch_shape: torch.Size) -> Parameters:
    """Flattened tables of a network: uniform draws, one row after another divided by its sum."""
    shapes = [NETWORK.table_shape(node) for node in NETWORK.nodes]
    drawn = [torch.rand((*batch_shape, *shape), dtype=torch.float64) + 0.1 for shape in shapes]
    return {"tables": torch.cat([(x / x.sum(-1, keepdim=True)).flatten(len(batch_shape)) for x in drawn], -1)}


CASES = [
    Case("RBM", RBM, normal_parameters(weight=(4, 3), vbias=(4,), hbias=(3,)), states(4)),
    Case(
        "RBM-wide", partial(RBM, partition=Exact()), normal_parameters(weight=(3, 4), vbias=(3,), hbias=(4,)), states(3)
    ),
    Case("RBM-spin", rbm_of(SPIN, SPIN), sized(4, 2), 2 * states(4) - 1),
    Case("RBM-Bernoulli-spin", rbm_of(BERNOULLI, SPIN), sized(3, 2), states(3)),
    Case("RBM-Potts", rbm_of(POTTS, BERNOULLI), sized(6, 2), listed(POTTS, 9)),
    Case("RBM-spin-Potts", rbm_of(SPIN, POTTS), sized(2, 6), 2 * states(2) - 1),
    Case("RBM-Bernoulli-Gaussian", rbm_of(BERNOULLI, GAUSSIAN), sized(3, 2, hidden_log_precision=(2,)), states(3)),
    Case("RBM-Bernoulli-ReLU", rbm_of(BERNOULLI, RELU), sized(3, 2, hidden_log_precision=(2,)), states(3)),
    Case("RBM-Potts-NReLU", rbm_of(POTTS, COUNTS), sized(6, 2), listed(POTTS, 9)),
    Case("RBM-Gaussian", rbm_of(GAUSSIAN, BERNOULLI), sized(3, 2, visible_log_precision=(3,))),
    Case("RBM-ReLU-Potts", rbm_of(RELU, POTTS), sized(2, 3, visible_log_precision=(2,))),
    Case("RBM-NReLU", rbm_of(COUNTS, BERNOULLI), sized(3, 2)),
    Case(
        "RBM-Gaussian-Gaussian",
        rbm_of(GAUSSIAN, GAUSSIAN),
        sized(3, 2, 0.2, visible_log_precision=(3,), hidden_log_precision=(2,)),
    ),
    Case("UnitLayer-spin", layer_of(SPIN), normal_parameters(field=(3,)), 2 * states(3) - 1),
    Case("UnitLayer-Potts", layer_of(POTTS), normal_parameters(field=(6,)), listed(POTTS, 9)),
    Case(
        "UnitLayer-multinomial",
        layer_of(MultinomialUnits(2)),
        normal_parameters(field=(6,)),
        listed(MultinomialUnits(2), 21),
    ),
    Case("UnitLayer-ReLU", layer_of(RELU), normal_parameters(field=(2,))),
    Case("UnitLayer-NReLU", layer_of(COUNTS), normal_parameters(field=(2,))),
    Case("BoltzmannMachine", BoltzmannMachine, symmetric_parameters, states(4)),
    Case(
        "BoltzmannMachine-spins", partial(BoltzmannMachine, units=SpinUnits()), symmetric_parameters, 2 * states(4) - 1
    ),
    Case(
        "BoltzmannMachine-edges",
        partial(BoltzmannMachine, units=SpinUnits(), graph=CouplingGraph(6, lattice_edges(2, 3, periodic=False))),
        normal_parameters(coupling=(7,), bias=(6,)),
        2 * states(6) - 1,
    ),
    Case("FVSBN", autoregressive(lambda: nn.FVSBN(4, 2, (2, 0, 3, 1))), CONTEXT, states(4)),
    Case("FVSBN-labels", autoregressive(lambda: nn.FVSBN(3, 2, (1, 2, 0), ARITIES)), CONTEXT),
    Case("FVSBN-Gaussian", autoregressive(lambda: nn.FVSBN(3, 2, conditional=GaussianConditional()), 0.2), CONTEXT),
    Case(
        "FVSBN-levels",
        autoregressive(lambda: nn.FVSBN(2, 2, conditional=DiscretizedLogisticConditional(4, 2))),
        CONTEXT,
    ),
    Case("PerConditionalMLP", autoregressive(lambda: nn.PerConditionalMLP(4, 3, 2)), CONTEXT, states(4)),
    Case(
        "PerConditionalMLP-mixture",
        autoregressive(lambda: nn.PerConditionalMLP(2, 3, 2, conditional=GaussianMixtureConditional(3)), 0.3),
        CONTEXT,
    ),
    Case(
        "PixelCNN", autoregressive(partial(nn.PixelCNN, (2, 2), 4, 2, 3, 3, True, 2)), CONTEXT, states(4).view(16, 2, 2)
    ),
    Case("PixelCNN-plain", autoregressive(partial(nn.PixelCNN, (1, 3), 4, 2, 3, 3, False, 2)), CONTEXT),
    Case("PixelCNN-colours", autoregressive(partial(nn.PixelCNN, (3, 1, 2), 6, 2, 3, 3, True, 2)), CONTEXT),
    Case("PixelCNN-labels", autoregressive(partial(nn.PixelCNN, (1, 3), 4, 2, 3, 3, True, 2, ARITIES)), CONTEXT),
    Case("PixelCNN-levels", autoregressive(partial(nn.PixelCNN, (2, 2), 4, 2, 3, 3, False, 2, LEVELS), 0.3), CONTEXT),
    Case("NADE", autoregressive(lambda: nn.NADE(4, 3, 2, (2, 0, 3, 1))), CONTEXT, states(4)),
    Case("NADE-labels", autoregressive(lambda: nn.NADE(3, 4, 2, (1, 2, 0), ARITIES)), CONTEXT),
    Case(
        "NADE-mixture",
        autoregressive(lambda: nn.NADE(2, 3, 2, conditional=GaussianMixtureConditional(3)), 0.3),
        CONTEXT,
    ),
    Case("TabularAR", autoregressive(lambda: nn.TabularAR(3, 2, (2, 0, 1))), CONTEXT, states(3)),
    Case("TabularAR-labels", autoregressive(lambda: nn.TabularAR(3, 2, (2, 0, 1), ARITIES)), CONTEXT),
    Case("MADE", autoregressive(lambda: nn.MADE(4, [5, 4], 2, (2, 0, 3, 1))), CONTEXT, states(4)),
    Case("MADE-labels", autoregressive(lambda: nn.MADE(3, [2], 2, (1, 2, 0), ARITIES, skip=True)), CONTEXT),
    Case("MADE-masks", autoregressive(lambda: nn.MADE(4, [6, 5], 2).resample(1)), CONTEXT, states(4)),
    Case("MADE-Gaussian", autoregressive(lambda: nn.MADE(3, [4], 2, conditional=GaussianConditional()), 0.2), CONTEXT),
    Case("RecurrentAR", autoregressive(lambda: nn.RecurrentAR(4, 3, 2, 2, (2, 0, 3, 1))), CONTEXT, states(4)),
    Case(
        "RecurrentAR-labels",
        autoregressive(lambda: nn.RecurrentAR(3, 3, 1, 2, (1, 2, 0), ARITIES, "lstm", shared=True)),
        CONTEXT,
    ),
    Case(
        "CausalTransformer",
        autoregressive(lambda: nn.CausalTransformer(4, 4, 2, 2, 2, (2, 0, 3, 1))),
        CONTEXT,
        states(4),
    ),
    Case(
        "CausalTransformer-labels", autoregressive(lambda: nn.CausalTransformer(3, 4, 1, 1, 2, None, ARITIES)), CONTEXT
    ),
    Case("SequenceAR", autoregressive(lambda: nn.SequenceAR(3, 2, 3, context=2)), CONTEXT),
    Case(
        "DeepNADE",
        autoregressive(lambda: nn.DeepNADE(4, (4, 3), 2, (2, 0, 3, 1), activation=torch.tanh).eval()),
        CONTEXT,
        states(4),
    ),
    Case(
        "DeepNADE-labels",
        autoregressive(lambda: nn.DeepNADE(3, [4], 2, None, ARITIES, torch.tanh, order_agnostic=False)),
        CONTEXT,
    ),
    Case("Factorised", factorised(BernoulliConditional(), (2, 2)), normal_parameters(parameters=(4, 1)), PAIRS),
    Case("Factorised-labels", factorised(CategoricalConditional(3)), normal_parameters(parameters=(2, 3))),
    Case("Factorised-levels", factorised(LEVELS), normal_parameters(parameters=(2, 6))),
    Case(
        "Factorised-fixed-scale",
        factorised(FixedScaleGaussianConditional(0.5)),
        normal_parameters(0.3, parameters=(2, 1)),
    ),
    Case("Factorised-Gaussian", factorised(GaussianConditional()), normal_parameters(0.3, parameters=(2, 2))),
    Case("AutoregressiveEnsemble", ensemble, normal_parameters(logits=(3,)), states(4)),
    Case("FVSBN-given-prefix", given(lambda: nn.FVSBN(4, 2, (2, 0, 3, 1)), None), evidence_of(PREFIXES), states(4)),
    Case("FVSBN-given", given(lambda: nn.FVSBN(4, 2, (2, 0, 3, 1)), Enumeration()), evidence_of(EVIDENCE), states(4)),
    Case(
        "DeepNADE-given",
        given(lambda: nn.DeepNADE(4, [3], 2, activation=torch.tanh).eval(), ObservedFirst()),
        evidence_of(EVIDENCE),
        states(4),
    ),
    Case("BayesianNetwork", partial(BayesianNetwork, NETWORK), conditional_tables),
    Case("ClampedRBM", clamped, clamped_parameters, states(4)),
    Case("InverseWishart", InverseWishart, wishart_parameters),
    Case(
        "ClassRBM",
        ClassRBM,
        normal_parameters(weight=(2, 3), label_weight=(3, 3), vbias=(2,), label_bias=(3,), hbias=(3,)),
        torch.cat((states(2).repeat_interleave(3, 0), torch.eye(3).double().repeat(4, 1)), -1),
    ),
]
