"""The contrast in torch on a CPU: the states of its Gibbs path, the gradient of the reference's formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_gen import kernels
from pyro_gen.kernels.contrastive import cpu, reference, statistics
from pyro_gen.kernels.gibbs.cpu import mean_field
from pyro_gen.kernels.parameters import RBMParameters

SIZES = ((1, 1, 1, 1), (7, 5, 3, 66), (33, 18, 70, 65), (300, 256, 64, 64))  # the last is oneDNN's size


def case(size: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, RBMParameters]:
    visible, hidden, rows, chains = size
    generator = torch.Generator().manual_seed(sum(size))
    batch, start = (torch.randint(2, (n, visible), generator=generator).to(dtype) for n in (rows, chains))
    sizes = (visible, hidden), (visible,), (hidden,)
    weight, vbias, hbias = (0.3 * torch.randn(n, generator=generator, dtype=dtype) for n in sizes)
    return batch, start, RBMParameters(weight, vbias, hbias)


def close(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("from_data", [True, False])
@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_states_are_those_of_gibbs_and_gradients_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int, int, int],
    num_steps: int,
    from_data: bool,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", "cpu")
    batch, start, parameters = case(size, dtype)
    start = batch if from_data else start
    *gradients, particles = kernels.rbm_contrast(batch, start, *parameters, num_steps, seed=3, step=5, chain_offset=37)
    wanted, _ = kernels.rbm_gibbs(start, *parameters, num_steps, seed=3, step=5, chain_offset=37)
    assert torch.equal(particles, wanted)
    close(tuple(gradients), reference.statistics(batch, particles, parameters))
    close(statistics(batch, particles, *parameters), reference.statistics(batch, particles, parameters))


def test_a_start_from_the_data_is_one_from_a_copy_and_saves_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", "cpu")
    products: list[int] = []

    def counted(*arguments: Tensor) -> Tensor:
        products.append(1)
        return mean_field(*arguments)

    batch, _, parameters = case(SIZES[1], torch.float32)
    close(
        kernels.rbm_contrast(batch, batch, *parameters, 2, seed=1),
        kernels.rbm_contrast(batch, batch.clone(), *parameters, 2, seed=1),
    )
    monkeypatch.setattr(cpu, "mean_field", counted)
    kernels.rbm_contrast(batch, batch, *parameters, 1, seed=1)
    assert len(products) == 3  # and the gradient's two are one
