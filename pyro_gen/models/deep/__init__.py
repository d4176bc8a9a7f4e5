"""Deep belief networks and deep Boltzmann machines."""
