"""The semi-supervised autoencoder against sums over its classes written out."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gen.models import SemiSupervisedVAE

LOSS = TraceEnum_ELBO(max_plate_nesting=1)


def clusters(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of twelve coins, of which a third is mostly ones: which third is the class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 3
    rates = torch.where(torch.arange(12) // 4 == y[:, None], 0.9, 0.1)
    return torch.bernoulli(rates, generator=generator), y


def test_the_loss_is_the_bound_with_the_missing_classes_summed_out() -> None:
    # The same z is drawn in no two ways, so a decoder that ignores it makes the bound exact.
    pyro.set_rng_seed(0)
    x, y = clusters(6)
    vae = SemiSupervisedVAE(12, 2, 12, 3, hidden=(5,), alpha=0.7, decoder=Blind()).double()
    given = torch.where(torch.arange(6) < 3, y, -1)
    value = -LOSS.loss(vae.model, vae.guide, x.double(), given)
    log_q = vae.classify(x.double()).log()
    bounds = []
    for label in range(3):
        distribution = vae.encode_given(x.double(), torch.full((6,), label))
        draws = distribution.sample((1,))[0]
        score = vae.decode_given(draws, torch.full((6,), label)).log_prob(x.double())
        prior = torch.distributions.Normal(torch.zeros(2).double(), 1.0)
        bounds.append(score - math.log(3) - kl_divergence(distribution.base_dist, prior).sum(-1))
    bound = torch.stack(bounds, -1)
    known = bound[torch.arange(3), y[:3]] + 0.7 * log_q[torch.arange(3), y[:3]]
    unknown = (log_q.exp() * (bound - log_q)).sum(-1)[3:]
    found = [-LOSS.loss(vae.model, vae.guide, x.double(), given) for _ in range(100)]
    mean, error = torch.tensor(found).mean().item(), torch.tensor(found).std().item() / 10
    # The divergence is sampled there and exact here: five standard errors, 6e-7.
    assert mean == pytest.approx(2 * (known.sum() + unknown.sum()).item(), abs=5 * error)
    assert math.isfinite(value)


class Blind(torch.nn.Module):
    """A decoder that sees the class alone."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(3, 12)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.line(z[:, 2:])
        return out


def test_few_labels_are_enough_to_name_the_clusters() -> None:
    pyro.set_rng_seed(1)
    x, y = clusters(300)
    given = torch.where(torch.arange(300) < 15, y, -1)
    vae = SemiSupervisedVAE.from_data(x, 2, classes=3, hidden=(16,), alpha=5.0)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), LOSS)
    for _ in range(150):
        svi.step(x, given)
    fresh, truth = clusters(300, seed=1)
    assert (vae.classify(fresh).argmax(-1) == truth).float().mean() > 0.9
    found = vae.test_log_likelihood(fresh[:20], num_samples=200)
    assert -8.3 < found.value < -4
    assert vae.sample(4).shape == (4, 12)
    assert vae.reconstruct(fresh[:5]).shape == (5, 12)


def test_classes_that_do_not_fit_are_named() -> None:
    vae = SemiSupervisedVAE(12, 2, 6, 3, hidden=(4,))
    x, y = clusters(6)
    for bad in (y + 1, y.float(), y[:5], y[:, None]):
        with pytest.raises(ValueError, match="`y` must hold whole numbers"):
            vae.guide(x, bad)
    vae.free_bits = 1.0
    with pytest.raises(ValueError, match="`free_bits` must be 0 where classes are summed out"):
        vae.guide(x, y)
    with pytest.raises(ValueError, match="`classes`"):
        SemiSupervisedVAE(12, 2, 6, 1)
