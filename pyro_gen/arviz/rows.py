"""Rows of one variable of the log likelihood: their densities, and the model without some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_gen.arviz.evaluation import EvaluationPlan, over_draws
from pyro_gen.arviz.groups import array, require
from pyro_gen.arviz.pointwise import Unit
from pyro_gen.arviz.program import Program
from pyro_gen.arviz.sites import latent_sites, vectorised

Draws = Mapping[str, Tensor]
AGREEMENT = 1e-2
"""Difference of log likelihoods, in nats and in parts, above which a model is another one."""


class Densities(NamedTuple):
    """Log joint density of each draw, (draw,), and log likelihood of its rows, (draw, row)."""

    log_joint: np.ndarray
    log_likelihood: np.ndarray


class _WithoutRows(Messenger):
    """Masks rows of some data sites, so that nothing is learned from them."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.masks = masks

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.masks or not msg["is_observed"]:
            return
        mask = self.masks[msg["name"]]
        if msg["mask"] is not None:
            mask = mask & msg["mask"]
        msg["mask"] = mask


class ModelRows:
    """Rows of a variable of the group ``log_likelihood``, and the model that made them.

    A row is one number of the variable, in the order of its flattened
    dimensions.

    Args:
        data: `arviz.InferenceData` or `xarray.DataTree` of `from_mcmc`.
        program: the model with its arguments.
        var_name: the variable; None where there is one alone.

    Raises:
        ValueError: if a group or the variable is missing, the model does not
            give the variable, or gives other values than those in `data`.
    """

    def __init__(self, data: Any, program: Program, var_name: str | None) -> None:
        require("arviz")
        self.program = program
        self.name = _log_likelihood_name(data, var_name)
        variable = data["log_likelihood"][self.name]
        self.chains, self.num_draws = variable.shape[:2]
        self.recorded = np.asarray(variable.values, np.float64).reshape(
            self.chains * self.num_draws, -1
        )
        self.first = program.trace({})
        self.latent = [name for name in latent_sites(self.first) if name in data["posterior"]]
        if not self.latent:
            raise ValueError(
                f"`data` must have draws of the model's latent sites {latent_sites(self.first)}, "
                f"got {list(data['posterior'].data_vars)}"
            )
        self.draws = self.latent_draws(data, "`data` must have")
        self.plan = self._plan()
        self.unit = self._unit()
        self.densities = self.evaluate(self.draws)
        self._check()

    def latent_draws(self, fitted: Any, demand: str = "`fit` must return") -> dict[str, Tensor]:
        """Return draws (draw, ...) of the latent sites, in their data types.

        Args:
            fitted: `pyro.infer.MCMC`, a dictionary of draws (draw, ...), or an
                object of ArviZ.
            demand: start of the messages.

        Raises:
            ValueError: if it lacks one of the sites, or a site has another
                shape.
        """
        draws = _posterior_of(fitted)
        nodes: dict[str, Any] = self.first.nodes
        if missing := [name for name in self.latent if name not in draws]:
            raise ValueError(
                f"{demand} draws of the latent sites {self.latent}, got {list(draws)}, "
                f"without {missing}"
            )
        result = {name: draws[name].to(nodes[name]["value"]) for name in self.latent}
        for name, values in result.items():
            shape = tuple(nodes[name]["value"].shape)
            if tuple(values.shape[1:]) != shape or len(values) == 0:
                raise ValueError(
                    f"{demand} draws of site {name!r} of shape (draw, *{shape}), "
                    f"got {tuple(values.shape)}"
                )
        return result

    def _plan(self) -> EvaluationPlan:
        first = {name: values[0] for name, values in self.draws.items()}
        plan = EvaluationPlan(self.program, first, {}, lambda name: name == self.name)
        plan.deterministic = []
        plan.prior = []
        return plan

    def _unit(self) -> Unit:
        for unit in self.plan.units:
            if unit.name == self.name:
                return unit
        reasons = "; ".join(f"{name}: {why}" for name, why in self.plan.reasons.items())
        raise ValueError(
            f"`model` must give the log likelihood of {self.name!r}, "
            f"got {reasons or sorted(self.plan.variables)}"
        )

    def _check(self) -> None:
        """Raise where the model is another one than that of the data."""
        if self.densities.log_likelihood.shape != self.recorded.shape:
            raise ValueError(
                f"`model` and its arguments must be those of `data`, which have "
                f"{self.recorded.shape[1]} rows of {self.name!r}, "
                f"got {self.densities.log_likelihood.shape[1]}"
            )
        if not np.allclose(
            self.densities.log_likelihood, self.recorded, AGREEMENT, AGREEMENT, equal_nan=True
        ):
            raise ValueError(
                f"`model` and its arguments must be those of `data`, got another log likelihood "
                f"of {self.name!r} than that in `data`"
            )

    def evaluate(self, draws: Draws) -> Densities:
        """Evaluate the model, with all its data, on draws of its latent sites."""
        outputs = over_draws(self.plan.outputs, draws, self.plan.plain)
        values = array(outputs["log_likelihood"][self.unit.name]).astype(np.float64)
        shape = values.shape[1:]
        mask = outputs["mask"].get(self.unit.name)
        if mask is None:
            self.elements = np.ones(shape, bool)
        else:
            self.elements = np.broadcast_to(array(mask[0]), shape)
        log_joint = array(outputs["joint"]["log_joint"]).astype(np.float64)
        return Densities(log_joint, values[:, self.elements])

    def kept(self, rows: np.ndarray) -> Tensor:
        """Return a mask of the variable's elements, False at some rows."""
        mask = np.ones(self.elements.shape, bool)
        places = np.argwhere(self.elements)[rows]
        mask[tuple(places.T)] = False
        return torch.as_tensor(mask)

    def model_without(self, kept: Tensor) -> Callable[..., Any]:
        """Return the model that learns from the kept rows alone; its sites have all shapes."""
        nodes: dict[str, Any] = self.plan.plain.nodes
        mask = kept
        if self.unit.summed:
            # The elements of a sum over states have the dimensions of the common plates alone.
            frames = [
                frame
                for frame in vectorised(nodes[self.unit.data[0]])
                if frame.name in self.unit.plates
            ]
            depth = max((-frame.dim for frame in frames), default=0)
            shape = [1] * depth
            for frame, size in zip(frames, kept.shape, strict=True):
                shape[frame.dim] = size
            mask = kept.reshape(shape)
        masks = {name: mask.to(nodes[name]["value"].device) for name in self.unit.data}
        model: Callable[..., Any] = _WithoutRows(masks)(self.program.model)
        return model


def _posterior_of(fitted: Any) -> dict[str, Tensor]:
    """The draws (draw, ...) of each site."""
    if hasattr(fitted, "posterior"):
        return {
            str(name): torch.as_tensor(np.array(values.values)).flatten(0, 1)
            for name, values in fitted["posterior"].data_vars.items()
        }
    if hasattr(fitted, "get_samples"):
        fitted = fitted.get_samples()
    if not isinstance(fitted, Mapping):
        raise ValueError(
            "`fit` must return `pyro.infer.MCMC`, a dictionary of draws or an object of ArviZ, "
            f"got {type(fitted).__name__}"
        )
    return {str(name): torch.as_tensor(values) for name, values in fitted.items()}


def _log_likelihood_name(data: Any, var_name: str | None) -> str:
    """Name of the variable.

    Raises:
        ValueError: if there is none, or more than one to choose from.
    """
    for group in ("posterior", "log_likelihood"):
        if not hasattr(data, group):
            raise ValueError(
                f"`data` must have the group {group!r}, which `from_mcmc` writes, got none"
            )
    names = [str(name) for name in data["log_likelihood"].data_vars]
    if var_name is None and len(names) == 1:
        return names[0]
    if var_name not in names:
        raise ValueError(f"`var_name` must be one of {names}, got {var_name!r}")
    return var_name
