"""Gibbs sampling of any Pyro model: by enumeration, by gradients, or by a function."""

from pyro_gen.infer.mcmc.gibbs.blocks import CustomGibbs
from pyro_gen.infer.mcmc.gibbs.discrete import DiscreteGibbs
from pyro_gen.infer.mcmc.gibbs.kernel import Gibbs, SweepInfo, SweepState

__all__ = ["CustomGibbs", "DiscreteGibbs", "Gibbs", "SweepInfo", "SweepState"]
