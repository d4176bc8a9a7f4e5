"""The conformance suite: exact oracles, and checks of any distribution for Pyro.

A `Case` describes a distribution, `CHECKS` lists the checks, and `check_all` runs them.
Each check returns nothing where the case conforms, raises `AssertionError` where it
does not, and `Inapplicable` where there is nothing to check.

Example:
    >>> import pyro.distributions as dist
    >>> case = Case("coin", dist.Bernoulli, normal_parameters(logits=()))
    >>> for check in CHECKS[:3]:
    ...     check(case)
"""

from pyro_gen.testing.calibration import (
    Calibration,
    joint_distribution_test,
    rank_among,
    simulation_based_calibration,
)
from pyro_gen.testing.case import Case, Inapplicable, normal_parameters, seeded
from pyro_gen.testing.checks import CHECKS
from pyro_gen.testing.enumeration import (
    Joint,
    enumerate_joint,
    exact_log_probs,
    frequencies,
    goodness_of_fit,
    multinomial_floor,
    state_index,
    states,
    total_variation,
)


def check_all(case: Case) -> None:
    """Run every check that applies to a distribution.

    Args:
        case: the distribution.

    Raises:
        AssertionError: with one line for each check that fails.

    Example:
        >>> import pyro.distributions as dist
        >>> check_all(Case("coin", dist.Bernoulli, normal_parameters(logits=())))
    """
    failures = []
    for check in CHECKS:
        try:
            check(case)
        except Inapplicable:
            continue
        except AssertionError as error:
            failures.append(str(error))
    if failures:
        raise AssertionError("\n".join(failures))


__all__ = [
    "CHECKS",
    "Calibration",
    "Case",
    "Inapplicable",
    "Joint",
    "check_all",
    "enumerate_joint",
    "exact_log_probs",
    "frequencies",
    "goodness_of_fit",
    "joint_distribution_test",
    "multinomial_floor",
    "normal_parameters",
    "rank_among",
    "seeded",
    "simulation_based_calibration",
    "state_index",
    "states",
    "total_variation",
]
