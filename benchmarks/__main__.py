"""The one driver: runs the op's tests, times all contenders in turn, prints
tables, writes a report.

modes: gibbs    a Gibbs step: each path of the project beside naive torch,
  scikit-learn, learnergy, rbms, bare products gibbs_pyro  a sweep over the
  labels of a mixture: plate-aware, element by element, NumPyro's, enumerated
  HMC cd       an epoch of PCD-1 beside scikit-learn, rbms and a torch-autograd
  loop update   a CD-1 update beside the textbook's in torch, autograd,
  scikit-learn, learnergy, rbms svi      SVI.step of an RBM beside the custom
  step, Pyro's own share and the sum of the two ais      a temperature of
  annealed importance sampling beside naive torch and rbms mixture  an EM step
  of a Gaussian mixture, every covariance type, beside scikit-learn's nade
  log probability and gradient of NADE: each path beside a loop on a tape, a
  masked network and the floor nade_sampling  draws from NADE: by one call, step
  by step, by a whole pass for each feature autoregressive  log probability of
  every family, with gradient and without, beside four peers' networks
  autoregressive_sampling  draws of every family: what a step keeps, a whole
  pass for each feature, the same peers autoregressive_steps  generation step by
  step, start and next: microseconds a step vae      log likelihoods of a VAE
  with 5000 draws a row beside its decoder alone and Pyro's RenyiELBO
  bayesian_network  evidence and marginals in networks of bnlearn: batched, one
  by one, pyAgrum and pgmpy growth   a Gibbs step against visible, hidden,
  chains and steps a call, for --plot autoregressive_growth  NADE and MADE
  against features, hidden units and rows, for --plot

  python -m benchmarks gibbs --threads 1 2 --json benchmarks/results/gibbs.json
  python -m benchmarks growth --json benchmarks/results/growth.json --plot
  docs/images/growth.png python -m benchmarks gpu                   # on a CUDA
  machine
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, cast

from benchmarks import (
    ais,
    autoregressive,
    autoregressive_growth,
    autoregressive_sampling,
    autoregressive_steps,
    bayesian_network,
    cd,
    driver,
    gibbs,
    gibbs_pyro,
    gpu,
    growth,
    mixture,
    nade,
    nade_sampling,
    svi,
    update,
    vae,
)
from benchmarks.timing import CLOCKS, Plan
from pyro_gen._files import json_text, replacing

MODES = {
    "gibbs": cast(driver.Mode, gibbs),
    "gibbs_pyro": cast(driver.Mode, gibbs_pyro),
    "cd": cast(driver.Mode, cd),
    "update": cast(driver.Mode, update),
    "svi": cast(driver.Mode, svi),
    "ais": cast(driver.Mode, ais),
    "mixture": cast(driver.Mode, mixture),
    "nade": cast(driver.Mode, nade),
    "nade_sampling": cast(driver.Mode, nade_sampling),
    "autoregressive": cast(driver.Mode, autoregressive),
    "autoregressive_sampling": cast(driver.Mode, autoregressive_sampling),
    "autoregressive_steps": cast(driver.Mode, autoregressive_steps),
    "vae": cast(driver.Mode, vae),
    "bayesian_network": cast(driver.Mode, bayesian_network),
}
GROWTH = ("growth", "autoregressive_growth")


def _shape(text: str) -> driver.Shape:
    sizes = [int(size) for size in text.split("x")]
    if len(sizes) != 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"a shape is VISIBLExHIDDENxCHAINS, for instance 784x500x128, got {text}"
        )
    return sizes[0], sizes[1], sizes[2]


def _peers(text: str) -> set[str]:
    names = set(text.split(","))
    if not names <= set(driver.PEERS):
        raise argparse.ArgumentTypeError(f"peers are among {', '.join(driver.PEERS)}, got {text}")
    return names


def parser() -> argparse.ArgumentParser:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=form
    )
    result.add_argument("mode", choices=[*MODES, *GROWTH])
    result.add_argument("--json", type=Path, metavar="FILE", help="where to write the report")
    result.add_argument(
        "--plot", type=Path, metavar="FILE", help="growth: where to draw the report"
    )
    help_shapes = (
        "VISIBLExHIDDENxCHAINS, default: the reported ones; growth: one, the sizes that are not "
        "varied"
    )
    result.add_argument("--shapes", type=_shape, nargs="+", metavar="SHAPE", help=help_shapes)
    result.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="default: 1; growth: 1 only",
    )
    help_peers = (
        f"comma separated, default: all; {', '.join(driver.PEERS)}; own paths, baseline, GEMMs "
        "always run"
    )
    result.add_argument("--peers", type=_peers, help=help_peers)
    help_device = (
        "cuda: the GPU run of this op, with its own checks and peers, into --json and a .md "
        "beside it"
    )
    result.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help=help_device)
    result.add_argument(
        "--rounds",
        type=int,
        default=25,
        help="samples of each contender, at least 2 (default: 25)",
    )
    result.add_argument(
        "--sample-seconds", type=float, default=0.03, help="length of a sample (default: 0.03)"
    )
    result.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: one thread on a busy machine"
    )
    result.add_argument(
        "--no-gate", dest="gate", action="store_false", help="skip the tests; the report says so"
    )
    return result


def main(arguments: list[str]) -> int:
    """Measure, print the tables, write the report.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The exit status: 1 on a red gate, and where ``gpu`` finds no GPU.
    """
    if arguments[:1] == ["gpu"]:
        return gpu.main(arguments[1:])
    options = _checked(parser(), arguments)
    if options.device == "cuda":
        plan = ["--rounds", str(options.rounds), "--sample-seconds", str(options.sample_seconds)]
        return gpu.main(
            [
                "--ops",
                options.mode,
                *plan,
                *(["--json", str(options.json)] if options.json else []),
            ]
        )
    try:
        report = _report(options, Plan(options.rounds, options.sample_seconds, options.clock))
    except driver.RedGateError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        with replacing(options.json) as part:
            part.write_text(json_text(report, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        from pyro_gen.plotting import save

        save(growth.figure(report), options.plot)
    return 0


def _checked(form: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    options = form.parse_args(arguments)
    if options.clock == "cpu" and options.threads != [1]:
        form.error("--clock cpu adds up the threads' time: it is for --threads 1 only")
    if options.device == "cuda" and (
        options.mode not in gpu.MODES or options.shapes or options.peers
    ):
        form.error(
            f"--device cuda is for {', '.join(gpu.MODES)}, with the GPU run's own shapes and peers"
        )
    if options.plot and options.mode not in GROWTH:
        form.error("--plot is for growth only")
    if options.mode in GROWTH and (
        options.threads != [1] or len(options.shapes or ()) > 1 or options.peers
    ):
        form.error("growth has one thread, one shape at most and no --peers")
    return options


def _report(options: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    if options.mode == "growth":
        if options.shapes:
            fixed = growth.Point(*options.shapes[0])
        else:
            fixed = growth.Point()
        return growth.run(fixed, growth.VALUES, plan, options.gate)
    if options.mode == "autoregressive_growth":
        if options.shapes:
            fixed = growth.Point(*options.shapes[0])
        else:
            fixed = autoregressive_growth.FIXED
        study = cast(growth.Study, autoregressive_growth)
        return growth.run(fixed, study.VALUES, plan, options.gate, study)
    mode = MODES[options.mode]
    shapes = tuple(options.shapes or mode.SHAPES)
    return driver.run(mode, shapes, options.threads, options.peers, plan, options.gate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
