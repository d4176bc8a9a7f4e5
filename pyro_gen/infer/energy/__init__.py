"""Learning and evaluation of Boltzmann machines."""
