"""Standard errors of log likelihoods: over the rows, and of log Z."""

from __future__ import annotations

from torch import Tensor

from pyro_gen.distributions.estimate import Estimate


def error_over_rows(rows: Tensor) -> float:
    """Standard error of the mean over rows; NaN for one row.

    Args:
        rows: a value each, (rows,).
    """
    if len(rows) > 1:
        return (rows.std() / len(rows) ** 0.5).item()
    return float("nan")


def error_of_partition(partition: Estimate | None) -> float:
    """Standard error of log Z, which all rows share; 0 without log Z.

    Args:
        partition: the estimate, or None where a model is normalised.
    """
    if partition is None:
        return 0.0
    return partition.standard_error.item()


__all__ = ["error_of_partition", "error_over_rows"]
