"""Real columns in any units: all public families start at the marginal distributions, and learn alike."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn.module import to_pyro_module_
from torch import Tensor
from torch.distributions import Independent, Normal

from pyro_gen import distributions, infer, models, nn
from pyro_gen.distributions import (
    Conditional,
    FixedScaleGaussianConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    GaussianUnits,
    RealConditional,
    ReLUUnits,
    Units,
)
from pyro_gen.distributions.units.continuous import PreciseUnits
from pyro_gen.infer import Exact
from tests.real_columns import (
    CONDITIONALS,
    DISCRETE_NETWORKS,
    FACTORS,
    HIDDEN,
    MODELS,
    NETWORKS,
    OTHER_MODELS,
    SHAPE,
    SHIFTS,
    columns,
    public,
    svi_losses,
    units,
)


def losses(make: Callable[[], Any], x: Tensor, steps: int) -> Tensor:
    """Negative log likelihoods at the start and after some steps of Adam, nats a row."""
    torch.manual_seed(0)
    network = make()
    rows = x.reshape(len(x), *network.event_shape)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    values = []
    for _ in range(steps + 1):
        optimizer.zero_grad()
        loss = -network().log_prob(rows).mean()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return torch.tensor([values[0], values[-1]], dtype=torch.float64)


def marginal_log_prob(x: Tensor, conditional: str) -> Tensor:
    """Log density of rows under one distribution a column, written out."""
    mean, scale = x.mean(0), x.std(0, correction=0)
    if conditional == "GaussianConditional":
        return Normal(mean, scale).log_prob(x).sum(-1)
    if conditional == "FixedScaleGaussianConditional":
        return Normal(mean, 0.5).log_prob(x).sum(-1)
    distribution = GaussianMixtureConditional(3)
    return distribution.log_prob(distribution.start((x - mean) / scale), (x - mean) / scale).sum(-1) - scale.log().sum()


def test_every_public_family_of_real_columns_is_held_here() -> None:
    """A new network, conditional or model must be entered above, or said to be of other columns."""
    assert public(nn, nn.AutoregressiveNetwork) == NETWORKS.keys() | DISCRETE_NETWORKS
    kinds = public(distributions, RealConditional) - {"RealConditional"}
    assert kinds == CONDITIONALS.keys()
    from_data = {name for name in models.__all__ if hasattr(getattr(models, name), "from_data")}
    assert from_data == MODELS.keys() | OTHER_MODELS
    assert public(distributions, PreciseUnits) == {"GaussianUnits", "ReLUUnits"}


def test_a_conditional_of_infinitely_many_values_is_closed_under_changes_of_units() -> None:
    kinds = [getattr(distributions, name) for name in public(distributions, Conditional)]
    arguments = {"CategoricalConditional": (3,), "SymbolConditional": (3,)}
    made = [kind(*arguments.get(kind.__name__, ())) for kind in kinds if not inspect.isabstract(kind)]
    continuous = [conditional for conditional in made if conditional.num_states(2) is None]
    assert len(continuous) == len(CONDITIONALS)
    assert all(isinstance(conditional, RealConditional) for conditional in continuous)


@pytest.mark.parametrize("conditional", CONDITIONALS)
def test_affine_parameters_are_those_of_the_changed_number(conditional: str) -> None:
    distribution: Any = CONDITIONALS[conditional](1.0)
    parameters, x = torch.randn(4, 2, distribution.num_parameters).double(), torch.randn(4, 2).double()
    loc, scale = torch.tensor([3.0, -2.0]).double(), torch.tensor([0.1, 7.0]).double()
    shift, factor = distribution.affine(loc, scale)
    other = CONDITIONALS[conditional](1.0)
    if isinstance(other, FixedScaleGaussianConditional):  # keeps its scale: mean moves alone
        expected = Normal(loc + scale * parameters[..., 0], 0.5).log_prob(loc + scale * x)
    else:
        expected = distribution.log_prob(parameters, x) - scale.log()
    torch.testing.assert_close(other.log_prob(shift + factor * parameters, loc + scale * x), expected)


@pytest.mark.parametrize("conditional", CONDITIONALS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_start_at_the_marginals_at_any_seed(name: str, conditional: str) -> None:
    x = columns()
    expected = marginal_log_prob(x, conditional)
    for seed in range(3):
        torch.manual_seed(seed)
        network = NETWORKS[name](x, CONDITIONALS[conditional](1.0)).eval()
        log_prob = network().log_prob(x.reshape(len(x), *network.event_shape))
        assert abs((log_prob - expected).mean()) < 0.02


@pytest.mark.parametrize("conditional", CONDITIONALS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_alike_in_any_units(name: str, conditional: str) -> None:
    """The density of a x + b is that of x less sum log a: at the start and after training, factors 1e-4 to 1e4."""
    x, (factors, shifts, fixed) = columns(), units(conditional)
    raw = factors * x + shifts
    steps = 100 if conditional == "GaussianConditional" and name != "PixelCNN" else 20
    ours = losses(lambda: NETWORKS[name](x, CONDITIONALS[conditional](1.0)), x, steps)
    theirs = losses(lambda: NETWORKS[name](raw, CONDITIONALS[conditional](fixed)), raw, steps)
    torch.testing.assert_close(theirs - factors.log().sum(), ours, atol=0.05, rtol=0)
    assert ours[1] < ours[0] or name == "DeepNADE"  # whose losses are of other orders each


@pytest.mark.parametrize("name", ["NADE", "MADE", "DeepNADE"])
def test_networks_learn_alike_in_single_precision(name: str) -> None:
    """Shifts of up to 100 deviations, as float32 still tells such rows apart."""
    x = columns().float()
    factors = FACTORS.float()
    raw = factors * (x + torch.tensor([0.0, 100.0, -100.0, 30.0, 5.0, -10.0]))
    ours = losses(lambda: NETWORKS[name](x, GaussianConditional()), x, 50)
    theirs = losses(lambda: NETWORKS[name](raw, GaussianConditional()), raw, 50)
    torch.testing.assert_close(theirs - factors.double().log().sum(), ours, atol=0.05, rtol=0)


def test_a_context_and_classes_learn_alike_in_any_units() -> None:
    x, y = columns(), torch.arange(60) % 2
    raw = FACTORS * x + SHIFTS

    def per_class(rows: Tensor) -> Callable[[], Any]:
        return lambda: nn.AutoregressivePerClass(
            [nn.NADE.from_data(rows[y == k], 4, conditional=GaussianConditional()) for k in range(2)]
        )

    def with_context(rows: Tensor) -> Callable[[], Any]:
        return lambda: nn.NADE.from_data(rows, 4, context=2, conditional=GaussianConditional())

    for build in (per_class, with_context):
        values = []
        for rows in (x, raw):
            torch.manual_seed(0)
            classifier = models.BayesClassifier(build(rows)(), 2, 60)
            svi = SVI(classifier.model, classifier.guide, pyro.optim.Adam({"lr": 3e-3}), Trace_ELBO())
            values.append([svi.step(rows, y) / 60 for _ in range(20)])
        difference = torch.tensor(values[1]) - torch.tensor(values[0]) - FACTORS.log().sum()
        assert difference.abs().max() < 0.05, build.__name__


@pytest.mark.parametrize("conditional", CONDITIONALS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_to_ask_a_density_speaks_of_raw_rows(name: str, conditional: str) -> None:
    """Draws, walks, conditionals and gradients of a trained network agree with its log density of raw rows."""
    factors, shifts, fixed = units(conditional)
    raw = factors * columns() + shifts
    torch.manual_seed(0)
    network = NETWORKS[name](raw, CONDITIONALS[conditional](fixed)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    density, rows = network(), raw[:3].reshape(3, *network.event_shape)
    expected = density.log_prob(rows)
    torch.testing.assert_close(density.conditionals(rows).log_prob(rows).flatten(1).sum(-1), expected)
    walk, flat = density.start((3,)), raw[:3]
    for feature in network.order:
        walk = density.next(walk, flat[:, feature])
    torch.testing.assert_close(walk.log_prob, expected)
    torch.testing.assert_close(density.event_of(walk), rows)
    draws, log_prob = density.sample_and_log_prob((4,))
    torch.testing.assert_close(density.log_prob(draws), log_prob)
    z = (density.sample((200,)).flatten(1) - raw.mean(0)) / raw.std(0)
    assert (z.median(0).values.abs() < 4).all()
    assert density.has_rsample == (conditional != "GaussianMixtureConditional")


def test_missing_features_of_raw_rows_are_conditioned_on_the_others() -> None:
    raw = FACTORS * columns() + SHIFTS
    deep = NETWORKS["DeepNADE"](raw, GaussianConditional()).eval()
    with torch.no_grad():
        deep.output.normal_()
    mask = torch.tensor([[True, False, True, True, False, False], [False, True, True, True, True, True]])
    given = deep().given(torch.where(mask, raw[:2], torch.nan), mask, distributions.ObservedFirst())
    for row in range(2):
        known = mask[row].nonzero()[:, 0].tolist()
        order = sorted(range(6), key=lambda feature: (feature not in known, deep.order.tolist().index(feature)))
        walk = deep(order=order).start()
        for feature in order:
            if walk.position == len(known):
                evidence = walk.log_prob
            walk = deep(order=order).next(walk, raw[row, feature])
        torch.testing.assert_close(given.log_prob(raw[:2])[row], walk.log_prob - evidence)


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "state", "double"])
def test_location_and_scale_travel_with_the_network(copied: str) -> None:
    raw = (FACTORS.clamp(1e-2, 1e2) * columns()).float() + 10
    network = NETWORKS["NADE"](raw, GaussianConditional())
    fresh = nn.NADE(6, 4, conditional=GaussianConditional())
    expected = network().log_prob(raw)
    other: Any = {
        "deepcopy": lambda: copy.deepcopy(network),
        "pickle": lambda: pickle.loads(pickle.dumps(network)),  # our own
        "state": lambda: (fresh.load_state_dict(network.state_dict()), fresh)[1],
        "double": lambda: copy.deepcopy(network).double(),
    }[copied]()
    torch.testing.assert_close(other().log_prob(raw).float(), expected, rtol=1e-4, atol=1e-4)


def test_a_network_made_without_data_sees_rows_as_they_are_and_reads_old_states() -> None:
    network: Any = nn.NADE(6, 4, conditional=GaussianConditional())
    x = columns().float()
    inputs, parameters = x.unsqueeze(-1), network.parameters_of(x, None)
    torch.testing.assert_close(parameters, network.network(inputs, None) + network.bias, rtol=0, atol=0)
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("standard")}
    fitted = nn.NADE.from_data(100 * x, 4, conditional=GaussianConditional())
    fitted.load_state_dict(state)
    assert torch.equal(fitted().log_prob(x), network().log_prob(x))


def test_location_and_scale_stay_where_pyro_takes_the_weights() -> None:
    raw = FACTORS * columns() + SHIFTS
    network = NETWORKS["NADE"](raw, GaussianConditional())
    expected = network().log_prob(raw)
    to_pyro_module_(network)
    torch.testing.assert_close(network().log_prob(raw), expected)


# ---- models with networks of their own


def model_losses(make: Callable[[Tensor], Any], x: Tensor, steps: int = 60) -> Tensor:
    """Losses of a new model under one seed."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return svi_losses(make(x), x, steps)


@pytest.mark.parametrize("conditional", CONDITIONALS)
@pytest.mark.parametrize("name", MODELS)
def test_models_learn_alike_in_any_units(name: str, conditional: str) -> None:
    x, (factors, shifts, fixed) = columns(), units(conditional)
    steps = 100 if name == "VAE" else 30
    ours = model_losses(lambda rows: MODELS[name](rows, CONDITIONALS[conditional](1.0)), x, steps)
    theirs = model_losses(
        lambda rows: MODELS[name](rows, CONDITIONALS[conditional](fixed)), factors * x + shifts, steps
    )
    torch.testing.assert_close(theirs - factors.log().sum(), ours, atol=0.05, rtol=0)
    assert ours[-1] < ours[0]


@pytest.mark.parametrize("conditional", CONDITIONALS)
def test_a_convolutional_vae_learns_alike_in_any_units(conditional: str) -> None:
    x, (factors, shifts, fixed) = columns().unflatten(1, SHAPE), units(conditional)

    def make(distribution: Conditional) -> Callable[[Tensor], Any]:
        return lambda rows: models.VAE.from_data(rows, 2, network="convolutional", likelihood=distribution)

    raw = factors.view(SHAPE) * x + shifts.view(SHAPE)
    ours = model_losses(make(CONDITIONALS[conditional](1.0)), x, 15)
    theirs = model_losses(make(CONDITIONALS[conditional](fixed)), raw, 15)
    torch.testing.assert_close(theirs - factors.log().sum(), ours, atol=0.05, rtol=0)


def test_an_autoregressive_likelihood_and_a_vamp_prior_learn_alike_in_any_units() -> None:
    def make(rows: Tensor) -> Any:
        likelihood = nn.MADE(6, [6], context=3, conditional=GaussianConditional())
        prior = nn.VampPrior(3, 6, torch.nn.Identity())
        return models.VAE.from_data(rows, 2, likelihood=likelihood, prior=prior, **HIDDEN)

    x = columns()
    ours, theirs = model_losses(make, x, 30), model_losses(make, FACTORS * x + SHIFTS, 30)
    torch.testing.assert_close(theirs - FACTORS.log().sum(), ours, atol=0.05, rtol=0)


def test_networks_of_the_users_own_get_and_give_standardised_rows() -> None:
    seen = []

    class Encoder(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.new_zeros(len(x), 4)

    class Decoder(torch.nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.tensor([2.0, math.log(3.0)]).expand(len(z), 6, 2)

    networks: dict[str, Any] = {"encoder": Encoder(), "decoder": Decoder()}
    x = (FACTORS * (columns() + 3)).float()
    vae = models.VAE.from_data(x, 2, likelihood=GaussianConditional(), **networks)
    mean, scale = x.mean(0), x.std(0, correction=0)
    vae.encode(x)
    torch.testing.assert_close(seen[-1], (x - mean) / scale, rtol=1e-4, atol=1e-4)
    expected = Independent(Normal(mean + 2 * scale, 3 * scale), 1).log_prob(x[:1])
    torch.testing.assert_close(vae.decode(torch.zeros(1, 2)).log_prob(x[:1]), expected, rtol=1e-4, atol=1e-4)
    plain = models.VAE(6, 2, 60, likelihood=GaussianConditional(), **networks)
    plain.encode(x)
    torch.testing.assert_close(seen[-1], x)


@pytest.mark.parametrize("factor", [1e-2, 255.0, 1e4])
def test_the_squared_error_of_an_autoencoder_grows_with_the_square_of_the_unit(factor: float) -> None:
    """Under a scale that stays one: the loss is half the squared error but for a constant."""

    def errors(rows: Tensor) -> Tensor:
        constant = 3 * math.log(2 * math.pi)
        return model_losses(
            lambda x: models.Autoencoder.from_data(x, 2, likelihood=FixedScaleGaussianConditional(), **HIDDEN), rows
        ).sub(constant)

    x = columns()
    ours, theirs = errors(x), errors(factor * x + 100)
    torch.testing.assert_close(theirs / factor**2, ours, rtol=0.02, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_grey_levels_start_a_convolutional_vae_at_their_marginals(dtype: torch.dtype) -> None:
    """Levels 0 ... 255 with a border that never changes, under a scale of one grey level for all pixels."""
    levels = torch.randint(256, (40, 8, 8)).to(dtype)
    levels[:, 0] = 0
    distribution = FixedScaleGaussianConditional(25.0)
    vae = models.VAE.from_data(levels, 2, network="convolutional", likelihood=distribution)
    log_prob = vae.decode(torch.randn(1, 2)).log_prob(levels).mean()
    expected = Normal(levels.float().mean(0), 25.0).log_prob(levels.float()).sum((1, 2)).mean()
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-3)
    assert vae.sample(3).shape == (3, 8, 8)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    assert math.isfinite(svi.step(levels))


@pytest.mark.parametrize("visible", [GaussianUnits(), ReLUUnits()], ids=str)
@pytest.mark.parametrize("phase", [Exact(), infer.PersistentChains(10)], ids=["plain", "centred"])
def test_an_rbm_of_real_units_starts_alike_in_any_units(visible: Units, phase: Any) -> None:
    x, shift = columns(), torch.tensor([0.0, 100.0, -100.0, 30.0, 5.0, -10.0]).double()
    if isinstance(visible, ReLUUnits):  # which have an origin
        x, shift = x.abs(), torch.zeros(6).double()
    starts = []
    for rows in (x, FACTORS * (x + shift)):
        torch.manual_seed(0)
        rbm = nn.RBM.from_data(rows, 4, negative_phase=phase, evaluation=Exact(), visible_units=visible).eval()
        starts.append(rbm().log_prob(rows).mean())
    torch.testing.assert_close(starts[1] + FACTORS.log().sum(), starts[0], atol=0.05, rtol=0)
    if isinstance(visible, GaussianUnits):
        assert abs(starts[0] - marginal_log_prob(x, "GaussianConditional").mean()) < 1
