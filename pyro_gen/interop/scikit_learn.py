"""Weights from and to scikit-learn's BernoulliRBM, whose matrix lies the other
way: (hidden, visible).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pyro_gen._optional import require
from pyro_gen.interop.weights import array, arrays, build, start_chains
from pyro_gen.nn import RBM

ATTRIBUTES = ("components_", "intercept_visible_", "intercept_hidden_")


def from_sklearn(estimator: Any, **settings: Any) -> RBM:
    r"""Take over the weights of a fitted `sklearn.neural_network.BernoulliRBM`.

    .. math:: W = \mathrm{components\_}^\top, \quad a = \mathrm{intercept\_visible\_}, \quad
              b = \mathrm{intercept\_hidden\_}

    Persistent chains start at visible states drawn from the estimator's last
    hidden samples, `h_samples_`.

    Args:
        estimator: the fitted estimator; whatever has its three arrays serves.
        **settings: ``negative_phase``, ``evaluation`` and further keyword
            arguments of `pyro_gen.nn.RBM`.

    Returns:
        A module with the estimator's dtype.

    Raises:
        ValueError: the estimator is not fitted, shapes do not fit, or a weight
            is not finite.

    Example:
        >>> from sklearn.neural_network import BernoulliRBM
        >>> x = torch.eye(6).numpy()
        >>> theirs = BernoulliRBM(n_components=3, random_state=0).fit(x)
        >>> rbm = from_sklearn(theirs)
        >>> torch.equal(rbm.weight, torch.from_numpy(theirs.components_.T))
        True
    """
    name = type(estimator).__name__
    if missing := [attribute for attribute in ATTRIBUTES if not hasattr(estimator, attribute)]:
        raise ValueError(
            f"`estimator` must be a fitted BernoulliRBM, got {name} without {', '.join(missing)}"
        )
    components, vbias, hbias = (
        np.asarray(getattr(estimator, attribute)) for attribute in ATTRIBUTES
    )
    rbm = build(f"`estimator` {name}", components.T, vbias, hbias, settings)
    hidden = np.asarray(getattr(estimator, "h_samples_", ()))
    if hidden.ndim == 2 and hidden.shape[1] == rbm.weight.shape[1]:
        with torch.no_grad():
            couplings, biases, _ = rbm.uncentred
            field = torch.from_numpy(hidden).to(couplings.dtype) @ couplings.mT + biases
            start_chains(rbm, torch.bernoulli(field.sigmoid()))
    return rbm


def to_sklearn(rbm: RBM, **parameters: Any) -> Any:
    """Make a fitted `sklearn.neural_network.BernoulliRBM` of a module's weights.

    `transform`, `gibbs`, `score_samples` and `partial_fit` of the result work
    at once. Its `h_samples_` are drawn from the module's chains; without chains
    they are the zeros that scikit-learn starts from.

    Args:
        rbm: a module with Bernoulli units.
        **parameters: further parameters of the estimator, such as
            ``learning_rate`` and ``random_state``.

    Returns:
        The estimator, with float64 arrays where the module is in double
        precision, else float32.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: `rbm` is no RBM of Bernoulli units with weights of its own.

    Example:
        >>> rbm = RBM(6, 3)
        >>> to_sklearn(rbm).transform(torch.eye(6).numpy()).shape
        (6, 3)
    """
    estimators = require("sklearn.neural_network", "pyro_gen.interop", "sklearn")
    weight, vbias, hbias = arrays(rbm)
    visible, hidden = weight.shape
    chains = rbm.particles()
    batch_size = len(chains) or 10  # 10 is scikit-learn's own
    estimator = estimators.BernoulliRBM(
        **({"n_components": hidden, "batch_size": batch_size} | parameters)
    )
    estimator.components_ = np.asfortranarray(weight.T)
    estimator.intercept_visible_ = vbias
    estimator.intercept_hidden_ = hbias
    if len(chains):
        samples = torch.bernoulli(rbm.transform(chains).detach())
    else:
        samples = torch.zeros(10, hidden)
    estimator.h_samples_ = array(samples).astype(weight.dtype)
    estimator.n_features_in_ = visible
    estimator._n_features_out = hidden
    return estimator


__all__ = ["from_sklearn", "to_sklearn"]
