"""What the report says of this machine."""

from __future__ import annotations

import pytest
import torch

from pyro_gen.kernels import native, rbm_gibbs, report, triton


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_GEN_BACKEND", raising=False)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """The report; at a prompt nothing is shown a second time."""
    assert report() is None  # type: ignore[func-returns-value]
    return capsys.readouterr().out


def test_it_names_the_path_that_the_op_takes(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    taken = "native" if native.best_set() > 0 else "cpu"
    assert f"rbm_gibbs, cpu, 64 x 64, 64 chains: {taken}" in text


def test_it_says_why_the_compiled_path_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    text = printed(capsys)
    assert "compiled kernels: no" in text
    assert "rbm_ais, cpu, 784 x 500, 128 chains: cpu\n    not native: the compiled library is not installed" in text


def test_it_follows_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYRO_GEN_BACKEND", "reference")
    assert "rbm_contrast, cpu, 64 x 64, 64 chains: reference" in printed(capsys)
    monkeypatch.setenv("PYRO_GEN_BACKEND", "triton")
    with pytest.raises(ValueError, match="PYRO_GEN_BACKEND=triton is impossible"):
        report()
    zeros = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="PYRO_GEN_BACKEND=triton is impossible"):
        rbm_gibbs(zeros, zeros, zeros[0], zeros[0], 1, seed=0)


@pytest.mark.parametrize(("found", "why"), [("3.5.1", "need Triton 3.6 or later, got 3.5.1"), ("weird", "got weird")])
def test_an_old_triton_is_refused(monkeypatch: pytest.MonkeyPatch, found: str, why: str) -> None:
    monkeypatch.setattr(triton, "find_spec", lambda _: True)
    monkeypatch.setattr(triton, "version", lambda _: found)
    assert why in str(triton.missing.__wrapped__())
    monkeypatch.setattr(triton, "version", lambda _: "3.6.0")
    assert triton.missing.__wrapped__() is None
