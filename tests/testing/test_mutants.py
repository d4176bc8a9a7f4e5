"""The conformance suite can fail: a correct distribution passes all checks, and each single mistake is caught."""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import pytest
from pyro.distributions import TorchDistribution

from pyro_gen.testing import CHECKS, Case, Inapplicable, normal_parameters, states
from tests.testing import table

Check = Callable[[Case], None]
BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}

MUTANTS = [
    (table.Unnormalised, "sums_to_one"),
    (table.HalfNormalised, "sums_to_one"),
    (table.BiasedSampler, "goodness_of_fit"),
    (table.IgnoredSampleShape, "shapes"),
    (table.IdenticalDraws, "goodness_of_fit"),
    (table.IdenticalRows, "independence"),
    (table.StickyChain, "independence"),
    (table.SharedUniforms, "independence"),
    (table.NumpySampler, "reproducible"),
    (table.OwnSeed, "reproducible"),
    (table.ExpandDropsParameters, "expand"),
    (table.ExpandDropsValidation, "expand"),
    (table.ExpandDropsEventShape, "expand"),
    (table.ExpandDropsType, "expand"),
    (table.MissingValidation, "validation"),
    (table.AnyCellValidates, "validation"),
    (table.NaNAccepted, "validation_of_nan"),
    (table.AlwaysValidates, "validation_switched_off"),
    (table.Unconstrained, "parameters"),
    (table.WrongConstraint, "parameters"),
    (table.WrongEventDim, "shapes"),
    (table.CPUTensor, "device"),
    (table.CPUSupport, "device"),
    (table.Float32Samples, "dtype"),
    (table.Float32LogProb, "sums_to_one"),
    (table.RandomLogProb, "pure"),
    (table.CountingLogProb, "pure"),
    (table.FirstBatchElementOnly, "batch_elements"),
    (table.EnumerateIgnoresExpand, "enumerate_support"),
    (table.EnumerateMissesState, "enumerate_support"),
    (table.EnumerateRepeatsState, "enumerate_support"),
    (table.WrongEntropy, "entropy"),
    (table.WrongKL, "kl_divergence"),
    (table.WrongMean, "moments"),
    (table.BrokenPickle, "pickle"),
    (table.DetachedGradient, "gradients"),
    (table.DetachedNormaliser, "gradients"),
    (table.BatchOfFirstParameter, "infer_shapes"),
    (table.ValueNotBroadcast, "value_broadcasting"),
    (table.ContiguousOnly, "strides"),
    (table.WrongFusedLogProb, "sample_and_log_prob"),
    (table.BatchShapeOfFirstParameter, "parameter_broadcasting"),
    (table.ExpandToAnything, "expand"),
    (table.WrongEventDim, "to_event"),
    (table.TorchSupport, "empty"),
    (table.ContinuousSupport, "support"),
    (table.ShapeNotValidated, "validation_of_shape"),
    (table.MaskIgnored, "mask"),
    (table.ExpandDropsParameters, "plates"),
    (table.FirstBatchElementOnly, "particles"),
    (table.FirstBatchElementOnly, "mixture"),
    (table.EnumerateMissesState, "enumeration"),
    (table.FirstBatchElementOnly, "infer_discrete"),
    (table.OwnSeed, "predictive"),
    (table.LosesProvenance, "inspect"),
    (table.LosesProvenance, "render_model"),
    (table.StaleNormaliser, "update"),
]


def case_of(distribution: type[TorchDistribution]) -> Case:
    return Case(distribution.__name__, distribution, normal_parameters(logits=(8,), tilt=(3,)), states(3))


CORRECT = [
    case_of(table.TableBernoulli),
    Case("Bernoulli", dist.Bernoulli, normal_parameters(logits=())),
]


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
@pytest.mark.parametrize("case", CORRECT, ids=lambda case: case.name)
def test_correct_distribution_passes(case: Case, check: Check) -> None:
    try:
        check(case)
    except Inapplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("mutant", "name"), MUTANTS, ids=lambda x: getattr(x, "__name__", x))
def test_mutant_is_caught(mutant: type[TorchDistribution], name: str) -> None:
    with pytest.raises(AssertionError, match=mutant.__name__):
        BY_NAME[name](case_of(mutant))


def test_every_check_catches_a_mutant() -> None:
    assert {name for _, name in MUTANTS} == set(BY_NAME)
