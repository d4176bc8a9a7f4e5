"""Markov chain Monte Carlo kernels for Pyro."""
