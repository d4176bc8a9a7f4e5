"""A small correct distribution, and the same with one mistake each: what the conformance suite is tried on."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.distributions.torch import Categorical
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from pyro_gen.testing import states

Shape = torch.Size | list[int] | tuple[int, ...]


class BinaryVector(constraints.Constraint):
    """Vectors of zeros and ones (torch's own `independent(boolean, 1)` cannot check an empty batch)."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1)


class TableBernoulli(TorchDistribution):
    r"""A distribution over binary vectors by a table of logits, one for each of 2^d vectors, and a tilt of its bits.

    .. math:: \log p(v) = \log\mathrm{softmax}(\mathrm{logits}_u + u \cdot \mathrm{tilt})_{u = v}
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "tilt": constraints.real_vector,
    }
    support: constraints.Constraint = BinaryVector()
    has_enumerate_support = True

    def __init__(self, logits: Tensor, tilt: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.tilt = logits, tilt
        super().__init__(
            *TableBernoulli.infer_shapes(logits=logits.shape, tilt=tilt.shape), validate_args=validate_args
        )

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[torch.Size, torch.Size]:
        logits, tilt = arg_shapes["logits"], arg_shapes["tilt"]
        return torch.broadcast_shapes(logits[:-1], tilt[:-1]), torch.Size(tilt[-1:])

    def expand(self, batch_shape: Shape, _instance: TableBernoulli | None = None) -> TableBernoulli:
        new = self._get_checked_instance(TableBernoulli, _instance)
        new.logits, new.tilt = self.logits.expand(*batch_shape, -1), self.tilt.expand(*batch_shape, -1)
        super(TableBernoulli, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def table(self) -> Categorical:
        bits = states(self.tilt.shape[-1], self.tilt.dtype).to(self.tilt.device)
        logits = self.logits + (bits * self.tilt.unsqueeze(-2)).sum(-1)
        return Categorical(logits=logits, validate_args=False)

    def powers(self) -> Tensor:
        return 2 ** torch.arange(self.tilt.shape[-1] - 1, -1, -1, device=self.logits.device)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.table.log_prob(((value > 0.5) * self.powers()).sum(-1))

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with torch.no_grad():
            logits = self.table.logits.expand(*sample_shape, *self.batch_shape, -1)
            gumbel = -torch.empty_like(logits).contiguous().exponential_().log()
            index = (logits + gumbel).argmax(-1, keepdim=True)
            return (index // self.powers() % 2).to(self.logits.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        listed = states(self.event_shape[0], self.logits.dtype).to(self.logits.device)
        listed = listed.reshape(-1, *(1,) * len(self.batch_shape), listed.shape[-1])
        return listed.expand(-1, *self.batch_shape, -1) if expand else listed

    def entropy(self) -> Tensor:
        return self.table.entropy()


@register_kl(TableBernoulli, TableBernoulli)
def _kl_table_table(p: TableBernoulli, q: TableBernoulli) -> Tensor:
    return kl_divergence(p.table, q.table)


class Unnormalised(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + self.tilt.sum(-1)


class HalfNormalised(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 1e-8


class BiasedSampler(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return TableBernoulli(self.logits, 1.1 * self.tilt).sample(sample_shape)


class IgnoredSampleShape(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return super().sample()


class IdenticalDraws(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return super().sample().expand(*sample_shape, *self.batch_shape, -1)


class IdenticalRows(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return super().sample(sample_shape[1:]).expand(*sample_shape, *self.batch_shape, -1)


class StickyChain(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        fresh = super().sample(sample_shape)
        if sample_shape:
            keep = torch.rand(fresh.shape[:-1]) < 0.2
            fresh[1:] = torch.where(keep[1:, ..., None], fresh[:-1], fresh[1:])
        return fresh


class SharedUniforms(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        uniform = torch.rand(*sample_shape, *(1,) * (len(self.batch_shape) + 1), dtype=self.logits.dtype)
        index = (uniform > self.table.probs.cumsum(-1)).sum(-1, keepdim=True)
        return (index // self.powers() % 2).to(self.logits.dtype)


class NumpySampler(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        noise = torch.from_numpy(np.random.gumbel(size=(*sample_shape, *self.batch_shape, 2 ** self.event_shape[0])))
        index = (self.table.logits + noise).argmax(-1, keepdim=True)
        return (index // self.powers() % 2).to(self.logits.dtype)


class OwnSeed(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().sample(sample_shape)


class ExpandDropsParameters(TableBernoulli):
    def expand(self, batch_shape: Shape, _instance: TableBernoulli | None = None) -> TableBernoulli:
        new = super().expand(batch_shape, _instance)
        new.logits = torch.zeros_like(new.logits)
        return new


class ExpandDropsValidation(TableBernoulli):
    def expand(self, batch_shape: Shape, _instance: TableBernoulli | None = None) -> TableBernoulli:
        new = super().expand(batch_shape, _instance)
        new._validate_args = False
        return new


class ExpandDropsEventShape(TableBernoulli):
    def expand(self, batch_shape: Shape, _instance: TableBernoulli | None = None) -> TableBernoulli:
        new = super().expand(batch_shape, _instance)
        new._event_shape = torch.Size([])
        return new


class ExpandDropsType(TableBernoulli):
    def expand(self, batch_shape: Shape, _instance: TableBernoulli | None = None) -> TorchDistribution:
        return TorchDistribution.expand(self, batch_shape)


class MissingValidation(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return self.table.log_prob(((value > 0.5) * self.powers()).sum(-1))


class AnyCellValidates(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        if not ((value == 0) | (value == 1)).any(-1).all():
            raise ValueError(f"`value` must be 0 or 1, got {value}")
        return TableBernoulli(self.logits, self.tilt, validate_args=False).log_prob(value)


class NaNAccepted(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.nan_to_num())


class AlwaysValidates(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return super().log_prob(value)


class Unconstrained(TableBernoulli):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real_vector}


class WrongConstraint(TableBernoulli):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "tilt": constraints.real,
    }


class WrongEventDim(TableBernoulli):
    support = constraints.boolean


class CPUTensor(TableBernoulli):
    def powers(self) -> Tensor:
        return torch.tensor([4, 2, 1])


class CPUSupport(TableBernoulli):
    def enumerate_support(self, expand: bool = True) -> Tensor:
        return super().enumerate_support(expand).cpu() if self.logits.device.type == "cpu" else states(3)


class Float32Samples(TableBernoulli):
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return super().sample(sample_shape).float()


class Float32LogProb(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value).float().to(self.logits.dtype)


class RandomLogProb(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        torch.rand(())
        return super().log_prob(value)


class CountingLogProb(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        log_prob = super().log_prob(value)
        with torch.no_grad():
            self.logits = self.logits + 1e-3 * torch.arange(self.logits.shape[-1], device=self.logits.device)
        return log_prob


class FirstBatchElementOnly(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        logits = self.logits[(slice(0, 1),) * (self.logits.dim() - 1)].expand_as(self.logits)
        return TableBernoulli(logits, self.tilt, self._validate_args).log_prob(value)


class EnumerateIgnoresExpand(TableBernoulli):
    def enumerate_support(self, expand: bool = True) -> Tensor:
        return super().enumerate_support(expand=False)


class EnumerateMissesState(TableBernoulli):
    def enumerate_support(self, expand: bool = True) -> Tensor:
        return super().enumerate_support(expand)[1:]


class EnumerateRepeatsState(TableBernoulli):
    def enumerate_support(self, expand: bool = True) -> Tensor:
        listed = super().enumerate_support(expand)
        return torch.cat([listed, listed[:1]])


class WrongEntropy(TableBernoulli):
    def entropy(self) -> Tensor:
        return super().entropy() / math.log(2)


class WrongKL(TableBernoulli):
    pass


@register_kl(WrongKL, WrongKL)
def _kl_swapped(p: WrongKL, q: WrongKL) -> Tensor:
    return kl_divergence(q.table, p.table)


class WrongMean(TableBernoulli):
    @property
    def mean(self) -> Tensor:
        return self.logits.new_full((*self.batch_shape, *self.event_shape), 0.5)


class BrokenPickle(TableBernoulli):
    def __init__(self, logits: Tensor, tilt: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits, tilt, validate_args)
        self.score = lambda value: self.log_prob(value)  # noqa: PLW0108 - a lambda is what pickle refuses


class DetachedGradient(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value).detach()


class DetachedNormaliser(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        tilt = self.tilt.sum(-1)
        return super().log_prob(value) + tilt - tilt.detach()


class BatchOfFirstParameter(TableBernoulli):
    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[torch.Size, torch.Size]:
        return torch.Size(arg_shapes["logits"][:-1]), torch.Size(arg_shapes["tilt"][-1:])


class BatchShapeOfFirstParameter(TableBernoulli):
    def __init__(self, logits: Tensor, tilt: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.tilt = logits, tilt
        TorchDistribution.__init__(self, logits.shape[:-1], tilt.shape[-1:], validate_args=validate_args)


class ValueNotBroadcast(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        if value.dim() <= len(self.batch_shape):
            value = value.reshape(self.batch_shape + self.event_shape)
        return super().log_prob(value)


class ContiguousOnly(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.view(value.numel()).view(value.shape))


class ExpandToAnything(TableBernoulli):
    def expand(self, batch_shape: Shape, _instance: TableBernoulli | None = None) -> TableBernoulli:
        return super().expand(torch.broadcast_shapes(self.batch_shape, batch_shape), _instance)


class TorchSupport(TableBernoulli):
    support = constraints.independent(constraints.boolean, 1)


class ContinuousSupport(TableBernoulli):
    support = constraints.independent(constraints.unit_interval, 1)


class ShapeNotValidated(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args and not self.support.check(value).all():
            raise ValueError(f"`value` must be 0 or 1, got {value}")
        return self.table.log_prob(((value > 0.5) * self.powers()).sum(-1))


class MaskIgnored(TableBernoulli):
    def mask(self, mask: Tensor) -> TableBernoulli:
        return self


class StaleNormaliser(TableBernoulli):
    def __init__(self, logits: Tensor, tilt: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits, tilt, validate_args)
        self.normaliser = logits.logsumexp(-1).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + self.logits.logsumexp(-1).detach() - self.normaliser


class LosesProvenance(TableBernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return torch.tensor(super().log_prob(value).tolist(), dtype=self.logits.dtype)


class WrongFusedLogProb(TableBernoulli):
    def sample_and_log_prob(self, sample_shape: Shape = ()) -> tuple[Tensor, Tensor]:
        value = self.sample(sample_shape)
        return value, self.log_prob(1 - value)
