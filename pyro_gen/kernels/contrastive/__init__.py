"""The whole contrastive gradient of an RBM in one call: chains, statistics with probabilities, one stacked GEMM."""

from pyro_gen.kernels.contrastive.reference import Contrast, rbm_contrast

__all__ = ["Contrast", "rbm_contrast"]
