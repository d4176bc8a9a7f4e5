"""The Bayes classifier against Bayes' rule by hand."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pyro_gen import nn
from pyro_gen.models import BayesClassifier
from pyro_gen.testing import states

CLASSES, FEATURES = 3, 4
X = states(FEATURES)


def wild(density: torch.nn.Module, size: int = 6) -> BayesClassifier:
    torch.manual_seed(0)
    classifier = BayesClassifier(density.double(), CLASSES, size).eval()
    for p in classifier.parameters():
        torch.nn.init.normal_(p)
    return classifier


def log_joint(classifier: BayesClassifier, x: Tensor) -> Tensor:
    """Log p(y, x), one class after the other."""
    prior = classifier.class_logits.log_softmax(-1)
    one_hot = torch.eye(CLASSES).double()
    return torch.stack([prior[y] + classifier.density(one_hot[y]).log_prob(x) for y in range(CLASSES)], -1)


DENSITIES = {
    "NADE": lambda: nn.NADE(FEATURES, 3, context=CLASSES, order=(2, 0, 3, 1)),
    "DeepNADE": lambda: nn.DeepNADE(FEATURES, [3], context=CLASSES),
    "per class": lambda: nn.AutoregressivePerClass([nn.FVSBN(FEATURES) for _ in range(CLASSES)]),
    "ensemble": lambda: nn.AutoregressiveEnsemble([nn.FVSBN(4, CLASSES), nn.FVSBN(4, CLASSES, (3, 1, 2, 0))]),
}
every_density = pytest.mark.parametrize("name", DENSITIES)


@every_density
def test_the_class_given_the_features_is_bayes_rule(name: str) -> None:
    classifier = wild(DENSITIES[name]())
    joint = log_joint(classifier, X)
    assert joint.exp().sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(classifier.log_joint(X), joint)
    torch.testing.assert_close(classifier(X).probs, joint.exp() / joint.exp().sum(-1, keepdim=True))
    grid = X.view(2, 8, FEATURES)
    torch.testing.assert_close(classifier(grid).probs, classifier(X).probs.view(2, 8, CLASSES))


@every_density
def test_missing_features_are_summed_out(name: str) -> None:
    classifier = wild(DENSITIES[name]())
    x = torch.tensor([[1, math.nan, 0, math.nan], [math.nan] * 4, [0, 1, 1, 0]]).double()
    found = classifier.log_joint(x, ~x.isnan())
    for row, result in zip(x, found, strict=True):
        agree = ((row == X) | row.isnan()).all(-1)
        torch.testing.assert_close(result, log_joint(classifier, X[agree]).logsumexp(0))


def test_networks_of_single_classes_serve_contexts_of_their_class() -> None:
    members = [nn.FVSBN(FEATURES, order=order) for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1))]
    density = wild(nn.AutoregressivePerClass(members)).density
    y = torch.tensor([[2, 0], [1, 1]])
    x, one_hot = X[torch.tensor([[3, 9], [12, 1]])], torch.eye(CLASSES).double()[y]
    expected = torch.stack([members[k]().log_prob(row) for k, row in zip(y.flatten(), x.flatten(0, 1), strict=True)])
    torch.testing.assert_close(density(one_hot).log_prob(x).flatten(), expected)
    mixed = density(torch.tensor([0.5, 0.5, 0.0]).double()).log_prob(X).exp()
    torch.testing.assert_close(mixed, (members[0]().log_prob(X).exp() + members[1]().log_prob(X).exp()) / 2)
    density(one_hot).log_prob(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in members[0].parameters())
    with pytest.raises(ValueError, match=r"`context` must have shape \(..., 3\), got \(4,\)"):
        density(torch.ones(4))
    with pytest.raises(ValueError, match="`members` must take no context, the class is their context, got 2"):
        nn.AutoregressivePerClass([nn.FVSBN(3, 2)])


def test_images_are_events_too() -> None:
    classifier = wild(nn.PixelCNN((2, 2), 4, 2, first_kernel_size=3, context=CLASSES))
    images = X.view(-1, 2, 2)
    torch.testing.assert_close(classifier.log_joint(images), log_joint(classifier, images))


def test_rows_of_unknown_class_are_summed_over_their_classes() -> None:
    classifier, x = wild(DENSITIES["NADE"]()), X[[3, 9]]
    y = torch.tensor([2, 0])
    known = Trace_ELBO().loss(classifier.model, classifier.guide, x, y)
    joint = log_joint(classifier, x)
    assert known == pytest.approx(-6 / 2 * (joint[0, 2] + joint[1, 0]).item())
    unknown = TraceEnum_ELBO(max_plate_nesting=1).loss(classifier.model, classifier.guide, x)
    assert unknown == pytest.approx(-6 / 2 * joint.logsumexp(-1).sum().item())


def test_it_learns_what_each_class_looks_like_and_how_often_it_comes() -> None:
    # Class 0 has its two features alike and class 1 has not: no sum of single features tells them apart.
    pyro.set_rng_seed(0)
    x = torch.tensor([[0, 0], [1, 1], [0, 0], [1, 1], [0, 1], [1, 0]]).double()
    y = torch.tensor([0, 0, 0, 0, 1, 1])
    classifier = BayesClassifier(nn.NADE(2, 8, context=2).double(), 2, len(x))
    svi = SVI(classifier.model, classifier.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(300):
        svi.step(x, y)
    assert classifier(x).probs[torch.arange(6), y].min() > 0.95
    torch.testing.assert_close(
        classifier.class_logits.softmax(-1), torch.tensor([4 / 6, 2 / 6]).double(), atol=0.02, rtol=0
    )
    drawn = Predictive(classifier.model, num_samples=50)()
    labels, rows = drawn["y"].flatten(), drawn["x"].flatten(0, -2)
    assert (rows[:, 0] == rows[:, 1]).eq(labels == 0).double().mean() > 0.9


def test_the_same_weights_learn_discriminatively() -> None:
    pyro.set_rng_seed(0)
    x, y = X[[3, 9, 12]], torch.tensor([2, 0, 1])
    classifier = wild(DENSITIES["NADE"]())
    before = classifier(x).log_prob(y).sum().item()

    def model() -> None:
        pyro.module("classifier", classifier)
        with pyro.plate("rows", len(x)):
            pyro.sample("y", classifier(x), obs=y)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(50):
        svi.step()
    assert classifier(x).log_prob(y).sum().item() > max(before, -0.5)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="`classes` must be at least 2, got 1"):
        BayesClassifier(nn.NADE(4, 2, context=1), 1, 5)
    with pytest.raises(ValueError, match="`density` must take a context of 3 numbers, one for each class, got 0"):
        BayesClassifier(nn.NADE(4, 2), 3, 5)
    with pytest.raises(ValueError, match=r"only estimates in training mode: use eval\(\)"):
        wild(DENSITIES["DeepNADE"]()).train()(X)
    with pytest.raises(ValueError, match="support"):
        wild(DENSITIES["NADE"]())(X + 0.5)


@pytest.mark.parametrize("labels", [[1, 2, 3], [0, -1, 2], [0.5, 1.0, 2.0], [True, False, True]])
def test_labels_that_are_no_classes_are_named(labels: list[Any]) -> None:
    classifier = BayesClassifier(nn.NADE(4, 3, context=3), classes=3, size=3)
    with pytest.raises(ValueError, match=r"`y` must (hold classes from 0 to 2|be a tensor of whole class numbers)"):
        classifier.model(torch.zeros(3, 4), torch.tensor(labels))
