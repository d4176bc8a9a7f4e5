"""Learning and sampling: negative phases, partition functions, the custom gradient step, MCMC kernels."""

from pyro_gen.distributions.annealing import AIS
from pyro_gen.distributions.negative_phase import ContrastiveDivergence, NegativePhase, PersistentChains
from pyro_gen.distributions.partition import Exact, LogPartition, Partition
from pyro_gen.infer.block_gibbs import BlockGibbs, GibbsInfo, GibbsState
from pyro_gen.infer.bracket import Bracket, log_partition_bracket
from pyro_gen.infer.contrastive import contrastive_gradient
from pyro_gen.infer.likelihood import FreeEnergyGap, LogLikelihood, free_energy_gap, log_likelihood
from pyro_gen.infer.population import population_annealing

__all__ = [
    "AIS",
    "BlockGibbs",
    "Bracket",
    "ContrastiveDivergence",
    "Exact",
    "FreeEnergyGap",
    "GibbsInfo",
    "GibbsState",
    "LogLikelihood",
    "LogPartition",
    "NegativePhase",
    "Partition",
    "PersistentChains",
    "contrastive_gradient",
    "free_energy_gap",
    "log_likelihood",
    "log_partition_bracket",
    "population_annealing",
]
