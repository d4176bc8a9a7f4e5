"""THE table of public models: how to make one, its rows, and what each public method is for."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyro_gen.models
from pyro_gen import models
from pyro_gen.models.deep.belief_network import IndependentUnits
from pyro_gen.nn import NADE, RBM, NeuralCPD, TabularCPD, VampPrior

PROGRAMS = ("model", "guide", "marginal", "evidence_model")
RESULTS = ("CPDDraws", "FitResult", "LatentUse", "warm_up")
"""Public names that are no models."""
ABSTRACT = ("LinearGaussian", "Mixture")
FEATURES = 6


class Entry(NamedTuple):
    """A model for so many rows, the arguments of its programs for so many rows, and its public methods.

    ``reads`` only read the model, here more rows than ``size``; ``learns`` take all rows to learn from; ``parts`` are
    what the programs are built of, in whatever mode the model is, and what sees no row.
    """

    make: Callable[[int], Any]
    rows: Callable[[int], tuple[Any, ...]]
    reads: Mapping[str, Callable[[Any], Any]]
    learns: Mapping[str, Callable[[Any, int], Any]]
    parts: tuple[str, ...]


def bits(count: int) -> Tensor:
    return torch.bernoulli(torch.full((count, FEATURES), 0.4), generator=torch.Generator().manual_seed(0))


def reals(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).double()


def network(inputs: int, outputs: int) -> nn.Module:
    """A network whose outputs depend on the other rows and on chance, unless it is in evaluation mode."""
    inner = nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(nn.Linear(inputs, 8), *inner, nn.Linear(8, outputs))


class NoisyPrior(IndependentUnits):
    """Independent units whose logits pass a dropout."""

    def __init__(self, units: int) -> None:
        super().__init__(units)
        nn.init.normal_(self.logits)
        self.dropout = nn.Dropout(0.5)

    def forward(self) -> Any:
        return dist.Bernoulli(logits=self.dropout(self.logits)).to_event(1)


def vae(size: int, **settings: Any) -> models.VAE:
    encoder, decoder = network(FEATURES, 4), network(2, FEATURES)
    return models.VAE(FEATURES, 2, size, encoder=encoder, decoder=decoder, **settings)


def m2(size: int) -> models.SemiSupervisedVAE:
    encoder, decoder = network(FEATURES + 3, 4), network(5, FEATURES)
    classifier = network(FEATURES, 3)
    networks: dict[str, Any] = {"encoder": encoder, "decoder": decoder, "classifier": classifier}
    return models.SemiSupervisedVAE(FEATURES, 2, size, 3, **networks)


def discrete_vae(size: int) -> models.DiscreteVAE:
    return models.DiscreteVAE(FEATURES, 3, size, encoder=network(FEATURES, 3), decoder=network(3, FEATURES))


def autoencoder(kind: type[models.Autoencoder], size: int) -> models.Autoencoder:
    return kind(FEATURES, 2, size, encoder=network(FEATURES, 2), decoder=network(2, FEATURES))


def bayesian_network(size: int) -> models.BayesianNetwork:
    torch.manual_seed(3)
    cpd = NeuralCPD([2], 3, network(2, 3))
    cpds = {"a": TabularCPD(torch.tensor([0.3, 0.7])), "b": cpd}
    return models.BayesianNetwork(nx.DiGraph([("a", "b")]), cpds, {"a": 2, "b": 3}, size=size)


def states(count: int) -> dict[str, Tensor]:
    return {"a": torch.arange(count) % 2, "b": torch.arange(count) % 3}


def tables(size: int) -> models.BayesianNetwork:
    return models.BayesianNetwork(nx.DiGraph([("a", "b")]), states={"a": 2, "b": 3}, size=size)


def labelled(count: int) -> tuple[Tensor, Tensor]:
    return bits(count), torch.arange(count) % 2


def written(write: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "network")
        return (Path(folder) / "network").read_text()


X, R = bits(8), reals(8)
CODER = (
    "beta",
    "check",
    "conditional",
    "decode",
    "encode",
    "example",
    "forward",
    "generate",
    "inputs",
    "prior_distribution",
    "recognise",
    "shared",
    "simulated_gap",  # tested in infer/test_annealed.py
)
LATENT_READS: dict[str, Callable[[Any], Any]] = {
    "log_partition": lambda m: m.log_partition(),
    "lower_bound": lambda m: m.lower_bound(X, 3, 5),
    "sample": lambda m: m.sample(7),
    "sample_prior": lambda m: m.sample_prior(7),
}
VAE_READS: dict[str, Callable[[Any], Any]] = {
    **LATENT_READS,
    "reconstruct": lambda m: m.reconstruct(X),
    "latent_means": lambda m: m.latent_means(X),
    "latent_use": lambda m: m.latent_use(X),
    "test_log_likelihood": lambda m: m.test_log_likelihood(X, 20).rows,
}
VAE_LEARNS: dict[str, Callable[[Any, int], Any]] = {
    "from_data": lambda m, n: type(m).from_data(bits(n), 2, 10),
}
BELIEF_READS = {**LATENT_READS, "dream": lambda m: m.dream(7, 3)}
BELIEF_PARTS = ("check", "decode", "forward", "generate", "layer", "prior_distribution", "recognise", "shared")
AUTO_READS: dict[str, Callable[[Any], Any]] = {
    "latent_means": lambda m: m.latent_means(X),
    "reconstruct": lambda m: m.reconstruct(X),
    "reconstruction_log_likelihood": lambda m: m.reconstruction_log_likelihood(X),
}
AUTO_LEARNS: dict[str, Callable[[Any, int], Any]] = {"from_data": lambda m, n: type(m).from_data(bits(n), 2, 10)}
LINEAR_READS: dict[str, Callable[[Any], Any]] = {
    "aic": lambda m: m.aic(R),
    "bic": lambda m: m.bic(R),
    "latent_means": lambda m: m.latent_means(R),
    "log_likelihood": lambda m: m.log_likelihood(R),
    "reconstruct": lambda m: m.reconstruct(R),
    "sample": lambda m: m.sample(7),
    "score": lambda m: m.score(R),
}
LINEAR_LEARNS: dict[str, Callable[[Any, int], Any]] = {
    "fit": lambda m, n: m.fit(reals(n), num_steps=5),
    "from_data": lambda m, n: type(m).from_data(reals(n), 1, 10),
}
LINEAR_PARTS = (
    "check_enough",
    "check_varied",
    "covariance",
    "decode",
    "encode",
    "forward",
    "noise_variance",
    "num_parameters",
    "pooled",
    "rows",
    "scale",
    "set_point",
)
MIXTURE_READS: dict[str, Callable[[Any, Tensor], Any]] = {
    "aic": lambda m, x: m.aic(x),
    "bic": lambda m, x: m.bic(x),
    "log_joint": lambda m, x: m.log_joint(x),
    "log_likelihood": lambda m, x: m.log_likelihood(x),
    "log_prior": lambda m, x: m.log_prior(m.point()),
    "occupied": lambda m, x: m.occupied(x, m.point()),
    "point": lambda m, x: m.point(),
    "predict": lambda m, x: m.predict(x),
    "responsibilities": lambda m, x: m.responsibilities(x),
    "sample": lambda m, x: m.sample(7),
    "sample_joint": lambda m, x: m.sample_joint(7),
    "score": lambda m, x: m.score(x),
}
MIXTURE_LEARNS: dict[str, Callable[[Any, Tensor], Any]] = {
    "fit": lambda m, x: m.fit(x),
    "gibbs": lambda m, x: m.gibbs(x, 2),
    "gibbs_sweep": lambda m, x: m.gibbs_sweep(x, m.point()),
    "initialise": lambda m, x: m.initialise(x),
}
MIXTURE_PARTS = (
    "canonical",
    "covariances",
    "forward",
    "means",
    "row_support",
    "weights",
    "check_mode",
    "checked",
    "completed",
    "component_sites",
    "conditional_draw",
    "derived",
    "derived_sites",
    "draw",
    "encoded",
    "floor_reached",
    "from_data",
    "implied",
    "log_prior_of",
    "log_table",
    "m_step",
    "maximised",
    "num_parameters",
    "rows",
    "sample_components",
    "set_point",
    "sites",
    "start",
)
NETWORK_READS: dict[str, Callable[[Any], Any]] = {
    "expected_counts": lambda m: m.expected_counts(states(8)),
    "joint_marginal": lambda m: m.joint_marginal(["a", "b"]),
    "marginals": lambda m: m.marginals({"a": states(8)["a"]}),
    "most_probable": lambda m: m.most_probable(),
    "pair_marginals": lambda m: m.pair_marginals(),
    "sample": lambda m: m.sample(7),
    "sample_posterior": lambda m: m.sample_posterior({"a": states(8)["a"]}, 7),
    "to_bif": lambda m: written(m.to_bif),
    "to_frame": lambda m: m.to_frame(states(8)).to_dict(),
    "to_uai": lambda m: written(m.to_uai),
    "to_xmlbif": lambda m: written(m.to_xmlbif),
}
NETWORK_LEARNS: dict[str, Callable[[Any, int], Any]] = {
    "fit": lambda m, n: m.fit(states(n)),
    "sample_cpds": lambda m, n: m.sample_cpds(states(n), num_samples=2),
}
NETWORK_PARTS = (
    "chain_rule",
    "cpd",
    "d_separated",
    "do",
    "forward",
    "from_bif",
    "from_uai",
    "from_xmlbif",
    "fully_factorised",
    "graph",
    "log_evidence",
    "log_prob",
    "markov_chain",
    "nodes",
    "num_parameters",
    "states",
)
ZEROS = {"weight": torch.zeros(4, FEATURES, 2), "vbias": torch.zeros(4, FEATURES), "hbias": torch.zeros(4, 2)}


def mixture(make: Callable[[int], models.Mixture], rows: Callable[[int], Tensor]) -> Entry:
    reads = {name: partial(_of_rows, read, rows(8)) for name, read in MIXTURE_READS.items()}
    learns = {name: partial(_of_count, learn, rows) for name, learn in MIXTURE_LEARNS.items()}
    return Entry(make, lambda n: (rows(n),), reads, learns, MIXTURE_PARTS)


def _of_rows(read: Callable[[Any, Tensor], Any], x: Tensor, model: Any) -> Any:
    return read(model, x)


def _of_count(learn: Callable[[Any, Tensor], Any], rows: Callable[[int], Tensor], model: Any, count: int) -> Any:
    return learn(model, rows(count))


def one(count: int) -> tuple[Tensor]:
    return (bits(count),)


def deep(size: int) -> models.DeepBeliefNetwork:
    return models.DeepBeliefNetwork(FEATURES, [4, 3], size)


TABLE: dict[str, Entry] = {
    "VAE": Entry(vae, one, VAE_READS, VAE_LEARNS, CODER),
    "VAE under a VampPrior": Entry(lambda n: vae(n, prior=VampPrior(3, FEATURES)), one, VAE_READS, {}, CODER),
    "DiscreteVAE": Entry(discrete_vae, one, VAE_READS, VAE_LEARNS, CODER),
    "SemiSupervisedVAE": Entry(
        m2,
        lambda n: (bits(n), torch.arange(n) % 3 - 1),
        {**VAE_READS, "classify": lambda m: m.classify(X)},
        {"from_data": lambda m, n: type(m).from_data(bits(n), 2, 10, classes=3)},
        (*CODER, "decode_given", "encode_given"),
    ),
    "Autoencoder": Entry(
        partial(autoencoder, models.Autoencoder), one, AUTO_READS, AUTO_LEARNS, ("check", "decode", "encode", "forward")
    ),
    "DenoisingAutoencoder": Entry(
        partial(autoencoder, models.DenoisingAutoencoder),
        one,
        AUTO_READS,
        AUTO_LEARNS,
        ("check", "decode", "encode", "forward"),
    ),
    "SigmoidBeliefNetwork": Entry(
        lambda n: models.SigmoidBeliefNetwork(FEATURES, [4, 3], n, NoisyPrior(3)), one, BELIEF_READS, {}, BELIEF_PARTS
    ),
    "DeepBeliefNetwork": Entry(deep, one, BELIEF_READS, {}, (*BELIEF_PARTS, "from_rbms", "mirrored")),
    "DeepBoltzmannMachine": Entry(
        lambda n: models.DeepBoltzmannMachine(FEATURES, [4, 3], n),
        one,
        {
            "log_partition": lambda m: m.log_partition(),
            "lower_bound": lambda m: m.lower_bound(X, 3, 5),
            "mean_field": lambda m: m.mean_field(X),
            "sample": lambda m: m.sample(7),
        },
        {
            "from_rbm": lambda m, n: m.from_rbm(RBM(FEATURES, 4), [3], bits(n), size=10),
        },
        ("biases", "check", "contrastive_gradient", "forward", "start_at", "weights"),
    ),
    "BayesianRBM": Entry(
        lambda n: models.BayesianRBM(FEATURES, 2, n),
        one,
        {"draws": lambda m: m.draws(3, X), "log_predictive": lambda m: m.log_predictive(X, ZEROS)},
        {},
        ("at", "autoguide"),
    ),
    "BayesClassifier": Entry(
        lambda n: models.BayesClassifier(NADE(FEATURES, 4, context=2), 2, n),
        labelled,
        {},
        {},
        ("encode", "forward", "log_joint"),
    ),
    "BayesianNetwork": Entry(bayesian_network, lambda n: (states(n),), NETWORK_READS, {}, NETWORK_PARTS),
    "BayesianNetwork of tables": Entry(tables, lambda n: (states(n),), NETWORK_READS, NETWORK_LEARNS, NETWORK_PARTS),
    "GaussianMixture": mixture(lambda n: models.GaussianMixture(2, 3, n, dtype=torch.float64), reals),
    "BernoulliMixture": mixture(lambda n: models.BernoulliMixture(2, FEATURES, n), bits),
    "CategoricalMixture": mixture(lambda n: models.CategoricalMixture(2, FEATURES, 3, n), bits),
    "PPCA": Entry(
        lambda n: models.PPCA(3, 1, n).double(), lambda n: (reals(n),), LINEAR_READS, LINEAR_LEARNS, LINEAR_PARTS
    ),
    "FactorAnalysis": Entry(
        lambda n: models.FactorAnalysis(3, 1, n).double(),
        lambda n: (reals(n),),
        LINEAR_READS,
        LINEAR_LEARNS,
        LINEAR_PARTS,
    ),
    "PCA": Entry(
        lambda n: models.PCA.from_data(R, 2),
        lambda n: (reals(n),),
        {"latent_means": lambda m: m.latent_means(R), "reconstruct": lambda m: m.reconstruct(R)},
        {},
        ("decode", "forward", "from_data", "latent"),
    ),
}


def public_models() -> list[str]:
    """Names of the public models that can be made."""
    return [name for name in pyro_gen.models.__all__ if name not in (*RESULTS, *ABSTRACT)]


def public_methods(cls: type) -> Iterator[str]:
    """Names of methods and properties of a model's own, programs aside."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        member = getattr(member, "__func__", getattr(member, "fget", member))
        own = inspect.isfunction(member) and member.__module__.startswith("pyro_gen")
        if own and not name.startswith("_") and name not in (*PROGRAMS, "extra_repr"):
            yield name
