"""The rules of the house as functions over source trees and modules, so that a test can show that each can fail."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pyro_gen"

# Imports run one way only: a part of the core imports parts to its left. Private top-level files stand under all parts
# and import nothing of the package.
CORE = ("kernels", "distributions", "nn", "infer", "models")
BESIDE = ("arviz", "datasets", "estimators", "interop", "plotting", "saving", "testing", "training")
OUTSIDE = ("benchmarks", "docs", "examples", "tests", "tools")
WRITERS = (PACKAGE, "benchmarks", "examples", "tools")
PLAIN_JSON = {
    "pyro_gen/_files.py",  # the helper itself
    "pyro_gen/distributions/bayesian_network/files/bif.py",  # names in quotes
}
HEAVY = ("arviz", "h5py", "lightning", "matplotlib", "pytorch_lightning", "sklearn", "triton")


def tree(file: Path) -> ast.Module:
    """The syntax tree of a file, parsed once for all rules."""
    return _parsed(file, file.stat().st_mtime_ns)


@cache
def _parsed(file: Path, changed: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def part_of(file: Path, package: Path) -> str:
    """The top-level part of the package that a file belongs to; the package's own ``__init__`` is the empty string."""
    first = file.relative_to(package).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def _from_targets(node: ast.ImportFrom, file: Path, root: Path) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        here = file.relative_to(root).parent.parts
        base = ".".join((*here[: len(here) - node.level + 1], *filter(None, [node.module])))
    yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted target) of every import: absolute, relative, inside functions, and by literal name."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, target) for target in _from_targets(node, file, root))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            constants = (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))
            yield from ((node.lineno, name) for name in constants if isinstance(name, str))


def _forbidden(part: str, target: str) -> str | None:
    """Why a file of ``part`` must not import ``target``, or None."""
    names = target.split(".")
    if names[0] in OUTSIDE:
        return f"the package does not import {names[0]}"
    if names[0] != PACKAGE or part in BESIDE or part == "":
        return None
    imported = names[1] if len(names) > 1 else ""
    if imported == part or (imported.startswith("_") and part in CORE):
        return None
    if part not in CORE:
        return "private files stand under everything and import nothing of the package"
    if imported in CORE and CORE.index(imported) < CORE.index(part):
        return None
    return f"{part} may import only what stands before it in {' <- '.join(CORE)}"


def direction_errors(root: Path) -> list[str]:
    """Every import under ``root/pyro_gen`` that runs against the direction of the house; every unclassified part."""
    package, errors = root / PACKAGE, []
    for file in sorted(package.rglob("*.py")):
        part = part_of(file, package)
        where = file.relative_to(root).as_posix()
        if part and part not in (*CORE, *BESIDE) and not part.startswith("_"):
            errors.append(f"{where}: {part} is neither of the core nor beside it; say which in tests/house.py")
            continue
        for line, target in imports_of(file, root):
            if reason := _forbidden(part, target):
                errors.append(f"{where}:{line}: imports {target}; {reason}")
    return errors


def import_circles(root: Path) -> list[set[str]]:
    """Sets of modules of the package that import each other, for types alone and inside functions included."""
    files = {module_of(file, root): file for file in (root / PACKAGE).rglob("*.py")}
    imported = {}
    for module, file in files.items():
        targets = {target for _, target in imports_of(file, root)}
        imported[module] = {t if t in files else t.rpartition(".")[0] for t in targets} & files.keys() - {module}
    reached = {module: _reached(module, imported) for module in files}
    circles = {frozenset(m for m in reached[module] if module in reached[m]) for module in files}
    return sorted((set(circle) for circle in circles if circle), key=sorted)


def module_of(file: Path, root: Path) -> str:
    """Dotted name of a module by its file."""
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _reached(module: str, imported: dict[str, set[str]]) -> set[str]:
    """All modules that a module imports, in any number of steps."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        new = imported[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def json_errors(root: Path) -> list[str]:
    """Every place that writes JSON by itself: `json_text` alone knows what to do with NaN, which is no JSON."""
    errors = []
    for file in sorted(file for part in WRITERS for file in (root / part).rglob("*.py")):
        where = file.relative_to(root).as_posix()
        for node in ast.walk(tree(file)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("json.dump", "json.dumps", "dump", "dumps") and where not in PLAIN_JSON:
                errors.append(f"{where}:{node.lineno}: write JSON by pyro_gen._files.json_text")  # type: ignore[attr-defined]  # a call has a line
    return errors


def run_python(code: str, *, path: Iterable[Path] = ()) -> str:
    """Runs code in a fresh interpreter from the checkout, with ``path`` put first, and returns what it printed."""
    start = f"import sys; sys.path[:0] = {[str(p) for p in (*path, ROOT)]!r}\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"the interpreter failed:\n{done.stderr}")
    return done.stdout


def heavy_imports(module: str, *, path: Iterable[Path] = ()) -> list[str]:
    """The heavy packages that importing ``module`` brings in beyond those that torch and Pyro bring themselves."""
    code = f"""
import json, torch, pyro
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    new = {name.partition(".")[0] for name in json.loads(run_python(code, path=path).splitlines()[-1])}
    return sorted(new & set(HEAVY))


STATE = '''
import json, locale, logging, os, random, signal, sys, threading, warnings
import numpy as np
import torch, pyro, pyro.infer, pyro.infer.mcmc, pyro.optim, tqdm

def state():
    """Everything global that an import could change, by name."""
    return {
        "torch default dtype": str(torch.get_default_dtype()),
        "torch default device": str(torch.get_default_device()),
        "torch grad mode": torch.is_grad_enabled(),
        "torch anomaly mode": torch.is_anomaly_enabled(),
        "torch generator": torch.get_rng_state().numpy().tobytes().hex(),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch deterministic": torch.get_deterministic_debug_mode(),
        "torch matmul precision": torch.get_float32_matmul_precision(),
        "torch cudnn": [getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")],
        "torch mkldnn": torch.backends.mkldnn.enabled,
        "torch print options": repr(vars(torch._tensor_str.PRINT_OPTS)),
        "torch validation": torch.distributions.Distribution._validate_args,
        "pyro validation": (pyro.infer.util.is_validation_enabled(), pyro.poutine.util.is_validation_enabled()),
        "pyro distributions validation": pyro.distributions.is_validation_enabled(),
        "pyro parameter store": sorted(map(str, pyro.get_param_store().keys())),
        "pyro handlers": len(pyro.poutine.runtime._PYRO_STACK),
        "numpy generator": str([x.tolist() if hasattr(x, "tolist") else x for x in np.random.get_state()]),
        "numpy error handling": np.geterr(),
        "numpy print options": repr(np.get_printoptions()),
        "python generator": repr(random.getstate()),
        "warning filters": repr(warnings.filters),
        "warning hook": repr(warnings.showwarning),
        "logging": (len(logging.root.handlers), logging.root.level, logging.root.manager.disable),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "module path": list(sys.path),
        "hooks": (repr(sys.excepthook), repr(sys.displayhook), sys.getrecursionlimit()),
        "signals": repr(signal.getsignal(signal.SIGINT)),
        "threads": sorted(t.name for t in threading.enumerate()),
        "locale": locale.setlocale(locale.LC_ALL),
    }

def changes(module):
    before = state()
    __import__(module)
    after = state()
    return sorted(name for name in before if before[name] != after[name])
'''


def state_changes(modules: Iterable[str], *, path: Iterable[Path] = ()) -> dict[str, list[str]]:
    """What importing each module changes of the interpreter's global state, all in one fresh interpreter, in order."""
    code = STATE + f"print(json.dumps({{m: changes(m) for m in {list(modules)!r}}}))"
    changed: dict[str, list[str]] = json.loads(run_python(code, path=path).splitlines()[-1])
    return changed


# Words of the authors that no user knows, each with the field's own, and openings that describe a thing from behind.
BANNED = {
    r"laws?": "distribution",
    r"quicker": "faster",
    r"judged": "evaluated",
    r"errs? to": "tends to be too high, or too low",
    r"tells? the rest": "gives the details",
    r"(is|are) none of": "is not one of",
    r"what came": "the value to check",
    r"what there is to know": "the diagnostics",
    r"of this moment": "a copy",
    r"in the making": "partial",
    r"oftener": "more often",
    r"turned round": "reversed",
    r"the smaller the better": "smaller is better",
    r"words? on (the|its)": "without it",
    r"knows? nothing of": "does not depend on",
    r"refuse_misuse": "check_phase_use",
    r"smaller_side": "enumerated_units",
}
INDIRECT = re.compile(r"(What|How|Whether|Where|Which|Why|Nothing|The same|That of|By what|Refused)\b")
VAGUE = frozenset({"own", "found", "drawn", "kept", "wanted", "seen", "chosen", "whole"})
MOST_VAGUE = 0.003
"""Share of the names bound in the package that may be vague."""


def pages(root: Path) -> list[Path]:
    """Pages of the documentation, without what Sphinx generates."""
    docs = root / "docs"
    pages = [*docs.glob("*.md"), *(docs / "notes").glob("*.md")]
    return sorted(page for page in pages if page.name != "migration.md")  # which names what is gone


def texts(root: Path) -> Iterator[Path]:
    """Files whose words a user meets: the package, the README and the pages of the documentation."""
    yield from sorted((root / PACKAGE).rglob("*.py"))
    yield from (path for path in (root / "README.md", *pages(root)) if path.exists())


def wording_errors(root: Path) -> list[str]:
    """Every banned word, with its line and the word to use; every docstring that opens indirectly."""
    errors = []
    any_banned = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)
    for path in texts(root):
        where = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not any_banned.search(line):
                continue
            for pattern, better in BANNED.items():
                if match := re.search(rf"\b{pattern}\b", line, re.IGNORECASE):
                    errors.append(f"{where}:{number}: {match.group()!r}; say {better!r}")
        if path.suffix == ".py":
            errors += [f"{where}:{line}: a docstring opens with {word!r}" for line, word in indirect_openings(path)]
    return errors


def indirect_openings(file: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, first word) of docstrings that open with What, How, Which and the like."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match = INDIRECT.match(ast.get_docstring(node) or "")
            if match:
                yield getattr(node, "lineno", 1), match.group()


def vague_share(root: Path) -> float:
    """Share of the names bound in the package that say nothing of the quantity."""
    names: list[str] = []
    for file in sorted((root / PACKAGE).rglob("*.py")):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.arg):
                names.append(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.append(node.id)
    return sum(name in VAGUE for name in names) / max(len(names), 1)
