"""Weights of scikit-learn's BernoulliRBM: the same features and free energies on both sides, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neural_network import BernoulliRBM

from pyro_gen import interop
from pyro_gen.distributions import SpinUnits
from pyro_gen.infer import ContrastiveDivergence, PersistentChains
from pyro_gen.nn import RBM


def rows(count: int = 30, units: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(2, size=(count, units)).astype(float)


def theirs(**settings: Any) -> BernoulliRBM:
    return BernoulliRBM(n_components=4, batch_size=5, random_state=0, **settings).fit(rows())


def double(rbm: RBM) -> RBM:
    with torch.no_grad():
        rbm.double().weight.normal_()
    return rbm


def test_their_weights_give_the_same_features_and_free_energies_here() -> None:
    estimator, x = theirs(), rows()
    rbm = interop.from_sklearn(estimator)
    np.testing.assert_allclose(rbm.transform(torch.from_numpy(x)).detach(), estimator.transform(x), atol=1e-12)
    free = rbm.eval()().free_energy(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(free, estimator._free_energy(x), atol=1e-12)


def test_our_weights_give_the_same_features_and_free_energies_there() -> None:
    rbm, x = double(RBM(6, 3)), rows()
    estimator = interop.to_sklearn(rbm)
    assert estimator.components_.shape == (3, 6)
    np.testing.assert_allclose(estimator.transform(x), rbm.transform(torch.from_numpy(x)).detach(), atol=1e-12)
    np.testing.assert_allclose(
        estimator._free_energy(x), rbm.eval()().free_energy(torch.from_numpy(x)).detach(), atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back_is_bit_for_bit(dtype: torch.dtype) -> None:
    rbm = double(RBM(6, 3)).to(dtype)
    back = interop.from_sklearn(interop.to_sklearn(rbm))
    for one, other in zip(rbm.uncentred, back.parameters(), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_half_precision_leaves_as_single() -> None:
    assert interop.to_sklearn(RBM(6, 3).bfloat16()).components_.dtype == np.float32


def test_the_estimator_is_a_copy() -> None:
    rbm = RBM(6, 3)
    before = rbm.weight.detach().clone()
    interop.to_sklearn(rbm).components_[:] = 7
    assert torch.equal(rbm.weight, before)


def test_the_estimator_goes_on_in_scikit_learn() -> None:
    estimator = interop.to_sklearn(RBM(6, 3), learning_rate=0.5, random_state=0)
    before = estimator.components_.copy()
    estimator.partial_fit(rows())
    assert (estimator.components_ != before).all()
    assert estimator.score_samples(rows()).shape == (30,)
    assert list(estimator.get_feature_names_out()) == ["bernoullirbm0", "bernoullirbm1", "bernoullirbm2"]


def test_without_chains_scikit_learn_starts_from_zeros() -> None:
    estimator = interop.to_sklearn(RBM(6, 3, negative_phase=ContrastiveDivergence()))
    assert estimator.h_samples_.shape == (10, 3)
    assert not estimator.h_samples_.any()


def test_chains_go_on_from_their_hidden_samples() -> None:
    estimator = theirs()
    estimator.components_[:] = 0
    estimator.components_[0] = 100  # with the first hidden unit on, every visible unit is on
    estimator.intercept_visible_[:] = -50
    estimator.h_samples_ = np.eye(4)
    rbm = interop.from_sklearn(estimator, negative_phase=PersistentChains(4, 2))
    assert torch.equal(rbm.chains, torch.tensor([1.0, 0, 0, 0])[:, None].expand(4, 6).double())
    torch.testing.assert_close(rbm.base_rates, torch.full((6,), 2 / 6).double())


def changed(**attributes: Any) -> BernoulliRBM:
    estimator = theirs()
    for name, value in attributes.items():
        setattr(estimator, name, value)
    return estimator


WRONG: dict[str, tuple[Any, str]] = {
    "unfitted": (BernoulliRBM(), "must be a fitted BernoulliRBM, got BernoulliRBM without components_, intercept_v"),
    "another": (object(), "got object without"),
    "transposed": (changed(components_=np.zeros((6, 4))), r"visible biases must have shape \(4,\), got \(6,\)"),
    "flat": (changed(components_=np.zeros(6)), r"must be a matrix \(visible, hidden\), got shape \(6,\)"),
    "short": (changed(intercept_hidden_=np.zeros(3)), r"hidden biases must have shape \(4,\), got \(3,\)"),
    "nan": (changed(intercept_hidden_=np.full(4, np.nan)), "hidden biases must be finite"),
    "integers": (changed(components_=np.zeros((4, 6), int)), "weights must be floating point numbers, got int64"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_fitted_estimator_is_refused(name: str) -> None:
    estimator, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        interop.from_sklearn(estimator)


@pytest.mark.parametrize("thing", [torch.nn.Linear(2, 2), None])
def test_what_is_no_rbm_is_refused(thing: Any) -> None:
    with pytest.raises(ValueError, match=r"`rbm` must be a pyro_gen\.nn\.RBM, got"):
        interop.to_sklearn(thing)


def test_sampled_weights_cannot_leave() -> None:
    rbm = RBM(6, 3)
    del rbm.weight
    with pytest.raises(ValueError, match="must hold its weights as parameters, got none for weight"):
        interop.to_sklearn(rbm)


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("sklearn.neural_network", lambda rbm, path: interop.to_sklearn(rbm), "sklearn"),
        ("h5py", lambda rbm, path: interop.write_rbms(path, rbm), "interop"),
        ("h5py", lambda rbm, path: interop.read_rbms(path), "interop"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    module: str, call: Any, extra: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}: pip install pyro-gen\[{extra}\]"):
        call(RBM(6, 3), tmp_path / "file")


def test_other_units_are_refused_for_weights_of_bernoulli_units() -> None:
    with pytest.raises(ValueError, match="`visible_units` must be BernoulliUnits"):
        interop.from_sklearn(theirs(), visible_units=SpinUnits())
