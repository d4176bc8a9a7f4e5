"""The scikit-learn estimator: scikit-learn's own checks, its numbers against enumeration, and runs that go on."""

from __future__ import annotations

import importlib
import itertools
import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.decomposition
import sklearn.mixture
import torch
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyro_gen import datasets, interop
from pyro_gen.estimators import PPCA, GaussianMixture, RBMTransformer
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, PersistentChains
from tests.runs import same

PHASES: list[Any] = [None, PersistentChains(7, 2), ContrastiveDivergence(2)]


def rows(count: int = 33, units: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, size=(count, units)).astype(float)


def small(**settings: Any) -> RBMTransformer:
    return RBMTransformer(**({"n_components": 4, "batch_size": 10, "n_iter": 3, "random_state": 0} | settings))


def weights(rbm: RBMTransformer) -> list[np.ndarray]:
    return [rbm.components_, rbm.intercept_hidden_, rbm.intercept_visible_]


def equal(one: RBMTransformer, other: RBMTransformer) -> bool:
    """Weights, chains, key, momenta and generator, to the last bit."""
    states = [(e.rbm_.state_dict(), e.optimizer_.state_dict()) for e in (one, other)]
    generators = [str(e.random_state_.get_state()) for e in (one, other)]
    return same(states[0], states[1]) and generators[0] == generators[1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")  # most checks feed normal numbers
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([RBMTransformer(), GaussianMixture(), PPCA()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([small(momentum=0.5, negative_phase=ContrastiveDivergence())])
def test_scikit_learn_checks_with_other_settings(estimator: Any, check: Any) -> None:
    check(estimator)


def test_features_and_free_energies_are_those_of_bernoulli_rbm() -> None:
    rbm, x = small().fit(rows()), rows(seed=1)
    theirs = interop.to_sklearn(rbm.rbm_)
    np.testing.assert_allclose(rbm.transform(x), theirs.transform(x), atol=1e-6)
    np.testing.assert_allclose(theirs.components_, rbm.components_)
    assert rbm.transform(x.astype(np.float32)).dtype == np.float32
    back = interop.from_sklearn(rbm)  # it has the same attributes
    assert torch.equal(back.weight, rbm.rbm_.weight)


def strong() -> RBMTransformer:
    """A fitted estimator with weights that matter."""
    rbm = small().fit(rows())
    with torch.no_grad():
        rbm.rbm_.weight.normal_()
        rbm.rbm_.vbias.normal_()
    return rbm


def free_energy(rbm: RBMTransformer, v: np.ndarray) -> np.ndarray:
    w, b, a = (array.astype(float) for array in weights(rbm))
    energy: np.ndarray = -v @ a - np.logaddexp(0, v @ w.T + b).sum(-1)
    return energy


def test_the_pseudo_log_likelihood_is_the_sum_of_the_enumerated_conditionals() -> None:
    rbm, x = strong(), rows(5)
    expected = np.zeros(5)
    for i in range(6):
        one, zero = x.copy(), x.copy()
        one[:, i], zero[:, i] = 1, 0
        joint = np.exp([-free_energy(rbm, v) for v in (zero, one)])
        expected += np.log((joint / joint.sum(0))[x[:, i].astype(int), np.arange(5)])
    np.testing.assert_allclose(rbm.score_samples(x), expected, rtol=1e-5)
    assert rbm.score(x) == pytest.approx(expected.mean(), rel=1e-5)


def test_it_is_the_mean_of_what_bernoulli_rbm_draws() -> None:
    """Their 4000 draws against ours: |z| < 5, false alarm 6e-7."""
    rbm, x = strong(), rows(1)
    draws = interop.to_sklearn(rbm.rbm_, random_state=0).score_samples(np.repeat(x, 4000, axis=0))
    assert abs(draws.mean() - rbm.score_samples(x)[0]) < 5 * draws.std() / 4000**0.5


@pytest.mark.smoke
def test_the_log_likelihood_is_that_of_enumeration() -> None:
    rbm, x = strong(), rows(5)
    everything = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    expected = -free_energy(rbm, x) - np.logaddexp.reduce(-free_energy(rbm, everything))
    found = rbm.log_likelihood(x)
    np.testing.assert_allclose(found.rows, expected, rtol=1e-5)
    assert found.partition.method == "exact"


def test_a_large_one_is_annealed_or_as_one_says() -> None:
    rbm = RBMTransformer(25, n_iter=1, random_state=0).fit(rows(units=22))
    assert rbm.log_likelihood(rows(units=22), AIS(20, 50)).partition.method == "AIS"
    assert rbm.log_likelihood(rows(units=22), Exact(max_units=22)).partition.method == "exact"


def test_inverse_transform_is_the_visible_layer_given_the_hidden_one() -> None:
    rbm, h = strong(), rows(5, 4)
    expected = 1 / (1 + np.exp(-(h @ rbm.components_ + rbm.intercept_visible_)))
    np.testing.assert_allclose(rbm.inverse_transform(h), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"`X` must have shape \(n_samples, 4\), got \(5, 6\)"):
        rbm.inverse_transform(rows(5))


def test_gibbs_sweeps_leave_the_distribution_alone() -> None:
    """Rows drawn from the distribution stay so: means of 4000 rows within 5 standard errors, false alarm 6 * 6e-7."""
    rbm = strong()
    everything = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    distribution = np.exp(-free_energy(rbm, everything))
    distribution /= distribution.sum()
    start = everything[np.random.default_rng(0).choice(64, size=4000, p=distribution)]
    moved = rbm.gibbs(start, num_steps=3)
    assert (moved != start).any()
    assert np.isin(moved, (0, 1)).all()
    mean = distribution @ everything
    assert (np.abs(moved.mean(0) - mean) < 5 * (mean * (1 - mean) / 4000) ** 0.5).all()


def test_torch_and_numpy_keep_their_generators() -> None:
    before = torch.get_rng_state(), str(np.random.get_state())
    rbm = small().fit(rows()).partial_fit(rows())
    rbm.gibbs(rows())
    rbm.log_likelihood(rows(), AIS(5, 5))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


def test_the_seed_alone_decides() -> None:
    one = small().fit(rows())
    torch.manual_seed(99)
    np.random.seed(99)
    assert equal(one, small().fit(rows()))
    assert not equal(one, small(random_state=1).fit(rows()))
    torch.manual_seed(99)
    other = small(random_state=None).fit(rows())
    assert not equal(other, small(random_state=None).fit(rows()))


def test_a_copy_is_unfitted_and_learns_the_same() -> None:
    rbm = small(negative_phase=PersistentChains(7, 2)).fit(rows())
    twin = clone(rbm)
    assert not hasattr(twin, "rbm_")
    assert not hasattr(twin, "components_")
    assert equal(twin.fit(rows()), rbm)


@pytest.mark.parametrize("binarize", [0.5, "sample"])
@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_partial_fit_on_the_same_batches_is_fit(phase: Any, binarize: Any) -> None:
    """33 rows in batches of 10: the last one has 3, and neither chains nor momenta start anew there."""
    settings: dict[str, Any] = {"schedule": "constant", "shuffle": False, "momentum": 0.9, "l1": 0.01}
    settings |= {"negative_phase": phase, "binarize": binarize}
    x = rows() * 0.8
    whole = small(**settings).fit(x)
    parts = small(n_iter=0, **settings).fit(x)
    for _ in range(3):
        for start in range(0, 33, 10):
            parts.partial_fit(x[start : start + 10])
    assert equal(parts, whole)


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_a_pickle_goes_on_bit_for_bit(phase: Any) -> None:
    """Chains, key, momenta and generator travel; a pickle without the momenta would not do."""
    whole = small(negative_phase=phase, momentum=0.9, binarize="sample").fit(rows() * 0.7)
    broken, forgetful = pickle.loads(pickle.dumps(whole)), pickle.loads(pickle.dumps(whole))
    forgetful.optimizer_.state.clear()
    for rbm in (whole, broken, forgetful):
        rbm.partial_fit(rows() * 0.7)
    assert equal(whole, broken)
    assert not equal(whole, forgetful)
    assert broken.optimizer_.param_groups[0]["params"][0] is broken.rbm_.weight


def test_sparse_rows_are_the_dense_ones() -> None:
    dense = small().fit(rows())
    for kind in (scipy.sparse.csr_matrix, scipy.sparse.csc_array):
        sparse = small().fit(kind(rows()))
        assert equal(sparse, dense)
        np.testing.assert_array_equal(sparse.transform(kind(rows())), dense.transform(rows()))
        np.testing.assert_array_equal(sparse.score_samples(kind(rows())), dense.score_samples(rows()))


def test_zeros_and_ones_are_themselves_whatever_binarize_says() -> None:
    default = small().fit(rows())
    for other in (small(binarize=None), small(binarize=0.0), small(batch_size=10, binarize=0.99)):
        assert equal(other.fit(rows()), default)
    sampled = small(binarize="sample").fit(rows())
    np.testing.assert_array_equal(sampled.score_samples(rows()), clone(sampled).fit(rows()).score_samples(rows()))


def test_a_threshold_makes_ones_of_what_lies_above() -> None:
    x = np.random.default_rng(0).random((33, 6))
    x[0] = 0.25
    assert equal(small(binarize=0.25).fit(x), small().fit((x > 0.25).astype(float)))


def test_sampling_takes_values_as_probabilities() -> None:
    """Rates of 4000 draws within 5 standard errors, false alarm 3 * 6e-7; the features are those of the mean."""
    probs = np.array([0.1, 0.5, 0.8])
    rbm = small(binarize="sample", n_iter=0).fit(np.tile(probs, (4000, 1)))
    rates = 1 / (1 + np.exp(-rbm.intercept_visible_))
    assert (np.abs(rates - probs) < 5 * (probs * (1 - probs) / 4000) ** 0.5).all()
    np.testing.assert_allclose(
        rbm.transform(probs[None]), interop.to_sklearn(rbm.rbm_).transform(probs[None]), atol=1e-6
    )


def test_values_outside_0_and_1_are_named() -> None:
    x = 3 * rows() - 1
    with pytest.warns(DataConversionWarning, match=r"between 0 and 1, got values from -1 to 2; what lies above 0\.5"):
        small().fit(x)
    with pytest.raises(ValueError, match=r"between 0 and 1, got values from -1 to 2, which are no probabilities"):
        small(binarize="sample").fit(x)
    with pytest.raises(ValueError, match="must hold zeros and ones only, or `binarize` must say"):
        small(binarize=None).fit(rows() / 2)
    with pytest.raises(ValueError, match="contains NaN"):
        small().fit(rows() * np.nan)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": 0},
        {"n_components": 2.5},
        {"batch_size": 0},
        {"n_iter": -1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"l1": -0.1},
        {"weight_decay": "much"},
        {"schedule": "cosine"},
        {"negative_phase": 3},
        {"negative_phase": Exact()},
        {"binarize": "round"},
        {"binarize": float("inf")},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named_by_fit(settings: dict[str, Any]) -> None:
    rbm = small(**settings)  # the constructor takes all, as scikit-learn wants it
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be"):
        rbm.fit(rows())
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be"):
        rbm.partial_fit(rows())


def test_a_rate_that_explodes_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="the weights became infinite in iteration 1: `learning_rate`"):
        small(learning_rate=1e38, weight_decay=1e30).fit(rows().astype(np.float32))


def test_verbose_prints_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    loud = small(verbose=1, binarize="sample").fit(rows() * 0.5)
    assert capsys.readouterr().out.count("mean pseudo-log-likelihood -") == 3
    assert equal(loud, small(binarize="sample").fit(rows() * 0.5))


def test_bars_and_stripes_are_learned() -> None:
    """3 x 3, optimum -2.64 nats; independent pixels reach -6.24. The seed is fixed: no false alarm to state."""
    x = np.tile(datasets.bars_and_stripes(3, 3).numpy(), (20, 1))
    rbm = RBMTransformer(12, n_iter=100, learning_rate=0.2, random_state=0).fit(x)
    assert rbm.log_likelihood(x).value > -3.3


def test_a_pipeline_in_a_grid_search() -> None:
    x, y = rows(60, 8), rows(60, 8)[:, 0]
    pipeline = Pipeline([("rbm", small()), ("classifier", LogisticRegression())])
    grid = {"rbm__n_components": [2, 5], "rbm__negative_phase": PHASES, "classifier__C": [1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_params_["rbm__n_components"] in (2, 5)
    assert search.best_estimator_.score(x, y) > 0.5
    alone = GridSearchCV(small(), {"learning_rate": [1e-6, 0.1]}, cv=2, error_score="raise").fit(x)
    assert alone.best_score_ == pytest.approx(alone.cv_results_["mean_test_score"].max())


def test_features_have_names_in_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(), columns=list("abcdef"))
    features = small().set_output(transform="pandas").fit_transform(frame)
    assert list(features.columns) == [f"rbmtransformer{unit}" for unit in range(4)]


def test_its_features_classify_as_well_as_those_of_bernoulli_rbm() -> None:
    """The ten digits of AlphaDigits, equal sizes and iterations: at most 3 standard errors of the difference below."""
    data = datasets.alphadigits([str(digit) for digit in range(10)])
    x, y = np.concatenate([data.train, data.valid]), np.concatenate([data.train_labels, data.valid_labels])
    settings: dict[str, Any] = {"n_components": 60, "batch_size": 10, "n_iter": 10, "random_state": 0}
    right = []
    for kind in (RBMTransformer, BernoulliRBM):
        pipeline = make_pipeline(kind(**settings), LogisticRegression(C=1, max_iter=500)).fit(x[::2], y[::2])
        right.append(pipeline.predict(x[1::2]) == y[1::2])
    difference = right[0].astype(float) - right[1]
    assert difference.mean() > -3 * difference.std() / len(difference) ** 0.5


def test_without_scikit_learn_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    for name in [name for name in sys.modules if name.startswith("pyro_gen.estimators")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"needs scikit-learn 1\.6 or later: pip install pyro-gen\[sklearn\]"):
        importlib.import_module("pyro_gen.estimators")


def test_centring_reaches_the_module() -> None:
    x = rows()
    plain, centred = (small(centring=centring).fit(x) for centring in (False, True))
    assert centred.rbm_.centring
    assert not np.allclose(plain.components_, centred.components_)


def blobs(count: int = 200) -> np.ndarray:
    generator = np.random.default_rng(0)
    ends = np.where(generator.random((count, 1)) < 0.3, -2.0, 2.0)
    return ends * [1.0, 2.0] + generator.normal(size=(count, 2)) @ [[1.0, 0.4], [0.0, 0.7]]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("full", "full"), ("tied", "tied"), ("diagonal", "diag"), ("spherical", "spherical")]
)
def test_the_mixture_is_that_of_scikit_learn(ours: str, theirs: str) -> None:
    x = blobs()
    mixture = GaussianMixture(2, covariance_type=ours, objective="likelihood", random_state=0).fit(x)  # type: ignore[arg-type]
    peer = sklearn.mixture.GaussianMixture(2, covariance_type=theirs, n_init=5, tol=1e-9, max_iter=1000, random_state=0)
    peer.fit(x)
    assert mixture.converged_
    assert mixture.score(x) == pytest.approx(peer.score(x), abs=1e-4)
    assert mixture.bic(x) == pytest.approx(peer.bic(x), abs=0.1)
    order, other = np.argsort(mixture.means_[:, 0]), np.argsort(peer.means_[:, 0])
    np.testing.assert_allclose(mixture.weights_[order], peer.weights_[other], atol=1e-3)
    np.testing.assert_allclose(mixture.means_[order], peer.means_[other], atol=1e-2)
    np.testing.assert_allclose(mixture.predict_proba(x)[:, order], peer.predict_proba(x)[:, other], atol=5e-3)
    assert mixture.covariances_.shape == (2, 2, 2)
    assert (mixture.predict(x) == mixture.predict_proba(x).argmax(1)).all()


def test_ppca_is_the_closed_form_of_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(100, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    ppca = PPCA(2).fit(x)
    peer = sklearn.decomposition.PCA(2).fit(x)
    unbiased = 5 * np.log(100 / 99) / 2  # scikit-learn divides by n - 1
    assert ppca.score(x) == pytest.approx(peer.score(x), abs=0.03 + unbiased)
    z = ppca.transform(x)
    assert np.linalg.matrix_rank(np.hstack([z - z.mean(0), peer.transform(x)]), tol=1e-6) == 2  # one subspace
    shrunk = ppca.inverse_transform(z) - x.mean(0)
    assert np.linalg.norm(shrunk) <= np.linalg.norm(peer.inverse_transform(peer.transform(x)) - x.mean(0)) + 1e-9
    with pytest.raises(ValueError, match=r"`X` must have shape \(n, 2\), got \(3, 1\)"):
        ppca.inverse_transform(np.ones((3, 1)))


@pytest.mark.parametrize("estimator", [GaussianMixture(2, random_state=0), PPCA(1, random_state=0)], ids=repr)
def test_densities_take_missing_cells_and_frames_and_keep_torchs_generator(estimator: Any) -> None:
    x = blobs()
    x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    state = torch.get_rng_state()
    frame = pd.DataFrame(x, columns=["length", "width"])
    fitted = clone(estimator).fit(frame)
    scores = fitted.score_samples(frame)
    draws = fitted.sample(500)
    assert torch.equal(state, torch.get_rng_state())
    assert list(fitted.feature_names_in_) == ["length", "width"]
    assert np.isfinite(scores[~np.isnan(x).all(1)]).all()
    assert draws.shape == (500, 2)
    assert np.array_equal(draws, fitted.sample(500))
    assert np.abs(draws.mean(0) - np.nanmean(x, 0)).max() < 0.6
    again = clone(estimator).fit(x)
    assert np.array_equal(again.score_samples(x), scores)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(frame), scores)


def test_the_number_of_components_is_chosen_by_cross_validation() -> None:
    search = GridSearchCV(GaussianMixture(random_state=0, n_init=2), {"n_components": [1, 2]}, cv=3).fit(blobs())
    assert search.best_params_ == {"n_components": 2}
