"""Free energies of an RBM, forward only: a fused kernel for CUDA."""
