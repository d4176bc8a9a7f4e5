"""The checks of the conformance suite, each a function of a `Case`."""

from collections.abc import Callable

from pyro_gen.testing.case import Case
from pyro_gen.testing.checks import (
    distributions,
    placement,
    programs,
    sampling,
    shapes,
    validation,
)

CHECKS: tuple[Callable[[Case], None], ...] = (
    shapes.check_shapes,
    shapes.check_value_broadcasting,
    shapes.check_batch_elements,
    shapes.check_parameter_broadcasting,
    shapes.check_expand,
    shapes.check_to_event,
    shapes.check_infer_shapes,
    shapes.check_empty,
    shapes.check_strides,
    shapes.check_sample_and_log_prob,
    validation.check_support,
    validation.check_validation,
    validation.check_validation_of_nan,
    validation.check_validation_of_shape,
    validation.check_validation_switched_off,
    validation.check_parameters,
    distributions.check_sums_to_one,
    distributions.check_enumerate_support,
    distributions.check_gradients,
    distributions.check_pure,
    distributions.check_update,
    distributions.check_entropy,
    distributions.check_kl_divergence,
    distributions.check_moments,
    sampling.check_goodness_of_fit,
    sampling.check_independence,
    sampling.check_reproducible,
    placement.check_dtype,
    placement.check_device,
    placement.check_pickle,
    programs.check_mask,
    programs.check_plates,
    programs.check_particles,
    programs.check_mixture,
    programs.check_enumeration,
    programs.check_infer_discrete,
    programs.check_predictive,
    programs.check_inspect,
    programs.check_render_model,
)

__all__ = ["CHECKS"]
