"""Every module with a negative phase: when chains move, what is said in training mode, what is refused."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from pyro_gen import infer, models, nn
from pyro_gen.distributions import GaussianUnits
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.infer import ContrastiveDivergence, NegativePhase, PersistentChains
from pyro_gen.nn.chains import PhaseModule
from tests.phases import PHASES

ROWS = 6
V = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 1, 1]]).float()
CONTEXT, INDEX = torch.linspace(-1, 1, 2 * ROWS).view(ROWS, 2), torch.arange(ROWS)
PLAIN = (PersistentChains(ROWS, 2), ContrastiveDivergence(2))


def class_rbm(phase: NegativePhase) -> nn.ClassRBM:
    return nn.ClassRBM(2, 3, 2, phase)


MAKERS: dict[type[PhaseModule], tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    nn.RBM: (lambda phase: nn.RBM(4, 3, phase), lambda module: module()),
    nn.BoltzmannMachine: (lambda phase: nn.BoltzmannMachine(4, negative_phase=phase), lambda module: module()),
    nn.ClassRBM: (class_rbm, lambda module: module.joint()),
    nn.ConditionalRBM: (
        lambda phase: nn.ConditionalRBM(4, 3, 2, negative_phase=phase),
        lambda module: module(CONTEXT, INDEX),
    ),
}
"""How each module is made with a phase, and how its distribution over V is."""

CASES = [(kind, phase) for kind in MAKERS for phase in (PHASES if kind is nn.RBM else PLAIN)]


def values(kind: type[PhaseModule]) -> Tensor:
    """Rows of the distribution's support."""
    if kind is not nn.ClassRBM:
        return V
    return torch.cat([V[:, :2], torch.eye(2).repeat(ROWS // 2, 1)], -1)


class Setting:
    """A module with a phase, its calls and rows of its support."""

    def __init__(self, kind: type[PhaseModule], phase: NegativePhase) -> None:
        torch.manual_seed(0)
        self.module: Any = MAKERS[kind][0](phase)
        with torch.no_grad():
            for p in self.module.parameters():
                p.normal_()
        self.call = lambda: cast(EnergyDistribution, MAKERS[kind][1](self.module))
        self.x = values(kind)
        self.kind = kind

    def state(self) -> dict[str, Tensor]:
        return {name: x.clone() for name, x in self.module.state_dict().items()}

    def unmoved(self, before: dict[str, Tensor]) -> bool:
        after = self.module.state_dict()
        return all(torch.allclose(x, after[name], rtol=0, atol=0, equal_nan=True) for name, x in before.items())


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__}-{type(case[1]).__name__}")
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(*request.param)


def phase_modules() -> set[type[PhaseModule]]:
    return {x for x in vars(nn).values() if isinstance(x, type) and issubclass(x, PhaseModule)}


def test_every_public_module_with_a_negative_phase_is_in_the_table() -> None:
    assert phase_modules() == set(MAKERS)


def test_a_call_that_is_looked_at_moves_nothing(setting: Setting) -> None:
    before, generator = setting.state(), torch.get_rng_state()
    distribution = setting.call()
    for look in (repr, str, lambda d: d.parameters, lambda d: d.batch_shape, lambda d: d.has_enumerate_support):
        look(distribution)
    distribution.expand(distribution.batch_shape).mask(True).to_event(0)
    assert setting.unmoved(before)
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.smoke
def test_a_call_is_freed_with_its_last_reference(setting: Setting) -> None:
    gc.disable()
    try:
        for scored in (False, True):
            distribution = setting.call()
            partition = weakref.ref(distribution.partition)
            if scored:
                distribution.log_prob(setting.x)
            del distribution
            assert partition() is None
    finally:
        gc.enable()


def test_the_first_log_probability_moves_the_chains_once(setting: Setting) -> None:
    distribution = setting.call()
    copies = distribution.mask(True), distribution.expand(distribution.batch_shape), distribution.to_event(0)
    first = distribution.log_prob(setting.x)
    steps = setting.module.step.item()
    assert steps == setting.module.negative_phase.num_steps
    for other in copies:
        torch.testing.assert_close(other.log_prob(setting.x), first)
    assert torch.equal(distribution.log_prob(setting.x), first)
    assert setting.module.step == steps


def test_two_calls_move_once_each_when_they_are_scored(setting: Setting) -> None:
    """In the order of scoring: the second gets the particles after those of the first."""
    twin = Setting(setting.kind, setting.module.negative_phase)
    twin.module.load_state_dict(setting.module.state_dict())
    first, second = setting.call(), setting.call()
    late, early = second.log_prob(setting.x), first.log_prob(setting.x)
    expected = twin.call().log_prob(setting.x), twin.call().log_prob(setting.x)
    torch.testing.assert_close((late, early), expected)
    for name, x in setting.module.state_dict().items():
        torch.testing.assert_close(x, twin.module.state_dict()[name])


def test_bad_values_move_nothing(setting: Setting) -> None:
    before = setting.state()
    for bad in (math.nan, math.inf, 7.0):
        x = setting.x.clone()
        x[-1, 0] = bad
        with pytest.raises(ValueError, match="value"):
            setting.call().log_prob(x)
    for validate in (True, False):
        with pyro.validation_enabled(validate), pytest.raises(ValueError, match="value"):
            setting.call().log_prob(setting.x[:, :3])
    if setting.kind is nn.ConditionalRBM:
        with pytest.raises(ValueError, match="a row for each context"):
            setting.call().log_prob(setting.x[:1])
    assert setting.unmoved(before)


def test_the_modes_print_otherwise_and_training_names_its_phase(setting: Setting) -> None:
    training, evaluation = setting.call(), None
    setting.module.eval()
    evaluation = setting.call()
    for show in (repr, str):
        assert show(training) != show(evaluation)
        assert f"contrast under the negative phase {setting.module.negative_phase}" in show(training)
        assert "contrast" not in show(evaluation)
    assert "negative_phase=" in repr(setting.module)
    assert "evaluation=" in repr(setting.module)


NEEDS_LOG_Z: dict[str, Callable[[Any, Tensor], object]] = {
    "log_partition": lambda d, x: d.log_partition(),
    "sample": lambda d, x: d.sample((2,)),
    "entropy": lambda d, x: d.entropy() if hasattr(type(d), "log_joint") else d.log_partition(),
    "log_joint": lambda d, x: d.log_joint(x, torch.zeros(3)) if hasattr(d, "log_joint") else d.log_partition(),
    "divergence": lambda d, x: torch.distributions.kl_divergence(d, d) if hasattr(d, "log_joint") else d.sample(),
    "bracket": lambda d, x: infer.log_partition_bracket(d),
    "likelihood": lambda d, x: d.log_partition() if d.batch_shape else infer.log_likelihood(d, x),
}


@pytest.mark.parametrize("name", NEEDS_LOG_Z)
def test_what_needs_log_z_says_eval_in_training_mode(setting: Setting, name: str) -> None:
    setting.module.evaluation = infer.Exact()
    before = setting.state()
    with pytest.raises((ValueError, NotImplementedError)) as caught:
        NEEDS_LOG_Z[name](setting.call(), setting.x)
    assert ".eval()" in str(caught.value)
    assert "evaluation" not in str(caught.value)  # it was given
    assert setting.unmoved(before)


def test_lists_of_states_under_cd_say_eval_too() -> None:
    for kind in (nn.RBM, nn.BoltzmannMachine, nn.ClassRBM):
        with pytest.raises(NotImplementedError, match=r"\.eval\(\)"):
            Setting(kind, ContrastiveDivergence(1)).call().enumerate_support()


def test_copies_of_a_call_have_a_module_of_their_own() -> None:
    for phase in (PersistentChains(5, 2), ContrastiveDivergence(2)):
        rbm = nn.RBM(4, 3, phase, centring=False)
        distribution = rbm()
        others = copy.deepcopy(distribution), pickle.loads(pickle.dumps(distribution))
        values = [other.log_prob(V) for other in others]
        assert rbm.step == 0
        for value in values:
            torch.testing.assert_close(value, distribution.log_prob(V))
        again = copy.deepcopy(distribution)
        torch.testing.assert_close(again.log_prob(V), distribution.log_prob(V))
        assert rbm.step == 2


def test_scoring_without_gradients_leaves_the_gradient_to_later_scores() -> None:
    rbm = nn.RBM(4, 3, PersistentChains(5))
    for context in (torch.no_grad, torch.inference_mode):
        distribution = rbm()
        with context():
            value = distribution.log_prob(V)
        again = distribution.log_prob(V)
        torch.testing.assert_close(again, value.clone())
        again.sum().backward()
        assert rbm.weight.grad is not None


def test_other_buffers_of_a_functional_call_move_and_not_the_module_s(setting: Setting) -> None:
    before = setting.state()
    tensors = {name: x.detach().clone() for name, x in setting.module.named_parameters()}
    buffers = {name: x.clone() for name, x in setting.module.named_buffers()}
    args = (CONTEXT, INDEX) if setting.kind is nn.ConditionalRBM else ()
    if setting.kind is nn.ClassRBM:
        pytest.skip("its joint distribution is a method, which functional_call does not reach")
    expected = Setting(setting.kind, setting.module.negative_phase)
    expected.module.load_state_dict(before)
    swapped = [torch.func.functional_call(setting.module, tensors | buffers, args) for _ in range(2)]
    for distribution in swapped:
        value = distribution.log_prob(setting.x)
        wanted = expected.call()
        if not getattr(setting.module, "centring", False):  # whose offsets do not follow weights of others
            torch.testing.assert_close(value, wanted.log_prob(setting.x))
    assert setting.unmoved(before)
    assert buffers["step"] == 2 * setting.module.negative_phase.num_steps
    if len(buffers["chains"]):
        assert not torch.equal(buffers["chains"], before["chains"])


def test_other_weights_alone_move_the_module_s_chains_and_leave_its_offsets() -> None:
    rbm = nn.RBM(4, 3, PersistentChains(5, 2))
    offsets, weights = rbm.visible_offset.clone(), {"weight": torch.randn(4, 3).requires_grad_()}
    torch.func.functional_call(rbm, weights, ()).log_prob(V).sum().backward()
    assert weights["weight"].grad is not None
    assert rbm.step == 2
    assert torch.equal(rbm.visible_offset, offsets)


def observe(rbm: nn.RBM, size: int = ROWS) -> Callable[[Tensor], None]:
    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", size, subsample=x):
            pyro.sample("v", rbm(), obs=x)

    return model


def test_a_prototype_a_rendering_and_a_bare_trace_move_no_chains() -> None:
    rbm = nn.RBM(4, 3, PersistentChains(5))

    def model(x: Tensor) -> None:
        pyro.sample("z", pyro.distributions.Normal(0.0, 1.0))
        observe(rbm)(x)

    guide = AutoNormal(model)
    guide(V)
    pyro.infer.inspect.get_model_relations(model, (V,))
    trace = poutine.trace(model).get_trace(V)
    assert rbm.step == 0
    trace.compute_log_prob()
    assert rbm.step == 1
    replayed = poutine.trace(poutine.replay(model, trace)).get_trace(V)
    assert rbm.step == 1
    replayed.log_prob_sum()
    assert rbm.step == 2
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(num_particles=3)).step(V)
    assert rbm.step == 5

    def enumerated(x: Tensor) -> None:
        pyro.sample("z", pyro.distributions.Bernoulli(0.3), infer={"enumerate": "parallel"})
        observe(rbm)(x)

    TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(enumerated, lambda x: None, V)
    assert rbm.step == 6


def parameters_of(setting: Setting) -> Iterator[tuple[str, Tensor]]:
    yield from setting.module.named_parameters()
    yield from ((n, x) for n, x in setting.module.named_buffers() if n.endswith("_offset"))


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_parameters_that_are_not_finite_move_nothing(setting: Setting, bad: float, validate: bool) -> None:
    """Through SVI and, with arguments not validated, too; every parameter and every offset in turn."""
    for name, x in parameters_of(setting):
        kept = x.detach().clone()
        x.data.view(-1)[-1] = bad
        before = setting.state()
        with pyro.validation_enabled(validate), pytest.raises(ValueError, match=r"finite|constraint|satisfy"):
            setting.call().log_prob(setting.x)
        assert setting.unmoved(before), name
        x.data.copy_(kept)
    assert setting.call().log_prob(setting.x).isfinite().all()


CENTRED = [pytest.param(False, id="plain"), pytest.param(True, id="centred")]


@pytest.mark.parametrize("centring", CENTRED)
@pytest.mark.parametrize("phase", PHASES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_by_hand_stops_before_anything_moves(phase: NegativePhase, centring: bool, bad: float) -> None:
    rbm = nn.RBM(4, 3, phase, centring=centring)
    infer.contrastive_gradient(rbm, V)
    tensors = {n: x for n, x in rbm.named_buffers() if n.endswith("_offset") or n.startswith("fast")}
    for name, x in {**dict(rbm.named_parameters()), **tensors}.items():
        kept, state = x.detach().clone(), None
        x.data.view(-1)[0] = bad
        state = {n: y.clone() for n, y in rbm.state_dict().items()}
        gradient = cast(Tensor, rbm.weight.grad).clone()
        with pytest.raises(ValueError, match=f"`{name}` is no longer finite"):
            infer.contrastive_gradient(rbm, V)
        for n, y in rbm.state_dict().items():
            torch.testing.assert_close(y, state[n], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(cast(Tensor, rbm.weight.grad), gradient)
        x.data.copy_(kept)
    infer.contrastive_gradient(rbm, V)


@pytest.mark.parametrize("validate", [True, False])
def test_a_step_by_hand_of_other_units_stops_too(validate: bool) -> None:
    for name in ("weight", "vbias", "hbias", "visible_log_precision", "visible_offset", "hidden_offset"):
        rbm = nn.RBM(4, 3, PersistentChains(5), visible_units=GaussianUnits())
        getattr(rbm, name).data.view(-1)[0] = math.nan
        chains = rbm.chains.clone()
        with pyro.validation_enabled(validate), pytest.raises(ValueError, match=r"finite|satisfy"):
            infer.contrastive_gradient(rbm, V)
        assert torch.equal(rbm.chains, chains)
        assert rbm.step == 0
        assert rbm.weight.grad is None
    with pyro.validation_enabled(validate), pytest.raises(ValueError, match="4 columns"):
        infer.contrastive_gradient(nn.RBM(4, 3, visible_units=GaussianUnits()), V[:, :3])


def test_large_finite_parameters_are_no_divergence() -> None:
    rbm = nn.RBM(4, 3, PersistentChains(5), centring=False)
    with torch.no_grad():
        rbm.vbias.fill_(3e38)
        rbm.hbias.fill_(3e38)
    infer.contrastive_gradient(rbm, V)
    assert rbm.step == 1


def test_the_moments_of_a_boltzmann_machine_stop_too() -> None:
    for name in ("coupling", "bias"):
        machine = nn.BoltzmannMachine(4)
        getattr(machine, name).data[0] = math.nan
        with pyro.validation_enabled(False), pytest.raises(ValueError, match=f"`{name}`"):
            infer.moment_gradient(machine, V)
        assert machine.step == 0


def reading(module: Any) -> dict[str, Callable[[Tensor], object]]:
    """Methods of the modules that take states."""
    if isinstance(module, models.DeepBoltzmannMachine):
        names = ("mean_field", "start_at", "contrastive_gradient", "lower_bound")
    elif isinstance(module, nn.ClassRBM):
        return {"forward": module, "features": module.features, "encode": lambda v: module.encode(v, INDEX % 2)}
    else:
        names = ("hidden_field", "transform", "reconstruction_error", "start_chains")
    return {name: getattr(module, name) for name in names}


READERS: dict[str, Callable[[], Any]] = {
    "RBM": lambda: nn.RBM(4, 3),
    "Gaussian RBM": lambda: nn.RBM(4, 3, visible_units=GaussianUnits()),
    "ClassRBM": lambda: nn.ClassRBM(4, 3, 2),
    "DeepBoltzmannMachine": lambda: models.DeepBoltzmannMachine(4, [3, 2], 6),
}


@pytest.mark.parametrize("name", READERS)
def test_methods_of_modules_take_states_only(name: str) -> None:
    module = READERS[name]()
    bad = {"NaN": V.clone().fill_(math.nan), "infinity": V.clone().fill_(math.inf), "width": torch.zeros(6, 5)}
    bad |= {} if name.startswith("Gaussian") else {"sevens": V * 7}
    before = {n: x.clone() for n, x in module.state_dict().items()}
    with pyro.validation_enabled(False):
        for method, read in reading(module).items():
            for kind, v in bad.items():
                with pytest.raises(ValueError, match=r"`[vx]` must"):
                    pytest.fail(f"{method} takes {kind}: {read(v)}")
    for n, x in module.state_dict().items():
        assert torch.equal(x, before[n])


DISTRIBUTIONS: dict[str, Callable[[], Any]] = {
    "RBM": lambda: nn.RBM(4, 3),
    "Gaussian RBM": lambda: nn.RBM(4, 3, visible_units=GaussianUnits()),
    "BoltzmannMachine": lambda: nn.BoltzmannMachine(4),
    "ClassRBM": lambda: nn.ClassRBM(2, 3, 2),
}
READS = ("free_energy", "unnormalized_log_prob", "log_prob", "pseudo_log_likelihood", "hidden_given_visible", "field")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_methods_of_distributions_take_states_only(name: str) -> None:
    module = DISTRIBUTIONS[name]().eval()
    distribution = module.joint() if name == "ClassRBM" else module()
    good = values(nn.ClassRBM) if name == "ClassRBM" else V
    bad = [good * math.nan, good + math.inf, torch.zeros(6, 5)] + ([] if "Gaussian" in name else [good * 7])
    reads = {n: getattr(distribution, n) for n in READS if hasattr(distribution, n)}
    if name == "Gaussian RBM":
        del reads["pseudo_log_likelihood"]
    if name == "ClassRBM":
        reads |= {"given_visible": lambda x: distribution.given_visible(x[:, :2]), "decode": distribution.decode}
        bad[2] = torch.zeros(6, 3)
        bad[2][:, :2] = math.nan
    if hasattr(distribution, "hbias") and name != "ClassRBM":
        reads["energy"] = lambda x: distribution.energy(x, torch.zeros(3))
    for method, read in reads.items():
        read(good)
        for x in bad:
            with pytest.raises(ValueError, match=r"`(value|v)`|Expected value|size of value"):
                pytest.fail(f"{method} takes {x[0].tolist()}: {read(x)}")


@pytest.mark.parametrize("count", [0, -1, 2.5, math.nan, True, "3"])
def test_particles_come_in_whole_numbers(count: Any) -> None:
    with pytest.raises(ValueError, match="`count`"):
        nn.RBM(4, 3).particles(count)


def test_two_ranks_are_refused_by_name(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    before = setting.state()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    steps: list[Callable[[], object]] = [setting.call]
    if setting.kind is nn.RBM:
        steps.append(lambda: infer.contrastive_gradient(setting.module, V))
    if setting.kind is nn.BoltzmannMachine:
        steps.append(lambda: infer.moment_gradient(setting.module, V))
    for step in steps:
        with pytest.raises(NotImplementedError, match=r"2 ranks.*DistributedDataParallel.*one process"):
            step()
    assert setting.unmoved(before)
    setting.module.eval()
    assert setting.call().log_prob(setting.x).isfinite().all()
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    setting.module.train()
    setting.call().log_prob(setting.x)
    assert setting.module.step == setting.module.negative_phase.num_steps


def _rank(rank: int, folder: str) -> None:
    """One of two processes: what training says, and the log probabilities of evaluation mode."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    rbm = nn.RBM(4, 3)
    parallel = torch.nn.parallel.DistributedDataParallel(rbm)
    refusals = []
    for step in (lambda: parallel().log_prob(V), lambda: infer.contrastive_gradient(rbm, V)):
        try:
            step()
        except NotImplementedError as error:
            refusals.append(str(error))
    torch.save((refusals, parallel.eval()().log_prob(V).detach(), rbm.step), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_refused_and_evaluate(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), 2)  # type: ignore[attr-defined]  # torch lists it nowhere
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for refusals, log_prob, step in results:
        assert len(refusals) == 2
        assert all("2 ranks" in refusal for refusal in refusals)
        assert step == 0
        torch.testing.assert_close(log_prob, results[0][1])
