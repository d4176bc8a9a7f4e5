"""Weights that come from elsewhere and go there: scikit-learn, files of the package ``rbms``, safetensors.

scikit-learn, h5py and safetensors are imported when they are called for.
"""

from pyro_gen.interop.rbms_files import read_rbms, write_rbms
from pyro_gen.interop.safetensors_files import load_safetensors, save_safetensors
from pyro_gen.interop.scikit_learn import from_sklearn, to_sklearn

__all__ = ["from_sklearn", "load_safetensors", "read_rbms", "save_safetensors", "to_sklearn", "write_rbms"]
