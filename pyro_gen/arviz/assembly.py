"""Groups from evaluated draws: which variables they hold and how their dimensions are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pyro_gen.arviz.evaluation import NO_MODEL, Evaluation, Field, Shape
from pyro_gen.arviz.groups import (
    CHAINS,
    Coords,
    Dims,
    Variable,
    array,
    container,
    dataset,
    labels_of,
    netcdf_attributes,
    warn,
)

Arrays = Mapping[str, Tensor | np.ndarray]


class Extras(NamedTuple):
    """User's additions to a posterior, as `arviz.from_pyro` takes them."""

    prior: Arrays | None = None
    posterior_predictive: Arrays | None = None
    predictions: Arrays | None = None
    constant_data: Arrays | None = None
    predictions_constant_data: Arrays | None = None


def draws_of(extras: Extras, chains: int) -> int | None:
    """Return the draws of each chain, read off the first group that there is."""
    for group in (extras.predictions, extras.posterior_predictive, extras.prior):
        if not group:
            continue
        first = array(next(iter(group.values())))
        if first.ndim:
            return len(first) // chains
        return None
    return None


class Assembly:
    """The groups as they come together, and the names of their dimensions.

    A user's name for a dimension is taken first, then that of its plate, then
    ``<site>_dim_<i>``.
    """

    def __init__(
        self,
        chains: int,
        draws: int | None,
        coords: Coords | None,
        dims: Dims | None,
        pred_dims: Dims | None,
        evaluation: Evaluation | None,
        attrs: Mapping[str, Any] | None,
    ) -> None:
        self.chains = chains
        self.draws = draws
        self.labels = {name: labels_of(name, values) for name, values in (coords or {}).items()}
        self.dims = dict(dims or {})
        self.pred_dims = dict(pred_dims or {})
        self.attrs = netcdf_attributes(attrs)
        self.evaluation = evaluation or NO_MODEL
        self.groups: dict[str, dict[str, Variable]] = {}
        self.group_attrs: dict[str, Mapping[str, Any]] = {}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes of the model's sites, none without a model."""
        return self.evaluation.shapes

    def plates_of(self, name: str) -> tuple[str | None, ...]:
        """The plates of a site's dimensions, none where the model does not have the site."""
        if name not in self.shapes:
            return ()
        return self.shapes[name].plates

    def add(self, group: str, name: str, variable: Variable) -> None:
        """Enter a variable."""
        self.groups.setdefault(group, {})[name] = variable

    def result(self) -> Any:
        """Return all groups in ArviZ's order, after a look for names that nothing has."""
        names = set(self.shapes).union(*self.groups.values())
        if unknown := sorted({*self.dims, *self.pred_dims} - names):
            warn(f"`dims` name {unknown}, which no group has; there are {sorted(names)}")
        for group, members in self.groups.items():
            dims = {dim for variable in members.values() for dim in variable.dims}
            if clashes := sorted(members.keys() & dims):
                raise ValueError(
                    f"dimensions must have other names than the variables of {group!r}, "
                    f"got {clashes} for both"
                )
        groups = {
            name: dataset(members, self.labels, {**self.attrs, **self.group_attrs.get(name, {})})
            for name, members in self.groups.items()
        }
        return container(groups)

    def named(
        self,
        site: str,
        values: np.ndarray,
        plates: Sequence[str | None] = (),
        *,
        lead: Sequence[str] = CHAINS,
        trim: bool = False,
        dims: Dims | None = None,
    ) -> Variable:
        """Name the dimensions of a site after the leading ones.

        Raises:
            ValueError: if a user names more dimensions than there are, one
                twice, or gives labels of another number.
        """
        shape = values.shape[len(lead) :]
        if dims is None:
            dims = self.dims
        user_dims = list(dims.get(site, ()))
        if len(user_dims) > len(shape) and not trim:
            raise ValueError(
                f"`dims` of {site!r} must name at most {len(shape)} dimensions of {shape}, "
                f"got {user_dims}"
            )
        if len(plates) != len(shape):
            plates = [None] * len(shape)
        user_dims = [*user_dims, *[None] * len(shape)][: len(shape)]
        names = [
            self._name(site, index, *of_dim)
            for index, of_dim in enumerate(zip(shape, user_dims, plates, strict=True))
        ]
        if len({*lead, *names}) < len(lead) + len(names) or site in names:
            raise ValueError(
                f"the dimensions of {site!r} must differ from each other and the site, got {names}"
            )
        return Variable((*lead, *names), values)

    def _name(
        self,
        site: str,
        index: int,
        size: int,
        user_dim: str | None,
        plate: str | None,
    ) -> str:
        if user_dim is not None:
            count = len(self.labels.get(user_dim, range(size)))
            if count != size:
                raise ValueError(
                    f"`coords` {user_dim!r} must have {size} labels to fit {site!r}, got {count}"
                )
            return user_dim
        taken = {*CHAINS, site, *self.shapes}
        if plate is None or plate in taken or len(self.labels.get(plate, range(size))) != size:
            return f"{site}_dim_{index}"
        return plate

    def add_samples(self, group: str, samples: Arrays) -> None:
        """Enter draws of shape (chain, draw, ...)."""
        for name, values in samples.items():
            self.add(group, name, self.named(name, array(values), self.plates_of(name)))

    def add_fields(self, group: str, fields: Mapping[str, Field], trim: bool) -> None:
        """Enter what the evaluation says of each draw, masked elements dropped."""
        for name, field in fields.items():
            values = field.values.reshape(self.chains, -1, *field.values.shape[1:])
            variable = self.named(name, values, field.plates, trim=trim)
            if field.mask is not None and not field.mask.all():
                variable = self._unmasked(name, variable, field.mask)
            if len(field.sites) > 1:
                variable = variable._replace(attrs={"sites": list(field.sites)})
            self.add(group, name, variable)

    def _unmasked(self, name: str, variable: Variable, mask: np.ndarray) -> Variable:
        """Keep the elements that count, in one dimension that knows where each was."""
        dim = f"{name}_datum"
        shape = variable.values.shape[2:]
        mask = np.broadcast_to(mask, shape)
        indices = np.nonzero(mask)
        extra_coords = {}
        for old, size, index in zip(variable.dims[2:], shape, indices, strict=True):
            extra_coords[f"{dim}_{old}"] = (dim, self.labels.get(old, np.arange(size))[index])
        return Variable((*CHAINS, dim), variable.values[:, :, mask], beside=extra_coords)

    def add_stats(self, stats: Arrays) -> None:
        """Enter statistics of the sampler, of shape (chain, draw, ...)."""
        for name, values in stats.items():
            self.add("sample_stats", name, self.named(name, array(values), dims={}))

    def add_data(self, group: str, data: Arrays | None, dims: Dims) -> None:
        """Enter data, without chains and draws; a number becomes an array of one, as in ArviZ."""
        for name, source in (data or {}).items():
            values = np.atleast_1d(array(source))
            self.add(group, name, self.named(name, values, lead=(), dims=dims))

    def add_observed(self) -> None:
        """Enter the data of the model."""
        for name, field in self.evaluation.observed.items():
            values = np.atleast_1d(field.values)
            variable = self.named(name, values, field.plates, lead=(), trim=True)
            self.add("observed_data", name, variable)

    def add_predictive(self, group: str, samples: Arrays | None, dims: Dims) -> None:
        """Enter draws of `Predictive`: (chain * draw, ...), or (chain, draw, ...)."""
        for name, draws in (samples or {}).items():
            values = self._by_chain(group, name, array(draws))
            self.add(group, name, self.named(name, values, self.plates_of(name), dims=dims))

    def _by_chain(self, group: str, name: str, values: np.ndarray) -> np.ndarray:
        if not values.ndim:
            raise ValueError(
                f"`{group}` {name!r} must have shape (draws, ...), got a single number"
            )
        draws = self.draws
        if draws is None:
            draws = len(values) // self.chains
        if values.shape[:2] == (self.chains, draws):
            return self._of_site(name, values)
        if len(values) == self.chains * draws:
            return self._of_site(name, values.reshape(self.chains, draws, *values.shape[1:]))
        warn(
            f"`{group}` {name!r} of shape {values.shape} does not fit {self.chains} chains of "
            f"{draws} draws: "
            f"it becomes one chain of {len(values)}"
        )
        return self._of_site(name, values[None])

    def _of_site(self, name: str, values: np.ndarray) -> np.ndarray:
        """Take out the dimensions of size 1 that Predictive puts before a site."""
        if name not in self.shapes:
            return values
        between = values.ndim - 2 - self.shapes[name].ndim
        if between > 0 and set(values.shape[2 : 2 + between]) <= {1}:
            return values.reshape(*values.shape[:2], *values.shape[2 + between :])
        return values

    def add_prior(self, prior: Arrays | None, posterior: Iterable[str]) -> None:
        """Enter draws from the prior; what is data of the model is `prior_predictive`.

        Without a model that is what the posterior does not have, and dimensions
        of size 1 go, as in `arviz.from_pyro`.
        """
        names = frozenset(posterior)
        for name, draws in (prior or {}).items():
            values = array(draws)[None]
            if name in self.shapes:
                values = self._of_site(name, values)
                is_data = name in self.evaluation.observed
            else:
                singletons = [axis for axis in range(2, values.ndim) if values.shape[axis] == 1]
                values = np.squeeze(values, tuple(singletons))
                is_data = bool(names) and name not in names
            variable = self.named(name, values, self.plates_of(name))
            if is_data:
                self.add("prior_predictive", name, variable)
            else:
                self.add("prior", name, variable)

    def add_extras(self, extras: Extras, posterior: Iterable[str] = ()) -> None:
        """Enter what the user added."""
        self.add_predictive("posterior_predictive", extras.posterior_predictive, self.dims)
        self.add_predictive("predictions", extras.predictions, self.pred_dims)
        self.add_prior(extras.prior, posterior)
        self.add_data("constant_data", extras.constant_data, self.dims)
        self.add_data(
            "predictions_constant_data", extras.predictions_constant_data, self.pred_dims
        )

    def add_evaluation(self) -> None:
        """Enter what the model says of the draws; warn of what is left out."""
        self.add_fields("posterior", self.evaluation.deterministic, trim=False)
        self.add_fields("log_likelihood", self.evaluation.log_likelihood, trim=True)
        self.add_fields("log_prior", self.evaluation.log_prior, trim=True)
        self.add_observed()
        for name, why in self.evaluation.reasons.items():
            subject = {"model": "what needs the model"}.get(name, name)
            warn(f"{subject} is left out: {why}")


def assembled(
    samples: Mapping[str, Tensor],
    stats: Arrays,
    about: Mapping[str, Any],
    evaluation: Evaluation | None,
    extras: Extras,
    coords: Coords | None,
    dims: Dims | None,
    pred_dims: Dims | None,
    attrs: Mapping[str, Any] | None,
) -> Any:
    """Make all groups of a posterior.

    Args:
        samples: draws, (chain, draw, ...).
        stats: statistics of the draws, (chain, draw, ...).
        about: attributes of ``sample_stats``.
        evaluation: what the model says of the draws.
        extras: what the user adds.
        coords: labels, or a size, for each named dimension.
        dims: names of dimensions.
        pred_dims: names of dimensions of predictions.
        attrs: attributes of the groups.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.
    """
    chains, draws = next(iter(samples.values())).shape[:2]
    assembly = Assembly(chains, draws, coords, dims, pred_dims, evaluation, attrs)
    assembly.add_samples("posterior", samples)
    assembly.add_stats(stats)
    assembly.group_attrs["sample_stats"] = netcdf_attributes(about)
    assembly.add_evaluation()
    assembly.add_extras(extras, assembly.groups["posterior"])
    return assembly.result()
