"""Arrays, lists and data frames are taken wherever tensors are, and come back with their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pyro
import pytest
import torch
import xarray as xr
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO

from pyro_gen import models, nn
from pyro_gen._rows import as_tensor
from pyro_gen.infer import contrastive_gradient, free_energy_gap, log_likelihood
from pyro_gen.infer.structure import learn_structure
from pyro_gen.infer.structure.table import CategoricalTable
from tests.runs import same

GENERATOR = np.random.default_rng(0)
REAL = GENERATOR.normal(size=(60, 3)).astype("float32")
BINARY = (GENERATOR.random((60, 5)) < 0.3).astype("float32")
CODES = GENERATOR.integers(0, 3, (60, 4)).astype("float32")

FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda x: x,
    "reversed numpy": lambda x: x[::-1][::-1].copy()[::-1][::-1],
    "big endian": lambda x: x.astype(">f4"),
    "read only": lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    "pandas": pd.DataFrame,
    "pandas nullable": lambda x: pd.DataFrame(x).astype("Float32"),
    "xarray": xr.DataArray,
    "list": lambda x: x.astype("float64").tolist(),
    "list of tensors": lambda x: list(torch.tensor(x)),
}
MAKERS: dict[str, tuple[Callable[[Any], torch.nn.Module], np.ndarray]] = {
    "GaussianMixture": (lambda x: models.GaussianMixture.from_data(x, 2), REAL),
    "BernoulliMixture": (lambda x: models.BernoulliMixture.from_data(x, 2), BINARY),
    "CategoricalMixture": (lambda x: models.CategoricalMixture.from_data(x, 2), CODES),
    "PPCA": (lambda x: models.PPCA.from_data(x, 1), REAL),
    "PCA": (lambda x: models.PCA.from_data(x, 1), REAL),
    "FactorAnalysis": (lambda x: models.FactorAnalysis.from_data(x, 1), REAL),
    "Autoencoder": (lambda x: models.Autoencoder.from_data(x, 2, hidden=(8,)), BINARY),
    "VAE": (lambda x: models.VAE.from_data(x, 2, hidden=(8,)), BINARY),
    "NADE": (lambda x: nn.NADE.from_data(x, 4), BINARY),
    "FVSBN": (nn.FVSBN.from_data, BINARY),
    "TabularAR": (nn.TabularAR.from_data, BINARY),
    "RBM": (lambda x: nn.RBM.from_data(x, 4), BINARY),
    "BoltzmannMachine": (nn.BoltzmannMachine.from_data, BINARY),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MAKERS)
def test_from_data_takes_what_holds_numbers(name: str, form: str) -> None:
    make, array = MAKERS[name]
    torch.manual_seed(0)
    expected = make(torch.tensor(array)).state_dict()
    torch.manual_seed(0)
    actual = make(FORMS[form](array)).state_dict()
    if form in ("list", "pandas nullable"):  # numbers of Python are float64; another order in memory
        actual = {key: value.to(expected[key].dtype) for key, value in actual.items()}
        assert all(torch.allclose(actual[key], expected[key], atol=1e-4) for key in expected)
    else:
        assert same(actual, expected)


READS: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    name: (maker, array) for name, (maker, array) in MAKERS.items() if hasattr(getattr(models, name, None), "score")
}


@pytest.mark.parametrize("name", READS)
def test_queries_and_fit_take_data_frames(name: str) -> None:
    make, array = READS[name]
    torch.manual_seed(0)
    model: Any = make(torch.tensor(array))
    frame = pd.DataFrame(array)
    assert same(model.score(frame), model.score(torch.tensor(array)))
    assert same(model.log_likelihood(frame), model.log_likelihood(torch.tensor(array)))
    model.fit(frame)


def test_missing_cells_of_a_frame_are_missing() -> None:
    frame = pd.DataFrame(REAL.astype("float64"))
    frame.iloc[3, 1] = None
    nullable = frame.astype("Float64")
    nullable.iloc[3, 1] = pd.NA
    x = torch.tensor(frame.to_numpy())
    mixture: Any = models.GaussianMixture.from_data(x, 2)
    expected = mixture.log_likelihood(x)
    assert torch.equal(mixture.log_likelihood(frame), expected)
    assert torch.equal(mixture.log_likelihood(nullable), expected)
    rows = [[None if math.isnan(cell) else cell for cell in row] for row in x.tolist()]
    assert torch.equal(mixture.log_likelihood(rows), expected)


def test_text_in_a_column_is_named() -> None:
    make, _ = MAKERS["PPCA"]
    frame = pd.DataFrame({"height": [1.0, 2.0], "colour": ["red", "blue"]})
    with pytest.raises(ValueError, match=r"`x` must hold numbers, got 'red' in column 'colour'"):
        make(frame)
    with pytest.raises(ValueError, match=r"`x` must hold numbers, got 'a' in column 1"):
        make([[1.0, "a"], [2.0, "b"]])


def weather(rows: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rain = generator.choice(["no", "yes"], rows, p=[0.7, 0.3])
    wet = np.where(generator.random(rows) < 0.9, np.where(rain == "yes", "wet", "dry"), "wet")
    return pd.DataFrame({"rain": rain, "wet": wet})


@pytest.mark.parametrize("dtype", ["category", "object", "str"])
def test_a_network_from_a_frame_and_back(dtype: str) -> None:
    frame = weather(300)
    graph = learn_structure(frame.astype(dtype))
    assert list(graph.edges) in ([("rain", "wet")], [("wet", "rain")])
    network: Any = models.BayesianNetwork(graph)
    assert network.states == {"rain": ("no", "yes"), "wet": ("dry", "wet")}
    frame.loc[::10, "wet"] = None
    network.fit(frame.astype(dtype))
    codes = {node: torch.tensor(frame[node].astype("category").cat.codes.to_numpy().astype("int64")) for node in frame}
    assert torch.equal(network.log_evidence(frame.astype(dtype)), network.log_evidence(codes))
    back = network.to_frame(codes, index=frame.index)
    pd.testing.assert_frame_equal(back, frame.astype("category"), check_categorical=False)
    drawn = network.to_frame(network.sample(50))
    assert set(drawn["wet"]) <= {"dry", "wet"}
    assert len(drawn) == 50


def test_states_of_a_frame_that_the_user_names() -> None:
    frame = weather(20)
    table = CategoricalTable.of(frame, {"rain": ("yes", "no"), "wet": ("dry", "damp", "wet")})
    assert table.states == (("yes", "no"), ("dry", "damp", "wet"))
    assert torch.equal(table.values[:, 0], torch.tensor((frame["rain"] == "no").to_numpy().astype("int64")))
    with pytest.raises(ValueError, match=r"`data` of node 'wet' must be one of its states, 'dry', 'damp', got 'wet'"):
        CategoricalTable.of(frame, {"rain": ("yes", "no"), "wet": ("dry", "damp")})
    with pytest.raises(ValueError, match=r"must be complete"):
        CategoricalTable.of(frame.assign(wet=[None, *frame["wet"][1:]]))
    mixed = CategoricalTable.of({"names": ["b", "a"], "numbers": torch.tensor([0, 2])})
    assert (mixed.states, mixed.values.tolist()) == ((("a", "b"), 3), [[1, 0], [0, 2]])


def test_an_unknown_name_in_a_long_column_says_its_row() -> None:
    network: Any = models.BayesianNetwork(nx.DiGraph([("rain", "wet")]), states={"rain": ("no", "yes"), "wet": 2})
    column = pd.Series(["no", "yes", "maybe"])
    with pytest.raises(ValueError, match=r"evidence on node 'rain' must be one state a row, in row 2: .*maybe"):
        network.log_evidence({"rain": column})


def test_programs_take_data_frames() -> None:
    frame = weather(20)
    network: Any = models.BayesianNetwork(
        nx.DiGraph([("rain", "wet")]), states={"rain": ("no", "yes"), "wet": ("dry", "wet")}
    )
    mixture: Any = models.GaussianMixture.from_data(torch.tensor(REAL), 2)
    ppca: Any = models.PPCA.from_data(torch.tensor(REAL), 1)
    programs = [(network.model, network.guide, frame), (network.evidence_model, network.guide, frame)]
    programs += [(mixture.marginal, mixture.guide, pd.DataFrame(REAL)), (ppca.model, ppca.guide, pd.DataFrame(REAL))]
    for model, guide, data in programs:
        pyro.clear_param_store()
        assert SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(data) > 0


def results(model: Any, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    """Methods of models whose rows are zeros and ones, by name."""
    vae, labelled, autoencoder, machine, rbm, classifier = model
    return {
        "reconstruct": lambda: vae.reconstruct(x),
        "latent_means": lambda: vae.latent_means(x),
        "latent_use": lambda: vae.latent_use(x),
        "test_log_likelihood": lambda: vae.test_log_likelihood(x, 200).rows,
        "lower_bound": lambda: vae.lower_bound(x).rows,
        "classify": lambda: labelled.classify(x),
        "autoencoder": lambda: autoencoder.reconstruct(x),
        "mean_field": lambda: machine.mean_field(x),
        "class given features": lambda: classifier(x).logits,
        "log_likelihood": lambda: log_likelihood(rbm, x).rows,
        "free_energy_gap": lambda: free_energy_gap(rbm, x, x).standard_error,
        "VAE": lambda: loss(vae, x),
        "SemiSupervisedVAE": lambda: loss(labelled, x, y),
        "Autoencoder": lambda: loss(autoencoder, x),
        "DeepBoltzmannMachine": lambda: loss(machine, x),
        "BayesClassifier": lambda: loss(classifier, x, y),
    }


def loss(model: Any, *args: Any) -> float:
    pyro.clear_param_store()
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    value: float = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.0}), elbo).evaluate_loss(*args)
    return value


@pytest.mark.filterwarnings("ignore:the importance weights", "ignore:TraceEnum_ELBO found no sample sites")
@pytest.mark.parametrize("name", results((None,) * 6, None, None))
def test_models_of_bits_take_data_frames(name: str) -> None:
    x = torch.tensor(BINARY)
    y = torch.arange(len(x)) % 2
    torch.manual_seed(0)
    model = (
        models.VAE.from_data(x, 2, hidden=(8,)),
        models.SemiSupervisedVAE.from_data(x, 2, classes=2, hidden=(8,)),
        models.Autoencoder.from_data(x, 2, hidden=(8,)),
        models.DeepBoltzmannMachine(5, [4, 3], 60).eval(),
        nn.RBM.from_data(x, 3).eval()(),
        models.BayesClassifier(nn.AutoregressivePerClass([nn.FVSBN(5), nn.FVSBN(5)]), 2, 60),
    )
    torch.manual_seed(1)
    expected = results(model, x, y)[name]()
    torch.manual_seed(1)
    assert same(results(model, pd.DataFrame(BINARY), pd.Series(y.numpy()))[name](), expected)


def test_updates_take_data_frames() -> None:
    gradients = []
    for x in (torch.tensor(BINARY), pd.DataFrame(BINARY)):
        torch.manual_seed(0)
        rbm: Any = nn.RBM(5, 3)
        update: Any = contrastive_gradient
        update(rbm, x)
        gradients.append([parameter.grad for parameter in rbm.parameters()])
    assert same(gradients[0], gradients[1])


WRONG: dict[str, tuple[Any, str]] = {
    "dates": (
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01", "2021-01-01"])}),
        r"`x` must hold numbers, got datetime",
    ),
    "durations": (np.array([[1, 2], [3, 4]], "m8[ns]"), r"`x` must hold numbers, got timedelta64"),
    "too large": (np.array([[2**63 + 5, 1]], "u8"), r"`x` must hold numbers below 2\^63, got 9223372036854775813"),
    "lengths": ([[1.0], [1.0, 2.0]], r"`x` must hold rows of one length, got a list"),
    "tensors": ((torch.zeros(2), torch.zeros(3)), r"`x` must hold rows of one length, got a tuple"),
    "complex": (np.array([[1j, 2.0]]), r"`x` must be real numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_holds_no_numbers_is_not_taken_for_numbers(name: str) -> None:
    make, _ = MAKERS["PPCA"]
    table, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        make(table)


def test_masked_cells_are_missing_and_other_numbers_are_numbers() -> None:
    masked = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[False, True], [False, False]])
    expected = torch.tensor([[1.0, math.nan], [3.0, 4.0]]).double()
    assert torch.equal(as_tensor(masked).nan_to_num(-1), expected.nan_to_num(-1))
    whole = np.ma.masked_array([[1, 2]], [[True, False]])
    assert torch.equal(as_tensor(whole).nan_to_num(-1), torch.tensor([[-1.0, 2.0]]).double())
    assert as_tensor(np.array([[1.5]], np.longdouble)).dtype == torch.float64
    objects = pd.DataFrame({"a": pd.Series([np.float32(1), np.int64(2), True], dtype=object)})
    assert as_tensor(objects).tolist() == [[1.0], [2.0], [1.0]]
    mixed = pd.DataFrame({"a": [True, False], "b": [1.5, 2.5], "c": [1, 2]})
    assert as_tensor(mixed).tolist() == [[1.0, 1.5, 1.0], [0.0, 2.5, 2.0]]


NUMBERS: dict[str, Callable[[list[int]], Any]] = {
    "tensor": torch.tensor,
    "int64": pd.Series,
    "Int64": lambda codes: pd.Series(codes, dtype="Int64"),
    "object": lambda codes: pd.Series(codes, dtype=object),
    "category": lambda codes: pd.Series(pd.Categorical(codes)),
    "numpy": lambda codes: np.array(codes, dtype=object),
}


@pytest.mark.parametrize("form", NUMBERS)
def test_integers_are_state_numbers_whatever_their_column(form: str) -> None:
    """In structure learning as in evidence: a category 1 is the state 1, not the first state."""
    codes = [2, 1, 2, 10, 3]
    table = CategoricalTable.of({"a": NUMBERS[form](codes)})
    assert (table.states, table.values[:, 0].tolist()) == ((11,), codes)
    network: Any = models.BayesianNetwork(nx.DiGraph([("a", "b")]), states={"a": 11, "b": 2})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    expected = network.log_evidence({"a": torch.tensor(codes)})
    assert torch.equal(network.log_evidence({"a": NUMBERS[form](codes)}), expected)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.array(["x", np.nan, "y"], dtype=object), "must be complete"),
        (["x", math.nan, "y"], "must be complete"),
        (["x", None, "y"], "must be complete"),
        (pd.Series(["x", pd.NA, "y"]), "must be complete"),
        (["x", 1, "y"], "must be all names or all numbers of states, got 1 among names"),
        (pd.Series([0.5, 1.5], dtype=object), "must be names or whole numbers of states, got 0.5"),
    ],
    ids=str,
)
def test_missing_and_mixed_cells_are_no_states(column: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CategoricalTable.of({"a": column})


def test_truth_values_of_a_frame_are_the_numbers_of_two_states() -> None:
    frame = pd.DataFrame({"a": [True, False, True], "b": [False, False, True]})
    network: Any = models.BayesianNetwork(learn_structure(frame))
    assert network.states == {"a": ("0", "1"), "b": ("0", "1")}
    codes = {node: torch.tensor(frame[node].to_numpy().astype("int64")) for node in frame}
    network.fit(frame)
    assert torch.equal(network.log_evidence(frame), network.log_evidence(codes))


def test_columns_that_come_twice_and_empty_columns() -> None:
    twice = pd.DataFrame([["x", "y"]], columns=["a", "a"])
    with pytest.raises(ValueError, match="`data` must have each column once"):
        learn_structure(twice)
    network: Any = models.BayesianNetwork(nx.DiGraph([("a", "b")]), states=("n", "y"))
    assert network.log_evidence({"a": pd.Series(pd.Categorical([], categories=["n"]))}).shape == (0,)
    unused = pd.Series(pd.Categorical(["y", "n"], categories=["maybe", "n", "y"]))
    assert torch.equal(network.log_evidence({"a": unused}), network.log_evidence({"a": ["y", "n"]}))


def test_declared_categories_are_the_states() -> None:
    ordered = pd.Series(pd.Categorical(["low", "high"], categories=["low", "middle", "high"], ordered=True))
    table = CategoricalTable.of({"level": ordered})
    assert (table.states, table.values[:, 0].tolist()) == ((("low", "middle", "high"),), [0, 2])


def test_labels_that_are_no_numbers_are_named() -> None:
    classifier: Any = models.BayesClassifier(nn.NADE(4, 3, context=3), 3, 6)
    with pytest.raises(ValueError, match="`y` must hold numbers, got 'p'"):
        classifier.model(torch.zeros(2, 4), pd.Series(["p", "q"]))
