"""Pictures show what they were given, touch no global state, and say what is wrong with their input."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from pyro_gen import models, plotting

IMAGES = torch.rand(5, 6, 4, generator=torch.Generator().manual_seed(0))


def picture(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_grid_shows_every_sample_once_in_reading_order() -> None:
    canvas = picture(plotting.sample_grid(IMAGES, columns=3))
    assert canvas.shape == (2 * (6 + 1) + 1, 3 * (4 + 1) + 1, 3)  # two rows of three, gaps of one pixel
    for k, image in enumerate(IMAGES.numpy()):
        row, column = 1 + k // 3 * 7, 1 + k % 3 * 5
        for channel in range(3):
            np.testing.assert_allclose(canvas[row : row + 6, column : column + 4, channel], 1 - image)
    np.testing.assert_allclose(canvas[8:, 11:], np.broadcast_to(to_rgb(plotting.GAP), (7, 5, 3)))  # no sixth image


def test_the_nearest_image_stands_at_the_right_in_blue() -> None:
    figure = plotting.sample_grid(torch.zeros(1, 6, 4), nearest=torch.ones(1, 6, 4), title="pairs")
    canvas = picture(figure)
    np.testing.assert_allclose(canvas[1:7, 1:5], 1.0)
    np.testing.assert_allclose(canvas[1:7, 6:10], np.broadcast_to(to_rgb(plotting.COLORS[0]), (6, 4, 3)))
    assert "nearest training image" in texts(figure)[0]
    assert figure.axes[0].get_title("left") == "pairs"


def test_every_image_may_have_a_title() -> None:
    assert texts(plotting.sample_grid(IMAGES, titles=list("abcde"))) == list("abcde")


def test_filters_are_sorted_by_norm_on_a_scale_symmetric_about_zero() -> None:
    weight = torch.zeros(6, 4)
    weight[0] = torch.tensor([1.0, -3.0, 0.5, 2.0])  # of each unit the weight of the first pixel
    figure = plotting.filters(weight.requires_grad_(), (2, 3), num=3, columns=3)
    canvas = picture(figure)
    first = np.stack([canvas[1, 1 + 4 * k] for k in range(3)])
    assert first[0, 2] > first[0, 0]  # -3: blue
    assert (first[1:, 0] > first[1:, 2]).all()  # 2 and 1: red
    assert first[1, 2] < first[2, 2]  # the greater weight is the darker
    np.testing.assert_allclose(canvas[2, 1], 1.0, atol=0.04)  # zero is white
    low, high = figure.axes[1].get_ylim()
    assert low == -high


def test_filters_of_zero_are_white() -> None:
    np.testing.assert_allclose(picture(plotting.filters(np.zeros((4, 1)), (2, 2)))[1:3, 1:3], 1.0, atol=0.04)


HISTORY = [{"epoch": 1, "train": -3.0}, {"epoch": 2, "train": -2.0, "valid": -2.5}, {"epoch": 3, "train": -1.0}]
CSV = "epoch,train,valid\n1,-3,\n2,-2,-2.5\n3,-1,\n"


def test_curves_skip_what_was_not_measured_from_memory_or_csv(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(CSV)
    for history in (HISTORY, path, str(path)):
        lines = plotting.learning_curve(history).axes[0].lines
        drawn = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in lines}
        assert drawn == {"train": [[1, -3], [2, -2], [3, -1]], "valid": [[2, -2.5]]}


def test_curves_of_chosen_metrics() -> None:
    axes = plotting.learning_curve(HISTORY, ["valid"], x="train", ylabel="nats").axes[0]
    assert [np.asarray(line.get_xydata()).tolist() for line in axes.lines] == [[[-2, -2.5]]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("train", "nats")


def test_a_sweep_draws_points_in_order_with_bars_of_one_error() -> None:
    figure = plotting.sweep([100, 25, 50], [3.0, 1.0, 2.0], [0.3, 0.1, 0.2], xlabel="hidden", ylabel="nats", log=True)
    (container,) = figure.axes[0].containers
    assert isinstance(container, ErrorbarContainer)
    line, _, (bars,) = container.lines
    assert np.asarray(line.get_xydata()).tolist() == [[25, 1], [50, 2], [100, 3]]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.9, 1.1], [1.8, 2.2], [2.7, 3.3]])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["25", "50", "100"]


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "flat images": (lambda: plotting.sample_grid(IMAGES.flatten(1)), r"`images` must have .* got \(5, 24\)"),
    "no image": (lambda: plotting.sample_grid(IMAGES[:0]), "`images` must have .* none empty"),
    "range": (lambda: plotting.sample_grid(IMAGES * 255), "`images` must lie between 0 and 1"),
    "missing": (lambda: plotting.sample_grid(IMAGES * torch.nan), "`images` must lie between 0 and 1"),
    "nearest": (lambda: plotting.sample_grid(IMAGES, IMAGES[1:]), r"`nearest` .* \(5, 6, 4\), got \(4, 6, 4\)"),
    "titles": (lambda: plotting.sample_grid(IMAGES, titles=["a"]), "`titles` must be as many as `images`, 5, got 1"),
    "columns": (lambda: plotting.sample_grid(IMAGES, columns=0), "`columns` must be at least 1, got 0"),
    "weight": (lambda: plotting.filters(IMAGES[0], (2, 2)), r"shape \(4, hidden\) for \(2, 2\), got \(6, 4\)"),
    "infinite": (lambda: plotting.filters(IMAGES[0] / 0, (2, 3)), "`weight` must be finite"),
    "num": (lambda: plotting.filters(IMAGES[0], (2, 3), num=0), "`num` must be at least 1, got 0"),
    "no history": (lambda: plotting.learning_curve([]), "`history` must have 'epoch' and a metric, got no row"),
    "key": (lambda: plotting.learning_curve(HISTORY, ["test"]), r"must have 'epoch' and \['test'\], got \['epoch', "),
    "text": (lambda: plotting.learning_curve([{"epoch": 1, "a": "x"}]), "must hold numbers under 'a', got the row"),
    "lengths": (lambda: plotting.sweep([1, 2], [1.0], xlabel="", ylabel=""), r"one shape \(n,\).*\(2,\), \(1,\)"),
    "no point": (lambda: plotting.sweep([], [], xlabel="", ylabel=""), r"one shape \(n,\)"),
    "error": (lambda: plotting.sweep([1], [1.0], [-1.0], xlabel="", ylabel=""), "no error below 0"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_named(mistake: str) -> None:
    draw, message = WRONG[mistake]
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files_are_written_whole(ending: str, magic: bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"grid.{ending}"
    plotting.save(plotting.sample_grid(IMAGES), path)
    assert path.read_bytes().startswith(magic)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grid.png"
    path.write_bytes(b"precious")

    def run_out_of_space(_: Figure, part: Path, **settings: Any) -> None:
        part.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", run_out_of_space)
    with pytest.raises(OSError, match="no space"):
        plotting.save(plotting.sample_grid(IMAGES), path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_pyplot_is_never_imported_and_settings_stay() -> None:
    code = """
import sys, matplotlib, numpy
from pyro_gen import plotting
before = dict(matplotlib.rcParams)
plotting.filters(numpy.ones((4, 2)), (2, 2)).canvas.draw()
plotting.learning_curve([{"epoch": 1, "a": 2}]).canvas.draw()
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("figure", "colors"):
        monkeypatch.setitem(sys.modules, f"matplotlib.{part}", None)
    with pytest.raises(ImportError, match=r"pip install pyro-gen\[plot\]"):
        plotting.sample_grid(IMAGES)


def test_sample_grid_shows_colour() -> None:
    images = torch.zeros(4, 3, 8, 6)
    images[:, 0] = 1.0
    (axes,) = plotting.sample_grid(images, nearest=images.flip(1)).axes
    canvas = np.asarray(axes.images[0].get_array())
    reds = (canvas == [1, 0, 0]).all(-1)
    blues = (canvas == [0, 0, 1]).all(-1)
    assert (reds.sum(), blues.sum()) == (4 * 48, 4 * 48)
    with pytest.raises(ValueError, match=r"\(n, rows, columns\) or \(n, 3, rows, columns\), none empty, got \(4, 2, 8"):
        plotting.sample_grid(images[:, :2])


def drawers() -> dict[str, Callable[..., Figure]]:
    """Every picture with small data; what remains are its options."""
    graph = networkx.DiGraph([("a", "b")])
    return {
        "compare": partial(plotting.compare, {"a": 1.0}, xlabel="nats"),
        "filters": partial(plotting.filters, np.eye(4), (2, 2)),
        "latent_space": partial(plotting.latent_space, np.eye(3)),
        "learning_curve": partial(plotting.learning_curve, [{"epoch": 1, "a": 2}]),
        "log_weights": partial(plotting.log_weights, np.arange(3.0), np.arange(3.0)),
        "mixture": partial(plotting.mixture, TwoBells()),
        "network": partial(plotting.network, graph),
        "sample_grid": partial(plotting.sample_grid, IMAGES),
        "sweep": partial(plotting.sweep, [1, 2], [3, 4], xlabel="x", ylabel="y"),
    }


class TwoBells:
    """A mixture as `plotting.mixture` reads it."""

    weights = torch.tensor([0.25, 0.75])
    means = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    covariances = torch.diag_embed(torch.tensor([[1.0, 4.0, 9.0], [1.0, 1.0, 1.0]]))


def test_every_picture_is_tested_here() -> None:
    assert drawers().keys() == set(plotting.__all__) - {"save"}


@pytest.mark.parametrize("name", sorted(set(plotting.__all__) - {"save"}))
def test_every_picture_goes_into_axes_and_into_a_notebook(name: str) -> None:
    draw = drawers()[name]
    outer = Figure()
    left, right = outer.subplots(1, 2)
    assert draw(ax=right, title="right") is outer
    assert right.get_title("left") == "right"
    assert not left.has_data()
    assert not left.texts
    figure = draw(title="alone")
    png = figure._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")


def test_a_comparison_is_sorted_and_reads_estimates() -> None:
    figure = plotting.compare({"low": (1.0, 0.1), "high": torch.tensor(3.0), "middle": Estimated()}, xlabel="nats")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["low", "middle", "high"]
    (container,) = axes.containers
    assert isinstance(container, ErrorbarContainer)
    assert np.asarray(container.lines[0].get_xdata()).tolist() == [1.0, 2.0, 3.0]
    assert axes.get_xlabel() == "nats"


class Estimated:
    """An estimate with its error."""

    value = 2.0
    standard_error = 0.5


def test_a_latent_space_keeps_two_columns_and_projects_more() -> None:
    z = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    (axes,) = plotting.latent_space(z, [0, 1, 2] * 10).axes
    drawn = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections])
    np.testing.assert_allclose(drawn, torch.cat([z[k::3] for k in range(3)]))
    wide = torch.cat([torch.zeros(30, 3), 5 * z[:, :1], z[:, 1:]], 1)
    (axes,) = plotting.latent_space(wide).axes
    spread = np.asarray(axes.collections[0].get_offsets()).std(0)
    np.testing.assert_allclose(np.prod(spread), np.linalg.det(np.cov(wide[:, 3:].T, bias=True)) ** 0.5, rtol=1e-4)
    assert "principal axis 1 (9" in axes.get_xlabel()


def test_ellipses_are_two_deviations_of_the_chosen_columns() -> None:
    (axes,) = plotting.mixture(TwoBells(), np.zeros((2, 3)), columns=(2, 1)).axes
    first = axes.patches[0]
    assert isinstance(first, Ellipse)
    assert np.allclose(first.center, (2.0, 1.0))
    assert sorted([first.width, first.height]) == [8.0, 12.0]
    width = first.width if np.isclose(first.angle % 180, 0) else first.height
    assert width == 12.0
    assert [text.get_text() for text in axes.texts] == ["0.25", "0.75"]


def test_a_network_shows_nodes_states_and_marginals() -> None:
    network = models.BayesianNetwork(networkx.DiGraph([("a", "b")]), states={"a": ("no", "yes"), "b": ("low", "high")})
    (axes,) = plotting.network(network, network.marginals({"a": "yes"})).axes
    names = [text.get_text() for text in axes.texts if text.get_text()]
    assert names[0] == "a\nno  0.00\nyes  1.00"
    assert names[1].startswith("b\nlow  ")


MISFITS: dict[str, tuple[Callable[[], Figure], str]] = {
    "no estimate": (lambda: plotting.compare({}, xlabel="nats"), "`estimates` must have at least one"),
    "NaN": (lambda: plotting.compare({"a": math.nan}, xlabel="nats"), "finite numbers.* got nan as 'a'"),
    "negative error": (lambda: plotting.compare({"a": (1.0, -1.0)}, xlabel="nats"), "finite numbers"),
    "one column": (lambda: plotting.latent_space(np.ones((3, 1))), r"latent > 1, got \(3, 1\)"),
    "labels": (lambda: plotting.latent_space(np.eye(3), [0, 1]), r"`labels` must have shape \(3,\)"),
    "names": (lambda: plotting.latent_space(np.eye(3), [0, 1, 1], names=["a"]), "`names` must be those of 2"),
    "rows": (lambda: plotting.mixture(TwoBells(), np.eye(2)), r"`x` must have shape \(n, 3\)"),
    "columns": (lambda: plotting.mixture(TwoBells(), columns=(0, 3)), "`columns` must be two of 0 to 2"),
    "cycle": (lambda: plotting.network(networkx.DiGraph([("a", "b"), ("b", "a")])), "no cycle"),
    "unknown node": (lambda: plotting.network(networkx.DiGraph([("a", "b")]), {"c": np.ones(2)}), "for 'c'"),
}


@pytest.mark.parametrize("mistake", MISFITS)
def test_mistakes_in_newer_pictures_are_named(mistake: str) -> None:
    draw, message = MISFITS[mistake]
    with pytest.raises(ValueError, match=message):
        draw()
