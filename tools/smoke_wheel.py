"""Uses an installed pyro_gen from outside the checkout, with the core dependencies
alone: python -I smoke_wheel.py.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
from pathlib import Path

import pyro
import pyro.optim
import torch
from pyro.infer import SVI, Trace_ELBO

import pyro_gen
from pyro_gen.distributions import RBM
from pyro_gen.kernels import native


def require(condition: bool, complaint: str) -> None:
    """Stops with a sentence where a condition does not hold."""
    if not condition:
        sys.exit(f"smoke test of the installed package: {complaint}")


def check_files() -> None:
    """The import is the installed package: typed, of the announced version, without
    the checkout's other folders.
    """
    package = Path(pyro_gen.__file__).parent
    require(
        importlib.util.find_spec("pytest") is None,
        "this environment is not empty: pytest is installed",
    )
    require(
        "site-packages" in package.parts, f"imported {package}, which is not an installed package"
    )
    require((package / "py.typed").is_file(), "py.typed is missing")
    version = importlib.metadata.version("pyro-gen")
    require(
        pyro_gen.__version__ == version,
        f"__version__ is {pyro_gen.__version__}, the metadata say {version}",
    )
    files = importlib.metadata.files("pyro-gen") or []
    strangers = {
        f.parts[0] for f in files if f.parts[0] != "pyro_gen" and ".dist-info" not in f.parts[0]
    }
    require(not strangers, f"the wheel also installs {sorted(strangers)}")


def check_every_module() -> None:
    """Every public part imports without any of the extras."""
    for name in pyro_gen.__all__:
        require(hasattr(pyro_gen, name), f"pyro_gen.{name} is announced but missing")
    importlib.import_module("pyro_gen.testing")


def check_exact_rbm() -> None:
    """An enumerable RBM has a normalised log probability."""
    rbm = RBM(torch.randn(4, 3), torch.randn(4), torch.randn(3))
    total = rbm.log_prob(rbm.enumerate_support()).logsumexp(0)
    require(bool(total.abs() < 1e-4), f"the probabilities sum to exp({total.item()})")


def check_compiled_kernels() -> None:
    """Where a C compiler was at hand, the compiled kernels are there and load."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    require(
        not compiler or native.library() is not None,
        f"the compiled kernels are missing though there is {compiler}",
    )


def check_training() -> None:
    """The embedded data train a module through plain SVI, and the trained
    distribution gives finite contrasts.
    """
    x = pyro_gen.datasets.alphadigits().train[:64]
    rbm = pyro_gen.nn.RBM.from_data(x, hidden=8)

    def model(x: torch.Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)):
            pyro.sample("v", rbm(), obs=x)

    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    losses = torch.tensor([svi.step(x) for _ in range(3)])
    require(bool(losses.isfinite().all()), f"the losses are {losses.tolist()}")


if __name__ == "__main__":
    pyro.set_rng_seed(0)
    check_files()
    check_every_module()
    check_exact_rbm()
    check_compiled_kernels()
    check_training()
    print(
        f"pyro_gen {pyro_gen.__version__} works from {Path(pyro_gen.__file__).parent} with torch "
        f"{torch.__version__}"
    )
