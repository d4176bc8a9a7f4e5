"""Every option of every example and evidence script reaches the run, and every one takes the user's own data.

Most tests read the scripts and do not run them. An option counts where its value is read outside the parser and
outside what is only printed or recorded (`print`, `settings=` of a checkpoint, `vars`); a name that it is bound to must
be read again, and the field of a recipe that it fills must be read in the place where the recipe is used.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyro
import pytest
import torch

from benchmarks import evidence_family
from examples import character_model, chow_liu, class_rbm, vae
from tests.house import ROOT

SCRIPTS = sorted(
    file
    for folder, pattern in (("examples", "*.py"), ("benchmarks", "evidence_*.py"), ("benchmarks", "ablation.py"))
    for file in (ROOT / folder).glob(pattern)
    if "add_argument" in file.read_text(encoding="utf-8")
)
NAMESPACES = {"args", "arguments", "options", "settings"}
RECORDED = {"print", "vars"}


def constants(tree: ast.Module) -> dict[str, list[str]]:
    """Tuples and lists of strings, and fields of dataclasses, by the name that the module gives them."""
    named: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.List):
            named[ast.unparse(node.targets[0])] = [str(e.value) for e in node.value.elts if isinstance(e, ast.Constant)]
        if isinstance(node, ast.ClassDef):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            named[f"fields({node.name})"] = [ast.unparse(part.target) for part in fields]
    return named


def strings(node: ast.expr, bound: dict[str, list[str]]) -> list[str]:
    """Every value that an expression of strings can have: constants, loop variables, f-strings of these."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        values = [""]
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            values = [start + end for start in values for end in strings(inner, bound)]
        return values
    text = ast.unparse(node)
    return bound.get(text, bound.get(text.partition(".")[0], []))


def loops(tree: ast.Module, named: dict[str, list[str]]) -> dict[str, list[str]]:
    """The strings that a variable goes through in any loop or comprehension."""
    bound: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            if isinstance(node.iter, ast.Tuple | ast.List):
                values = [str(e.value) for e in node.iter.elts if isinstance(e, ast.Constant)]
            else:
                values = named.get(ast.unparse(node.iter), [])
            bound.setdefault(node.target.id, []).extend(values)
    return bound


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
            yield node


def options(tree: ast.Module) -> set[str]:
    """The names under which the parser keeps the options."""
    named = constants(tree)
    bound = loops(tree, named)
    texts = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found: set[str] = set()
    for call in calls(tree, "add_argument"):
        keyword = [k.value for k in call.keywords if k.arg == "dest"]
        flag = keyword[0] if keyword else call.args[0]
        flag = texts.get(flag.id, flag) if isinstance(flag, ast.Name) else flag
        dynamic = isinstance(flag, ast.JoinedStr) and "replace" in ast.unparse(flag)
        if dynamic:  # --{field.name.replace('_', '-')} for field in fields(Recipe)
            found |= {
                name
                for key, values in named.items()
                if key.startswith("fields(") and key in ast.unparse(tree)
                for name in values
            }
        else:
            found |= set(strings(flag, bound))
    return {name.lstrip("-").replace("-", "_") for name in found}


def used_expressions(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that are only printed or recorded; what a printed call computes is used."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in RECORDED:
        inner = [part for part in ast.walk(node) if isinstance(part, ast.Call) and part is not node]
        for one in inner:
            yield from used_expressions(one)
        return
    for part in ast.iter_child_nodes(node):
        if not (isinstance(part, ast.keyword) and part.arg == "settings"):
            yield part
            yield from used_expressions(part)


def read(tree: ast.Module) -> set[str]:
    """The options whose values go into the run."""
    bound = loops(tree, constants(tree))
    fields = {name for key, names in constants(tree).items() if key.startswith("fields(") for name in names}
    nodes = list(used_expressions(tree))
    loads = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    direct = {
        node.attr for node in loads if ast.unparse(node.value) in NAMESPACES or "parse" in ast.unparse(node.value)
    }
    elsewhere = {node.attr for node in loads if ast.unparse(node.value) not in NAMESPACES}
    through: set[str] = set()
    for call in calls(tree, "getattr"):
        if ast.unparse(call.args[0]) in NAMESPACES:
            through |= set(strings(call.args[1], bound))
            if ast.unparse(call.args[1]).endswith(".name"):  # for f in fields(Recipe)
                through |= fields
    all_names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    idle: set[str] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Attribute)
        ):
            unread = node.targets[0].id not in all_names
            idle |= {node.value.attr} if unread and ast.unparse(node.value.value) in NAMESPACES else set()
    into_recipe = {name for name in through if name not in fields or name in elsewhere}
    return (direct - idle) | into_recipe | set().union(*map(read, examples(tree)))


def examples(tree: ast.Module) -> Iterator[ast.Module]:
    """The examples whose training a script calls with its own options."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("examples."):
            file = ROOT / f"{(node.module or '').replace('.', '/')}.py"
            if any(alias.name == "train" for alias in node.names):
                yield ast.parse(file.read_text(encoding="utf-8"))


def overwritten(tree: ast.Module) -> set[str]:
    """The options that an assignment replaces by what has nothing to do with them."""
    lost = set()
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else []:
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                    kept = ast.unparse(part) in ast.unparse(node)[len(ast.unparse(target)) :]
                    lost |= set() if kept or ast.unparse(part.value) not in NAMESPACES else {part.attr}
    return lost


REWRITTEN = {
    "evidence_iwae.py": {"losses", "draws", "temperatures", "chains", "simulated_rows"},  # small ones with `--smoke`
    "ppca.py": {"latents", "more"},  # on the test rows the chosen number alone is evaluated
    "evidence_autoregressive.py": {"out"},  # a folder for each recipe, under the one that was asked for
}
OUTSIDE = {"help"}


def ignored(source: str, allowed: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    """The options of a script that do not change its run."""
    tree = ast.parse(source)
    every = options(tree) - OUTSIDE
    return (every - read(tree)) | ((overwritten(tree) & every) - allowed)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_every_option_changes_the_run(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert options(ast.parse(source))
    assert ignored(source, REWRITTEN.get(file.name, set())) == set()


VAE = (ROOT / "examples" / "vae.py").read_text(encoding="utf-8")
MISTAKES = {
    "batch_size": VAE.replace('    "batch_size",\n', "").replace("args.batch_size is None", "True"),
    "rate": VAE.replace("recipe.rate", "0.002"),
    "rows": VAE.replace("[: args.rows]", "").replace('parser.add_argument("--rows"', 'parser.add_argument("--rows"'),
    "seed": VAE.replace("pyro.set_rng_seed(args.seed)", "pyro.set_rng_seed(0)"),
    "device": VAE.replace("args.device", '"cpu"'),
    "hidden": VAE.replace("    args = parser.parse_args()", "").replace(
        "    return parser.parse_args()", "    args = parser.parse_args()\n    args.hidden = 20\n    return args"
    ),
    "split": VAE.replace("getattr(data, args.split)", "data.test"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_option_that_is_ignored_is_seen(name: str) -> None:
    """`--batch-size` of the autoencoder as it was, and its kind: recorded, printed, overwritten, lost in the recipe."""
    assert MISTAKES[name] != VAE
    assert ignored(MISTAKES[name]) == {name}


WITHOUT_DATA = {
    "examples/gibbs_expectation.py": "draws from distributions that are known",
    "examples/ising.py": "a lattice beside Onsager's energy, without data",
    "examples/rbm_bars_and_stripes.py": "the optimum of bars and stripes is known",
    "examples/rbm_mixing.py": "enumerates all states of bars and stripes, beside which every figure stands",
    "examples/rbm_weight_posterior.py": "evaluated on all patterns of bars and stripes, seen or not",
    "benchmarks/evidence_annealed.py": "rows that a linear decoder with a known likelihood draws",
    "benchmarks/evidence_calibration.py": "data drawn from the priors of its problems",
    "benchmarks/evidence_iwae.py": "the ladder of one data set, whose recipes are those of examples/iwae.py",
    "benchmarks/evidence_bars.py": "the optimum of bars and stripes is known",
    "benchmarks/evidence_bayesian_network.py": "exact inference in networks, without data",
    "benchmarks/evidence_bracket.py": "a table of trained models, log Z of each enumerated",
    "benchmarks/evidence_gaussian_mixtures.py": "the numbers of components belong to its two sets",
    "benchmarks/evidence_gibbs.py": "three models whose posteriors are known",
    "benchmarks/evidence_network_learning.py": "rows drawn from a network whose probability is known",
    "benchmarks/evidence_ppca.py": "reads the tables of examples/ppca.py, which takes them; its fits are of two sets",
}
"""The scripts that do not take data of the user's, and the reason."""


def takes_data(source: str) -> bool:
    """Whether a script has an option or an argument of data that is not a choice among a few."""
    for call in calls(ast.parse(source), "add_argument"):
        names = {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
        if names & {"data", "--data"}:
            return not any(keyword.arg == "choices" for keyword in call.keywords)
    return False


def test_every_script_takes_data_or_says_why_not() -> None:
    files = [*(ROOT / "examples").glob("[!_]*.py"), *(ROOT / "benchmarks").glob("evidence_*.py")]
    sources = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}
    assert {name for name, source in sources.items() if not takes_data(source)} == set(WITHOUT_DATA)


def test_a_script_without_data_is_seen() -> None:
    assert takes_data(VAE)
    assert not takes_data(VAE.replace('"--data"', '"--date"'))
    assert not takes_data(VAE.replace('"--data",', '"--data", choices=("alphadigits",),'))


ROWS, SHAPE = 40, (4, 3)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user's: images of two classes, one a bar and one a stripe, with some noise."""
    generator = np.random.default_rng(0)
    content: dict[str, object] = {"D": 12, "shape": SHAPE, "classes": ["bar", "stripe"]}
    for split in ("train", "valid", "test"):
        labels = np.arange(ROWS) % 2
        images = np.zeros((ROWS, *SHAPE), dtype=bool)
        images[labels == 0, 1] = True
        images[labels == 1, :, 1] = True
        noisy = images ^ (generator.random(images.shape) < 0.1)
        content |= {split: np.packbits(noisy.reshape(ROWS, -1), axis=1), f"y_{split}": labels}
    np.savez(tmp_path / "mine.npz", **content)  # type: ignore[arg-type]
    return tmp_path / "mine.npz"


def run(example: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run an example in this process as the command line would."""
    monkeypatch.setattr(sys, "argv", [f"{example.__name__}.py", *map(str, arguments)])
    pyro.clear_param_store()
    with pyro.validation_enabled(True):  # and back to what it was
        example.main(example.parse())


def test_a_path_of_the_users_is_what_a_tree_learns(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(chow_liu, monkeypatch, "--data", mine, "--draw", mine, "--out", tmp_path)
    header, row = (line.split(",") for line in (tmp_path / "chow_liu_valid.csv").read_text().splitlines())
    result = dict(zip(header, row, strict=True))
    assert (result["data"], result["variables"]) == ("mine", "12")
    assert (tmp_path / "chow_liu_mine.png").exists()


def test_a_path_of_the_users_is_what_a_classifier_learns(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(class_rbm, monkeypatch, "--smoke", "--data", mine, "--hidden", 5, "--epochs", 1, "--out", tmp_path)
    state = torch.load(tmp_path / "class_rbm_mine.pt", weights_only=True)["state"]["rbm"]
    assert state["weight"].shape == (12, 5)
    assert f"N={ROWS}" in capsys.readouterr().out
    np.savez(mine, **{key: value for key, value in np.load(mine).items() if key != "y_valid"})
    with pytest.raises(ValueError, match="mine must hold the labels of its images, lacks `y_valid`"):
        class_rbm.read(str(mine))


def test_a_text_of_the_users_is_what_a_character_model_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "verses.txt"
    text.write_text("\n".join("ab" * (1 + k) for k in range(30)), encoding="utf-8")
    run(character_model, monkeypatch, "--smoke", "--data", text, "--epochs", 1, "--out", tmp_path)
    assert "30 lines, 2 characters" in capsys.readouterr().out


def test_a_path_of_the_users_is_what_the_evidence_is_of(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_family, "RESULTS", tmp_path)
    monkeypatch.setitem(evidence_family.RECIPES, "dna", evidence_family.Recipe("dna", hidden=4, epochs=2, rate=0.1))
    run(evidence_family, monkeypatch, "dna", "--data", mine, "--out", tmp_path)
    (made,) = json.loads((tmp_path / "family" / "dna_mine_valid.json").read_text())["runs"]
    assert (made["rows"], made["recipe"]["data"], made["recipe"]["batch_size"]) == (ROWS, str(mine), 10)


@pytest.mark.parametrize(("asked", "expected"), [(("--batch-size", 7), 7), ((), 10)])
def test_the_batches_of_an_autoencoder_are_those_asked_for(
    asked: tuple[object, ...], expected: int, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a tenth of the rows, at least ten: the set is small."""
    sizes: list[tuple[int, ...]] = []

    class Watched(pyro.infer.SVI):
        def step(self, x: torch.Tensor) -> float:
            sizes.append(tuple(x.shape))
            return float(super().step(x))

    monkeypatch.setattr(vae, "SVI", Watched)
    run(vae, monkeypatch, "--smoke", "--data", mine, *asked, "--epochs", 1, "--out", tmp_path)
    assert sum(rows for rows, _ in sizes) == ROWS
    assert set(sizes[:-1]) == {(expected, 12)}
    assert torch.load(tmp_path / "vae.pt", weights_only=True)["settings"]["batch_size"] == expected
