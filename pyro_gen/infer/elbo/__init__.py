"""Importance-weighted objectives and estimates of log p(x)."""
