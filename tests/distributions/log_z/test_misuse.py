"""What looks plausible and would be wrong is refused: second derivatives, stale log Z, one chain, odd values."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import RBM
from pyro_gen.infer import (
    AIS,
    BlockGibbs,
    ContrastiveDivergence,
    Exact,
    Partition,
    PersistentChains,
    contrastive_gradient,
    log_likelihood,
)


def parameters() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(5, 4).double(), torch.randn(5).double(), torch.randn(4).double()


@pytest.mark.parametrize("partition", [ContrastiveDivergence(1), AIS(50, 50)], ids=str)
def test_stand_ins_for_log_z_have_no_second_derivative(partition: Partition) -> None:
    weight, vbias, hbias = parameters()
    vbias.requires_grad_()

    def curvature(how: Partition) -> Tensor:
        log_prob = RBM(weight, vbias, hbias, how).log_prob(torch.ones(5).double())
        (gradient,) = torch.autograd.grad(log_prob, vbias, create_graph=True)
        return torch.autograd.grad(gradient.sum(), vbias)[0]

    assert curvature(Exact()).abs().sum() > 0
    with pytest.raises(NotImplementedError, match="no second derivative"):
        curvature(partition)


def test_log_z_follows_a_permutation_written_through_data() -> None:
    rbm = nn.RBM(5, 4, evaluation=Exact()).eval()
    torch.nn.init.normal_(rbm.weight)
    with torch.no_grad():
        rbm.vbias.normal_()
        rbm().log_prob(torch.ones(5))  # remembered
        rbm.weight.data.copy_(rbm.weight.data.flip(0).clone())
        expected = RBM(*rbm.uncentred).log_partition().value
        torch.testing.assert_close(rbm().log_partition().value, expected)


def test_another_ais_of_the_same_size_is_another_run() -> None:
    rbm = nn.RBM(5, 4, evaluation=AIS(50, 50)).eval()
    torch.nn.init.normal_(rbm.weight)
    first = rbm().log_partition().value
    rbm.evaluation = AIS(50, 50)
    assert rbm().log_partition().value != first


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_carry_no_memo(duplicate: Callable[[RBM], RBM]) -> None:
    rbm = RBM(*parameters())
    rbm.log_partition()
    assert rbm._memo
    assert duplicate(rbm)._memo == []


def test_one_chain_has_no_standard_error() -> None:
    with pytest.warns(UserWarning, match="cannot be trusted"):
        estimate = RBM(*parameters(), AIS(1, 20)).log_partition()
    assert estimate.standard_error == math.inf


def test_cd_lists_no_latent_states() -> None:
    rbm = RBM(*parameters(), ContrastiveDivergence(1))
    assert not rbm.has_enumerate_support
    with pytest.raises(NotImplementedError, match="contrastive divergence"):
        rbm.enumerate_support()


def test_an_exact_partition_beyond_the_default_samples_exactly() -> None:
    weight, vbias, hbias = torch.zeros(30, 21), torch.full((30,), 40.0), torch.zeros(21)
    rbm = RBM(weight, vbias, hbias, Exact(21), num_steps=1)
    assert rbm.samples_exactly
    assert rbm.sample((2,)).all()


def test_frozen_parameters_stay_frozen() -> None:
    rbm = nn.RBM(5, 4)
    rbm.vbias.requires_grad_(False)
    contrastive_gradient(rbm, torch.ones(3, 5))
    assert rbm.vbias.grad is None
    assert rbm.weight.grad is not None


def test_another_number_of_chains_is_refused() -> None:
    rbm = nn.RBM(5, 4, negative_phase=ContrastiveDivergence(1))
    rbm.negative_phase = PersistentChains(10)
    with pytest.raises(ValueError, match="chains"):
        contrastive_gradient(rbm, torch.ones(3, 5))
    with pytest.raises(ValueError, match="chains"):
        rbm()
    rbm.evaluation = ContrastiveDivergence(1)
    with pytest.raises(ValueError, match="`evaluation` must know log Z"):
        rbm.eval()()


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "infinite data": (lambda: nn.RBM.from_data(torch.full((2, 5), math.inf), 3), "zeros and ones"),
    "no tensor": (lambda: nn.RBM.from_data("0 1", 3), "must be a tensor"),  # type: ignore[arg-type]  # the point
    "half precision": (lambda: RBM(*(x.half() for x in parameters())), "float32 or float64"),  # type: ignore[arg-type]  # mypy cannot count a generator
    "a class": (lambda: RBM(*parameters(), AIS), "`partition` must be"),  # type: ignore[arg-type]  # the point
    "half a step": (lambda: PersistentChains(num_steps=2.5), "`num_steps` must be a whole number"),  # type: ignore[arg-type]  # the point
    "joint": (lambda: RBM(*parameters()).log_joint(torch.full((5,), 2.0), torch.zeros(4)), "`v` is no state"),
    "hidden": (lambda: RBM(*parameters()).log_joint(torch.zeros(5), torch.full((4,), 0.5)), "`h` must hold"),
    "width": (lambda: RBM(*parameters()).energy(torch.zeros(5), torch.zeros(1)), r"`h` must have shape \(..., 4\)"),
    "pseudo": (lambda: RBM(*parameters()).pseudo_log_likelihood(torch.full((5,), 0.5)), "`value` is no state"),
    "start": (
        lambda: BlockGibbs(RBM(*parameters()), num_chains=1, start=torch.full((1, 5), math.nan)),
        "`start` is no",
    ),
    "device": (lambda: RBM(*parameters()).log_prob(torch.zeros(5, device="meta")), "`value` must be on cpu"),
    "batched": (lambda: log_likelihood(RBM(*parameters()).expand((2,)), torch.zeros(3, 5)), "no batch shape"),
    "reverse": (lambda: AIS(5, 5).reverse(RBM(*parameters()), torch.full((5, 5), 0.5)), "`states` is no state"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
