r"""Ways to learn an RBM, side by side in one run: likelihood against time and
against Gibbs steps.

All contenders have the same data, hidden units, batches and updates; ours and
rbms start at the pixels' rates. The learning rate is chosen among three on the
validation rows, with a seed of its own, and falls linearly to 0 for everybody.
All are evaluated by the same AIS on the validation rows. Seconds are the
processor's, on one thread, so that other work on the machine counts for little.

    python -m benchmarks.ablation --json benchmarks/results/ablation.json \
        --plot docs/images/ablation.png
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.machine import describe
from benchmarks.peers import learnergy_model, rbms_model, rbms_module
from pyro_gen import datasets, nn, plotting
from pyro_gen._files import json_text
from pyro_gen.distributions import RBM
from pyro_gen.infer import (
    AIS,
    ContrastiveDivergence,
    FastPersistentChains,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    WeightedChains,
    contrastive_gradient,
    log_likelihood,
)

Parameters = tuple[Tensor, Tensor, Tensor]
RATES = (0.01, 0.03, 0.1)


class Learner(Protocol):
    """A model in training."""

    def step(self, batch: Tensor, rate: float) -> None:
        """One update."""

    def parameters(self) -> Parameters:
        """Weight (visible, hidden), visible and hidden bias."""


class Ours:
    """nn.RBM by `contrastive_gradient` and an optimiser of torch.

    ``unit``: gradients of length 1, as rbms has them.
    """

    def __init__(
        self,
        x: Tensor,
        hidden: int,
        phase: NegativePhase,
        centring: bool,
        adam: bool = False,
        unit: bool = False,
    ) -> None:
        self.rbm = nn.RBM.from_data(x, hidden, negative_phase=phase, centring=centring)
        kind = torch.optim.Adam if adam else torch.optim.SGD
        self.optimizer = kind(self.rbm.parameters(), lr=1.0)
        self.scale = 0.1 if adam else 1.0
        self.unit = unit

    def step(self, batch: Tensor, rate: float) -> None:
        """Gradient and step."""
        self.optimizer.param_groups[0]["lr"] = self.scale * rate
        contrastive_gradient(self.rbm, batch)
        if self.unit:
            gradients = [p.grad for p in self.rbm.parameters() if p.grad is not None]
            torch._foreach_div_(gradients, torch.nn.utils.get_total_norm(gradients))
        self.optimizer.step()

    def parameters(self) -> Parameters:
        """The module's."""
        with torch.no_grad():
            return self.rbm.uncentred


class PseudoLikelihood:
    """No negative phase at all: log p(v_i | all other pixels) of a few pixels a
    row, by autograd (Besag 1975).
    """

    def __init__(self, x: Tensor, hidden: int, sites: int = 10) -> None:
        self.rbm = nn.RBM.from_data(x, hidden, centring=False).eval()
        self.sites = sites
        self.optimizer = torch.optim.SGD(self.rbm.parameters(), lr=1.0)

    def step(self, batch: Tensor, rate: float) -> None:
        """An unbiased estimate of the gradient from the sampled pixels."""
        self.optimizer.param_groups[0]["lr"] = rate
        sites = torch.randint(batch.shape[1], (self.sites, len(batch), 1))
        here = batch.expand(self.sites, -1, -1)
        flipped = here.scatter(-1, sites, 1 - here.gather(-1, sites))
        energy = self.rbm().free_energy
        value = (
            torch.nn.functional.logsigmoid(energy(flipped) - energy(batch)).mean() * batch.shape[1]
        )
        self.optimizer.zero_grad()
        (-value).backward()
        self.optimizer.step()

    def parameters(self) -> Parameters:
        """The module's."""
        return self.rbm.weight.detach(), self.rbm.vbias.detach(), self.rbm.hbias.detach()


class MeanField:
    """Probabilities in place of samples in CD-1 (Welling and Hinton 2002, A new
    learning algorithm for mean field).
    """

    def __init__(self, x: Tensor, hidden: int) -> None:
        self.rbm = nn.RBM.from_data(x, hidden, centring=False)

    @torch.no_grad()
    def step(self, batch: Tensor, rate: float) -> None:
        """Gradient and step."""
        weight, vbias, hbias = self.parameters()
        hidden = (hbias + batch @ weight).sigmoid()
        mirrored = (vbias + hidden @ weight.mT).sigmoid()
        again = (hbias + mirrored @ weight).sigmoid()
        weight.add_(batch.mT @ hidden - mirrored.mT @ again, alpha=rate / len(batch))
        vbias.add_((batch - mirrored).mean(0), alpha=rate)
        hbias.add_((hidden - again).mean(0), alpha=rate)

    def parameters(self) -> Parameters:
        """The module's."""
        return self.rbm.weight.detach(), self.rbm.vbias.detach(), self.rbm.hbias.detach()


class ScikitLearn:
    """BernoulliRBM, PCD-1 with as many chains as a batch has rows, by `partial_fit`."""

    def __init__(self, x: Tensor, hidden: int, batch_size: int) -> None:
        from sklearn.neural_network import BernoulliRBM

        seed = int(torch.randint(2**31, ()))
        self.model = BernoulliRBM(n_components=hidden, batch_size=batch_size, random_state=seed)

    def step(self, batch: Tensor, rate: float) -> None:
        """One batch."""
        self.model.learning_rate = rate
        self.model.partial_fit(batch.numpy())

    def parameters(self) -> Parameters:
        """As tensors."""
        model = self.model
        found = (
            np.ascontiguousarray(x)
            for x in (model.components_.T, model.intercept_visible_, model.intercept_hidden_)
        )
        weight, vbias, hbias = (torch.from_numpy(x).float() for x in found)
        return weight, vbias, hbias


class Learnergy:
    """learnergy's RBM, CD-k, by the body of its own loop."""

    def __init__(self, x: Tensor, hidden: int, steps: int) -> None:
        self.model = learnergy_model((x.shape[1], hidden), steps=steps, learning_rate=1.0)

    def step(self, batch: Tensor, rate: float) -> None:
        """Cost, backward, step."""
        self.model.optimizer.param_groups[0]["lr"] = rate
        *_, particles = self.model.gibbs_sampling(batch)
        cost = torch.mean(self.model.energy(batch)) - torch.mean(
            self.model.energy(particles.detach())
        )
        self.model.optimizer.zero_grad()
        cost.backward()
        self.model.optimizer.step()

    def parameters(self) -> Parameters:
        """Its W, a and b."""
        return self.model.W.detach(), self.model.a.detach(), self.model.b.detach()


class Rbms:
    """rbms' BBRBM, PCD-k with the centred gradient, by the body of its own loop."""

    def __init__(self, x: Tensor, hidden: int, chains: int, steps: int) -> None:
        rates = (x.sum(0) + 1) / (len(x) + 2)
        self.model = rbms_model(
            0.01 * torch.randn(x.shape[1], hidden), rates.logit(), torch.zeros(hidden)
        )
        self.fit_batch = rbms_module("training.pcd").fit_batch_pcd
        self.model.init_grad()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0, maximize=True)
        self.chains = self.model.init_chains(chains)
        self.steps = steps

    @torch.no_grad()
    def step(self, batch: Tensor, rate: float) -> None:
        """Gradient and step."""
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad(set_to_none=False)
        weighted = batch, torch.ones(len(batch))
        settings = {"gibbs_steps": self.steps, "beta": 1.0, "centered": True}
        self.chains, _ = self.fit_batch(weighted, self.chains, self.model, **settings)
        self.optimizer.step()

    def parameters(self) -> Parameters:
        """Its weight matrix and biases."""
        weight, vbias, hbias = (
            p.detach().clone()
            for p in (self.model.weight_matrix, self.model.vbias, self.model.hbias)
        )
        return weight, vbias, hbias


class Contender(NamedTuple):
    """What makes a learner, and the sweeps of single chains that an update of it costs."""

    make: Callable[[Tensor], Learner]
    sweeps: int


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    hidden: int = 100
    batch_size: int = 50
    chains: int = 50
    epochs: int = 300
    marks: int = 6


def contenders(setting: Setting) -> dict[str, Contender]:
    """By name."""
    n = setting.chains
    hidden = setting.hidden

    def ours(phase: NegativePhase, centring: bool, **how: bool) -> Contender:
        ladders = phase.persistent_chains or setting.batch_size
        return Contender(
            lambda x: Ours(x, hidden, phase, centring, **how), ladders * phase.num_steps
        )

    phases: dict[str, NegativePhase] = {
        "CD-1": ContrastiveDivergence(1),
        "CD-10": ContrastiveDivergence(10),
        "PCD-1": PersistentChains(n, 1),
        "PCD-10": PersistentChains(n, 10),
        "FPCD-1": FastPersistentChains(n, 1),
        "weighted PCD-1": WeightedChains(n, 1, num_witnesses=0),
        "tempered, 5 betas": TemperedChains(n // 5, 2, 5),
    }
    found = {
        f"{name}{', centred' if c else ''}": ours(p, c)
        for name, p in phases.items()
        for c in (False, True)
    }
    return found | {
        "PCD-1, Adam": ours(PersistentChains(n, 1), False, adam=True),
        "PCD-1, centred, Adam": ours(PersistentChains(n, 1), True, adam=True),
        "PCD-1, centred, unit gradient": ours(PersistentChains(n, 1), True, unit=True),
        "PCD-10, centred, unit gradient": ours(PersistentChains(n, 10), True, unit=True),
        "pseudo-likelihood": Contender(lambda x: PseudoLikelihood(x, hidden), 0),
        "mean-field CD-1": Contender(lambda x: MeanField(x, hidden), 0),
        "scikit-learn, PCD-1": Contender(
            lambda x: ScikitLearn(x, hidden, setting.batch_size), setting.batch_size
        ),
        "learnergy, CD-1": Contender(lambda x: Learnergy(x, hidden, 1), setting.batch_size),
        "rbms, PCD-10, centred": Contender(lambda x: Rbms(x, hidden, n, 10), 10 * n),
    }


def curve(
    contender: Contender, setting: Setting, rate: float, seed: int, data: datasets.BinaryDataset
) -> Iterator[dict[str, float]]:
    """Updates, processor seconds of learning, sweeps and validation log likelihood along a run."""
    pyro.set_rng_seed(seed)
    learner = contender.make(data.train)
    batches = datasets.minibatches(data.train, setting.batch_size)
    total = setting.epochs * len(batches)
    done = 0
    seconds = 0.0
    marks = {round(total * 2.0 ** -(setting.marks - 1 - i)) for i in range(setting.marks)}
    for _ in range(setting.epochs):
        for batch in batches:
            start = time.process_time()
            learner.step(batch, rate * (1 - done / total))
            seconds += time.process_time() - start
            done += 1
            if done in marks:
                yield {
                    "updates": done,
                    "seconds": seconds,
                    "sweeps": done * contender.sweeps,
                } | judge(learner, data)


def judge(learner: Learner, data: datasets.BinaryDataset) -> dict[str, float]:
    """The same AIS for everybody; it leaves the generators as they were."""
    with torch.random.fork_rng():
        rates = (data.train.sum(0) + 1) / (len(data.train) + 2)
        result = log_likelihood(
            RBM(*learner.parameters(), AIS(200, 2000, base_rates=rates)), data.valid
        )
    return {"log likelihood": result.value, "log Z error": result.partition_error}


def compare(
    name: str, contender: Contender, setting: Setting, seeds: int, data: datasets.BinaryDataset
) -> dict[str, Any]:
    """The best rate by its final value with a seed of its own, then that rate with every seed.

    Where the largest rate is the best, larger ones are tried.
    """
    last_only = replace(setting, marks=1)
    finals: dict[float, float] = {}
    rates = list(RATES)
    for rate in rates:
        finals[rate] = list(curve(contender, last_only, rate, 1000, data))[-1]["log likelihood"]
        if rate == rates[-1] and max(finals, key=lambda r: finals[r]) == rate:
            rates.append(round(rate * 10 ** (0.5), 2))
    rate = max(finals, key=lambda r: finals[r])
    runs = [list(curve(contender, setting, rate, seed, data)) for seed in range(seeds)]
    last = torch.tensor([run[-1]["log likelihood"] for run in runs])
    seconds = float(np.median([run[-1]["seconds"] for run in runs]))
    print(
        f"{name:28}{rate:6g}{last.mean():10.2f} +/- "
        f"{last.std() / len(last) ** 0.5:.2f}{seconds:9.1f} s",
        flush=True,
    )
    return {"rate": rate, "finals by rate": {str(r): v for r, v in finals.items()}, "runs": runs}


def picture(results: dict[str, Any]) -> Figure:
    """Mean likelihood over the seeds, against seconds and against sweeps.

    A colour a method, solid where centred.
    """
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), sharey=True)
    methods = list(dict.fromkeys(name.replace(", centred", "") for name in results))
    for name, found in results.items():
        table = {
            key: np.mean([[mark[key] for mark in run] for run in found["runs"]], 0)
            for key in found["runs"][0][0]
        }
        for panel, key in zip(panels, ("seconds", "sweeps"), strict=True):
            peer = name.startswith(("scikit", "learn", "rbms"))
            colour = methods.index(name.replace(", centred", ""))
            if peer:
                style = "--"
            elif "centred" in name:
                style = "-"
            else:
                style = ":"
            if any(table[key]):  # or it has no sweeps at all
                panel.semilogx(
                    table[key],
                    table["log likelihood"],
                    style,
                    color=plt.colormaps["tab20"](colour / 20),
                    label=name,
                    marker=".",
                )
    panels[0].set(
        xlabel="processor seconds of learning, one thread",
        ylabel="validation log likelihood, nats",
    )
    panels[1].set(xlabel="Gibbs sweeps of single chains")
    top = max(
        mark["log likelihood"]
        for found in results.values()
        for run in found["runs"]
        for mark in run
    )
    panels[0].set_ylim(top - 60, top + 3)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[1].legend(
        handles,
        labels,
        fontsize="x-small",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    figure.tight_layout()
    return figure


def paired(better: dict[str, Any], worse: dict[str, Any]) -> dict[str, float]:
    """Final difference over paired seeds, in nats."""
    ends = [[run[-1]["log likelihood"] for run in found["runs"]] for found in (better, worse)]
    difference = torch.tensor(ends[0]) - torch.tensor(ends[1])
    return {
        "difference": difference.mean().item(),
        "error": (difference.std() / len(difference) ** 0.5).item(),
    }


def write(report: dict[str, Any], file: Path | None) -> None:
    """What there is so far."""
    if file:
        file.write_text(json_text(report, indent=1) + "\n")


def main(args: argparse.Namespace) -> None:
    """Run everybody, print, write and plot."""
    torch.set_num_threads(1)
    setting = Setting(epochs=args.epochs)
    data = datasets.load(args.data)
    results: dict[str, Any] = {}
    missing: dict[str, str] = {}
    report = {
        **describe(),
        "data": args.data,
        "setting": vars(setting),
        "contenders": results,
        "missing": missing,
    }
    for name, contender in contenders(setting).items():
        if args.only and args.only not in name:
            continue
        try:
            results[name] = compare(name, contender, setting, args.seeds, data)
        except ImportError as error:
            missing[name] = str(error)
            print(f"{name:28}missing: {error}")
        write(report, args.json)
    for suffix in ("", ", centred"):
        if {f"FPCD-1{suffix}", f"PCD-1{suffix}"} <= results.keys():
            pair = paired(results[f"FPCD-1{suffix}"], results[f"PCD-1{suffix}"])
            report[f"FPCD-1 over PCD-1{suffix}"] = pair
            print(f"FPCD-1 over PCD-1{suffix}: {pair}")
    write(report, args.json)
    if args.plot:
        plotting.save(picture(results), args.plot)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, a set of the data folder, or an .npz file",
    )
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="contenders whose names contain this")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
