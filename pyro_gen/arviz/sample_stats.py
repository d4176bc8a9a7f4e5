"""Statistics of a sampler: a kernel that records its own, under the names that ArviZ knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pyro.infer.mcmc import HMC, NUTS
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from pyro_gen.arviz.groups import array


class SampleStats(MCMCKernel):
    """A kernel that keeps what HMC or NUTS knows of each draw and then forgets.

    Put it around the kernel: ``MCMC(SampleStats(NUTS(model)), ...)``. It makes the same draws from
    the same seed, works with chains in processes of their own, and
    :func:`pyro_gen.arviz.from_mcmc` turns what it kept into the group ``sample_stats``, under the
    names of ArviZ's schema: ``lp`` (log density on the unconstrained scale, up to a constant),
    ``acceptance_rate``, ``step_size``, ``energy`` (of the chosen point of the trajectory),
    ``n_steps``, and for NUTS ``tree_depth`` (doublings whose subtree was valid, as Stan counts).
    Pyro itself keeps only the divergences.

    Args:
        kernel: `pyro.infer.mcmc.HMC` or `NUTS`.

    Raises:
        ValueError: if the kernel is another one.

    References:
        M. D. Hoffman, A. Gelman, The No-U-Turn Sampler, Journal of Machine Learning Research 15,
        2014.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro.infer import MCMC, NUTS
        >>> from pyro_gen.arviz import SampleStats, from_mcmc
        >>> kernel = NUTS(lambda: pyro.sample("x", dist.Normal(0, 1)))
        >>> mcmc = MCMC(SampleStats(kernel), 10, disable_progbar=True)
        >>> mcmc.run()
        >>> sorted(from_mcmc(mcmc)["sample_stats"].data_vars)
        ['acceptance_rate', 'diverging', 'energy', 'lp', 'n_steps', 'step_size', 'tree_depth']
    """

    def __init__(self, kernel: HMC) -> None:
        if not isinstance(kernel, HMC):
            raise ValueError(
                "`kernel` must be HMC or NUTS, which have these statistics, "
                f"got {type(kernel).__name__}"
            )
        self.kernel = kernel
        self._warmup = 0
        self._rows: list[dict[str, float]] = []

    def __getattr__(self, name: str) -> Any:
        if name == "kernel":  # before the constructor ran, as in unpickling
            raise AttributeError(name)
        return getattr(self.kernel, name)

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Begin a chain."""
        self._warmup = warmup_steps
        self._rows = []
        self.kernel.setup(warmup_steps, *args, **kwargs)

    def cleanup(self) -> None:
        """End a chain."""
        self.kernel.cleanup()

    @property
    def initial_params(self) -> Any:
        """The kernel's own."""
        return self.kernel.initial_params

    @initial_params.setter
    def initial_params(self, params: Any) -> None:
        self.kernel.initial_params = params

    def sample(self, params: Any) -> Any:
        """One draw of the kernel."""
        if not params:
            return self.kernel.sample(params)
        accept_mean = self.kernel._mean_accept_prob
        start = self.kernel._z_last
        with _watch(self.kernel) as watch:
            result = self.kernel.sample(params)
        if self.kernel._t > self._warmup:
            number = self.kernel._t - self._warmup
            accept = self.kernel._mean_accept_prob * number
            if number > 1:  # the kernel keeps a running mean, which restarts after the warm-up
                accept -= accept_mean * (number - 1)
            moved = self.kernel._z_last is not start
            self._rows.append({"acceptance_rate": accept, **watch.row(self.kernel, moved)})
        return result

    def logging(self) -> Any:
        """The kernel's own."""
        return self.kernel.logging()

    def diagnostics(self) -> dict[str, Any]:
        """The kernel's own, and ``sample_stats``: a tensor of the draws for each statistic."""
        stats: dict[str, Tensor] = {}
        for name in [name for row in self._rows[:1] for name in row]:
            values = torch.tensor([row[name] for row in self._rows], dtype=torch.float64)
            if name in ("n_steps", "tree_depth"):
                values = values.long()
            stats[name] = values
        return {**self.kernel.diagnostics(), "sample_stats": stats}


class _Watch:
    """Record of one call of `sample`."""

    def __init__(self) -> None:
        self.kinetic: list[float] = []  # at the start, then for each point of the trajectory
        self.energies: dict[int, float] = {}  # of a point of NUTS, by the identity of its position
        self.points: list[Any] = []  # keeps the positions alive, so that identities stay unique
        self.level = 0
        self.depth = 0

    def row(self, kernel: HMC, moved: bool) -> dict[str, float]:
        last: Any = kernel._potential_energy_last
        potential = float(last)
        nuts = isinstance(kernel, NUTS)
        energy = potential + self.kinetic[0]
        steps = kernel.num_steps
        if nuts:
            energy = self.energies.get(id(kernel._z_last), energy)
            steps = len(self.points)
        elif moved:
            energy = potential + self.kinetic[-1]
        stats = {
            "lp": -potential,
            "energy": energy,
            "step_size": float(kernel.step_size),
            "n_steps": float(steps),
        }
        if nuts:
            stats["tree_depth"] = float(self.depth)
        return stats


@contextmanager
def _watch(kernel: HMC) -> Iterator[_Watch]:
    """Look over the kernel's shoulder, by methods of the instance that are gone afterwards."""
    watch = _Watch()
    watched: dict[str, Callable[..., Any]] = {"_kinetic_energy": _kinetic(kernel, watch)}
    if isinstance(kernel, NUTS):
        watched |= {
            "_build_basetree": _watched_leaf(kernel, watch),
            "_build_tree": _watched_tree(kernel, watch),
        }
    kernel.__dict__.update(watched)
    try:
        yield watch
    finally:
        for name in watched:
            del kernel.__dict__[name]


def _kinetic(kernel: HMC, watch: _Watch) -> Callable[..., Any]:
    plain = kernel._kinetic_energy

    def kinetic(*args: Any) -> Any:
        result = plain(*args)
        watch.kinetic.append(float(result))
        return result

    return kinetic


def _watched_leaf(kernel: NUTS, watch: _Watch) -> Callable[..., Any]:
    plain = kernel._build_basetree

    def leaf(*args: Any) -> Any:
        tree = plain(*args)
        watch.points.append(tree.z_proposal)
        watch.energies[id(tree.z_proposal)] = float(tree.z_proposal_pe) + watch.kinetic[-1]
        return tree

    return leaf


def _watched_tree(kernel: NUTS, watch: _Watch) -> Callable[..., Any]:
    plain = kernel._build_tree

    def tree(*args: Any) -> Any:
        watch.level += 1
        result = plain(*args)
        watch.level -= 1
        if not watch.level and not (result.turning or result.diverging):
            watch.depth += 1
        return result

    return tree


def recorded(diagnostics: Sequence[Mapping[str, Any] | None], draws: int) -> dict[str, np.ndarray]:
    """Return the statistics in kernels' reports, one a chain, as arrays (chain, draw, ...).

    Divergences become ``diverging``; tensors of the draws, or (chain, draw) of a kernel with
    chains of its own, keep their name.
    """
    reports = [_flat(report or {}, draws) for report in diagnostics]
    if not reports:
        return {}
    names = [name for name in reports[0] if all(name in report for report in reports)]
    return {name: np.concatenate([report[name] for report in reports]) for name in names}


def _flat(report: Mapping[str, Any], draws: int) -> dict[str, np.ndarray]:
    stats: dict[str, np.ndarray] = {}
    for name, entry in {**report, **report.get("sample_stats", {})}.items():
        if not isinstance(entry, Tensor | np.ndarray):
            continue
        values = array(entry)
        if values.ndim == 1:
            values = values[None]
        if values.shape[1:2] == (draws,):
            stats[name] = values
    if "divergences" in report:
        diverging = np.zeros((1, draws), dtype=bool)
        diverging[0, list(report["divergences"])] = True
        stats["diverging"] = diverging
    return stats
