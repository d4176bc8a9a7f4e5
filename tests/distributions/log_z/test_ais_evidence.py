"""AIS on trained RBMs small enough to enumerate: its standard error is honest over 200 independent runs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pyro_gen.distributions import RBM
from pyro_gen.infer import AIS
from tests.evidence import evidence


def bars_and_stripes(side: int) -> Tensor:
    """Each pattern of full rows, and of full columns, once: 14 of 3x3, 30 of 4x4."""
    lines = torch.tensor(list(itertools.product([0.0, 1.0], repeat=side)), dtype=torch.float64)
    rows = lines.unsqueeze(-1).expand(-1, side, side)
    return torch.unique(torch.cat([rows.flatten(1), rows.mT.flatten(1)]), dim=0)


def train(x: Tensor, hidden: int, updates: int) -> tuple[tuple[Tensor, Tensor, Tensor], float]:
    """Exact maximum likelihood by Adam, all pairs of states summed by autograd; parameters and log likelihood a row."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.1 * torch.randn(x.shape[1], hidden, generator=generator, dtype=torch.float64)
    parameters = weight.requires_grad_(), x.new_zeros(x.shape[1]).requires_grad_(), x.new_zeros(hidden).requires_grad_()
    weight, vbias, hbias = parameters
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=hidden)), dtype=torch.float64)
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    for _ in range(updates):
        free = x @ vbias + torch.nn.functional.softplus(x @ weight + hbias).sum(-1)
        log_z = (h @ hbias + torch.nn.functional.softplus(h @ weight.mT + vbias).sum(-1)).logsumexp(0)
        optimiser.zero_grad()
        loss = log_z - free.mean()
        loss.backward()
        optimiser.step()
    return (weight.detach(), vbias.detach(), hbias.detach()), -loss.item()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "hidden", "updates", "num_chains", "num_betas"), [(3, 8, 2000, 500, 1000), (4, 10, 3000, 500, 2000)]
)
def test_standard_errors_of_ais_are_honest_on_trained_models(
    side: int, hidden: int, updates: int, num_chains: int, num_betas: int
) -> None:
    """The z-score (estimate - exact)/SE over 200 runs: |mean| < .25 (3.5 sigma), sd in .8-1.25, median SE < .05 nat."""
    x = bars_and_stripes(side)
    parameters, likelihood = train(x, hidden, updates)
    exact = RBM(*parameters).log_partition().value
    settings = AIS(num_chains, num_betas, (x.sum(0) + 1) / (len(x) + 2))
    estimates = [RBM(*parameters, settings).log_partition() for _ in range(200)]
    errors = torch.stack([e.standard_error for e in estimates])
    z = (torch.stack([e.value for e in estimates]) - exact) / errors
    figures = {"z_mean": z.mean().item(), "z_sd": z.std().item(), "median_standard_error": errors.median().item()}
    size = torch.stack([e.effective_sample_size for e in estimates]).median().item()
    run = {"num_chains": num_chains, "num_betas": num_betas, "hidden": hidden, "runs": len(estimates)}
    evidence(f"ais_bars_and_stripes_{side}x{side}", log_likelihood=likelihood, median_size=size, **figures, **run)
    assert abs(figures["z_mean"]) < 0.25, figures
    assert 0.8 < figures["z_sd"] < 1.25, figures
    assert figures["median_standard_error"] < 0.05, figures
