"""Weights that come from elsewhere and go there: scikit-learn and files of the
package ``rbms``.

scikit-learn and h5py are imported when they are called for.
"""

from pyro_gen.interop.rbms_files import read_rbms, write_rbms
from pyro_gen.interop.scikit_learn import from_sklearn, to_sklearn

__all__ = ["from_sklearn", "read_rbms", "to_sklearn", "write_rbms"]
