"""Small training runs that the tests start, kill and resume; `python -m tests.runs NAME FOLDER STEP` runs one."""

from __future__ import annotations

import csv
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from pyro_gen.datasets import minibatches
from pyro_gen.infer import ContrastiveDivergence, PersistentChains, contrastive_gradient
from pyro_gen.nn import RBM
from pyro_gen.training import History, fit

quiet = partial(fit, progress=False)


def same(one: Any, other: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Line:
    """A small run with a custom step: a linear layer, momentum, and noise from the global generator."""

    def __init__(self, inputs: int = 3, dtype: torch.dtype = torch.float32) -> None:
        pyro.set_rng_seed(1)
        self.net = nn.Linear(inputs, 1, dtype=dtype)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)
        self.batches = [torch.randn(4, inputs, dtype=dtype) for _ in range(3)]
        self.calls = 0

    @property
    def state(self) -> dict[str, Any]:
        return {"net": self.net, "optimizer": self.optimizer}

    def step(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.optimizer.zero_grad()
        loss = (self.net(x + 0.1 * torch.randn_like(x)) - x.sum(-1, keepdim=True)).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss

    def fit(self, num_epochs: int, **settings: Any) -> History:
        return quiet(self.step, self.batches, num_epochs, **({"state": self.state} | settings))

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.net.parameters()]


def scores(*values: float) -> Callable[[], dict[str, float]]:
    """An evaluation that returns one value after another."""
    rest = iter(values)
    return lambda: {"score": next(rest)}


class Program:
    """A guide of `pyro.param` with a constraint, a model with a module in it, and one of Pyro's optimisers."""

    def __init__(self) -> None:
        pyro.clear_param_store()
        pyro.set_rng_seed(2)
        self.net = nn.Linear(1, 1)
        self.optim = pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.9})
        self.svi = SVI(self.model, self.guide, self.optim, Trace_ELBO())
        self.batches = [torch.randn(5, 1) for _ in range(2)]

    def model(self, x: Tensor) -> None:
        pyro.module("net", self.net)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(self.net(x) + z, 1.0).to_event(2), obs=x)

    def guide(self, x: Tensor) -> None:
        loc = pyro.param("loc", torch.zeros(()))
        pyro.sample("z", dist.Normal(loc, pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)))

    @property
    def state(self) -> dict[str, Any]:
        return {"net": self.net, "store": pyro.get_param_store(), "optim": self.optim}

    def fit(self, num_epochs: int, **settings: Any) -> History:
        return quiet(self.svi.step, self.batches, num_epochs, **({"state": self.state} | settings))

    def values(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in pyro.get_param_store().named_parameters()}


def killing(step: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Kill the process, as `kill -9` does, before the step of this number."""
    count = 0

    def killed(*batch: Tensor) -> Any:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*batch)

    return killed


def run_svi(folder: Path, kill: int) -> None:
    """An autoguide and a module of weights under one of Pyro's schedulers; three generators are in use."""
    net = nn.Linear(2, 1)
    x = torch.randn(24, 2)
    data = TensorDataset(x, x.sum(-1) + 0.1 * torch.randn(24))

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("net", net)
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("rows", 24, subsample=x):
            noise = 0.01 * (np.random.rand() + random.random())
            pyro.sample("y", dist.Normal(net(x)[:, 0] + noise, scale), obs=y)

    guide = AutoNormal(model)
    optim = pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.9})
    svi = SVI(model, guide, optim, Trace_ELBO(num_particles=2))
    guide(*data.tensors)
    quiet(
        killing(svi.step, kill),
        DataLoader(data, batch_size=6, shuffle=True),
        6,
        state={"net": net, "guide": guide, "optim": optim},
        scheduler=optim,
        evaluate=lambda: {"score": float(torch.rand(()))},
        monitor="score",
        checkpoint=folder / "run.pt",
        checkpoint_every=2,
        metrics=folder / "run.csv",
    )
    torch.save([net.state_dict(), guide.state_dict(), torch.rand(3)], folder / "end.pt")


def run_torch(folder: Path, kill: int) -> None:
    """A custom step on a module with buffers and dropout, its average, a torch scheduler and a generator of its own."""
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    average = AveragedModel(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    order = torch.Generator().manual_seed(5)
    x = torch.randn(24, 3)

    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = (net(x) - x.sum(-1, keepdim=True) - 0.01 * np.random.rand()).square().mean()
        loss.backward()
        optimizer.step()
        average.update_parameters(net)
        return loss

    quiet(
        killing(step, kill),
        lambda epoch: x[torch.randperm(24, generator=order)].split(6),
        6,
        state={"net": net, "average": average, "optimizer": optimizer, "order": order},
        scheduler=scheduler,
        checkpoint=folder / "run.pt",
        checkpoint_every=2,
        metrics=folder / "run.csv",
    )
    torch.save([net.state_dict(), average.state_dict(), torch.rand(3)], folder / "end.pt")


def binary_rows() -> Tensor:
    return torch.randint(2, (24, 12)).float()


def run_rbm(folder: Path, kill: int) -> None:
    """A restricted Boltzmann machine under persistent chains, trained by SVI."""
    x = binary_rows()
    rbm = RBM.from_data(x, 8, negative_phase=PersistentChains(num_chains=10, num_steps=2))

    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", 24, subsample=x):
            pyro.sample("v", rbm(), obs=x)

    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}}
    optim = pyro.optim.LinearLR(settings | {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 6})
    svi = SVI(model, lambda x: None, optim, Trace_ELBO())
    files: dict[str, Any] = {"checkpoint": folder / "run.pt", "checkpoint_every": 2, "metrics": folder / "run.csv"}
    quiet(killing(svi.step, kill), minibatches(x, 6), 6, state={"rbm": rbm}, scheduler=optim, **files)
    torch.save([rbm.state_dict(), torch.rand(3)], folder / "end.pt")


def run_contrastive(folder: Path, kill: int) -> None:
    """The same by contrastive divergence in a gradient step of one's own."""
    x = binary_rows()
    rbm = RBM.from_data(x, 8, negative_phase=ContrastiveDivergence(2))
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1, momentum=0.9)

    def step(x: Tensor) -> Tensor:
        contrast = contrastive_gradient(rbm, x, return_contrast=True)
        optimizer.step()
        return contrast

    state = {"rbm": rbm, "optimizer": optimizer}
    files: dict[str, Any] = {"checkpoint": folder / "run.pt", "checkpoint_every": 2, "metrics": folder / "run.csv"}
    quiet(killing(step, kill), minibatches(x, 6), 6, state=state, **files)
    torch.save([rbm.state_dict(), optimizer.state_dict(), torch.rand(3)], folder / "end.pt")


RUNS = {"svi": run_svi, "torch": run_torch, "rbm": run_rbm, "contrastive": run_contrastive}


def run(name: str, folder: Path, kill: int = 0) -> None:
    pyro.set_rng_seed(3)
    RUNS[name](folder, kill)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
