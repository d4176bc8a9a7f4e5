"""Principal components against scikit-learn and against the eigenvectors of the covariance."""

from __future__ import annotations

import pytest
import torch
from sklearn import decomposition

from pyro_gen.models import PCA


@pytest.mark.parametrize("shape", [(100, 6), (6, 40), (1, 3), (30, 30)])
def test_axes_variances_and_reconstructions_are_scikit_learn_s(shape: tuple[int, int]) -> None:
    x = torch.randn(shape).double() @ torch.randn(shape[1], shape[1]).double() + 5
    latent = min(shape[0] - 1, 4)
    pca = PCA.from_data(x, latent)
    if not latent:
        torch.testing.assert_close(pca.reconstruct(x), x)
        return
    peer = decomposition.PCA(latent).fit(x.numpy())
    signs = (pca.components * torch.from_numpy(peer.components_)).sum(-1).sign().unsqueeze(-1)
    torch.testing.assert_close(pca.components * signs, torch.from_numpy(peer.components_))
    torch.testing.assert_close(pca.variances, torch.from_numpy(peer.explained_variance_) * (shape[0] - 1) / shape[0])
    expected = torch.from_numpy(peer.inverse_transform(peer.transform(x.numpy())))
    torch.testing.assert_close(pca.reconstruct(x), expected)


def test_small_variances_keep_their_digits() -> None:
    scales = torch.tensor([1e6, 1.0, 1e-4]).double()
    rotation = torch.linalg.qr(torch.randn(3, 3).double()).Q
    x = (torch.randn(500, 3).double() * scales) @ rotation
    assert PCA.from_data(x, 3).variances[-1].item() == pytest.approx(1e-8, rel=0.3)


def test_all_axes_rebuild_rank_deficient_and_constant_columns() -> None:
    x = torch.randn(20, 2) @ torch.randn(2, 5)
    x[:, 3] = 2.0
    torch.testing.assert_close(PCA.from_data(x, 2).reconstruct(x), x, atol=1e-5, rtol=1e-5)


def test_its_state_travels() -> None:
    x = torch.randn(10, 4)
    pca, other = PCA.from_data(x, 2), PCA.from_data(torch.randn(10, 4), 2)
    other.load_state_dict(pca.state_dict())
    torch.testing.assert_close(other.latent_means(x), pca.latent_means(x))
    assert pca.double().loc.dtype == torch.float64


def test_bad_input_is_named() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="`latent` must be between 0 and 3"):
        PCA.from_data(x, 4)
    with pytest.raises(ValueError, match="must be complete, got 1 cells"):
        PCA.from_data(x.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(torch.nan)), 1)
    with pytest.raises(ValueError, match="`z` must have shape"):
        PCA.from_data(x, 1).decode(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"shape \(rows, 3\)"):
        PCA.from_data(x, 1).latent_means(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="must have shapes"):
        PCA(torch.zeros(3), torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(rows, features\)"):
        PCA.from_data(torch.zeros(3), 1)
