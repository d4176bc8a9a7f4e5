"""Boltzmann machines: distributions given by an energy."""
