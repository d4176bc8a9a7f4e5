"""Scripts and modules each in a process of its own, without the seconds that importing torch and Pyro takes.

A server imports them once and forks for every script; `run` starts it on the first call. The scripts see what a user's
interpreter would give them: their own `sys.argv`, their folder first in `sys.path`, default warnings, nothing set in
Pyro. Where there is no safe fork a new interpreter serves.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.house import ROOT

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
IMPORTED = ("arviz", "pyro", "pyro_gen.models", "torch._dynamo")
"""The slow ones; torch imports the last when it makes an optimiser."""


def run(arguments: Sequence[str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS``: a script's path or ``-m`` and a module, and what it is given.

    Args:
        arguments: the command line without the interpreter.
        cwd: where it runs.

    Returns:
        Its status (negative: the signal that killed it), what it printed and its errors.
    """
    if sys.platform != "linux":
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), cwd=cwd)
    with TemporaryDirectory() as folder:
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps([list(arguments), str(cwd), folder]) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        if not answer:
            raise RuntimeError("the server of tests/forked.py has ended")
        printed, errors = (Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(list(arguments), int(answer), printed, errors)


def _environment() -> dict[str, str]:
    return os.environ | ENVIRONMENT


@lru_cache(maxsize=1)
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.forked"]
    pipe = subprocess.PIPE
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=_environment())
    atexit.register(_stop, server)
    return server


def _stop(server: subprocess.Popen[str]) -> None:
    server.communicate()


def serve() -> None:
    """Answers a line on stdin, what to run, with a line on stdout, its status."""
    for name in IMPORTED:
        import_module(name)
    for line in sys.stdin:
        arguments, cwd, folder = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_script(arguments, Path(cwd), Path(folder)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _script(arguments: list[str], cwd: Path, folder: Path) -> int:
    """The child: its streams go to files, then it is the script's interpreter."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path[0] = str(cwd)
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return _status(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    serve()
