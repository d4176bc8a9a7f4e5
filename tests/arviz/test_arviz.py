"""The bridge to ArviZ must serve both of its lines, and fail with words.

The suite runs with the line that the constraints name for this Python; ``tools/test_arviz1.sh`` runs this file again
with ArviZ 1.x in a virtual environment of its own.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gen.arviz import from_chains, to_netcdf

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # once a day ArviZ 0.23 announces 1.0
    import arviz

PIXELS = torch.arange(2 * 12 * 6).reshape(2, 12, 6).float()
DIMS = {"v": ["row", "column"]}
COORDS = {"row": 2, "column": 3}


def values(result: Any, name: str) -> np.ndarray:
    """The values of a statistic: ArviZ 0.2x returns a Dataset, 1.x a DataTree that may keep the group."""
    return np.asarray(result[name] if name in result else result["posterior"][name])


def test_the_line_decides_the_type() -> None:
    kind = "DataTree" if int(arviz.__version__.split(".")[0]) >= 1 else "InferenceData"
    assert type(from_chains({"v": PIXELS})).__name__ == kind


def test_dimensions_are_named_in_order_and_values_kept() -> None:
    posterior = from_chains({"v": PIXELS, "energy": PIXELS[..., 0]})["posterior"]
    assert posterior["v"].dims == ("chain", "draw", "v_dim_0")
    assert posterior["energy"].dims == ("chain", "draw")
    assert posterior["draw"].values.tolist() == list(range(12))
    np.testing.assert_array_equal(posterior["v"].values, PIXELS.numpy())


def test_a_flat_site_unfolds_into_an_image_row_by_row() -> None:
    v = from_chains({"v": PIXELS}, dims=DIMS, coords=COORDS)["posterior"]["v"]
    assert v.dims == ("chain", "draw", "row", "column")
    np.testing.assert_array_equal(v.values[1, 5], PIXELS[1, 5].reshape(2, 3).numpy())


def test_coordinates_may_be_labels_and_sites_may_come_unfolded() -> None:
    labels: dict[str, Any] = {"row": ["top", "bottom"], "column": np.array([10, 20, 30])}
    v = from_chains({"v": PIXELS.reshape(2, 12, 2, 3)}, dims=DIMS, coords=labels)["posterior"]["v"]
    assert v.sel(row="bottom", column=20, chain=0, draw=0).item() == 4
    named = from_chains({"v": PIXELS}, dims={"v": ["unit"]})["posterior"]["v"]
    assert named.sizes["unit"] == 6


def test_thinning_keeps_every_kth_draw_and_its_number() -> None:
    data = from_chains({"v": PIXELS}, sample_stats={"accepted": PIXELS[..., 0] > 3}, thin=5)
    assert data["posterior"]["draw"].values.tolist() == [0, 5, 10]
    np.testing.assert_array_equal(data["posterior"]["v"].values, PIXELS.numpy()[:, ::5])
    assert data["sample_stats"]["accepted"].values.tolist() == [[False, True, True], [True] * 3]
    assert data["sample_stats"]["accepted"].dtype == bool


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.bool]
)
def test_zeros_and_ones_are_small_and_signed(dtype: torch.dtype) -> None:
    v = from_chains({"v": (PIXELS % 2).to(dtype)})["posterior"]["v"]
    assert v.dtype == np.int8
    np.testing.assert_array_equal(v.values, (PIXELS % 2).numpy())


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float64, "float64"), (torch.float32, "float32"), (torch.bfloat16, "float32"), (torch.int64, "int64")],
)
def test_other_values_keep_their_type(dtype: torch.dtype, kept: str) -> None:
    v = from_chains({"v": (PIXELS % 3).to(dtype)})["posterior"]["v"]
    assert v.dtype == kept
    np.testing.assert_array_equal(v.values, (PIXELS % 3).numpy())


def test_missing_values_are_not_taken_for_zeros_and_ones() -> None:
    v = (PIXELS % 2).clone()
    v[0, 0, 0] = torch.nan
    assert from_chains({"v": v})["posterior"]["v"].isnull().sum() == 1


def test_draws_may_require_gradients_or_be_arrays() -> None:
    data = from_chains({"a": PIXELS.clone().requires_grad_(), "b": PIXELS.half().numpy(), "c": -PIXELS.conj()})
    for name, sign in (("a", 1), ("b", 1), ("c", -1)):
        np.testing.assert_array_equal(data["posterior"][name].values, sign * PIXELS.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_draws_may_lie_on_another_device() -> None:
    np.testing.assert_array_equal(from_chains({"v": PIXELS.cuda()})["posterior"]["v"].values, PIXELS.numpy())


def test_attributes_are_added_to_who_made_it() -> None:
    attrs = from_chains({"v": PIXELS}, attrs={"seed": 7})["posterior"].attrs
    assert attrs["seed"] == 7
    assert attrs["inference_library"] == "pyro-ppl"


def test_diagnostics_see_the_chains() -> None:
    generator = torch.Generator().manual_seed(1)
    fresh = torch.rand(4, 500, generator=generator)
    stuck = fresh + torch.arange(4.0)[:, None]
    slow = torch.randn(4, 500, generator=generator).cumsum(1)
    data = from_chains({"fresh": fresh, "stuck": stuck, "slow": slow, "bits": fresh.round()})
    rhat, ess = arviz.rhat(data), arviz.ess(data)
    assert values(rhat, "fresh") < 1.02
    assert values(rhat, "stuck") > 1.5
    assert values(ess, "fresh") > 1000
    assert values(ess, "slow") < 100
    as_float = from_chains({"bits": fresh.round() * 2})  # affine, so its ESS is the same; not compacted
    assert as_float["posterior"]["bits"].dtype == np.float32
    np.testing.assert_allclose(values(ess, "bits"), values(arviz.ess(as_float), "bits"), rtol=1e-6)
    assert set(arviz.summary(data).index) == {"fresh", "stuck", "slow", "bits"}


@pytest.mark.smoke
def test_a_file_is_small_and_comes_back_as_it_was(tmp_path: Path) -> None:
    v = (torch.rand(4, 100, 320, generator=torch.Generator().manual_seed(0)) < 0.2).float().repeat_interleave(10, 1)
    stats, sizes = {"accepted": v[..., 0] > 0}, {"row": 20, "column": 16}
    data = from_chains({"v": v, "energy": v.sum(-1)}, sample_stats=stats, dims=DIMS, coords=sizes)
    path = tmp_path / "new folder" / "chains.nc"
    to_netcdf(data, path)
    back = arviz.from_netcdf(path)
    for group, name in (("posterior", "v"), ("posterior", "energy"), ("sample_stats", "accepted")):
        before, after = data[group][name], back[group][name]
        assert (after.dims, after.dtype) == (before.dims, before.dtype)
        np.testing.assert_array_equal(after.values, before.values)
    assert back["posterior"]["row"].values.tolist() == list(range(20))
    getattr(back, "close", lambda: None)()
    assert path.stat().st_size < v.numel() / 8  # less than a bit a pixel, all else included
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "chains.nc"
    path.write_bytes(b"precious")
    data = from_chains({"v": PIXELS})
    data["posterior"].attrs["unwritable"] = {"a": object()}
    with pytest.raises(Exception, match=r"(?i)attr|type"):
        to_netcdf(data, path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no site": ({"draws": {}}, "at least one site"),
    "one dimension": ({"draws": {"v": PIXELS[0, 0]}}, r"`draws` 'v' must have shape \(chain, draw, ...\).* got \(6,\)"),
    "empty": ({"draws": {"v": PIXELS[:, :0]}}, r"none empty, got \(2, 0, 6\)"),
    "draws": ({"draws": {"v": PIXELS, "w": PIXELS[:, 1:]}}, r"\(2, 12\) for 'v' and \(2, 11\) for 'w'"),
    "chains": ({"draws": {"v": PIXELS, "w": PIXELS[1:]}}, r"\(2, 12\) for 'v' and \(1, 12\) for 'w'"),
    "statistics": ({"sample_stats": {"lp": PIXELS[:, 1:, 0]}}, r"\(2, 12\) for 'v' and \(2, 11\) for 'lp'"),
    "site": ({"dims": {"w": ["row"]}}, r"`dims` must name sites among \['v'\], got unknown \['w'\]"),
    "coordinate": (
        {"coords": {"rwo": 2}, "dims": {"v": ["row"]}},
        r"`coords` must belong .* \['row'\], got unknown \['rwo'\]",
    ),
    "reserved": ({"dims": {"v": ["draw"]}}, r"`dims` of 'v' must differ .* got \['draw'\]"),
    "repeated": ({"dims": {"v": ["a", "a"]}}, r"must differ .* got \['a', 'a'\]"),
    "label count": (
        {"dims": {"v": ["row"]}, "coords": {"row": ["a", "b"]}},
        "'row' must have 6 labels to fit 'v', got 2",
    ),
    "no size": (
        {"dims": {"v": ["row", "column"]}, "coords": {"row": 2}},
        r"must give the size of \['column'\] to unfold 'v'",
    ),
    "product": (
        {"dims": {"v": ["row", "column"]}, "coords": {"row": 2, "column": 4}},
        r"sizes \(2, 4\) must fit the shape of 'v', got \(6,\)",
    ),
    "too few names": (
        {"draws": {"v": PIXELS[..., None]}, "dims": {"v": ["row"]}},
        r"must fit the shape of .v., got \(6, 1\)",
    ),
    "thin": ({"thin": 0}, "`thin` must be at least 1, got 0"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_named(mistake: str) -> None:
    change, message = WRONG[mistake]
    arguments: dict[str, Any] = {"draws": {"v": PIXELS}} | change
    with pytest.raises(ValueError, match=message):
        from_chains(**arguments)


def test_exchanged_chains_and_draws_are_suspected() -> None:
    with pytest.warns(UserWarning, match=r"more chains \(12\) than draws \(2\)"):
        from_chains({"v": PIXELS.transpose(0, 1)})


def test_without_arviz_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install pyro-gen\[arviz\]"):
        from_chains({"v": PIXELS})
