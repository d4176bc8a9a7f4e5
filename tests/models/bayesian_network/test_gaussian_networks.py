"""Networks with real nodes: exact against one joint Gaussian for every state of the discrete nodes."""

from __future__ import annotations

import copy
import math
from typing import Any

import networkx as nx
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pyro_gen.distributions import Likelihood
from pyro_gen.models import BayesianNetwork
from pyro_gen.nn import ConditionalGaussianCPD, LinearGaussianCPD, NoisyOrCPD

REAL = ("x", "y", "z")


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def mixed_network() -> BayesianNetwork:
    """Discrete a -> b; real x given a, y given x and b, z given x and y; c below a, apart from the real nodes."""
    torch.manual_seed(3)
    graph = nx.DiGraph([("a", "b"), ("a", "c"), ("a", "x"), ("x", "y"), ("b", "y"), ("x", "z"), ("y", "z")])
    return BayesianNetwork(
        graph,
        {
            "a": torch.tensor([0.2, 0.3, 0.5]).double(),
            "b": torch.rand(3, 2).double().softmax(-1),
            "c": NoisyOrCPD([torch.tensor([0.5, 0.8])]),
            "x": ConditionalGaussianCPD([3], normal(3), scale=normal(3).exp()),
            "y": ConditionalGaussianCPD([None, 2], normal(2), normal(2, 1), normal(2).exp()),
            "z": LinearGaussianCPD([0.5, -1.5], bias=0.3, scale=0.7),
        },
    )


def by_hand(model: BayesianNetwork, a: int, b: int) -> dist.MultivariateNormal:
    """The distribution of (x, y, z) given a and b, from the equations solved as one system."""
    x, y, z = (dict(model.cpd(node).named_parameters()) for node in REAL)
    weight = torch.zeros(3, 3, dtype=torch.float64)
    weight[1, 0], weight[2, :2] = y["weight"][b, 0], z["weight"]
    bias = torch.stack((x["bias"][a], y["bias"][b], z["bias"]))
    scale = torch.stack((x["log_scale"][a], y["log_scale"][b], z["log_scale"])).exp()
    mixing = torch.linalg.inv(torch.eye(3).double() - weight)
    return dist.MultivariateNormal(mixing @ bias, scale_tril=mixing * scale)


def log_joint(model: BayesianNetwork, a: int, b: int, c: int | None, seen: dict[str, float]) -> Tensor:
    """Log of p(a, b, c, what was seen of the real nodes)."""
    tables = model._discrete()
    log = tables.table("a")[a].log() + tables.table("b")[a, b].log()
    log = log if c is None else log + tables.table("c")[a, c].log()
    index = [REAL.index(node) for node in seen]
    if index:
        distribution = by_hand(model, a, b)
        part = dist.MultivariateNormal(distribution.mean[index], distribution.covariance_matrix[index][:, index])
        log = log + part.log_prob(torch.tensor(list(seen.values())).double())
    return log


CASES: list[tuple[dict[str, int], dict[str, float]]] = [
    ({}, {"z": 0.4}),
    ({"b": 1}, {"x": -0.3, "z": 1.0}),
    ({"c": 1}, {"y": 2.0}),
    ({}, {"x": 0.1, "y": 0.2, "z": 0.3}),
    ({"a": 2, "c": 0}, {}),
    ({}, {}),
]


def expected(model: BayesianNetwork, states: dict[str, int], seen: dict[str, float]) -> Tensor:
    """The same as a table over (a, b, c)."""
    cells = [[[log_joint(model, a, b, c, seen) for c in range(2)] for b in range(2)] for a in range(3)]
    table = torch.stack([torch.stack([torch.stack(row) for row in block]) for block in cells])
    for axis, node in enumerate("abc"):
        if node in states:
            others = torch.arange(table.shape[axis]) != states[node]
            table = table.index_fill(axis, others.nonzero().squeeze(1), -torch.inf)
    return table


@pytest.mark.parametrize(("states", "seen"), CASES)
def test_evidence_and_marginals_equal_enumeration(states: dict[str, int], seen: dict[str, float]) -> None:
    model = mixed_network()
    table = expected(model, states, seen).detach()
    torch.testing.assert_close(model.log_evidence({**states, **seen}).detach(), table.logsumexp((0, 1, 2)))
    densities, weights = model.marginals({**states, **seen}), table.flatten().softmax(0).view(table.shape)
    for axis, node in enumerate("abc"):
        others = [i for i in range(3) if i != axis]
        torch.testing.assert_close(densities[node], weights.sum(others))
    index = [REAL.index(node) for node in seen]
    for node in set(REAL) - set(seen):
        mean = second = torch.zeros((), dtype=torch.float64)
        for a in range(3):
            for b in range(2):
                distribution, place = by_hand(model, a, b), REAL.index(node)
                cov, value = distribution.covariance_matrix, torch.tensor(list(seen.values())).double()
                gain = cov[place, index] @ torch.linalg.inv(cov[index][:, index]) if index else torch.zeros(0).double()
                own = distribution.mean[place] + gain @ (value - distribution.mean[index])
                left = cov[place, place] - gain @ cov[index, place]
                mean = mean + weights[a, b].sum() * own
                second = second + weights[a, b].sum() * (left + own**2)
        torch.testing.assert_close(densities[node].mean, mean.detach())
        torch.testing.assert_close(densities[node].variance, (second - mean**2).detach())


def test_rows_with_different_missing_cells_are_answered_in_one_call() -> None:
    model = mixed_network()
    nan = math.nan
    rows: dict[str, Any] = {
        "b": torch.tensor([-1, 1, -1, -1]),
        "c": torch.tensor([-1, -1, 1, -1]),
        "x": torch.tensor([nan, -0.3, nan, 0.1]).double(),
        "y": torch.tensor([nan, nan, 2.0, 0.2]).double(),
        "z": torch.tensor([0.4, 1.0, nan, 0.3]).double(),
    }
    together = model.log_evidence(rows)
    for i, (states, seen) in enumerate(CASES[:4]):
        torch.testing.assert_close(together[i], model.log_evidence({**states, **seen}))
    torch.testing.assert_close(
        model.marginals(rows, ["a"])["a"][2], model.marginals({**CASES[2][0], **CASES[2][1]})["a"]
    )


def test_arrays_lists_flags_and_no_rows_are_evidence_too() -> None:
    model = mixed_network()
    b, x = torch.tensor([0, 1, -1]), torch.tensor([0.1, math.nan, 0.3]).double()
    expected = model.log_evidence({"b": b, "x": x})
    flags = torch.tensor([[True, False], [False, True], [True, True]])
    for one, other in ((b.numpy(), x.numpy()), (b.tolist(), x.tolist()), (Likelihood(flags), x)):
        torch.testing.assert_close(model.log_evidence({"b": one, "x": other}), expected)
        assert model.sample_posterior({"b": one, "x": 0.1}, 4)["z"].shape == (4, 3)
    either = {"b": {0, 1}, "x": x}  # of one case: no rows
    torch.testing.assert_close(model.log_evidence(either), model.log_evidence({"x": x}))
    assert model.sample_posterior(either, 4)["z"].shape == (4, 3)
    nothing = torch.zeros(0)
    assert model.log_evidence({"x": nothing, "b": nothing.long()}).shape == (0,)
    assert model.marginals({"x": nothing}, ["b", "z"])["b"].shape == (0, 2)
    malformed: list[tuple[Any, str]] = [
        ({"x": value}, "finite number") for value in ("much", {1.0}, Likelihood([1, 1]))
    ]
    for bad, message in (*malformed, (torch.zeros(2, 6), "must be a mapping")):
        with pytest.raises(ValueError, match=message):
            model.log_evidence(bad)


def test_gradients_of_the_evidence_are_those_of_finite_differences() -> None:
    model = mixed_network()
    parameters = dict(model.named_parameters())

    def evidence(*values: Tensor) -> Tensor:
        given = dict(zip(parameters, values, strict=True))
        result: Tensor = torch.func.functional_call(_Evidence(model), {f"model.{k}": x for k, x in given.items()}, ())
        return result

    assert torch.autograd.gradcheck(evidence, tuple(x.detach().clone().requires_grad_() for x in parameters.values()))


class _Evidence(torch.nn.Module):
    def __init__(self, model: BayesianNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> Tensor:
        return self.model.log_evidence(
            {"c": torch.tensor([1, -1]), "y": torch.tensor([0.5, math.nan]).double(), "z": 1.0}
        )


def test_posterior_draws_have_the_posterior_moments() -> None:
    """Four standard errors on eight figures: a false alarm for one seed in 2000."""
    model, count = mixed_network(), 20_000
    evidence = {"c": "1", "z": 0.4}
    drawn, densities = model.sample_posterior(evidence, count), model.marginals(evidence)
    assert (drawn["c"] == 1).all()
    assert (drawn["z"] == 0.4).all()
    for node in ("x", "y"):
        assert abs(drawn[node].mean() - densities[node].mean) < 4 * (densities[node].variance / count).sqrt()
    for node in ("a", "b"):
        shares = torch.bincount(drawn[node], minlength=len(densities[node])) / count
        assert (
            (shares - densities[node]).abs() < 4 * (densities[node] * (1 - densities[node]) / count).sqrt() + 1e-12
        ).all()
    together = model.sample_posterior(
        {"z": torch.tensor([0.4, math.nan], dtype=torch.float64), "c": torch.tensor([1, -1])}, 9
    )
    assert together["x"].shape == (9, 2)
    assert (together["z"][:, 0] == 0.4).all()


def test_pyro_s_enumeration_agrees() -> None:
    model = mixed_network()
    data = {"c": torch.tensor([1, -1, 0]), **{node: normal(3) for node in REAL}}
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(model.model, model.guide, data)
    assert loss == pytest.approx(-model.log_evidence(data).sum().item())
    assert model.model()["z"].shape == (1,)


def test_a_purely_gaussian_network_learns_and_answers() -> None:
    graph = nx.DiGraph([("x", "y")])
    model = BayesianNetwork(graph, {"x": LinearGaussianCPD(), "y": LinearGaussianCPD([2.0], scale=0.5)})
    assert isinstance(model.marginals({"y": 3.0})["x"], dist.Normal)
    assert model.marginals({"y": 3.0})["x"].mean.item() == pytest.approx(2 * 3 / (4 + 0.25))
    assert model.num_parameters == 2 + 3
    x = normal(50)
    svi = SVI(model.evidence_model, model.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step({"x": x, "y": 3 * x + 1}) for _ in range(30)]
    assert losses[-1] < losses[0]


def regressed(parents: list[np.ndarray], value: np.ndarray, weights: np.ndarray) -> list[float]:
    """Weights, bias and log scale by numpy's weighted least squares."""
    design = np.stack([*parents, np.ones_like(value)], 1)
    root = np.sqrt(weights)
    found = np.linalg.lstsq(design * root[:, None], value * root, rcond=None)[0]
    residual = value - design @ found
    return [*found, 0.5 * math.log((weights * residual**2).sum() / weights.sum())]


def test_fitted_gaussian_nodes_are_regressions_in_every_configuration_and_tables_are_frequencies() -> None:
    model = mixed_network()
    model.cpd("c").requires_grad_(False)
    before = copy.deepcopy(model.cpd("c").state_dict())
    data = model.sample_posterior(num_samples=200)
    weights = torch.rand(200).double() * (torch.rand(200) < 0.9)
    found = model.fit(data, weights=weights)
    kept = {node: x.numpy() for node, x in data.items()}
    w = weights.numpy()
    for b in range(2):
        rows = kept["b"] == b
        cpd = model.cpd("y")
        assert isinstance(cpd, ConditionalGaussianCPD)
        own = [cpd.weight[b, 0].item(), cpd.bias[b].item(), cpd.log_scale[b].item()]
        assert own == pytest.approx(regressed([kept["x"][rows]], kept["y"][rows], w[rows]), abs=1e-10)
        assert model._discrete().table("b")[0, b].item() == pytest.approx(
            w[rows & (kept["a"] == 0)].sum() / w[kept["a"] == 0].sum()
        )
    for a in range(3):
        rows, cpd = kept["a"] == a, model.cpd("x")
        assert isinstance(cpd, ConditionalGaussianCPD)
        assert [cpd.bias[a].item(), cpd.log_scale[a].item()] == pytest.approx(regressed([], kept["x"][rows], w[rows]))
    cpd = model.cpd("z")
    assert isinstance(cpd, LinearGaussianCPD)
    own = [*cpd.weight.tolist(), cpd.bias.item(), cpd.log_scale.item()]
    assert own == pytest.approx(regressed([kept["x"], kept["y"]], kept["z"], w), abs=1e-10)
    assert all(torch.equal(x, before[name]) for name, x in model.cpd("c").state_dict().items())
    assert found.log_likelihood == pytest.approx((model.log_evidence(data) * weights).sum().item(), rel=1e-10)
    for parameter in model.parameters():
        parameter.grad = None
    (model.log_evidence(data) * weights).sum().backward()
    slopes = [p.grad.abs().max().item() for p in model.parameters() if p.grad is not None and p.numel()]
    assert max(slopes) < 1e-8  # a maximum


def test_a_fit_leaves_alone_what_the_rows_say_nothing_of_and_fixed_nodes() -> None:
    graph = nx.DiGraph([("d", "x"), ("x", "y")])
    cpds = {"x": ConditionalGaussianCPD([3], torch.tensor([7.0, 8.0, 9.0])), "y": LinearGaussianCPD([2.0], scale=3.0)}
    model = BayesianNetwork(graph, cpds, states={"d": 3, "x": 1, "y": 1})
    cpds["y"].requires_grad_(False)
    x = torch.tensor([1.0, 2.0, 6.0, 8.0])
    found = model.fit({"d": torch.tensor([0, 0, 2, 2]), "x": x, "y": torch.zeros(4)})
    assert cpds["x"].bias.tolist() == pytest.approx([1.5, 8.0, 7.0])
    assert cpds["x"].log_scale.exp().tolist() == pytest.approx([0.5, 1.0, 1.0])
    assert cpds["y"].weight.item() == 2.0
    densities = (
        dist.Normal(2 * x, 3.0),
        dist.Normal(torch.tensor([1.5, 1.5, 7.0, 7.0]), torch.tensor([0.5, 0.5, 1.0, 1.0])),
    )
    real = sum(
        distribution.log_prob(value).sum() for distribution, value in zip(densities, (torch.zeros(4), x), strict=True)
    )
    assert found.log_likelihood == pytest.approx(float(real) + 4 * math.log(0.5), rel=1e-6)
    only = BayesianNetwork(nx.DiGraph([("x", "y")]), {"x": LinearGaussianCPD(), "y": LinearGaussianCPD([0.0])})
    only.fit({"x": x + 1e6, "y": 3 * x + torch.tensor([0.1, -0.1, -0.1, 0.1])})  # far from zero, where squares cancel
    cpd = only.cpd("y")
    assert isinstance(cpd, LinearGaussianCPD)
    assert cpd.weight.item() == pytest.approx(3.0, abs=0.1)


def test_data_that_gaussian_nodes_cannot_be_fitted_to_are_refused_and_nothing_changes() -> None:
    model = mixed_network()
    data = model.sample_posterior(num_samples=30)
    before = copy.deepcopy(model.state_dict())
    holes = data["b"].masked_fill(torch.arange(30) == 3, -1)
    for bad, message in (
        ({**data, "b": holes}, "must be complete .* node 'b'"),
        ({**data, "x": None}, "must be complete .* node 'x'"),
        ({**data, "x": data["x"].masked_fill(torch.arange(30) == 3, math.nan)}, "finite floats"),
        ({**data, "z": data["x"] + 1}, "'z' has no maximum .* leave no residual"),
        ({node: x[:1] for node, x in data.items()}, "no maximum .* the 1 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
    with pytest.raises(ValueError, match="`weights` must be 30"):
        model.fit(data, weights=torch.ones(3))
    with pytest.raises(ValueError, match="real nodes are not drawn"):
        model.sample_cpds(data)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_what_is_not_supported_says_so() -> None:
    model = mixed_network()
    for query in (model.most_probable, model.expected_counts):
        with pytest.raises(NotImplementedError, match="real nodes"):
            query({"a": 1})
    with pytest.raises(NotImplementedError, match="intervention on a real node"):
        model.do({"x": 1})
    assert model.do({"a": "1"}).marginals()["a"][1] == 1
    with pytest.raises(ValueError, match="no real parent"):
        BayesianNetwork(nx.DiGraph([("x", "d")]), {"x": LinearGaussianCPD()})
    with pytest.raises(ValueError, match="finite number"):
        model.log_evidence({"x": math.inf})
    with pytest.raises(ValueError, match="finite floats"):
        model.model({"x": torch.tensor([math.nan])})
    graph = nx.DiGraph((f"d{i}", "x") for i in range(17))
    wide = BayesianNetwork(graph, {"x": ConditionalGaussianCPD([2] * 17, torch.zeros([2] * 17))})
    with pytest.raises(ValueError, match=r"1\.311e\+05 joint states"):
        wide.log_evidence({"x": 0.0})
