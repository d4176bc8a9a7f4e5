"""Learning and sampling: negative phases, partition functions, gradients, MCMC kernels."""

from pyro_gen.distributions.energy.fast_weights import FastPersistentChains
from pyro_gen.distributions.log_z.annealing import AIS
from pyro_gen.distributions.log_z.negative_phase import (
    ContrastiveDivergence,
    NegativePhase,
    PersistentChains,
)
from pyro_gen.distributions.log_z.partition import Exact, Partition
from pyro_gen.distributions.log_z.tempering import TemperedChains
from pyro_gen.distributions.log_z.weighted_chains import WeightedChains
from pyro_gen.infer import structure
from pyro_gen.infer.bayesian_network import (
    AmortisedPosterior,
    belief_propagation,
    gibbs_marginals,
    likelihood_weighting,
)
from pyro_gen.infer.elbo.annealed import AnnealedImportance
from pyro_gen.infer.elbo.importance import lower_bound, row_weights
from pyro_gen.infer.elbo.importance_weighted import (
    DoublyReparametrizedELBO,
    ImportanceWeightedELBO,
    StickingTheLandingELBO,
)
from pyro_gen.infer.elbo.wake_sleep import WakeSleep
from pyro_gen.infer.energy.bracket import log_partition_bracket
from pyro_gen.infer.energy.contrastive import contrastive_gradient
from pyro_gen.infer.energy.likelihood import free_energy_gap, log_likelihood
from pyro_gen.infer.energy.missing import Completions
from pyro_gen.infer.energy.moments import moment_gradient
from pyro_gen.infer.energy.population import population_annealing
from pyro_gen.infer.mcmc.block_gibbs import BlockGibbs
from pyro_gen.infer.mcmc.cluster import SwendsenWang
from pyro_gen.infer.mcmc.expectation import effective_sample_size, expectation
from pyro_gen.infer.mcmc.gibbs import CustomGibbs, DiscreteGibbs, Gibbs
from pyro_gen.infer.mcmc.gibbs_sampler import GibbsSampler
from pyro_gen.infer.mcmc.inverse_transform import inverse_transform
from pyro_gen.infer.mcmc.relabelling import (
    order_components,
    permute_assignments,
    permute_components,
    permute_draws,
    relabel_by_probabilities,
    relabel_iteratively,
)

__all__ = [
    "AIS",
    "AmortisedPosterior",
    "AnnealedImportance",
    "BlockGibbs",
    "Completions",
    "ContrastiveDivergence",
    "CustomGibbs",
    "DiscreteGibbs",
    "DoublyReparametrizedELBO",
    "Exact",
    "FastPersistentChains",
    "Gibbs",
    "GibbsSampler",
    "ImportanceWeightedELBO",
    "NegativePhase",
    "Partition",
    "PersistentChains",
    "StickingTheLandingELBO",
    "SwendsenWang",
    "TemperedChains",
    "WakeSleep",
    "WeightedChains",
    "belief_propagation",
    "contrastive_gradient",
    "effective_sample_size",
    "expectation",
    "free_energy_gap",
    "gibbs_marginals",
    "inverse_transform",
    "likelihood_weighting",
    "log_likelihood",
    "log_partition_bracket",
    "lower_bound",
    "moment_gradient",
    "order_components",
    "permute_assignments",
    "permute_components",
    "permute_draws",
    "population_annealing",
    "relabel_by_probabilities",
    "relabel_iteratively",
    "row_weights",
    "structure",
]
