"""Attributes and labels are settled when groups are made: a run that has been converted can be saved.

``make test-arviz1`` runs this file again with ArviZ 1.x.
"""

from __future__ import annotations

import datetime
import json
import math
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from pyro_gen.arviz import from_chains, from_cpds, from_mcmc, from_predictive, from_svi, to_netcdf
from pyro_gen.models import BayesianNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # once a day ArviZ 0.23 announces 1.0
    import arviz

X = torch.tensor([0.1, -0.4, 0.3])


def model(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def by_mcmc(attrs: dict[str, Any]) -> Any:
    mcmc = MCMC(NUTS(model), num_samples=4, warmup_steps=2, disable_progbar=True)
    mcmc.run(X)
    return from_mcmc(mcmc, attrs=attrs)


def by_svi(attrs: dict[str, Any]) -> Any:
    guide = AutoNormal(model)
    guide(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an untrained guide has a heavy tail
        return from_svi(model, guide, X, num_samples=30, attrs=attrs)


def by_predictive(attrs: dict[str, Any]) -> Any:
    samples = {"mu": torch.zeros(3)}
    return from_predictive(Predictive(model, samples)(X), attrs=attrs)


def by_cpds(attrs: dict[str, Any]) -> Any:
    network = BayesianNetwork(nx.DiGraph([("a", "b")]))
    rows = {"a": torch.tensor([0, 1]), "b": torch.tensor([1, 1])}
    return from_cpds(network.sample_cpds(rows, num_samples=5), attrs=attrs)


CONVERTERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "from_chains": lambda attrs: from_chains({"v": torch.zeros(2, 10, 3)}, attrs=attrs),
    "from_mcmc": by_mcmc,
    "from_svi": by_svi,
    "from_predictive": by_predictive,
    "from_cpds": by_cpds,
}

ATTRS: dict[str, Any] = {
    "text": "a run",
    "empty": "",
    "whole": 3,
    "huge": 2**70,
    "real": 0.5,
    "nan": math.nan,
    "none": None,
    "true": True,
    "numpy truth": np.bool_(False),
    "numpy": np.float32(0.25),
    "nested": {"seed": 3, "sizes": [1, 2], "centred": False, "rate": None},
    "words": ["a", "b"],
    "numbers": (1, 2.5),
    "truths": [True, False],
    "mixed": [1, "a", None],
    "nothing": [],
    "table": np.ones((2, 2)),
    "tensor": torch.arange(3),
    "scalar tensor": torch.tensor(1.5),
    "day": datetime.date(2026, 12, 1),
    "moment": datetime.datetime(2026, 12, 1, 2, 30),
    "numpy day": np.datetime64("2026-12-01"),
    "path": pathlib.PurePosixPath("out/run.nc"),
    "set": {"b", "a"},
    "huge in a list": [2**70, 1],
}


def attributes(data: Any, path: pathlib.Path) -> dict[str, Any]:
    """Attributes of the first group, after a file."""
    to_netcdf(data, str(path))
    read = arviz.from_netcdf(str(path))
    group = "posterior" if hasattr(read, "posterior") else "posterior_predictive"
    return dict(read[group].attrs)


def test_every_converter_is_in_the_table() -> None:
    import pyro_gen.arviz as bridge

    assert {name for name in bridge.__all__ if name.startswith("from_")} == set(CONVERTERS)


@pytest.mark.parametrize("name", CONVERTERS)
def test_attributes_of_every_kind_are_saved_and_come_back(name: str, tmp_path: pathlib.Path) -> None:
    pyro.set_rng_seed(0)
    attrs = attributes(CONVERTERS[name](ATTRS), tmp_path / "run.nc")
    assert attrs["text"] == "a run"
    assert attrs["whole"] == 3
    assert attrs["huge"] == str(2**70)
    assert attrs["real"] == 0.5
    assert math.isnan(attrs["nan"])
    assert attrs["numpy"] == 0.25
    assert list(attrs["words"]) == ["a", "b"]
    assert list(attrs["numbers"]) == [1, 2.5]
    assert list(attrs["tensor"]) == [0, 1, 2]
    assert attrs["day"] == "2026-12-01"
    assert attrs["moment"] == "2026-12-01T02:30:00"
    assert attrs["numpy day"] == "2026-12-01"
    assert attrs["path"] == "out/run.nc"
    for key, value in {"none": None, "true": True, "numpy truth": False, "nothing": [], "set": ["a", "b"]}.items():
        read = attrs[key] if key == "set" else json.loads(attrs[key])
        assert (list(read) if key == "set" else read) == value
    assert json.loads(attrs["nested"]) == ATTRS["nested"]
    assert json.loads(attrs["mixed"]) == ATTRS["mixed"]
    assert json.loads(attrs["huge in a list"]) == [2**70, 1]
    assert json.loads(attrs["truths"]) == [True, False]
    assert json.loads(attrs["table"]) == [[1, 1], [1, 1]]


@pytest.mark.parametrize("value", [object(), 1j, b"bytes", torch.zeros(2, dtype=torch.complex64), {"a": object()}])
@pytest.mark.parametrize("name", CONVERTERS)
def test_attributes_without_a_form_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"`attrs` must hold numbers, text, dates.*got note="):
        CONVERTERS[name]({"note": value})


CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE


@pytest.mark.parametrize(
    ("value", "words"), [("a\0b", "without NUL"), ("\ud800", "UTF-8"), (["a\0"], "NUL"), (CIRCLE, "contain themselves")]
)
def test_text_that_no_file_takes_and_circles_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_chains({"v": torch.zeros(2, 10, 3)}, attrs={"note": value})


@pytest.mark.parametrize("name", [3, "", "a/b", None, "CLASS", "_NCProperties", "a\0"])
def test_names_of_attributes_are_text(name: Any) -> None:
    with pytest.raises(ValueError, match="`attrs` must have names of text"):
        from_chains({"v": torch.zeros(2, 10, 3)}, attrs={name: 1})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, "a", None], ["1", "a", "None"]),
        ([True, False, "x"], ["True", "False", "x"]),
        ([datetime.date(2026, 12, day) for day in (1, 2, 3)], ["2026-12-01", "2026-12-02", "2026-12-03"]),
        (torch.tensor([5, 6, 7]), [5, 6, 7]),
        (np.array([1, 2, "b"], dtype=object), ["1", "2", "b"]),
        ((1, 2.5, 3), [1, 2.5, 3]),
        (["a", "b", "c"], ["a", "b", "c"]),
        ([2**70, 1, 2], [str(2**70), "1", "2"]),
    ],
)
def test_labels_are_saved_and_come_back(labels: Any, expected: list[Any], tmp_path: pathlib.Path) -> None:
    data = from_chains({"v": torch.zeros(2, 10, 3)}, dims={"v": ["unit"]}, coords={"unit": labels})
    to_netcdf(data, str(tmp_path / "run.nc"))
    read = arviz.from_netcdf(str(tmp_path / "run.nc"))
    assert read["posterior"]["unit"].values.tolist() == expected


def test_labels_that_cannot_be_told_apart_or_are_no_single_values_are_refused() -> None:
    sites, dims = {"v": torch.zeros(2, 10, 3)}, {"v": ["unit"]}
    with pytest.raises(ValueError, match="`coords` of 'unit' must differ as text"):
        from_chains(sites, dims=dims, coords={"unit": [1, "1", None]})
    for label in (torch.zeros(2), "a\0", "\ud800", np.timedelta64(1)):
        with pytest.raises(ValueError, match=r"`coords` of 'unit'"):
            from_chains(sites, dims=dims, coords={"unit": [label, 1, "a"]})
    with pytest.raises(ValueError, match=r"`coords` of 'unit' must have single labels, got \('a', 1\)"):
        from_chains(sites, dims=dims, coords={"unit": [("a", 1), ("a", 2), ("b", 1)]})
