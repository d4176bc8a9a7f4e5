"""Bayesian networks with nodes that learn."""
