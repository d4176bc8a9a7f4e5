"""The bridge to ArviZ: results become `InferenceData` (0.2x) or a `DataTree` (1.x)."""

from pyro_gen.arviz.chains import from_chains
from pyro_gen.arviz.cpds import from_cpds
from pyro_gen.arviz.files import to_netcdf
from pyro_gen.arviz.importance import weighted_summary
from pyro_gen.arviz.mcmc import from_mcmc
from pyro_gen.arviz.moment_matching import loo_moment_match
from pyro_gen.arviz.predictive import from_predictive
from pyro_gen.arviz.refitting import loo_kfold, reloo
from pyro_gen.arviz.relabelling import relabel
from pyro_gen.arviz.sample_stats import SampleStats
from pyro_gen.arviz.svi import from_svi

__all__ = [
    "SampleStats",
    "from_chains",
    "from_cpds",
    "from_mcmc",
    "from_predictive",
    "from_svi",
    "loo_kfold",
    "loo_moment_match",
    "relabel",
    "reloo",
    "to_netcdf",
    "weighted_summary",
]
