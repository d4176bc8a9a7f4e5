"""Evidence on the nodes of a network: its meaning hangs neither on the Python type nor on a coincidence of lengths.

Every public function of networks that takes ``evidence``, ``data`` or ``interventions`` is in the tables ``TAKERS``,
``LEARNERS`` and ``INTERVENTIONS``: one that is new and not there fails a test.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from pyro_gen import distributions, infer, models
from pyro_gen.distributions import Likelihood
from pyro_gen.distributions.bayesian_network import ConditionalGaussianNetwork
from pyro_gen.infer import bayesian_network as approximate
from pyro_gen.models import BayesianNetwork
from pyro_gen.nn import ConditionalGaussianCPD, LogisticCPD, NeuralCPD, NoisyOrCPD, TabularCPD

SEX, CLASS, OUT = ("m", "f"), ("1", "2", "3"), ("no", "yes")
STATES = {"sex": SEX, "cls": CLASS, "out": OUT}
PRIORS = torch.tensor([0.3, 0.7]).double(), torch.tensor([0.5, 0.2, 0.3]).double()
YES = torch.tensor([[0.1, 0.6, 0.35], [0.8, 0.3, 0.55]]).double()
JOINT = PRIORS[0][:, None, None] * PRIORS[1][:, None] * torch.stack((1 - YES, YES), -1)


def titanic(real: bool = False) -> BayesianNetwork:
    """Two parents with two and three states, and with ``real`` a Gaussian leaf."""
    graph = nx.DiGraph([("sex", "out"), ("cls", "out")])
    cpds: dict[str, Any] = {"sex": PRIORS[0], "cls": PRIORS[1], "out": torch.stack((1 - YES, YES), -1)}
    if real:
        graph.add_edge("cls", "fare")
        cpds["fare"] = ConditionalGaussianCPD([3], torch.tensor([80.0, 20.0, 10.0]).double())
    states: dict[str, int | tuple[str, ...]] = {**STATES, **({"fare": 1} if real else {})}
    return BayesianNetwork(graph, cpds, states=states)


def enumerated(sex: Tensor, cls: Tensor) -> Tensor:
    """Log p(sex, cls) of rows with -1 where missing, by sums over the whole table."""
    rows = []
    for i, j in zip(sex.tolist(), cls.tolist(), strict=True):
        part = JOINT if i < 0 else JOINT[i : i + 1]
        rows.append((part if j < 0 else part[:, j : j + 1]).sum().log())
    return torch.stack(rows)


def columns(names: tuple[str, ...], codes: Tensor) -> Iterator[tuple[str, Any]]:
    """One column of rows in every spelling, with missing cells where there are codes -1."""
    numbers = codes.tolist()
    hidden, spelled = [k < 0 for k in numbers], [None if k < 0 else names[k] for k in numbers]
    for dtype in (torch.int64, torch.int32, torch.int8):
        yield str(dtype), codes.to(dtype)
    yield "numpy", codes.numpy().astype("int16")
    yield "numbers", numbers
    yield "tuple of numbers", tuple(numbers)
    yield "numbers and None", [None if k < 0 else k for k in numbers]
    yield "tensors", list(codes)
    yield "names", spelled
    yield "tuple of names", tuple(spelled)
    yield "names and NaN", [math.nan if name is None else name for name in spelled]
    yield "names and numbers", [k if i % 2 else name for i, (k, name) in enumerate(zip(numbers, spelled, strict=True))]
    yield "array of objects", np.array(spelled, dtype=object)
    yield "masked numbers", np.ma.masked_array(codes.clamp(0).numpy(), hidden)
    if not any(hidden):
        yield "array of names", np.array(spelled)
        yield "uint8", codes.to(torch.uint8)
        yield "uint64", codes.numpy().astype("uint64")
        if len(names) == 2:
            yield "bool", codes.bool()
            yield "array of bool", codes.bool().numpy()
            yield "list of bool", codes.bool().tolist()


def series(names: tuple[str, ...], codes: Tensor) -> Iterator[tuple[str, Any]]:
    pandas = pytest.importorskip("pandas")
    spelled = [None if k < 0 else names[k] for k in codes.tolist()]
    yield "names", pandas.Series(spelled, dtype=object)
    yield "category", pandas.Series(spelled, dtype=pandas.CategoricalDtype(list(names)[::-1]))
    yield "string", pandas.Series(spelled, dtype="string")
    yield "Int64", pandas.Series([None if k < 0 else k for k in codes.tolist()], dtype="Int64")
    yield "int64", pandas.Series(codes.numpy())


ROWS = [
    (torch.tensor([1]), torch.tensor([0])),
    (torch.tensor([0, 1]), torch.tensor([0, 1])),
    (torch.tensor([1, 0, 0]), torch.tensor([2, 0, 1])),
    (torch.tensor([0, 1, 1, 0, 1]), torch.tensor([2, 0, 1, 0, 1])),
    (torch.tensor([-1]), torch.tensor([2])),
    (torch.tensor([0, -1]), torch.tensor([1, 1])),
    (torch.tensor([-1, 1, 0]), torch.tensor([2, 0, -1])),
    (torch.tensor([0, -1, 1, -1, 0, 1, 1]), torch.tensor([-1, 2, 2, -1, 0, 1, 0])),
]
"""Columns with as many rows as one of the nodes has states, and with other numbers of rows."""


@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: str([x.tolist() for x in rows]))
@pytest.mark.parametrize("spellings", [columns, series])
@pytest.mark.parametrize("real", [False, True])
def test_a_column_is_one_value_a_row_in_every_spelling(rows: Any, spellings: Any, real: bool) -> None:
    network, (sex, cls) = titanic(real), rows
    expected = enumerated(sex, cls)
    for name, column in spellings(SEX, sex):
        actual = network.log_evidence({"sex": column, "cls": cls})
        torch.testing.assert_close(actual.detach(), expected, msg=partial("{}: {}".format, name))
    for name, column in spellings(CLASS, cls):
        actual = network.log_evidence({"sex": sex, "cls": column})
        torch.testing.assert_close(actual.detach(), expected, msg=partial("{}: {}".format, name))


def close_all(actual: Any, expected: Any) -> None:
    """Compare nested results of one kind."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, tuple | list):
        for one, other in zip(actual, expected, strict=True):
            close_all(one, other)
    elif isinstance(expected, Tensor):
        torch.testing.assert_close(actual, expected, equal_nan=True)
    else:
        assert str(actual) == str(expected)


def _guided(network: BayesianNetwork, evidence: Any) -> Any:
    guide = approximate.AmortisedPosterior(network, (4,))
    trace = poutine.trace(guide.guide).get_trace(evidence)
    return [trace.nodes[name]["value"] for name in trace.stochastic_nodes if name in STATES]


TAKERS: dict[str, Callable[[BayesianNetwork, Any], Any]] = {
    "BayesianNetwork.log_evidence": lambda n, e: (n.log_evidence(e), n().log_evidence(e)),
    "BayesianNetwork.marginals": lambda n, e: (n.marginals(e), n().marginals(e)),
    "BayesianNetwork.joint_marginal": lambda n, e: (
        n.joint_marginal(["sex", "out"], e),
        n().joint_marginal(["out"], e),
    ),
    "BayesianNetwork.pair_marginals": lambda n, e: (n.pair_marginals(e), n().pair_marginals(e)),
    "BayesianNetwork.expected_counts": lambda n, e: (n.expected_counts(e), n().expected_counts(e)),
    "BayesianNetwork.most_probable": lambda n, e: (n.most_probable(e), n().most_probable(e)),
    "BayesianNetwork.sample_posterior": lambda n, e: (n.sample_posterior(e, 3), n().sample_posterior(e, 3)),
    "ConditionalGaussianNetwork.log_evidence": lambda n, e: titanic(True)().log_evidence(e),
    "ConditionalGaussianNetwork.marginals": lambda n, e: titanic(True)().marginals(e, ["sex", "cls", "out"]),
    "ConditionalGaussianNetwork.sample_posterior": lambda n, e: titanic(True)().sample_posterior(e, 3),
    "likelihood_weighting": lambda n, e: approximate.likelihood_weighting(n, e, 50),
    "gibbs_marginals": lambda n, e: approximate.gibbs_marginals(n, e, 20, 2, 2),
    "belief_propagation": approximate.belief_propagation,
    "AmortisedPosterior.marginals": lambda n, e: approximate.AmortisedPosterior(n, (4,)).marginals(e, 50),
}
LEARNERS: dict[str, Callable[[BayesianNetwork, Any], Any]] = {
    "BayesianNetwork.model": lambda n, e: poutine.trace(n.model).get_trace(e).log_prob_sum(),
    "BayesianNetwork.evidence_model": lambda n, e: poutine.trace(n.evidence_model).get_trace(e).log_prob_sum(),
    "BayesianNetwork.guide": lambda n, e: n.model(e),  # the guide reads nothing
    "BayesianNetwork.fit": lambda n, e: n.fit(e, 1.0),
    "BayesianNetwork.sample_cpds": lambda n, e: n.sample_cpds(e, num_samples=3, num_chains=1, warmup_steps=1).tables,
    "AmortisedPosterior.guide": _guided,
}
INTERVENTIONS: dict[str, Callable[[BayesianNetwork, Any], Any]] = {
    "BayesianNetwork.do": lambda n, e: (n.do(e).marginals(), n().do(e).marginals()),
}
RAW = {"AmortisedPosterior.log_prob"}
"""Takes complete rows and the same rows with -1 where hidden."""


def public_takers() -> set[str]:
    """Public functions and methods of networks with an argument for evidence or data."""
    classes = [models.BayesianNetwork, distributions.BayesianNetwork, ConditionalGaussianNetwork]
    named = [getattr(module, name) for module in (infer, approximate) for name in getattr(module, "__all__", ())]
    known = [x for x in named if getattr(x, "__module__", "").startswith("pyro_gen.infer.bayesian_network")]
    found = {x.__name__: x for x in known if inspect.isfunction(x)}
    for kind in (*classes, *(x for x in known if inspect.isclass(x))):
        found |= {f"{kind.__name__}.{k}": f for k, f in inspect.getmembers(kind, inspect.isfunction) if k[0] != "_"}
    wanted = {"evidence", "data", "interventions"}
    return {name for name, f in found.items() if wanted & inspect.signature(f).parameters.keys()}


def test_every_public_function_that_takes_evidence_is_tested_here() -> None:
    assert public_takers() == {*TAKERS, *LEARNERS, *INTERVENTIONS, *RAW}


def seeded(take: Callable[[BayesianNetwork, Any], Any], evidence: Any) -> Any:
    pyro.clear_param_store()
    network = titanic()
    pyro.set_rng_seed(0)
    return take(network, evidence)


@pytest.mark.parametrize("name", [*TAKERS, *LEARNERS])
def test_all_who_take_evidence_read_columns_alike(name: str) -> None:
    take = (TAKERS | LEARNERS)[name]
    for sex, cls in (ROWS[1], ROWS[2]):
        full = {"sex": sex, "cls": cls, "out": 1 - sex}
        expected = seeded(take, full)
        for spelling in ("names", "bool", "numbers", "array of names", "names and numbers"):
            close_all(seeded(take, full | {"sex": dict(columns(SEX, sex))[spelling]}), expected)
    codes = {"sex": ROWS[3][0], "out": ROWS[3][0], "cls": ROWS[3][1]}
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({node: [STATES[node][k] for k in x.tolist()] for node, x in codes.items()})
    close_all(seeded(take, frame), seeded(take, codes))
    if not name.startswith("Conditional"):  # whose columns are of two kinds
        close_all(seeded(take, torch.stack(list(codes.values()), 1)), seeded(take, codes))


BAD: dict[str, Any] = {
    "one row of floats": torch.tensor([1.0]),
    "as many floats as states": torch.tensor([0.0, 1.0, 0.0]),
    "floats": torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]),
    "list of floats": [0.0, 1.0, 0.0],
    "array of floats": np.array([0.0, np.nan, 1.0]),
    "likelihood vector": torch.tensor([0.2, 0.3, 0.5]),
    "list of fractions": [0.2, 0.3, 0.5],
    "likelihoods of rows": torch.full((5, 3), 1 / 3),
    "mask of states": torch.tensor([True, False, True]),
    "masks of states": torch.tensor([[True, False, True]]),
    "one float": 1.0,
    "one number beyond": 3,
    "one truth value": True,
    "a name that is none": ["1", "4"],
    "a number beyond in a list": [0, 3],
    "a list in a list": [[0], [1]],
    "bytes": b"1",
    "a mapping": {"1": 0.5},
    "a set of nothing": set(),
    "a set with a missing state": {"1", None},
}
NAMED = {"floats", "as many floats as states", "one row of floats", "likelihood vector", "list of fractions"}
NAMED |= {"likelihoods of rows", "mask of states", "masks of states", "list of floats", "array of floats", "one float"}


@pytest.mark.parametrize("name", [*TAKERS, *LEARNERS])
def test_all_who_take_evidence_refuse_what_could_be_read_in_two_ways(name: str) -> None:
    for what, value in BAD.items():
        with pytest.raises(ValueError, match="node 'cls'") as error:
            seeded((TAKERS | LEARNERS)[name], {"cls": value})
        assert "Likelihood" in str(error.value) or what not in NAMED, what


@pytest.mark.parametrize("name", TAKERS)
def test_only_sets_are_sets_and_only_likelihoods_are_likelihoods(name: str) -> None:
    take = TAKERS[name]
    soft = seeded(take, {"cls": Likelihood([1, 0, 1])})
    for same in ({"1", "3"}, frozenset({0, 2}), {0, "3"}, Likelihood([True, False, True])):
        close_all(seeded(take, {"cls": same}), soft)
    rows = seeded(take, {"cls": Likelihood([[1, 0, 1], [0, 1, 0]]), "sex": "f"})
    close_all(seeded(take, {"cls": Likelihood(torch.tensor([[1, 0, 1], [0, 1, 0]])), "sex": [1, 1]}), rows)


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_to_learn_from_are_no_sets_and_no_likelihoods(name: str) -> None:
    take = LEARNERS[name]
    if name == "AmortisedPosterior.guide":
        return  # the guide of evidence: it takes both
    for value in ({"1"}, Likelihood([1, 0, 1]), "1", 1):
        with pytest.raises(ValueError, match=r"node 'cls' must be .* one name or number"):
            seeded(take, {"sex": [0, 1], "cls": value})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_evidence_of_a_likelihood_is_the_sum_over_states(dtype: torch.dtype) -> None:
    """Up to any factor, also one that the dtype of the tables cannot hold; with gradients in the likelihood."""
    network = titanic().to(dtype)
    sex, cls = torch.tensor([0.5, 2.0]).double(), torch.tensor([[0.2, 0.3, 0.5], [0.0, 4.0, 1.0]]).double()
    cls.requires_grad_()
    expected = torch.einsum("i,rj,ijk->r", sex, cls, JOINT).log()
    actual = network.log_evidence({"sex": Likelihood(sex), "cls": Likelihood(cls)})
    torch.testing.assert_close(actual, expected.to(dtype))
    (slope,) = torch.autograd.grad(expected.sum(), cls)
    torch.testing.assert_close(torch.autograd.grad(actual.sum(), cls)[0], slope, rtol=1e-5, atol=1e-6)
    tiny = network.log_evidence({"cls": Likelihood(cls.detach() * 1e-200)})
    plain_one = network.log_evidence({"cls": Likelihood(cls.detach())})
    torch.testing.assert_close(tiny, plain_one - 200 * math.log(10))


def test_likelihoods_are_checked_with_node_and_row() -> None:
    network = titanic()
    for values, message in (
        ([0.5, 0.5], r"node 'cls' must have shape \(3,\) or \(rows, 3\), got \(2,\)"),
        ([0.5, -0.1, 0.5], "node 'cls' must be finite, not negative and not all zero, got"),
        ([[1.0, 1, 1], [0, 0, 0]], r"node 'cls' .* got \[0.0, 0.0, 0.0\] in row 1"),
        ([[1.0, 1, 1], [1, 1, 1], [1, math.nan, 1]], "node 'cls' .* in row 2"),
        ([[1.0, math.inf, 1]], "node 'cls' .* in row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            network.log_evidence({"cls": Likelihood(values)})
    malformed: list[Any] = [1.0, [[[1.0]]], "high", [1j], {"1": 0.5}, [[1.0], [1.0, 2.0]]]
    for bad in malformed:
        with pytest.raises(ValueError, match="`values` of a Likelihood"):
            Likelihood(bad)
    with pytest.raises(ValueError, match="same number of rows"):
        network.log_evidence({"cls": Likelihood(torch.ones(2, 3)), "sex": [0, 1, 1]})


def test_strings_are_names_and_integers_numbers_whatever_the_names_look_like() -> None:
    """States called "1" and "0", "2" and "1", "True" and "False"."""
    prior = torch.tensor([0.2, 0.8]).double()
    for names in (("1", "0"), ("2", "1"), ("0", "1")):
        network = BayesianNetwork(nx.DiGraph([("a", "b")]), {"a": prior}, states=names)
        for i in (0, 1):
            spelled: list[Any] = [names[i], i, np.int64(i), np.str_(names[i]), torch.tensor(i), {names[i]}, {i}]
            for value in spelled:
                assert network.log_evidence({"a": value}).exp().item() == pytest.approx(prior[i].item())
                expected = [0.2 + 0.6 * i, 0.2]
                if not isinstance(value, set):
                    column = network.log_evidence({"a": [value, names[0]]}).exp()
                    assert column.tolist() == pytest.approx(expected)
    in_order, reversed_ = (
        BayesianNetwork(nx.DiGraph([("a", "b")]), {"a": prior}, states=names)
        for names in (("False", "True"), ("True", "False"))
    )
    truths: list[Any] = [True, np.True_, [True], np.array([True]), torch.tensor([True]), torch.tensor(True), {True}]
    for truth in truths:
        assert in_order.log_evidence({"a": truth}).exp().item() == pytest.approx(0.8)
        with pytest.raises(ValueError, match=r"node 'a' .* truth values.*'True', 'False'"):
            reversed_.log_evidence({"a": truth})
    assert reversed_.log_evidence({"a": "True"}).exp().item() == pytest.approx(0.2)
    assert reversed_.log_evidence({"a": ["True", 1]}).exp().tolist() == pytest.approx([0.2, 0.8])


def test_missing_as_a_whole_is_nothing_and_no_rows_are_no_rows() -> None:
    network = titanic()
    for nothing in (None, math.nan, np.float64("nan")):
        assert network.log_evidence({"sex": nothing, "cls": "2"}).exp().item() == pytest.approx(0.2)
    empty: list[Any] = [[], (), torch.tensor([], dtype=torch.int64), np.array([], dtype=int)]
    for rows in empty:
        assert network.log_evidence({"sex": rows}).shape == (0,)
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame([[0, 1]], columns=["sex", "sex"])
    with pytest.raises(ValueError, match="`evidence` must have each column once"):
        network.log_evidence(twice)
    for bad in ([("sex", 0)], 3, torch.zeros(2, 5)):
        with pytest.raises(ValueError, match="`evidence` must"):
            network.log_evidence(bad)  # type: ignore[arg-type]


def test_interventions_take_names_and_numbers() -> None:
    for take in INTERVENTIONS.values():
        expected = seeded(take, {"cls": "3"})
        for value in (2, np.int64(2), torch.tensor(2), np.str_("3")):
            close_all(seeded(take, {"cls": value}), expected)
        for bad in (3, -1, True, 1.0, {"3"}, [2], Likelihood([0, 0, 1]), None):
            with pytest.raises(ValueError, match="node 'cls'"):
                seeded(take, {"cls": bad})


CPDS: dict[str, Callable[[], Any]] = {
    "TabularCPD": lambda: TabularCPD(torch.stack((1 - YES, YES), -1)),
    "LogisticCPD": lambda: LogisticCPD([2, 3], 2),
    "NeuralCPD": lambda: NeuralCPD([2, 3], 2),
    "NoisyOrCPD": lambda: NoisyOrCPD([0.8, torch.tensor([0.5, 0.6])]),
    "ConditionalGaussianCPD": lambda: ConditionalGaussianCPD([2, 3], torch.randn(2, 3)),
}


@pytest.mark.parametrize("name", CPDS)
def test_parents_of_a_cpd_are_numbers_in_every_integer_type(name: str) -> None:
    """A bool or uint8 tensor is a mask to torch's indexing; -1 is its last state."""
    cpd = CPDS[name]()
    sex, cls = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    value, expected = torch.tensor([0, 1, 1]).double(), cpd(sex, cls)
    for one, other in ((sex.bool(), cls), (sex, cls.to(torch.uint8)), (sex.to(torch.int32), cls.to(torch.int8))):
        torch.testing.assert_close(cpd(one, other).log_prob(value), expected.log_prob(value))
    for one, other in ((sex.double(), cls), (sex, cls.bool()), (sex - 1, cls), (sex, cls + 1), (2 * sex, cls)):
        with pytest.raises(ValueError, match="of the CPD must be"):
            cpd(one, other)
    with pytest.raises(ValueError, match="2 parents, got 1"):
        cpd(sex)


def test_every_cpd_with_discrete_parents_is_tested_here() -> None:
    from pyro_gen import nn

    kinds = {name for name in nn.__all__ if isinstance(x := getattr(nn, name), type) and issubclass(x, nn.CPD)}
    assert kinds - {"CPD", "DiscreteCPD", "LinearGaussianCPD"} == CPDS.keys()
