"""The int8x2 format: known values, bounds, the ends of float32, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_gen.kernels.quantise import LARGEST, MOST_TERMS, SplitWeight, merge, split
from tests.kernels.test_gibbs import layouts

TINY = torch.finfo(torch.float32).tiny


def integers(planes: SplitWeight) -> Tensor:
    return planes.hi.long() * 256 + planes.lo


@pytest.mark.parametrize(
    ("q", "hi", "lo"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (-1, 0, -1),
        (127, 0, 127),
        (128, 1, -127),  # -128 is clamped
        (129, 1, -127),
        (-127, 0, -127),
        (-128, 0, -127),
        (-129, -1, 127),
        (255, 1, -1),
        (256, 1, 0),
        (-256, -1, 0),
        (32511, 127, -1),
        (32512, 127, 0),
        (32639, 127, 127),
        (-32639, -127, -127),
        (-32512, -127, 0),
    ],
)
def test_known_integers_split_into_known_planes(q: int, hi: int, lo: int) -> None:
    planes = split(torch.tensor([float(q), float(LARGEST)]))  # the scale is 1
    assert planes.scale.item() == 1
    assert (planes.hi[0].item(), planes.lo[0].item()) == (hi, lo)


@pytest.mark.parametrize(("value", "q"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (0.75, 1)])
def test_halves_are_rounded_to_even(value: float, q: int) -> None:
    assert integers(split(torch.tensor([value, float(LARGEST)])))[0] == q


def test_every_integer_has_its_planes() -> None:
    q = torch.arange(-LARGEST, LARGEST + 1)
    planes = split(q.float())
    for plane in planes[:2]:
        assert plane.dtype == torch.int8
        assert plane.abs().max() == 127
        assert plane.min() == -127
    clamped = (q + 128) % 256 == 0
    assert torch.equal(integers(planes), q + clamped)
    assert torch.equal(merge(planes), (q + clamped).float())


@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e30])
def test_the_quantised_weight_is_near_and_its_scale_is_that_of_the_largest_entry(spread: float) -> None:
    weight = torch.randn(300, 200) * spread
    planes = split(weight)
    assert planes.scale.dtype == torch.float32
    assert planes.scale.shape == ()
    assert planes.scale == weight.abs().max() / LARGEST
    assert integers(planes).abs().max() == LARGEST
    error = (merge(planes, torch.float64) - weight.double()).abs() / planes.scale.double()
    clamped = planes.lo == -127
    assert error[~clamped].max() <= 0.5 + 2e-3  # 32639 roundings of float32 in the division
    assert error.max() <= 1.5
    torch.testing.assert_close(merge(planes), weight, rtol=0, atol=1.5 * planes.scale.item())


def test_the_sign_of_a_weight_does_not_matter_but_where_lo_is_clamped() -> None:
    weight = torch.randn(100, 100)
    there, back = split(weight), split(-weight)
    q = (weight / there.scale).round().int()
    free = ((q + 128) % 256 != 0) & ((128 - q) % 256 != 0)
    assert torch.equal(there.scale, back.scale)
    assert torch.equal(integers(there)[free], -integers(back)[free])
    assert free.float().mean() > 0.95


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (4, 3)])
def test_zero_weights_have_scale_one(shape: tuple[int, ...]) -> None:
    hi, lo, scale = split(torch.zeros(shape))
    assert scale == 1
    assert hi.shape == lo.shape == shape
    assert not hi.any()
    assert not lo.any()


@pytest.mark.parametrize("largest", [1e-45, 1e-40, TINY, 1e-36, 3e-34, 5e-34])
def test_weights_at_the_end_of_float32_stay_within_one_scale(largest: float) -> None:
    weight = torch.linspace(-1, 1, 101) * largest
    planes = split(weight)
    assert planes.scale == max(TINY, largest / LARGEST) or planes.scale == weight.max() / LARGEST
    assert planes.scale >= TINY
    assert (merge(planes, torch.float64) - weight.double()).abs().max() <= 1.5 * planes.scale.item()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_numbers_that_are_not_finite_in_float32_are_refused(wrong: float) -> None:
    weight = torch.zeros(3, 2, dtype=torch.float64)
    weight[1, 1] = wrong
    with pytest.raises(ValueError, match="`weight` must be finite in float32 to be quantised, got"):
        split(weight)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_other_than_floating_weights_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"`weight` must be of a floating dtype to be quantised, got {dtype}"):
        split(torch.zeros(2, 2, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_dtype_is_quantised_as_float32(dtype: torch.dtype) -> None:
    weight = torch.randn(20, 30).to(dtype)
    for one, other in zip(split(weight), split(weight.float()), strict=True):
        assert torch.equal(one, other)


def test_layout_and_gradient_do_not_matter_to_the_planes() -> None:
    weight = torch.randn(20, 30)
    expected = split(weight)
    for odd in [*layouts(weight), weight.clone().requires_grad_()]:
        planes = split(odd)
        assert not planes.scale.requires_grad
        for one, other in zip(planes, expected, strict=True):
            assert torch.equal(one, other)
            assert one.is_contiguous()
    rows = split(weight[:1].expand(20, -1))
    assert torch.equal(integers(rows), integers(split(weight[:1])).expand(20, -1))


def test_quantising_twice_changes_nothing() -> None:
    planes = split(torch.randn(50, 40))
    assert torch.equal(integers(split(merge(planes))), integers(planes))


def test_the_largest_sum_is_just_below_the_largest_int32() -> None:
    assert MOST_TERMS * LARGEST < 2**31 <= (MOST_TERMS + 1) * LARGEST
