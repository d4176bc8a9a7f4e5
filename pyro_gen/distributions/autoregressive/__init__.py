"""Densities that are products of conditional distributions."""
