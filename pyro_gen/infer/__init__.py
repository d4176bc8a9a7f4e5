"""Learning and sampling: negative phases, partition functions, the custom gradient step, MCMC kernels."""

from pyro_gen.distributions.annealing import AIS
from pyro_gen.distributions.fast_weights import FastPersistentChains
from pyro_gen.distributions.negative_phase import ContrastiveDivergence, NegativePhase, PersistentChains
from pyro_gen.distributions.partition import Exact, Partition
from pyro_gen.distributions.tempering import TemperedChains
from pyro_gen.distributions.weighted_chains import WeightedChains
from pyro_gen.infer import structure
from pyro_gen.infer.annealed import AnnealedImportance
from pyro_gen.infer.block_gibbs import BlockGibbs
from pyro_gen.infer.bracket import log_partition_bracket
from pyro_gen.infer.cluster import SwendsenWang
from pyro_gen.infer.contrastive import contrastive_gradient
from pyro_gen.infer.expectation import effective_sample_size, expectation
from pyro_gen.infer.gibbs import CustomGibbs, DiscreteGibbs, Gibbs
from pyro_gen.infer.gibbs_sampler import GibbsSampler
from pyro_gen.infer.importance import lower_bound, row_weights
from pyro_gen.infer.importance_weighted import (
    DoublyReparametrizedELBO,
    ImportanceWeightedELBO,
    StickingTheLandingELBO,
)
from pyro_gen.infer.inverse_transform import inverse_transform
from pyro_gen.infer.likelihood import free_energy_gap, log_likelihood
from pyro_gen.infer.missing import Completions
from pyro_gen.infer.moments import moment_gradient
from pyro_gen.infer.network import (
    AmortisedPosterior,
    belief_propagation,
    gibbs_marginals,
    likelihood_weighting,
)
from pyro_gen.infer.population import population_annealing
from pyro_gen.infer.relabelling import (
    order_components,
    permute_assignments,
    permute_components,
    permute_draws,
    relabel_by_probabilities,
    relabel_iteratively,
)
from pyro_gen.infer.wake_sleep import WakeSleep

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
