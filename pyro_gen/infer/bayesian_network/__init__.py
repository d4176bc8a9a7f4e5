"""Approximate inference in Bayesian networks whose cliques are too large for exact answers."""

from pyro_gen.infer.bayesian_network.amortised import AmortisedPosterior
from pyro_gen.infer.bayesian_network.belief_propagation import BeliefMarginals, belief_propagation
from pyro_gen.infer.bayesian_network.gibbs import GibbsMarginals, gibbs_marginals
from pyro_gen.infer.bayesian_network.weighting import WeightedMarginals, likelihood_weighting

__all__ = [
    "AmortisedPosterior",
    "BeliefMarginals",
    "GibbsMarginals",
    "WeightedMarginals",
    "belief_propagation",
    "gibbs_marginals",
    "likelihood_weighting",
]
