"""Groups from evaluated draws: which variables they hold and how their dimensions are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pyro_gen.arviz.evaluation import Evaluation, Field, Shape
from pyro_gen.arviz.groups import CHAINS, Coords, Dims, Variable, array, container, dataset, labels_of, warn

Arrays = Mapping[str, Tensor | np.ndarray]


class Extras(NamedTuple):
    """User's additions to a posterior, as `arviz.from_pyro` takes them."""

    prior: Arrays | None = None
    posterior_predictive: Arrays | None = None
    predictions: Arrays | None = None
    constant_data: Arrays | None = None
    predictions_constant_data: Arrays | None = None


def draws_of(extras: Extras, chains: int) -> int | None:
    """Return the draws of each chain, as `arviz.from_pyro` reads them off the first group there is."""
    for group in (extras.predictions, extras.posterior_predictive, extras.prior):
        if group:
            first = array(next(iter(group.values())))
            return len(first) // chains if first.ndim else None
    return None


class Assembly:
    """The groups as they come together, and the names of their dimensions.

    A user's name for a dimension is taken first, then that of its plate, then ``<site>_dim_<i>``.
    """

    def __init__(
        self,
        chains: int,
        draws: int | None,
        coords: Coords | None,
        dims: Dims | None,
        pred_dims: Dims | None,
        evaluation: Evaluation | None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.chains, self.draws = chains, draws
        self.labels = {name: labels_of(name, values) for name, values in (coords or {}).items()}
        self.dims, self.pred_dims = dict(dims or {}), dict(pred_dims or {})
        self.evaluation, self.attrs = evaluation, attrs or {}
        self.groups: dict[str, dict[str, Variable]] = {}
        self.group_attrs: dict[str, Mapping[str, Any]] = {}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes of the model's sites, none without a model."""
        return self.evaluation.shapes if self.evaluation else {}

    def add(self, group: str, name: str, variable: Variable) -> None:
        """Enter a variable."""
        self.groups.setdefault(group, {})[name] = variable

    def result(self) -> Any:
        """Return all groups in ArviZ's order, after a look for names that nothing has."""
        names = {name for members in self.groups.values() for name in members} | set(self.shapes)
        if unknown := sorted(({*self.dims} | {*self.pred_dims}) - names):
            warn(f"`dims` name {unknown}, which no group has; there are {sorted(names)}")
        for group, members in self.groups.items():
            if clashes := sorted(members.keys() & {dim for variable in members.values() for dim in variable.dims}):
                raise ValueError(
                    f"dimensions must have other names than the variables of {group!r}, got {clashes} for both"
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
            ValueError: if a user names more dimensions than there are, one twice, or gives labels of another number.
        """
        shape = values.shape[len(lead) :]
        user_dims = list((self.dims if dims is None else dims).get(site, ()))
        if len(user_dims) > len(shape) and not trim:
            raise ValueError(
                f"`dims` of {site!r} must name at most {len(shape)} dimensions of {shape}, got {user_dims}"
            )
        names = [
            self._name(site, index, size, user_dims, plates[index] if len(plates) == len(shape) else None)
            for index, size in enumerate(shape)
        ]
        if len({*lead, *names}) < len(lead) + len(names) or site in names:
            raise ValueError(f"the dimensions of {site!r} must differ from each other and the site, got {names}")
        return Variable((*lead, *names), values)

    def _name(self, site: str, index: int, size: int, user_dims: Sequence[str | None], plate: str | None) -> str:
        if index < len(user_dims) and (name := user_dims[index]) is not None:
            if name in self.labels and len(self.labels[name]) != size:
                raise ValueError(
                    f"`coords` {name!r} must have {size} labels to fit {site!r}, got {len(self.labels[name])}"
                )
            return name
        taken = {*CHAINS, site, *self.shapes}
        fits = plate is not None and plate not in taken and len(self.labels.get(plate, range(size))) == size
        return plate if fits and plate is not None else f"{site}_dim_{index}"

    def add_samples(
        self, group: str, samples: Arrays, plates: Mapping[str, Sequence[str | None]] | None = None
    ) -> None:
        """Enter draws of shape (chain, draw, ...)."""
        for name, values in samples.items():
            shape = self.shapes.get(name)
            site_plates = (plates or {}).get(name, shape.plates if shape else ())
            self.add(group, name, self.named(name, array(values), site_plates))

    def add_fields(self, group: str, fields: Mapping[str, Field], trim: bool) -> None:
        """Enter what the evaluation says of each draw, masked elements dropped."""
        for name, field in fields.items():
            values = field.values.reshape(self.chains, -1, *field.values.shape[1:])
            variable = self.named(name, values, field.plates, trim=trim)
            if field.mask is not None and not field.mask.all():
                variable = self._unmasked(name, variable, field.mask)
            self.add(group, name, variable._replace(attrs={"sites": list(field.sites)} if len(field.sites) > 1 else {}))

    def _unmasked(self, name: str, variable: Variable, mask: np.ndarray) -> Variable:
        """Keep the elements that count, in one dimension that knows where each was."""
        dim, shape = f"{name}_datum", variable.values.shape[2:]
        indices = np.nonzero(np.broadcast_to(mask, shape))
        extra_coords = {}
        for old, size, index in zip(variable.dims[2:], shape, indices, strict=True):
            extra_coords[f"{dim}_{old}"] = (dim, self.labels.get(old, np.arange(size))[index])
        return Variable((*CHAINS, dim), variable.values[:, :, np.broadcast_to(mask, shape)], beside=extra_coords)

    def add_stats(self, stats: Arrays) -> None:
        """Enter statistics of the sampler, of shape (chain, draw, ...)."""
        for name, values in stats.items():
            self.add("sample_stats", name, self.named(name, array(values), dims={}))

    def add_data(self, group: str, data: Arrays | None, dims: Dims) -> None:
        """Enter data, which has neither chains nor draws; a number becomes an array of one, as in ArviZ."""
        for name, values in (data or {}).items():
            self.add(group, name, self.named(name, np.atleast_1d(array(values)), lead=(), dims=dims))

    def add_observed(self) -> None:
        """Enter the data of the model."""
        for name, field in self.evaluation.observed.items() if self.evaluation else ():
            plates = field.plates if field.values.ndim else (None,)
            self.add("observed_data", name, self.named(name, np.atleast_1d(field.values), plates, lead=(), trim=True))

    def add_predictive(self, group: str, samples: Arrays | None, dims: Dims) -> None:
        """Enter what `pyro.infer.Predictive` returned: (chain * draw, ...), or (chain, draw, ...)."""
        for name, draws in (samples or {}).items():
            values = self._by_chain(group, name, array(draws))
            shape = self.shapes.get(name)
            self.add(group, name, self.named(name, values, shape.plates if shape else (), dims=dims))

    def _by_chain(self, group: str, name: str, values: np.ndarray) -> np.ndarray:
        if not values.ndim:
            raise ValueError(f"`{group}` {name!r} must have shape (draws, ...), got a single number")
        draws = len(values) // self.chains if self.draws is None else self.draws
        if values.shape[:2] == (self.chains, draws):
            return self._of_site(name, values)
        if len(values) == self.chains * draws:
            return self._of_site(name, values.reshape(self.chains, draws, *values.shape[1:]))
        warn(
            f"`{group}` {name!r} of shape {values.shape} does not fit {self.chains} chains of {draws} draws: "
            f"it becomes one chain of {len(values)}"
        )
        return self._of_site(name, values[None])

    def _of_site(self, name: str, values: np.ndarray) -> np.ndarray:
        """Take out the dimensions of size 1 that Predictive puts between draws and a site outside of plates."""
        shape = self.shapes.get(name)
        between = 0 if shape is None else values.ndim - 2 - shape.ndim
        if between > 0 and set(values.shape[2 : 2 + between]) <= {1}:
            return values.reshape(*values.shape[:2], *values.shape[2 + between :])
        return values

    def add_prior(self, prior: Arrays | None, posterior: Iterable[str]) -> None:
        """Enter draws from the prior; what is data of the model is `prior_predictive`.

        Without a model that is what the posterior does not have, and dimensions of size 1 go, as in `arviz.from_pyro`.
        """
        names = frozenset(posterior)
        for name, draws in (prior or {}).items():
            values = array(draws)
            if name in self.shapes:
                values = self._of_site(name, values[None])
                latent = name not in (self.evaluation.observed if self.evaluation else ())
            else:
                values = np.squeeze(values[None], tuple(i for i, n in enumerate(values.shape, 1) if n == 1 and i > 1))
                latent = not names or name in names
            plates = self.shapes[name].plates if name in self.shapes else ()
            self.add("prior" if latent else "prior_predictive", name, self.named(name, values, plates))

    def add_extras(self, extras: Extras, posterior: Iterable[str] = ()) -> None:
        """Enter what the user added."""
        self.add_predictive("posterior_predictive", extras.posterior_predictive, self.dims)
        self.add_predictive("predictions", extras.predictions, self.pred_dims)
        self.add_prior(extras.prior, posterior)
        self.add_data("constant_data", extras.constant_data, self.dims)
        self.add_data("predictions_constant_data", extras.predictions_constant_data, self.pred_dims)

    def add_evaluation(self) -> None:
        """Enter deterministic sites, pointwise log likelihood, log priors and data; warn of what is left out."""
        if self.evaluation is None:
            return
        self.add_fields("posterior", self.evaluation.deterministic, trim=False)
        self.add_fields("log_likelihood", self.evaluation.log_likelihood, trim=True)
        self.add_fields("log_prior", self.evaluation.log_prior, trim=True)
        self.add_observed()
        for what, why in self.evaluation.reasons.items():
            subject = "what needs the model" if what == "model" else what
            warn(f"{subject} is left out: {why}")
