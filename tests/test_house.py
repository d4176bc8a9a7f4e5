"""The house: imports run one way, `import pyro_gen` stays light and changes nothing; each check can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import (
    MOST_VAGUE,
    ROOT,
    direction_errors,
    heavy_imports,
    import_circles,
    json_errors,
    state_changes,
    vague_share,
    wording_errors,
)

WRONG_WAY = {
    "kernels/gibbs.py": "from pyro_gen.distributions import RBM",
    "distributions/energy/rbm.py": "from pyro_gen.nn import RBM",
    "distributions/absolute.py": "import pyro_gen.infer.phases as phases",
    "distributions/relative.py": "from ..infer import PersistentChains",
    "distributions/parent.py": "from .. import training",
    "distributions/deep/module.py": "from ...plotting import sample_grid",
    "nn/rbm.py": "def late():\n    from pyro_gen import infer\n    return infer",
    "nn/dynamic.py": "import importlib\ninfer = importlib.import_module('pyro_gen.infer')",
    "nn/whole.py": "import pyro_gen",
    "infer/loop.py": "from pyro_gen.training import fit",
    "infer/checked.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pyro_gen.models import VAE",
    "models/autoencoder/vae.py": "from pyro_gen.arviz import from_chains",
    "models/story.py": "import examples.rbm_alphadigits",
    "_shared.py": "from pyro_gen.distributions import RBM",
    "datasets.py": "from tests.cases import CASES",
    "unheard_of.py": "",
}

RIGHT_WAY = {
    "__init__.py": "from pyro_gen import arviz, datasets, distributions, infer, nn, plotting, training",
    "_shared.py": "import os",
    "distributions/energy/rbm.py": "from pyro_gen.kernels import gibbs\nfrom . import base\nfrom .base import Two",
    "distributions/files.py": "from .._shared import read",
    "nn/rbm.py": "from pyro_gen.distributions import RBM\nfrom ..kernels.gibbs import rbm_gibbs",
    "infer/phases.py": "from pyro_gen import nn\nfrom pyro_gen._shared import read",
    "models/autoencoder/vae.py": "from ..infer import PersistentChains",
    "arviz.py": "def convert():\n    import arviz\n    return arviz",
    "training.py": "from pyro_gen import __version__\nfrom pyro_gen.infer import PersistentChains",
    "testing/checks.py": "from pyro_gen.models import VAE",
}

DISTURBANCES = {
    "torch default dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "torch default device": "import torch; torch.set_default_device('meta')",
    "torch grad mode": "import torch; torch.set_grad_enabled(False)",
    "torch anomaly mode": "import torch; torch.autograd.set_detect_anomaly(True)",
    "torch generator": "import torch; torch.rand(1, device='cpu')",
    "torch threads": "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch deterministic": "import torch; torch.use_deterministic_algorithms(True)",
    "torch matmul precision": "import torch; torch.set_float32_matmul_precision('medium')",
    "torch cudnn": "import torch; torch.backends.cudnn.benchmark = True",
    "torch mkldnn": "import torch; torch.backends.mkldnn.set_flags(False)",
    "torch print options": "import torch; torch.set_printoptions(precision=2)",
    "torch validation": "import torch; torch.distributions.Distribution.set_default_validate_args(False)",
    "pyro validation": "import pyro; pyro.enable_validation(False)",
    "pyro distributions validation": "from pyro.distributions import *; enable_validation(not is_validation_enabled())",
    "pyro parameter store": "import torch, pyro; pyro.param('p', torch.zeros((), device='cpu'))",
    "pyro handlers": "import pyro; pyro.poutine.trace().__enter__()",
    "numpy generator": "import numpy; numpy.random.rand()",
    "numpy error handling": "import numpy; numpy.seterr(all='raise')",
    "numpy print options": "import numpy; numpy.set_printoptions(precision=2)",
    "python generator": "import random; random.random()",
    "warning filters": "import warnings; warnings.simplefilter('ignore')",
    "warning hook": "import warnings; warnings.showwarning = print",
    "logging": "import logging; logging.basicConfig(level=logging.INFO)",
    "environment": "import os; os.environ['PYRO_GEN_PROOF'] = '1'",
    "working directory": "import os; os.chdir('/')",
    "module path": "import sys; sys.path.append('elsewhere')",
    "hooks": "import sys; sys.excepthook = print",
    "signals": "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)",
    "threads": "from threading import *; Thread(target=Event().wait, daemon=True).start()",
    "locale": "from locale import *; setlocale(LC_ALL, 'C' if setlocale(LC_ALL) != 'C' else 'C.UTF-8')",
}


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / "pyro_gen" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


@pytest.mark.smoke
def test_imports_run_one_way() -> None:
    assert (ROOT / "pyro_gen" / "__init__.py").is_file()
    assert not direction_errors(ROOT)


@pytest.mark.parametrize("name", WRONG_WAY)
def test_a_wrong_import_is_found(name: str, tmp_path: Path) -> None:
    errors = direction_errors(write_tree(tmp_path, RIGHT_WAY | {name: WRONG_WAY[name]}))
    assert len(errors) == 1
    assert errors[0].startswith(f"pyro_gen/{name}:")


def test_right_imports_pass(tmp_path: Path) -> None:
    assert not direction_errors(write_tree(tmp_path, RIGHT_WAY))


def test_modules_do_not_import_each_other(tmp_path: Path) -> None:
    assert import_circles(ROOT) == []
    files = {
        "nn/__init__.py": "from pyro_gen.nn.one import One",
        "nn/one.py": "def late():\n    from pyro_gen.nn import two",
        "nn/two.py": "if TYPE_CHECKING:\n    from .three import Three",
        "nn/three.py": "import pyro_gen.nn.one",
    }
    assert import_circles(write_tree(tmp_path, files)) == [{f"pyro_gen.nn.{name}" for name in ("one", "two", "three")}]
    assert import_circles(write_tree(tmp_path, {"nn/two.py": ""})) == []


def test_json_is_written_in_one_place(tmp_path: Path) -> None:
    assert not json_errors(ROOT)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "hasty.py").write_text("import json\njson.dumps(float('nan'))", encoding="utf-8")
    assert json_errors(tmp_path) == ["examples/hasty.py:2: write JSON by pyro_gen._files.json_text"]


def test_import_is_light() -> None:
    assert heavy_imports("pyro_gen") == []


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "hasty.py").write_text("import matplotlib.colors, sklearn", encoding="utf-8")
    assert heavy_imports("hasty", path=[tmp_path]) == ["matplotlib", "sklearn"]


def test_import_changes_no_global_state() -> None:
    assert state_changes(["pyro_gen"]) == {"pyro_gen": []}


def test_every_disturbance_is_found(tmp_path: Path) -> None:
    modules = [f"disturbance_{i}" for i in range(len(DISTURBANCES))]
    for module, text in zip(modules, DISTURBANCES.values(), strict=True):
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
    found = state_changes(modules, path=[tmp_path])
    missed = [name for module, name in zip(modules, DISTURBANCES, strict=True) if name not in found[module]]
    assert not missed


def test_texts_use_the_words_of_the_field() -> None:
    assert wording_errors(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("README.md", "The law of the features.", "law"),
        ("docs/design.md", "This is quicker.", "quicker"),
        ("docs/notes/rbm.md", "AIS errs to below.", "errs to"),
        ("pyro_gen/nn/rbm.py", "# the weights of this moment", "of this moment"),
        ("pyro_gen/nn/rbm.py", '"""That of the members."""', "That of"),
        ("pyro_gen/nn/rbm.py", '"""Weights.\n\n    A value is none of its choices.\n"""', "is none of"),
        ("pyro_gen/nn/rbm.py", '"""What a module holds."""', "What"),
        ("pyro_gen/nn/rbm.py", '"""Check.\n\n    Args:\n        x: what came.\n"""', "what came"),
        ("pyro_gen/nn/rbm.py", 'def f():\n    """Whether it holds."""', "Whether"),
    ],
)
def test_a_word_that_only_authors_use_is_found(tmp_path: Path, file: str, text: str, word: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    errors = wording_errors(tmp_path)
    assert len(errors) == 1
    assert word in errors[0]


def test_names_say_the_quantity(tmp_path: Path) -> None:
    assert vague_share(ROOT) < MOST_VAGUE
    (tmp_path / "pyro_gen").mkdir()
    (tmp_path / "pyro_gen" / "x.py").write_text("def f(found):\n    own = found\n    return own\n", encoding="utf-8")
    assert vague_share(tmp_path) == 1


def test_the_design_is_a_page_of_ten_kilobytes() -> None:
    assert (ROOT / "docs" / "design.md").stat().st_size <= 10 * 1024
