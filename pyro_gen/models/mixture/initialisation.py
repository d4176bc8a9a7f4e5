"""Hard clusterings that mixtures start from."""

from __future__ import annotations

import torch
from torch import Tensor


def assign(x: Tensor, components: int, method: str) -> Tensor:
    """A cluster for each row, (rows,), by "k-means++" or "random"."""
    if method == "random":
        return torch.randint(components, (len(x),)).to(x.device)
    if method != "k-means++":
        raise ValueError(f'`method` must be "k-means++" or "random", got {method!r}')
    return lloyd(x, plus_plus(x, components))


def standardised(x: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; constant ones become 0."""
    deviation = x.std(0, correction=0)
    return (x - x.mean(0)) / torch.where(deviation > 0, deviation, 1.0)


def plus_plus(x: Tensor, components: int) -> Tensor:
    """Rows as centres, drawn in proportion to their squared distance from those before."""
    indices = torch.randint(len(x), (1,)).to(x.device)
    centres = [x[indices[0]]]
    distance = (x - centres[0]).square().sum(-1)
    for _ in range(components - 1):
        distant = distance if distance.any() else torch.ones_like(distance)
        # By inversion: torch.multinomial takes at most 2^24 rows.
        mass = distant.double().cumsum(0)
        place = torch.searchsorted(
            mass, mass[-1] * torch.rand(1, dtype=mass.dtype).to(mass.device)
        )
        centres.append(x[place.clamp_max(len(x) - 1)[0]])
        distance = torch.minimum(distance, (x - centres[-1]).square().sum(-1))
    return torch.stack(centres)


def lloyd(x: Tensor, centres: Tensor, num_steps: int = 30) -> Tensor:
    """Labels after Lloyd's steps from centres (components, features)."""
    labels = torch.full((len(x),), -1, device=x.device)
    for _ in range(num_steps):
        # The squared norm of a row is the same for all centres.
        nearest = (centres.square().sum(-1) / 2 - x @ centres.mT).argmin(-1)
        if torch.equal(nearest, labels):
            break
        labels = nearest
        counts = labels.bincount(minlength=len(centres)).unsqueeze(-1)
        sums = torch.zeros_like(centres).index_add_(0, labels, x)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return labels


__all__ = ["assign", "lloyd", "plus_plus", "standardised"]
