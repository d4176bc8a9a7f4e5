"""What the ops' Triton kernels share: device functions, padded and split operands, CUDA graphs. Imports Triton."""
