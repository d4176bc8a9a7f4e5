"""Unit types: the values that the units of one layer can take, and their distribution.

A layer with field (natural parameter) f and states x has the factor exp(x . f -
U(x)) in the joint, with U the energy of the unit type. A unit type defines U,
the cumulant log sum_x exp(x . f - U(x)), the distribution of x given f, how to
draw it from uniforms, and its states if they are finitely many.
"""

from pyro_gen.distributions.units.base import UnitLayer, Units
from pyro_gen.distributions.units.binary import BernoulliUnits, SpinUnits
from pyro_gen.distributions.units.continuous import GaussianUnits, ReLUUnits
from pyro_gen.distributions.units.counts import MultinomialUnits, NReLUUnits, PottsUnits

__all__ = [
    "BernoulliUnits",
    "GaussianUnits",
    "MultinomialUnits",
    "NReLUUnits",
    "PottsUnits",
    "ReLUUnits",
    "SpinUnits",
    "UnitLayer",
    "Units",
]
