"""The table of modules: how each public one is made, called and scored, for tests that go over all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import networkx as nx
import torch
from torch import Tensor

from pyro_gen import models, nn
from pyro_gen.distributions import BernoulliConditional, GaussianUnits, ObservedFirst

X = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1]]).double()
Y = torch.tensor([0, 1, 1])
CODES = torch.tensor([[0.5, -1.0], [1.0, 0.0], [-0.3, 0.2]]).double()
STRINGS = torch.tensor([[0, 1, 2, 2], [1, 1, 0, 1], [2, 2, 2, 2]])
KNOWN = torch.tensor([[True, True, False, False], [False, True, False, True], [True, True, True, False]])


def log_prob(distribution: Any) -> Tensor:
    """The log probability of the three rows."""
    result: Tensor = distribution.log_prob(X)
    return result


def itself(value: Tensor) -> Tensor:
    """What is a number already."""
    return value


class Call(NamedTuple):
    """How a module is used: what makes it, calls it and scores what the call gives.

    ``follows`` says whether a change of the weights in place shows in what the call gave; where it does not, all of
    that stays as it was. ``vmap`` is False where the refusal by name is the right answer under vmap.
    """

    make: Callable[[], torch.nn.Module]
    call: Callable[[Any], Any] = lambda module: module()
    score: Callable[[Any], Tensor] = log_prob
    follows: bool = False
    vmap: bool = True


def network(make: Callable[..., Any], *args: Any, **settings: Any) -> list[Call]:
    """An autoregressive network: its density, what that gives besides, and the density given a context."""

    def plain() -> torch.nn.Module:
        module: torch.nn.Module = make(4, *args, **settings)
        return module

    def conditional() -> torch.nn.Module:
        module: torch.nn.Module = make(4, *args, **settings, context=2)
        return module

    return [
        Call(plain, follows=True),
        Call(plain, score=lambda distribution: distribution.conditionals(X).log_prob(X).sum(-1), follows=True),
        Call(plain, score=generated, follows=True),
        Call(plain, score=drawn, follows=True, vmap=False),
        Call(plain, score=lambda distribution: distribution.given(X, KNOWN).log_prob(X), follows=True),
        Call(plain, score=lambda distribution: distribution.log_evidence(X, KNOWN), follows=True),
        Call(conditional, call=lambda module: module(CODES), follows=True),
    ]


def generated(distribution: Any) -> Tensor:
    """Log probabilities of rows settled step by step."""
    state = distribution.start((3,))
    for column in X.T:  # whatever the order, which vmap may hold
        state = distribution.next(state, column)
    result: Tensor = state.log_prob
    return result


def drawn(distribution: Any) -> Tensor:
    """Draws from one seed, as numbers that move with the weights."""
    torch.manual_seed(0)
    if distribution.has_rsample:
        sample: Tensor = distribution.rsample((3,))
        return sample
    value, log_prob = distribution.sample_and_log_prob((40,))
    return torch.cat([value.flatten().to(log_prob), log_prob])


def scores(distribution: Any) -> Tensor:
    """The log probability of three strings."""
    result: Tensor = distribution.log_prob(STRINGS)
    return result


def of_states(distribution: Any) -> Tensor:
    """The log probability of two states."""
    result: Tensor = distribution.log_prob(torch.tensor([1, 0]))
    return result


def real(distribution: Any) -> Tensor:
    """The log probability of two real numbers."""
    result: Tensor = distribution.log_prob(torch.tensor([1.0, -0.5]).double())
    return result


def of_codes(distribution: Any) -> Tensor:
    """The log probability of latent vectors."""
    result: Tensor = distribution.log_prob(CODES)
    return result


def square() -> torch.nn.Module:
    """An ensemble of two families with weights."""
    return nn.AutoregressiveEnsemble([nn.FVSBN(4), nn.NADE(4, 3, order=(2, 0, 3, 1))], learn_weights=True)


def shared() -> torch.nn.Module:
    """An ensemble of one network in two orders, given by the user."""
    deep = nn.DeepNADE(4, [3, 3], order_agnostic=False)
    return nn.AutoregressiveEnsemble([deep.with_order((0, 1, 2, 3)), deep.with_order((3, 1, 2, 0))])


def discrete(**settings: Any) -> torch.nn.Module:
    """A network of three nodes."""
    graph = nx.DiGraph([("a", "c"), ("b", "c")])
    return models.BayesianNetwork(graph, {"c": nn.LogisticCPD([2, 2], 2)}, states=("no", "yes"), **settings)


def hybrid() -> torch.nn.Module:
    """A network with a Gaussian node."""
    graph = nx.DiGraph([("a", "c"), ("b", "c")])
    return models.BayesianNetwork(
        graph, {"c": nn.ConditionalGaussianCPD([2, 2], torch.zeros(2, 2).double())}, ("n", "y")
    )


ROWS = torch.tensor([[0, 1, 1], [1, 1, 0]])
SEEN = {"c": torch.tensor([1, 0])}
REAL = {"c": torch.tensor([1.0, -0.3]).double()}
AUTOREGRESSIVE = {
    "FVSBN": network(nn.FVSBN),
    "NADE": network(nn.NADE, 3),
    "MADE": [*network(nn.MADE, [4, 5], order=(2, 0, 3, 1)), Call(lambda: nn.MADE(4, [5]).resample(1), follows=True)],
    "PerConditionalMLP": network(nn.PerConditionalMLP, 3),
    "CausalTransformer": network(nn.CausalTransformer, 4, heads=2, num_layers=1),
    "RecurrentAR": [*network(nn.RecurrentAR, 3, 2), *network(nn.RecurrentAR, 3, cell="lstm")[:3]],
    "TabularAR": network(nn.TabularAR),
    "DeepNADE": [
        *network(nn.DeepNADE, [3, 3]),
        Call(lambda: nn.DeepNADE(4, [3]), lambda module: module(order=(3, 1, 2, 0)), follows=True),
        Call(
            lambda: nn.DeepNADE(4, [3]),
            score=lambda distribution: distribution.log_evidence(X, KNOWN, ObservedFirst()),
            follows=True,
        ),
    ],
    "PixelCNN": [
        Call(
            lambda: nn.PixelCNN((2, 2), 3, 2),
            score=lambda distribution: distribution.log_prob(X.view(3, 2, 2)),
            follows=True,
        ),
        Call(lambda: nn.PixelCNN((2, 2), 4, 2, gated=False), score=drawn, follows=True, vmap=False),
    ],
    "SequenceAR": [
        Call(lambda: nn.SequenceAR(4, 2, 3), score=scores, follows=True),
        Call(lambda: nn.SequenceAR(2, 2, 3), lambda module: module.of_length(4)(), scores, follows=True),
    ],
    "AutoregressiveEnsemble": [
        Call(square, follows=True),
        Call(shared, follows=True),
        Call(square, score=lambda distribution: distribution.given(X, KNOWN).log_prob(X), follows=True),
    ],
    "AutoregressivePerClass": [
        Call(
            lambda: nn.AutoregressivePerClass([nn.FVSBN(4), nn.NADE(4, 3)]),
            lambda module: module(torch.eye(2)[Y].double()),
            follows=True,
        )
    ],
    "EoNADE": [Call(lambda: nn.EoNADE(nn.DeepNADE(4, [3, 3]), [(0, 1, 2, 3), (3, 2, 1, 0)]), follows=True)],
}
ENERGY = {
    "RBM": [
        Call(lambda: nn.RBM(4, 3), follows=True),
        Call(lambda: nn.RBM(4, 3, centring=False), follows=True),
        Call(lambda: nn.RBM(4, 3, visible_units=GaussianUnits()), follows=True),
        Call(lambda: nn.RBM(4, 3), score=lambda distribution: distribution.given(X, KNOWN).log_prob(X), follows=True),
        Call(lambda: nn.RBM(4, 3), score=lambda distribution: distribution.free_energy(X), follows=True),
    ],
    "ConditionalRBM": [Call(lambda: nn.ConditionalRBM(4, 3, 2), lambda module: module(CODES))],
    "ClassRBM": [
        Call(lambda: nn.ClassRBM(4, 3, 2), lambda module: module(X), lambda distribution: distribution.log_prob(Y)),
        Call(
            lambda: nn.ClassRBM(4, 3, 2),
            lambda module: module.joint(),
            lambda distribution: distribution.log_prob(torch.cat([X, torch.eye(2)[Y].double()], 1)),
            follows=True,
        ),
    ],
    "BoltzmannMachine": [
        Call(lambda: nn.BoltzmannMachine(4), follows=True),
        Call(
            lambda: nn.BoltzmannMachine(4),
            score=lambda distribution: distribution.pseudo_log_likelihood(X),
            follows=True,
        ),
    ],
}
STATES = torch.tensor([0, 1])
OTHERS = {
    "TabularCPD": [Call(lambda: nn.TabularCPD.uniform([2], 3), lambda module: module(STATES), of_states)],
    "LogisticCPD": [Call(lambda: nn.LogisticCPD([2], 3), lambda module: module(STATES), of_states)],
    "NeuralCPD": [Call(lambda: nn.NeuralCPD([2], 3), lambda module: module(STATES), of_states)],
    "NoisyOrCPD": [Call(lambda: nn.NoisyOrCPD([0.3]), lambda module: module(STATES), of_states)],
    "LinearGaussianCPD": [
        Call(nn.LinearGaussianCPD, score=real),
        Call(lambda: nn.LinearGaussianCPD([1.0]), lambda module: module(torch.ones(2).double()), real),
    ],
    "ConditionalGaussianCPD": [
        Call(lambda: nn.ConditionalGaussianCPD([2], torch.zeros(2)), lambda module: module(STATES), real)
    ],
    "StandardNormal": [Call(lambda: nn.StandardNormal(2), score=of_codes)],
    "IndependentPrior": [Call(lambda: nn.IndependentPrior(4, BernoulliConditional()), follows=True)],
    "VampPrior": [
        Call(lambda: nn.VampPrior(3, 4), lambda module: module(lambda u: (u[:, :2], u[:, 2:].exp())), of_codes)
    ],
    "Dense": [Call(lambda: nn.Dense(4, (3,), 2), lambda module: module(X), itself)],
    "ConvolutionalEncoder": [
        Call(lambda: nn.ConvolutionalEncoder((2, 2), 2, (3,), 4), lambda module: module(X.view(3, 2, 2)), itself)
    ],
    "ConvolutionalDecoder": [
        Call(lambda: nn.ConvolutionalDecoder(2, (2, 2), 1, (3,), 4), lambda module: module(CODES), itself)
    ],
}
MODELS = {
    "VAE": [
        Call(lambda: models.VAE(4, 2, 10, hidden=(3,)), lambda module: module.decode(CODES)),
        Call(lambda: models.VAE(4, 2, 10, hidden=(3,)), lambda module: module.encode(X), of_codes),
        Call(
            lambda: models.VAE(4, 2, 10, hidden=(3,), prior=nn.VampPrior(3, 4)),
            lambda module: module.prior_distribution(),
            of_codes,
        ),
        Call(
            lambda: models.VAE(4, 2, 10, hidden=(3,), likelihood=nn.MADE(4, [4], context=2)),
            lambda module: module.likelihood(CODES),
            follows=True,
        ),
    ],
    "SemiSupervisedVAE": [
        Call(lambda: models.SemiSupervisedVAE(4, 2, 10, 2, hidden=(3,)), lambda module: module.decode_given(CODES, Y)),
        Call(lambda: models.SemiSupervisedVAE(4, 2, 10, 2, hidden=(3,)), lambda module: module.classify(X), itself),
    ],
    "DiscreteVAE": [
        Call(
            lambda: models.DiscreteVAE(4, 3, 10),
            lambda module: module.encode(X),
            lambda distribution: distribution.log_prob(X[:, :3]),
        ),
        Call(
            lambda: models.DiscreteVAE(4, 3, 10),
            lambda module: module.prior_distribution(),
            lambda distribution: distribution.log_prob(X[:, :3]),
            follows=True,
        ),
    ],
    "Autoencoder": [Call(lambda: models.Autoencoder(4, 2, 10, hidden=(3,)), lambda module: module(X))],
    "DenoisingAutoencoder": [
        Call(lambda: models.DenoisingAutoencoder(4, 2, 10, hidden=(3,)), lambda module: module(X))
    ],
    "BayesClassifier": [
        Call(
            lambda: models.BayesClassifier(nn.NADE(4, 3, context=2), 2, 10),
            lambda module: module(X),
            lambda distribution: distribution.log_prob(Y),
        )
    ],
    "SigmoidBeliefNetwork": [
        Call(
            lambda: models.SigmoidBeliefNetwork(4, [3, 2], 10),
            lambda module: module.prior_distribution(),
            lambda distribution: distribution.log_prob(X[:, :2]),
            follows=True,
        ),
        Call(
            lambda: models.SigmoidBeliefNetwork(4, [3], 10),
            lambda module: module.decode(X[:, :3]),
        ),
    ],
    "DeepBeliefNetwork": [
        Call(
            lambda: models.DeepBeliefNetwork(4, [3, 2], 10),
            lambda module: module.prior_distribution(),
            lambda distribution: distribution.log_prob(X[:, :3]),
            follows=True,
        )
    ],
    "DeepBoltzmannMachine": [
        Call(
            lambda: models.DeepBoltzmannMachine(4, [3, 2], 10),
            lambda module: module.rbm(),
            lambda distribution: distribution.log_prob(torch.cat([X, X[:, :2]], 1)),
        ),
        Call(
            lambda: models.DeepBoltzmannMachine(4, [3, 2], 10),
            lambda module: torch.cat([*module.mean_field(X)], 1),
            itself,
        ),
    ],
    "BayesianNetwork": [
        Call(discrete, score=lambda distribution: distribution.log_prob(ROWS)),
        Call(discrete, lambda module: module.log_prob(ROWS), itself),
        Call(discrete, lambda module: module.cpd("c")(STATES, STATES), of_states),
        Call(discrete, score=lambda distribution: distribution.log_evidence(SEEN), vmap=False),
        Call(discrete, lambda module: module.marginals(SEEN)["a"], itself, vmap=False),
        Call(hybrid, score=lambda distribution: distribution.log_evidence(REAL), vmap=False),
    ],
    "PPCA": [
        Call(lambda: models.PPCA(4, 2, 10)),
        Call(lambda: models.PPCA(4, 0, 10)),
        Call(lambda: models.PPCA(4, 2, 10), lambda module: module.decode(CODES)),
        Call(lambda: models.PPCA(4, 2, 10), lambda module: module.encode(X), of_codes),
    ],
    "FactorAnalysis": [Call(lambda: models.FactorAnalysis(4, 2, 10))],
    "GaussianMixture": [
        Call(lambda: models.GaussianMixture(2, 4, 10)),
        Call(lambda: models.GaussianMixture(2, 4, 10), lambda module: module.log_likelihood(X), itself),
    ],
    "BernoulliMixture": [
        Call(lambda: models.BernoulliMixture(2, 4, 10)),
        Call(lambda: models.BernoulliMixture(2, 4, 10), lambda module: module.log_likelihood(X), itself),
    ],
    "CategoricalMixture": [
        Call(lambda: models.CategoricalMixture(2, 4, 2, 10)),
        Call(lambda: models.CategoricalMixture(2, 4, 2, 10), lambda module: module.log_likelihood(X), itself),
    ],
    "PCA": [
        Call(
            lambda: models.PCA(torch.zeros(4), torch.eye(2, 4), torch.ones(2)),
            lambda module: module.decode(CODES),
            itself,
        )
    ],
}
CALLS: dict[str, list[Call]] = AUTOREGRESSIVE | ENERGY | OTHERS | MODELS
EXEMPT = {
    "AutoregressiveNetwork": "base of the networks",
    "CPD": "base of the conditional distributions",
    "DiscreteCPD": "base of those with finitely many states",
    "LinearGaussian": "base of PPCA and FactorAnalysis",
    "Mixture": "base of the mixtures",
    "GaussianNoise": "has no weights",
    "MaskingNoise": "has no weights",
    "SaltAndPepperNoise": "has no weights",
    "BayesianRBM": "is no module; its weights are sites",
    "CPDDraws": "a record",
    "Diagnostics": "a record",
    "LatentUse": "a record",
    "FitResult": "a record",
    "warm_up": "a function of a number",
}
