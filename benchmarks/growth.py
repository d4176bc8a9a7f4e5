"""How seconds grow with the sizes of a problem, one varied at a time: of a Gibbs
step, of autoregressive densities.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, cast

from benchmarks import gibbs
from benchmarks.driver import build, preamble
from benchmarks.machine import threads
from benchmarks.paths import on_path
from benchmarks.problem import Problem
from benchmarks.timing import Contender, Plan, Spread, interleave


class Point(NamedTuple):
    """Sizes of a problem, and sweeps of a call."""

    visible: int = 784
    hidden: int = 500
    chains: int = 128
    steps: int = 10


Makers = list[tuple[str, Callable[[], Contender]]]


class Study(Protocol):
    """What grows: this module, for a Gibbs step, or another one."""

    GATE: tuple[str, ...]
    UNIT: str
    NAMES: dict[str, str]
    VALUES: dict[str, tuple[int, ...]]

    @staticmethod
    def makers(point: Point, /) -> Makers:
        """Names and makers of the lines at one point."""
        ...


UNITS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096)
VALUES = {"visible": UNITS, "hidden": UNITS, "chains": UNITS, "steps": (1, 2, 5, 10, 20, 50, 100)}
GATE = gibbs.GATE
UNIT = gibbs.UNIT
NAMES = {"visible": "visible", "hidden": "hidden", "chains": "chains", "steps": "steps a call"}
"""What the sizes are called in a picture."""


def makers(point: Point) -> Makers:
    """Gibbs steps: naive, by torch, compiled.

    Args:
        point: the sizes.

    Returns:
        Names and makers.
    """
    problem = Problem.random(point.visible, point.hidden, point.chains)
    ours = gibbs.ours(problem, point.steps)
    return [
        ("naive", lambda: gibbs.naive(problem)),
        ("pyro_gen cpu", lambda: on_path("cpu", ours)),
        ("pyro_gen native", lambda: on_path("native", ours)),
    ]


GIBBS = cast(Study, sys.modules[__name__])


def measure(
    point: Point, plan: Plan, study: Study = GIBBS
) -> tuple[dict[str, Any], dict[str, str]]:
    """Time the lines' contenders at one point, interleaved.

    Args:
        point: the sizes.
        plan: how to sample.
        study: what is measured.

    Returns:
        Spreads of the seconds of a unit by contender, and why others are missing.
    """
    built, missing = build(iter(study.makers(point)))
    return {
        name: asdict(Spread.of(times)) for name, times in interleave(built, plan).items()
    }, missing


def run(
    fixed: Point,
    values: Mapping[str, tuple[int, ...]],
    plan: Plan,
    gate: bool,
    study: Study = GIBBS,
) -> dict[str, Any]:
    """Measure every value of every size on one thread, the other sizes fixed.

    Args:
        fixed: the sizes that are not varied.
        values: for each size its values.
        plan: how to sample.
        gate: whether to run the tests first.
        study: what is measured.

    Returns:
        A report for JSON.

    Raises:
        RedGateError: the tests fail.
    """
    report = {
        **preamble(study.GATE, gate, plan),
        "unit": study.UNIT,
        "names": study.NAMES,
        "threads": 1,
    }
    report["fixed"] = fixed._asdict()
    points: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with threads(1):
        for varied, settings in values.items():
            for value in settings:
                point = fixed._replace(**{varied: value})
                seconds, missing = measure(point, plan, study)
                points.append({"varied": varied, **point._asdict(), "seconds": seconds})
                medians = ", ".join(
                    f"{name} {spread['median'] * 1e6:.1f}" for name, spread in seconds.items()
                )
                print(f"{varied} {value}: us a {study.UNIT}: {medians}", flush=True)
    return {**report, "missing": missing, "points": points}


def figure(report: dict[str, Any]) -> Any:
    """Draw the points of a report.

    Args:
        report: from :func:`run`.

    Returns:
        A matplotlib figure: four panels with logarithmic axes, bands from
        quartile to quartile.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from pyro_gen.plotting import TEXT

    chart = Figure(figsize=(9, 6.4), layout="constrained")
    FigureCanvasAgg(chart)
    panels = chart.subplots(2, 2, sharey=True)
    names = report.get("names", NAMES)
    varied = list(dict.fromkeys(point["varied"] for point in report["points"]))
    for axes, name in zip(panels.flat, varied, strict=False):
        _panel(axes, name, [point for point in report["points"] if point["varied"] == name])
        axes.set_xlabel(names[name], color=TEXT)
    for axes in panels.flat[len(varied) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"time of a {report['unit']}", color=TEXT)
    panels.flat[0].legend(frameon=False, fontsize=9, labelcolor=TEXT)
    rest = ", ".join(f"{report['fixed'][size]} {name}" for size, name in names.items())
    title = f"Fixed at {rest}, but for what a panel varies; one thread, {report['machine']['cpu']}"
    chart.suptitle(title, x=0.01, ha="left", fontsize=11, color=TEXT)
    return chart


def _panel(axes: Any, varied: str, points: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import EngFormatter, StrMethodFormatter

    from pyro_gen.plotting import COLORS, LINE, TEXT

    lines = list(dict.fromkeys(name for point in points for name in point["seconds"]))
    for name, color in zip(lines, COLORS, strict=False):
        measured = [
            (point[varied], point["seconds"][name]) for point in points if name in point["seconds"]
        ]
        if measured:
            x = [value for value, _ in measured]
            lower, median, upper = (
                [spread[key] for _, spread in measured] for key in ("lower", "median", "upper")
            )
            axes.plot(x, median, color=color, label=name, marker="o", markersize=3)
            axes.fill_between(x, lower, upper, color=color, alpha=0.2, linewidth=0)
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.grid(color=LINE, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(which="both", color=LINE, labelcolor=TEXT, left=False)
