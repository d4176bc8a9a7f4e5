"""Deep Boltzmann machines: undirected layers, which are a restricted Boltzmann
machine between even and odd layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import reading
from pyro_gen._plates import check_rows, rows_plate
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.infer import ContrastiveDivergence, contrastive_gradient
from pyro_gen.models.latent import Observations, RowModel, drawn, observed, recognised
from pyro_gen.nn import RBM
from pyro_gen.nn.learning import Gradients


class _LayeredRBM(RBM):
    """RBM in which some couplings are fixed at zero."""

    connections: Tensor

    def __init__(self, connections: Tensor, **settings: Any) -> None:
        super().__init__(*connections.shape, **settings)
        self.register_buffer("connections", connections)
        with torch.no_grad():
            self.weight.mul_(connections)

    @property
    def _couplings(self) -> Tensor:
        """The couplings that exist, differentiable; all until the constructor says which."""
        if "connections" in self._buffers:
            return self.weight * self.connections
        return self.weight

    @property
    def uncentred(self) -> Gradients:
        """Weight and biases of the energy without offsets."""
        if self.centring:
            return super().uncentred
        return (self._couplings, self.vbias, self.hbias)

    def _evaluated(self, partition: Partition | None) -> distributions.RBM:
        """Distribution over a copy of the current biases; its couplings are computed once."""
        weight, vbias, hbias = self.uncentred
        return distributions.RBM(
            weight, vbias.clone(), hbias.clone(), partition, self.num_steps, **self.units
        )

    def learned(self, gradients: Gradients) -> Gradients:
        """Gradients with those of couplings that do not exist set to zero."""
        weight, visible, hidden = gradients
        weight, visible, hidden = super().learned((weight * self.connections, visible, hidden))
        return weight.mul_(self.connections), visible, hidden

    def _note(self, gradients: Gradients) -> None:
        super()._note((gradients[0] * self.connections, gradients[1], gradients[2]))


class DeepBoltzmannMachine(RowModel):
    r"""Layers v, h_1, ..., h_L of binary units with symmetric couplings between neighbours.

    .. math:: E(v, h_1, \dots, h_L) = -\sum_{l=0}^{L} b_l \cdot h_l - \sum_{l=1}^{L} h_{l-1}
        W_l h_l, \qquad h_0 = v

    Given the odd layers the even ones are independent, and the other way round:
    the machine *is* an RBM between the even layers (v, h_2, ...) and the odd
    ones (h_1, h_3, ...), held as ``rbm``, whose sampler, AIS and exact log Z
    serve unchanged. The odd layers are summed out, so the bounds are tighter
    than those with a factorised guide over all.

    The sites are ``h`` (the even hidden layers side by side, drawn by the guide
    from their mean field) and ``layers`` (data and ``h``), in the plate
    ``rows``. The guide has no parameters: ``SVI(..., Trace_ELBO())`` is
    variational learning with persistent chains; :meth:`contrastive_gradient` is
    the same without a tape.

    Args:
        visible: number of observed units.
        hidden: widths of h_1 ... h_L, at least two.
        size: rows of the whole data set, which scales minibatches.
        mean_field_steps: rounds of updates of the guide's mean field.
        **settings: ``negative_phase``, ``evaluation``, ``num_steps`` and
            ``centring`` of :class:`pyro_gen.nn.RBM`.

    Raises:
        ValueError: there are fewer than two hidden layers, a size is below 1,
            the phase is contrastive divergence, or the units are not Bernoulli
            units.

    References:
        Salakhutdinov and Hinton (2009), Deep Boltzmann machines, equations 1-9.

    Example:
        >>> machine = DeepBoltzmannMachine(6, [4, 3], size=100)
        >>> [tuple(weight.shape) for weight in machine.weights]
        [(6, 4), (4, 3)]
        >>> machine.eval().lower_bound(torch.eye(6), num_particles=200).partition.method
        'exact'
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int],
        size: int,
        mean_field_steps: int = 10,
        **settings: Any,
    ) -> None:
        hidden = [whole_number("hidden", units) for units in hidden]
        if len(hidden) < 2:
            raise ValueError(f"`hidden` must name at least two layers, got {hidden}")
        if isinstance(settings.get("negative_phase"), ContrastiveDivergence):
            raise ValueError(
                "`negative_phase` must not be ContrastiveDivergence, whose particles start at the "
                "value, and here that is partly latent: use PersistentChains or Exact"
            )
        if units := [
            x
            for x in settings.values()
            if isinstance(x, Units) and not isinstance(x, BernoulliUnits)
        ]:
            raise ValueError(
                f"a deep Boltzmann machine has Bernoulli units in all layers, got {units[0]}"
            )
        super().__init__(visible, size)
        self.widths = (self.visible, *hidden)
        self.mean_field_steps = whole_number("mean_field_steps", mean_field_steps)
        connections = torch.zeros(sum(self.widths[0::2]), sum(self.widths[1::2]))
        for rows, columns in self._blocks():
            connections[rows, columns] = 1
        self.rbm = _LayeredRBM(connections, **settings)

    @classmethod
    @torch.no_grad()
    def from_rbm(
        cls, rbm: RBM, hidden: Sequence[int], x: RowsLike, noise: float = 0.01, **settings: Any
    ) -> DeepBoltzmannMachine:
        """Start from a trained RBM, with weakly coupled further layers, so that learning
        continues at its likelihood.

        Args:
            rbm: the RBM of v and h_1.
            hidden: widths of the further layers h_2 ... h_L.
            x: rows of data, for base rates and for the first states of the
                chains.
            noise: standard deviation of the new couplings.
            **settings: as of the constructor; ``size`` is the number of rows of
                ``x`` unless given.

        Returns:
            A machine with the RBM's weights at the bottom.

        Raises:
            ValueError: as the constructor.
        """
        visible, first = rbm.weight.shape
        machine = cls(visible, [first, *hidden], **{"size": len(x), **settings}).to(rbm.weight)
        check_rows(machine.size, len(x))
        weight = torch.randn_like(machine.rbm.weight).mul_(noise).mul_(machine.rbm.connections)
        vbias, hbias = (torch.zeros_like(p) for p in (machine.rbm.vbias, machine.rbm.hbias))
        weight[:visible, :first], vbias[:visible], hbias[:first] = rbm.uncentred
        machine.rbm.set_uncentred(weight, vbias, hbias)
        machine.start_at(x)
        return machine

    @torch.no_grad()
    def start_at(self, x: RowsLike) -> None:
        """Start chains at random rows with hidden layers of coin flips, and set the base
        rates, from which AIS anneals.

        Args:
            x: rows of data.
        """
        x = self.check(x)
        self.rbm.base_rates[: self.visible] = (x.sum(0) + 1) / (len(x) + 2)
        rows = x[torch.randint(len(x), (len(self.rbm.chains),)).to(x.device)].to(self.rbm.weight)
        self.rbm.start_chains(torch.cat([rows, self.rbm.chains[:, self.visible :]], -1))

    @property
    def weights(self) -> list[Tensor]:
        """Couplings W_l, lower units by upper ones, as views of ``rbm.weight``."""
        views = [self.rbm.weight[rows, columns] for rows, columns in self._blocks()]
        return [view.mT if level % 2 else view for level, view in enumerate(views)]

    @property
    def biases(self) -> list[Tensor]:
        """Biases of all layers, the visible one first, of the energy without offsets."""
        _, vbias, hbias = self.rbm.uncentred
        even = vbias.split(self.widths[0::2])
        odd = hbias.split(self.widths[1::2])
        return [(odd if level % 2 else even)[level // 2] for level in range(len(self.widths))]

    def _blocks(self) -> list[tuple[slice, slice]]:
        """Place of each W_l in the RBM's weight: rows of the even layer, columns of the odd."""
        even = _slices(self.widths[0::2])
        odd = _slices(self.widths[1::2])
        return [(even[(level + 1) // 2], odd[level // 2]) for level in range(len(self.widths) - 1)]

    def model(self, x: RowsLike | None = None, observations: Observations | None = None) -> Tensor:
        """Generative program.

        ``h`` has no separate density, since the joint distribution includes it.

        Args:
            x: rows to observe, (rows, visible); None draws ``size`` rows of all
                even layers.
            observations: the same by site name.

        Returns:
            The rows.
        """
        rows = observed(x, observations)
        register("rbm", self.rbm)
        joint = self.rbm()
        with rows_plate(self.size, rows):
            if rows is None:
                return pyro.sample("layers", joint)[..., : self.visible]
            fair = torch.zeros(sum(self.widths[2::2])).to(self.rbm.vbias)
            h = pyro.sample("h", dist.Bernoulli(logits=fair).to_event(1).mask(False))
            even = torch.cat([rows.to(h).expand(*h.shape[:-1], -1), h], -1)
            return pyro.sample("layers", joint, obs=even)[..., : self.visible]

    def guide(self, x: RowsLike | None = None, observations: Observations | None = None) -> None:
        """Independent units of the even hidden layers, with the mean field's probabilities.

        Args:
            x: rows, (rows, visible).
            observations: the same by site name.

        Raises:
            ValueError: there are no rows.
        """
        rows = recognised(x, observations)
        with rows_plate(self.size, rows):
            pyro.sample("h", dist.Bernoulli(probs=self._even_means(rows)).to_event(1))

    @reading
    @torch.no_grad()
    def mean_field(self, x: RowsLike) -> list[Tensor]:
        r"""Probabilities of all hidden layers that are a fixed point of the mean-field
        equations given x.

        .. math:: \mu_l = \sigma(b_l + \mu_{l-1} W_l + W_{l+1} \mu_{l+1}), \qquad \mu_0 = v

        Args:
            x: rows, (rows, visible).

        Returns:
            One tensor (rows, width) a hidden layer: features of the rows.

        Raises:
            ValueError: ``x`` is not a table of zeros and ones.

        References:
            Salakhutdinov and Hinton (2009), equations 8 and 9.
        """
        x = self.check(x)
        even = self._even_means(x)
        odd = self.rbm._transform(torch.cat([x.to(even), even], -1))
        layers = odd.split(self.widths[1::2], -1), even.split(self.widths[2::2], -1)
        return [layers[level % 2][level // 2] for level in range(len(self.widths) - 1)]

    @torch.no_grad()
    def _even_means(self, x: Tensor) -> Tensor:
        """The mean field of h_2, h_4, ..., after rounds odd - even from the base rates."""
        weight, vbias, hbias = self.rbm.uncentred
        below = x.to(weight.dtype) @ weight[: self.visible] + hbias
        even = self.rbm.base_rates[self.visible :].expand(*x.shape[:-1], -1)
        for _ in range(self.mean_field_steps):
            odd = torch.sigmoid(below + even @ weight[self.visible :])
            even = torch.sigmoid(odd @ weight[self.visible :].mT + vbias[self.visible :])
        # probability 0 or 1 would make the other state impossible
        return even.clamp(1e-6, 1 - 1e-6)

    def contrastive_gradient(self, x: RowsLike) -> None:
        """Fill ``.grad`` with the gradient that ``SVI`` finds, a row: data with hidden
        layers drawn, against chains.

        Args:
            x: a batch of rows.

        Raises:
            ValueError: ``x`` is not a table of zeros and ones, or the RBM has
                no negative phase.
        """
        x = self.check(x)
        contrastive_gradient(
            self.rbm, torch.cat([x.to(self.rbm.weight), torch.bernoulli(self._even_means(x))], -1)
        )

    @reading
    @torch.no_grad()
    def log_partition(self) -> Estimate:
        """Log Z by the ``evaluation`` of the RBM.

        Returns:
            The estimate with its error.

        Raises:
            ValueError: log Z is not known.
        """
        return self.rbm().log_partition()

    @reading
    @torch.no_grad()
    def sample(self, num_samples: int, num_steps: int = 100) -> Tensor:
        """Draw observed units: exactly where possible, else by sweeps over even and odd
        layers from the chains.

        Args:
            num_samples: rows to draw.
            num_steps: Gibbs sweeps from the chains, where there is no exact
                draw.

        Returns:
            Zeros and ones, (num_samples, visible).

        Raises:
            ValueError: there is neither an exact draw, nor chains, nor
                ``num_steps`` among the settings.
        """
        num_samples = whole_number("num_samples", num_samples)
        num_steps = whole_number("num_steps", num_steps, 0)
        return drawn(self.rbm, num_samples, num_steps)[:, : self.visible]


def _slices(widths: Sequence[int]) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(accumulate(widths, initial=0))]


__all__ = ["DeepBoltzmannMachine"]
