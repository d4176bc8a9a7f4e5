"""Every public count is a whole number: 2.5, NaN, True and text raise, numpy's and torch's integers are integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_gen import arviz, datasets, distributions, estimators, infer, models, nn, testing, training
from pyro_gen.distributions import units
from pyro_gen.distributions.autoregressive import conditionals
from pyro_gen.infer import structure
from pyro_gen.infer.bayesian_network import (
    AmortisedPosterior,
    belief_propagation,
    gibbs_marginals,
    likelihood_weighting,
)
from pyro_gen.infer.elbo.importance import RowWeights
from pyro_gen.infer.mcmc.gibbs import DiscreteGibbs, Gibbs
from tests.counts import counts

Call = Callable[..., Any]
X = torch.bernoulli(torch.full((8, 4), 0.4), generator=torch.Generator().manual_seed(0))
R = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
GRAPH = nx.DiGraph([("a", "b")])
STATES = {"a": torch.arange(8) % 2, "b": torch.arange(8) // 2 % 2}
DRAWS = {"theta": torch.zeros(2, 4)}
W = torch.zeros(3, 2)
ASSIGNED = torch.tensor([[0, 0, 1], [1, 1, 0]])


def rbm(**settings: Any) -> distributions.RBM:
    return distributions.RBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2), **settings)


def machine(**settings: Any) -> distributions.BoltzmannMachine:
    return distributions.ising_lattice(2, 2, 0.1, periodic=False, **settings)


def clamped(**settings: Any) -> distributions.ClampedRBM:
    mask = torch.tensor([True, False, False])
    return distributions.ClampedRBM(*rbm().uncentred, torch.zeros(3), mask, **settings)


def network(**settings: Any) -> models.BayesianNetwork:
    return models.BayesianNetwork(GRAPH, **settings)


def posterior(**settings: Any) -> AmortisedPosterior:
    return AmortisedPosterior(network(), **{"hidden_features": (4,), **settings})


def program(x: Tensor) -> None:
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x: Tensor) -> None:
    with pyro.plate("rows", len(x)):
        pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(len(x))))


def row_weights(num_particles: int) -> RowWeights:
    return infer.row_weights(program, guide, num_particles, R[:, 0])


def sampler(**settings: Any) -> infer.GibbsSampler:
    return infer.GibbsSampler({"x": lambda: dist.Normal(0.0, 1.0)}, **settings)


def estimator(x: Tensor = X, **settings: Any) -> Any:
    return estimators.RBMTransformer(**{"n_components": 2, "n_iter": 1, **settings}).fit(x.numpy())


def fitted(kind: Any, **settings: Any) -> Any:
    return kind(**settings).fit(np.random.default_rng(0).normal(size=(20, 3)))


def fit(**settings: Any) -> Any:
    step = lambda: torch.zeros(())  # noqa: E731
    defaults = {"num_epochs": 1, "monitor": "loss", "mode": "min", "progress": False}
    return training.fit(step, [()], **{**defaults, **settings})


def mixture() -> models.BernoulliMixture:
    return models.BernoulliMixture(2, 4, 8)


def belief() -> models.SigmoidBeliefNetwork:
    return models.SigmoidBeliefNetwork(4, [3], 8)


def dbm() -> models.DeepBoltzmannMachine:
    return models.DeepBoltzmannMachine(4, [3, 2], 8).eval()


def vae() -> models.VAE:
    return models.VAE(4, 2, 8, hidden=(4,))


def sequence(**settings: Any) -> nn.SequenceAR:
    return nn.SequenceAR(**{"length": 3, "num_symbols": 2, "hidden_features": 2, **settings})


def table(call: Call, **values: Any) -> tuple[Call, dict[str, Any]]:
    """A call that takes counts by keyword, and a value of each that it takes; the others stand where one is tried."""
    return (lambda **given: call(**{**values, **given})), values


def loop(call: Call, **values: Any) -> tuple[Call, dict[str, Any]]:
    """The same, where the other counts keep their defaults."""
    return call, values


AUTOREGRESSIVE = {"features": 4, "context": 0}
SEARCH: dict[str, Any] = {"restarts": 1, "perturbations": 1, "max_parents": 1}
PHASE = {"num_chains": 4, "num_steps": 1}
COUNTS: dict[str, tuple[Call, dict[str, Any]]] = {
    "arviz.from_chains": loop(partial(arviz.from_chains, DRAWS), thin=2),
    "arviz.from_mcmc": loop(partial(arviz.from_mcmc, prior=DRAWS), num_chains=1),
    "arviz.from_predictive": loop(partial(arviz.from_predictive, prior=DRAWS), num_chains=1),
    "arviz.from_svi": loop(partial(arviz.from_svi, program, guide, R[:, 0]), num_samples=3),
    "datasets.Minibatches.__init__": loop(partial(datasets.Minibatches, X), batch_size=2),
    "datasets.minibatches": loop(partial(datasets.minibatches, X), batch_size=2),
    "datasets.bars_and_stripes": table(datasets.bars_and_stripes, rows=2, columns=2),
    "distributions.AIS.__init__": table(infer.AIS, num_chains=4, num_betas=5),
    "distributions.BayesianNetwork.__init__": loop(
        partial(distributions.BayesianNetwork, GRAPH, network()().tables, ("no", "yes")), max_cells=100
    ),
    "distributions.BayesianNetwork.sample_posterior": loop(
        lambda **k: network()().sample_posterior(**k), num_samples=2
    ),
    "distributions.BoltzmannMachine.__init__": loop(machine, num_steps=2),
    "distributions.CategoricalConditional.__init__": loop(conditionals.CategoricalConditional, num_states=3),
    "distributions.ClampedRBM.__init__": table(clamped, max_units=3, num_steps=2),
    "distributions.ClampedRBM.gibbs": loop(lambda **k: clamped().gibbs(torch.zeros(3), **k), num_steps=2),
    "distributions.ClampedRBM.marginals": loop(
        lambda **k: clamped(max_units=0, num_steps=1).marginals(**k), num_chains=2
    ),
    "distributions.ClassRBM.__init__": loop(
        partial(distributions.ClassRBM, W, torch.zeros(2, 2), torch.zeros(3), torch.zeros(2), torch.zeros(2)),
        num_steps=2,
    ),
    "distributions.ContrastiveDivergence.__init__": loop(infer.ContrastiveDivergence, num_steps=2),
    "distributions.CouplingGraph.__init__": loop(
        partial(distributions.CouplingGraph, edges=torch.tensor([[0, 1]])), num_units=3
    ),
    "distributions.CouplingGraph.complete": loop(distributions.CouplingGraph.complete, num_units=3),
    "distributions.DiscretizedLogisticConditional.__init__": table(
        conditionals.DiscretizedLogisticConditional, num_levels=4, components=2
    ),
    "distributions.EnergyDistribution.gibbs": loop(lambda **k: rbm().gibbs(torch.zeros(2, 3), **k), num_steps=2),
    "distributions.Enumeration.__init__": loop(distributions.Enumeration, max_completions=8),
    "distributions.Exact.__init__": loop(infer.Exact, max_units=3),
    "distributions.FastPersistentChains.__init__": table(infer.FastPersistentChains, **PHASE),
    "distributions.GaussianMixtureConditional.__init__": loop(conditionals.GaussianMixtureConditional, components=2),
    "distributions.Importance.__init__": loop(distributions.Importance, num_particles=4),
    "distributions.MultinomialUnits.__init__": loop(units.MultinomialUnits, total_count=3),
    "distributions.PersistentChains.__init__": table(infer.PersistentChains, **PHASE),
    "distributions.PottsUnits.__init__": loop(units.PottsUnits, num_states=3),
    "distributions.RBM.__init__": loop(rbm, num_steps=2),
    "distributions.SymbolConditional.__init__": loop(distributions.SymbolConditional, num_symbols=3),
    "distributions.TemperedChains.__init__": table(infer.TemperedChains, **PHASE, num_betas=3),
    "distributions.WeightedChains.__init__": table(infer.WeightedChains, **PHASE, num_witnesses=2),
    "distributions.ising_lattice": table(partial(distributions.ising_lattice, periodic=False), rows=2, columns=2),
    "distributions.lattice_edges": table(partial(distributions.lattice_edges, periodic=False), rows=2, columns=2),
    "estimators.GaussianMixture.__init__": table(
        partial(fitted, estimators.GaussianMixture), n_components=2, n_init=1, max_iter=5
    ),
    "estimators.PPCA.__init__": table(partial(fitted, estimators.PPCA), n_components=1, max_iter=5),
    "estimators._RowDensity.sample": table(fitted(estimators.PPCA).sample, n_samples=2),
    "estimators.RBMTransformer.__init__": table(estimator, n_components=2, batch_size=4, n_iter=1),
    "estimators.RBMTransformer.gibbs": loop(lambda **k: estimator().gibbs(X.numpy(), **k), num_steps=2),
    "infer.AmortisedPosterior.__init__": loop(posterior, hidden_features=[4]),
    "infer.AmortisedPosterior.learn": table(lambda **k: posterior().learn(**k), num_steps=1, batch_size=4),
    "infer.AmortisedPosterior.loss": loop(lambda **k: posterior().loss(**k), num_rows=4),
    "infer.AmortisedPosterior.marginals": loop(lambda **k: posterior().marginals(**k), num_samples=4),
    "infer.BlockGibbs.__init__": table(partial(infer.BlockGibbs, rbm()), num_steps=1, num_chains=2),
    "infer.Completions.__init__": loop(partial(infer.Completions, X, X.bool()), num_steps=2),
    "infer.DiscreteGibbs.__init__": table(DiscreteGibbs, width=2, max_states=4),
    "infer.Gibbs.__init__": loop(partial(Gibbs, [(DiscreteGibbs(), "z")], program), num_chains=2),
    "infer.GibbsSampler.__init__": loop(sampler, num_chains=2),
    "infer.GibbsSampler.run": table(lambda **k: sampler().run(**k), num_samples=2, warmup_steps=1, thin=1),
    "infer.ImportanceWeightedELBO.__init__": loop(infer.ImportanceWeightedELBO, num_particles=2),
    "infer.StickingTheLandingELBO.__init__": loop(infer.StickingTheLandingELBO, num_particles=2),
    "infer.SwendsenWang.__init__": table(partial(infer.SwendsenWang, machine()), num_steps=1, num_chains=2),
    "infer.WakeSleep.__init__": loop(infer.WakeSleep, num_particles=2),
    "infer.belief_propagation": loop(partial(belief_propagation, network(), tolerance=1e-6), num_iterations=20),
    "infer.bootstrap_edges": loop(partial(structure.bootstrap_edges, STATES), num_samples=2),
    "infer.exact_search": loop(partial(structure.exact_search, STATES), max_parents=1),
    "infer.gibbs_marginals": table(partial(gibbs_marginals, network()), num_samples=4, num_chains=2, warmup_steps=1),
    "infer.hill_climbing": table(partial(structure.hill_climbing, STATES), **SEARCH),
    "infer.learn_structure": loop(partial(structure.learn_structure, STATES), max_parents=1),
    "infer.likelihood_weighting": loop(partial(likelihood_weighting, network()), num_samples=4),
    "infer.log_partition_bracket": loop(
        partial(infer.log_partition_bracket, rbm(partition=infer.AIS(10, 5))), burn_in=2
    ),
    "infer.lower_bound": table(partial(infer.lower_bound, program, guide, R[:, 0]), num_particles=2, batch_size=4),
    "infer.pc": loop(partial(structure.pc, STATES), max_given=1),
    "infer.pc_from_tests": loop(partial(structure.pc_from_tests, "ab", lambda x, y, given: 1.0), max_given=1),
    "infer.population_annealing": loop(
        partial(infer.population_annealing, rbm(), torch.zeros(3), torch.linspace(0, 1, 3)), num_chains=4
    ),
    "infer.relabel_by_probabilities": loop(
        partial(infer.relabel_by_probabilities, torch.full((2, 3, 2), 0.5)), num_steps=2
    ),
    "infer.relabel_iteratively": table(partial(infer.relabel_iteratively, ASSIGNED), components=2, num_steps=2),
    "infer.row_weights": loop(row_weights, num_particles=2),
    "infer.tabu_search": table(partial(structure.tabu_search, STATES), **SEARCH, tabu_length=1, patience=1),
    "models.Autoencoder.__init__": table(models.Autoencoder, features=4, latent=2, size=8, hidden=[3]),
    "models.Autoencoder.from_data": table(partial(models.Autoencoder.from_data, X), latent=2, size=8),
    "models.BayesClassifier.__init__": table(
        partial(models.BayesClassifier, nn.NADE(4, 2, context=2)), classes=2, size=8
    ),
    "models.BayesianNetwork.__init__": table(network, size=8, max_cells=100),
    "models.BayesianNetwork.chain_rule": loop(models.BayesianNetwork.chain_rule, nodes=2),
    "models.BayesianNetwork.fully_factorised": loop(models.BayesianNetwork.fully_factorised, nodes=2),
    "models.BayesianNetwork.markov_chain": loop(models.BayesianNetwork.markov_chain, nodes=2),
    "models.BayesianNetwork.sample": loop(network().sample, num_samples=2),
    "models.BayesianNetwork.sample_posterior": loop(network().sample_posterior, num_samples=2),
    "models.BayesianRBM.__init__": table(models.BayesianRBM, visible=3, hidden=2, size=8),
    "models.BayesianRBM.draws": loop(lambda **k: models.BayesianRBM(4, 1, 8).draws(v=X, **k), num_samples=2),
    "models.BernoulliMixture.__init__": table(models.BernoulliMixture, components=2, features=3, size=8),
    "models.CategoricalMixture.__init__": table(models.CategoricalMixture, components=2, features=3, values=2, size=8),
    "models.DiscreteMixture.from_data": loop(partial(models.CategoricalMixture.from_data, X), components=2),
    "models.DeepBeliefNetwork.__init__": table(models.DeepBeliefNetwork, visible=4, hidden=[3, 2], size=8),
    "models.DeepBeliefNetwork.from_rbms": loop(
        partial(models.DeepBeliefNetwork.from_rbms, [nn.RBM(4, 3), nn.RBM(3, 2)]), size=8
    ),
    "models.DeepBeliefNetwork.mirrored": loop(
        lambda **k: models.DeepBeliefNetwork.mirrored(nn.RBM(4, 3), x=X, **k), hidden=5
    ),
    "models.DeepBoltzmannMachine.__init__": table(
        models.DeepBoltzmannMachine, visible=4, hidden=[3, 2], size=8, mean_field_steps=2
    ),
    "models.DeepBoltzmannMachine.from_rbm": loop(
        lambda **k: models.DeepBoltzmannMachine.from_rbm(nn.RBM(4, 3), x=X, **k), hidden=[2]
    ),
    "models.DeepBoltzmannMachine.sample": table(lambda **k: dbm().sample(**k), num_samples=2, num_steps=1),
    "models.DenoisingAutoencoder.__init__": table(
        models.DenoisingAutoencoder, features=4, latent=2, size=8, hidden=[3]
    ),
    "models.DiscreteVAE.__init__": table(models.DiscreteVAE, visible=4, latent=2, size=8),
    "models.GaussianMixture.__init__": table(models.GaussianMixture, components=2, features=3, size=8),
    "models.GaussianMixture.from_data": loop(partial(models.GaussianMixture.from_data, R), components=2),
    "models.LatentModel.sample": table(lambda **k: belief().sample(**k), num_samples=2, num_steps=1),
    "models.LatentModel.sample_prior": table(lambda **k: belief().sample_prior(**k), num_samples=2, num_steps=1),
    "models.LinearGaussian.__init__": table(models.PPCA, features=3, latent=1, size=8),
    "models.LinearGaussian.fit": loop(lambda **k: models.PPCA(3, 1, 8).fit(R, method="em", **k), num_steps=2),
    "models.LinearGaussian.from_data": table(partial(models.PPCA.from_data, R), latent=1, size=8),
    "models.LinearGaussian.sample": loop(lambda **k: models.PPCA(3, 1, 8).sample(**k), num_samples=2),
    "models.Mixture.__init__": table(models.GaussianMixture, components=2, features=3, size=8),
    "models.Mixture.fit": table(lambda **k: mixture().fit(X, **k), num_starts=1, num_steps=1),
    "models.Mixture.gibbs": table(
        lambda **k: mixture().gibbs(X, **k), num_samples=2, warmup_steps=1, num_chains=1, thin=1
    ),
    "models.BayesianNetwork.fit": table(
        lambda **k: network().fit(STATES, **k), num_starts=1, num_steps=1, batch_size=4
    ),
    "models.BayesianNetwork.sample_cpds": table(
        lambda **k: network().sample_cpds(STATES, **k), num_samples=2, num_chains=1, warmup_steps=1
    ),
    "models.PCA.from_data": loop(partial(models.PCA.from_data, R), latent=1),
    "models.Mixture.sample": loop(lambda **k: mixture().sample(**k), num_samples=2),
    "models.Mixture.sample_joint": loop(lambda **k: mixture().sample_joint(**k), num_samples=2),
    "models.RowModel.lower_bound": table(lambda **k: belief().lower_bound(X, **k), num_particles=2, batch_size=4),
    "models.SemiSupervisedVAE.__init__": table(
        models.SemiSupervisedVAE, features=4, latent=2, size=8, classes=2, hidden=[3]
    ),
    "models.SigmoidBeliefNetwork.__init__": table(models.SigmoidBeliefNetwork, visible=4, hidden=[3], size=8),
    "models.SigmoidBeliefNetwork.dream": table(lambda **k: belief().dream(**k), num_samples=2, num_steps=1),
    "models.VAE.__init__": table(models.VAE, features=4, latent=2, size=8, hidden=[3]),
    "models.VAE.from_data": table(partial(models.VAE.from_data, X, hidden=(3,)), latent=2, size=8),
    "models.VAE.test_log_likelihood": loop(lambda **k: vae().test_log_likelihood(X, **k), num_samples=200),
    "models.warm_up": loop(partial(models.warm_up, 3), epochs=4),
    "nn.AutoregressiveNetwork.__init__": table(nn.FVSBN, **AUTOREGRESSIVE),
    "nn.BoltzmannMachine.__init__": table(nn.BoltzmannMachine, features=3, num_steps=1),
    "nn.CPD.__init__": table(nn.LogisticCPD, parent_states=[2], states=2),
    "nn.CausalTransformer.__init__": table(
        nn.CausalTransformer, features=4, hidden_features=4, heads=2, num_layers=1, context=0, feedforward=4
    ),
    "nn.ClassRBM.__init__": table(nn.ClassRBM, visible=3, hidden=2, classes=2, num_steps=1),
    "nn.ConditionalGaussianCPD.__init__": loop(
        partial(nn.ConditionalGaussianCPD, bias=torch.zeros(2)), parent_states=[2]
    ),
    "nn.ConditionalRBM.__init__": table(nn.ConditionalRBM, visible=3, hidden=2, context=2, num_steps=1),
    "nn.ConvolutionalDecoder.__init__": table(
        nn.ConvolutionalDecoder, inputs=2, shape=[4, 4], num_parameters=1, channels=[2], hidden=3
    ),
    "nn.ConvolutionalEncoder.__init__": table(
        nn.ConvolutionalEncoder, shape=[4, 4], outputs=2, channels=[2], hidden=3, width=1
    ),
    "nn.DeepNADE.__init__": table(nn.DeepNADE, **AUTOREGRESSIVE, hidden_features=[3]),
    "nn.Dense.__init__": table(nn.Dense, inputs=3, hidden=[3], outputs=2),
    "nn.DiscreteCPD.__init__": table(nn.LogisticCPD, parent_states=[2], states=2),
    "nn.EoNADE.__init__": loop(partial(nn.EoNADE, nn.DeepNADE(4, 3)), orders=2),
    "nn.FVSBN.__init__": table(nn.FVSBN, **AUTOREGRESSIVE),
    "nn.IndependentPrior.__init__": loop(
        partial(nn.IndependentPrior, conditional=conditionals.BernoulliConditional()), features=3
    ),
    "nn.LogisticCPD.__init__": table(nn.LogisticCPD, parent_states=[2], states=2),
    "nn.MADE.__init__": table(nn.MADE, **AUTOREGRESSIVE, hidden_features=[4]),
    "nn.NADE.__init__": table(nn.NADE, **AUTOREGRESSIVE, hidden_features=3),
    "nn.NeuralCPD.__init__": table(nn.NeuralCPD, parent_states=[2], states=2),
    "nn.PerConditionalMLP.__init__": table(nn.PerConditionalMLP, **AUTOREGRESSIVE, hidden_features=3),
    "nn.PixelCNN.__init__": table(
        nn.PixelCNN, shape=[3, 3], hidden_channels=2, num_layers=1, kernel_size=3, first_kernel_size=3, context=0
    ),
    "nn.RBM.__init__": table(nn.RBM, visible=3, hidden=2, num_steps=1),
    "nn.RBM.from_data": loop(partial(nn.RBM.from_data, X), hidden=2),
    "nn.RecurrentAR.__init__": table(nn.RecurrentAR, **AUTOREGRESSIVE, hidden_features=3, num_layers=1),
    "nn.SequenceAR.__init__": table(nn.SequenceAR, length=3, num_symbols=2, hidden_features=2, num_layers=1, context=0),
    "nn.SequenceAR.of_length": loop(lambda **k: sequence().of_length(**k), length=2),
    "nn.StandardNormal.__init__": loop(nn.StandardNormal, features=3),
    "nn.TabularAR.__init__": table(nn.TabularAR, **AUTOREGRESSIVE),
    "nn.TabularCPD.uniform": table(nn.TabularCPD.uniform, parent_states=[2], states=2),
    "nn.VampPrior.__init__": table(nn.VampPrior, components=2, shape=[3]),
    "testing.enumerate_joint": table(
        partial(testing.enumerate_joint, lambda v, h: v.sum(-1) + h.sum(-1)), visible=2, hidden=2
    ),
    "testing.multinomial_floor": table(
        partial(testing.multinomial_floor, torch.tensor([0.5, 0.5])), num_draws=5, num_repeats=5
    ),
    "testing.states": loop(testing.states, num_bits=2),
    "training.fit": table(fit, num_epochs=1, evaluate_every=1, patience=1, checkpoint_every=1),
}
"""By callable, a call by keyword and a value of each count."""
ELSEWHERE = {
    "arviz.loo_kfold": "tested in arviz/test_leave_one_out.py, which has draws to leave rows out of",
    "arviz.loo_moment_match": "tested in arviz/test_leave_one_out.py",
    "arviz.reloo": "tested in arviz/test_leave_one_out.py",
    "distributions.Likelihood.fitted": "tested in distributions/test_bayesian_network_evidence.py",
    "infer.AnnealedImportance.__init__": "tested in infer/test_annealed.py",
    "models.VAE.simulated_gap": "tested in infer/test_annealed.py",
    "testing.Calibration.__init__": "the ranks must fit; tested in testing/test_calibration.py",
    "testing.joint_distribution_test": "tested in testing/test_calibration.py, with programs of its own",
    "testing.simulation_based_calibration": "tested in testing/test_calibration.py, with programs of its own",
    "training.keep_best": "tested in test_small_sets.py",
    "training.small_batch": "tested in test_small_sets.py",
    "_augmentation.shifted": "the shape of images, compared with the rows",
    "_augmentation.warped": "the shape of images, compared with the rows",
    "datasets.BinaryDataset.__init__": "data, made by `load`",
    "datasets.GrayDataset.__init__": "data, made by `load_gray`",
    "datasets.LabelledImages.__init__": "data, made by `alphadigits`",
    "infer.CategoricalTable.__init__": "data, made by `of`",
    "infer.EdgeConfidence.__init__": "a result",
    "interop.read_rbms": "the number of an update in a file, looked up there",
    "interop.write_rbms": "tested in interop/test_rbms_files.py, which has a file to write",
    "plotting.filters": "tested in test_plotting.py, which has figures to close",
    "plotting.sample_grid": "tested in test_plotting.py, which has figures to close",
    "plotting.mixture": "its columns are numbers of columns, tested in test_plotting.py",
}
"""Callables with counts that are tested elsewhere, or that hold data, and why."""
BAD = (2.5, float("nan"), float("inf"), True, "3", -1, torch.tensor(True), torch.tensor(2.0), np.float64(2.0))
PARAMETERS = [(name, parameter) for name, (_, values) in COUNTS.items() for parameter in values]


def test_every_public_count_is_in_the_table() -> None:
    known = set(PARAMETERS)
    assert {pair for pair in counts() if pair[0] not in ELSEWHERE} == known


def like(value: Any, count: Any) -> Any:
    """A count in the place of another: the last of a sequence, or by itself."""
    return [*value[:-1], count] if isinstance(value, list) else count


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_what_is_no_whole_number_is_named(name: str, parameter: str) -> None:
    call, values = COUNTS[name]
    for bad in BAD:
        if (parameter == "total_count" and isinstance(bad, Tensor)) or (parameter == "nodes" and bad == "3"):
            continue  # a number for each document; a name
        with pytest.raises(ValueError, match=f"`{parameter}`"):
            call(**{parameter: like(values[parameter], bad)})


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_integers_of_numpy_and_torch_are_integers(name: str, parameter: str) -> None:
    pyro.set_rng_seed(0)
    call, values = COUNTS[name]
    value = values[parameter]
    count = value[-1] if isinstance(value, list) else value
    for whole in (np.int64(count), torch.tensor(count)):
        call(**{parameter: like(value, whole)})
