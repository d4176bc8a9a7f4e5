"""The bridge to ArviZ: results become `InferenceData` (ArviZ 0.2x) or a `DataTree` (ArviZ 1.x), with the same groups."""

from pyro_gen.arviz.chains import from_chains
from pyro_gen.arviz.files import to_netcdf

__all__ = ["from_chains", "to_netcdf"]
