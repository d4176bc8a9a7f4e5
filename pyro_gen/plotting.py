"""Pictures: samples, filters, latent spaces, mixtures, networks, curves and comparisons.

Every function returns a `matplotlib.figure.Figure` that belongs to no window
and to no global state of `pyplot`: a notebook shows it, `save` writes it.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import networkx as nx
import numpy as np
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "compare",
    "filters",
    "latent_space",
    "learning_curve",
    "log_weights",
    "mixture",
    "network",
    "sample_grid",
    "save",
    "sweep",
]

Array = Tensor | np.ndarray
Row = Mapping[str, Any]

TEXT = "#333333"
LINE = "#d0d0d0"
GAP = "#e9e6df"  # between tiles: warm, so that the white of the images stands out
COLORS = ("#1f5a94", "#c8553d", "#3b8a5a", "#8a5a9e", "#b58a1b", "#4a4a4a")


def sample_grid(
    images: Array,
    nearest: Array | None = None,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show images side by side, each with its nearest training image if these are given.

    A sample that equals its neighbour was memorised; samples that look alike
    did not mix.

    Args:
        images: shape (n, rows, columns), from 0 (white) to 1 (ink), or in
            colour (n, 3, rows, columns), red, green and blue from 0 to 1.
        nearest: for each image the one to be shown in blue at its right, same
            shape.
        titles: for each image a few characters above it.
        columns: images in a row of the grid; about as many as makes the picture
            square by default.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the shapes or the number of titles do not fit, or values
            lie outside 0 to 1.

    Example:
        >>> images = np.random.default_rng(0).random((6, 20, 16)) < 0.3
        >>> figure = sample_grid(images, nearest=images[::-1], columns=3, title="samples")
        >>> len(figure.axes)
        1
    """
    tiles = _tiles("images", images, "black")
    if titles is not None and len(titles) != len(tiles):
        raise ValueError(f"`titles` must be as many as `images`, {len(tiles)}, got {len(titles)}")
    if nearest is not None:
        tiles = _beside(tiles, _tiles("nearest", nearest, COLORS[0]))
    gap = math.ceil(tiles.shape[1] / 8) * (1 if titles is None else 2)
    canvas, corners = _mosaic(tiles, _grid_columns(columns, tiles), gap)
    figure, axes = _picture(canvas, title, ax)
    for (row, column), text in zip(corners, titles or (), strict=False):
        place = column + tiles.shape[2] / 2 - 0.5, row - 0.2 * gap
        axes.annotate(text, place, ha="center", va="bottom", fontsize=8, color=TEXT)
    if nearest is not None:
        note = "left: sample, right: its nearest training image"
        if _as_array(images).ndim == 3:
            note = "black: sample, blue: its nearest training image"
        axes.annotate(note, (0, -0.01), xycoords="axes fraction", va="top", fontsize=9, color=TEXT)
    return figure


def filters(
    weight: Array,
    shape: tuple[int, int],
    num: int = 64,
    *,
    columns: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show what hidden units look for: the columns of a weight matrix as images, the
    largest norm first.

    Red weights switch a unit on where there is ink, blue ones where there is
    none; white is zero, and one colour means the same weight in every image.
    The scale ends at the 99.5 % quantile of the absolute weights shown.

    Args:
        weight: shape (visible, hidden).
        shape: (rows, columns) of the visible units.
        num: number of units to show at most.
        columns: images in a row of the grid.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `weight` is no finite matrix whose first side is `shape`,
            or `num` or `columns` is below 1.

    Example:
        >>> figure = filters(np.random.default_rng(0).normal(size=(320, 100)), (20, 16), num=12)
        >>> len(figure.axes)  # the images and the scale
        2
    """
    array = _as_array(weight)
    visible = math.prod(shape)
    if (
        array.ndim != 2
        or array.shape[0] != visible
        or not array.size
        or not np.isfinite(array).all()
    ):
        raise ValueError(
            f"`weight` must be finite, of shape ({visible}, hidden) for {shape}, got {array.shape}"
        )
    order = np.argsort(-np.linalg.norm(array, axis=0), kind="stable")[: _positive("num", num)]
    images = array.T[order].reshape(-1, *shape)
    limit = float(np.quantile(np.abs(images), 0.995)) or 1.0
    scale = _matplotlib("cm").ScalarMappable(
        _matplotlib("colors").Normalize(-limit, limit), "RdBu_r"
    )
    canvas, _ = _mosaic(
        scale.cmap(scale.norm(images))[..., :3], _grid_columns(columns, images), gap=1
    )
    figure, axes = _picture(canvas, title, ax)
    bar = figure.colorbar(scale, ax=axes, shrink=0.5, aspect=25, pad=0.02, extend="both")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, color=LINE, labelcolor=TEXT)
    return figure


def learning_curve(
    history: Sequence[Row] | str | os.PathLike[str],
    keys: Sequence[str] | None = None,
    *,
    x: str = "epoch",
    ylabel: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw metrics against epochs; an epoch in which a metric was not measured is skipped.

    Args:
        history: one mapping an epoch, as `pyro_gen.training.fit` returns it, or
            the path of the CSV file it writes.
        keys: the metrics to draw; by default all of them except `x`.
        x: the metric on the horizontal axis.
        ylabel: what the metrics are, with the unit, such as "log likelihood
            [nats]".
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the history is empty, lacks a key or holds what is no
            number.

    Example:
        >>> history = [{"epoch": 1, "train": -140.0}, {"epoch": 2, "train": -120.0,
        ...     "validation": -125.0}]
        >>> [line.get_label() for line in learning_curve(history).axes[0].lines]
        ['train', 'validation']
    """
    rows = list(_read_csv(history) if isinstance(history, (str, os.PathLike)) else history)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    keys = [key for key in columns if key != x] if keys is None else list(keys)
    if not keys or not {x, *keys} <= set(columns):
        raise ValueError(
            f"`history` must have {x!r} and {keys or 'a metric'}, got {columns or 'no row'}"
        )
    figure, axes = _chart(x, ylabel, title, ax)
    for key, color in zip(keys, itertools.cycle(COLORS)):
        points = [
            (_number(row, x), _number(row, key)) for row in rows if row.get(key) not in (None, "")
        ]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            label=key,
            marker="o" if len(points) < 30 else "",
            markersize=3,
        )
    axes.legend(frameon=False, fontsize=9, labelcolor=TEXT)
    return figure


def sweep(
    x: Sequence[float] | Array,
    y: Sequence[float] | Array,
    error: Sequence[float] | Array | None = None,
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a figure of merit against a setting, with error bars of one standard error.

    Args:
        x: the settings, such as numbers of hidden units, shape (n,).
        y: the figure at each setting, shape (n,).
        error: its standard errors, shape (n,).
        xlabel: what the setting is.
        ylabel: what the figure is, with its unit.
        log: whether settings are spaced by their ratios.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `x`, `y` and `error` are not lists of the same length, or
            an error is negative.

    Example:
        >>> figure = sweep([25, 50, 100], [-118.0, -112.0, -108.5], [0.9, 0.8, 0.8],
        ...     xlabel="hidden", ylabel="nats")
        >>> figure.axes[0].get_xlabel()
        'hidden'
    """
    points = [
        _as_array(values) for values in (x, y, np.zeros(np.shape(x)) if error is None else error)
    ]
    shapes = [array.shape for array in points]
    if set(shapes) != {(points[0].size,)} or not points[0].size or (points[2] < 0).any():
        raise ValueError(
            f"`x`, `y` and `error` must have one shape (n,) and no error below 0, got {shapes}, "
            f"{error}"
        )
    settings, merit, bars = (array[np.argsort(points[0], kind="stable")] for array in points)
    figure, axes = _chart(xlabel, ylabel, title, ax)
    axes.errorbar(
        settings,
        merit,
        None if error is None else bars,
        color=COLORS[0],
        marker="o",
        markersize=5,
        capsize=3,
    )
    axes.set_xscale("log" if log else "linear")
    axes.set_xticks(settings, [f"{setting:g}" for setting in settings])
    axes.minorticks_off()
    return figure


def log_weights(
    forward: Array,
    reverse: Array,
    *,
    bracket: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show what each chain of annealed importance sampling says of log Z, forwards and
    backwards.

    Where both histograms overlap, log Z lies between them and is known well; a
    gap between them, or a second hump of the reverse chains far to the right,
    is a mode that the forward run does not reach.

    Args:
        forward: `Bracket.forward_log_weights` of an unbatched model, shape
            (n,).
        reverse: `Bracket.reverse_log_weights`, shape (m,).
        bracket: lower and upper end of the bracket, shaded.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `forward` or `reverse` is no list of finite numbers.

    Example:
        >>> draws = np.random.default_rng(0)
        >>> figure = log_weights(draws.normal(-0.5, 1, 500), draws.normal(0.5, 1, 500),
        ...     bracket=(-0.2, 0.2))
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['forward', 'reverse', 'bracket']
    """
    arrays = {"forward": _as_array(forward), "reverse": _as_array(reverse)}
    for name, values in arrays.items():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"`{name}` must be finite, of shape (n,) with n > 0, got shape {values.shape}"
            )
    figure, axes = _chart("log weight of a chain [nats]", "density", title, ax)
    together = np.concatenate(list(arrays.values()))
    bins = np.linspace(together.min(), together.max() + 1e-6, 60).tolist()
    for (name, values), color in zip(arrays.items(), COLORS, strict=False):
        axes.hist(values, bins, density=True, color=color, alpha=0.55, label=name)
    if bracket is not None:
        axes.axvspan(*bracket, color=COLORS[2], alpha=0.3, linewidth=0, label="bracket")
    axes.legend(frameon=False, fontsize=9, labelcolor=TEXT)
    return figure


def compare(
    estimates: Mapping[str, Any],
    *,
    xlabel: str,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show estimates side by side, the largest on top, with bars of one standard error.

    Args:
        estimates: by name, a number, a pair (value, standard error), or what
            has `value` and `standard_error`, as `log_likelihood` returns.
        xlabel: what is estimated, with its unit.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is no estimate, or one is no finite number.

    Example:
        >>> figure = compare({"RBM": (-85.5, 0.2), "NADE": -87.0}, xlabel="nats")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['NADE', 'RBM']
    """
    pairs = {name: _with_error(name, estimate) for name, estimate in estimates.items()}
    if not pairs:
        raise ValueError("`estimates` must have at least one entry, got none")
    names = sorted(pairs, key=lambda name: pairs[name][0])
    size = (6.4, 0.9 + 0.32 * len(names))
    figure, axes = _chart(xlabel, None, title, ax, size)
    places = np.arange(len(names))
    values, errors = np.array([pairs[name] for name in names]).T
    axes.errorbar(
        values, places, xerr=errors, color=COLORS[0], marker="o", linestyle="", capsize=3
    )
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    return figure


def _with_error(name: str, estimate: Any) -> tuple[float, float]:
    """Value and standard error of an estimate, 0 where there is none."""
    if hasattr(estimate, "standard_error"):
        estimate = (estimate.value, estimate.standard_error)
    try:
        value, error = estimate if isinstance(estimate, tuple | list) else (estimate, 0.0)
        value, error = float(value), float(error)
    except (TypeError, ValueError):
        value = error = math.nan
    if not math.isfinite(value) or not (error >= 0 and math.isfinite(error)):
        raise ValueError(
            f"`estimates` must be finite numbers, perhaps with a standard error, got {estimate!r} "
            f"as {name!r}"
        )
    return value, error


def latent_space(
    z: Array,
    labels: Sequence[Any] | Array | None = None,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show latent means of rows as points in a plane, coloured by class.

    More than two dimensions are projected on the plane of their largest variance.

    Args:
        z: shape (n, latent) with latent > 1, such as ``vae.latent_means(x)``.
        labels: the class of each row, shape (n,).
        names: names of the classes in the order of their labels.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `z` is no finite matrix of two or more columns, or
            `labels` or `names` do not fit.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(50, 2))
        >>> figure = latent_space(z, z[:, 0] > 0, names=["left", "right"])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['left', 'right']
    """
    points = _as_array(z)
    if points.ndim != 2 or points.shape[1] < 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError(
            f"`z` must be finite, of shape (n, latent) with latent > 1, got {points.shape}"
        )
    axis_names = ["$z_1$", "$z_2$"]
    if points.shape[1] > 2:
        _, scales, axes_of_z = np.linalg.svd(points - points.mean(0), full_matrices=False)
        shares = scales**2 / max((scales**2).sum(), np.finfo(float).tiny)
        points = (points - points.mean(0)) @ axes_of_z[:2].T
        axis_names = [f"principal axis {k + 1} ({shares[k]:.0%})" for k in range(2)]
    classes = np.zeros(len(points), int) if labels is None else _labels(labels, len(points))
    kinds = np.unique(classes)
    if names is not None and len(names) != len(kinds):
        raise ValueError(f"`names` must be those of {len(kinds)} classes, got {len(names)}")
    figure, axes = _chart(axis_names[0], axis_names[1], title, ax, (5.6, 5.0))
    for k, kind in enumerate(kinds):
        across, up = points[classes == kind].T
        label = str(kind) if names is None else names[k]
        color = _matplotlib("colors").to_hex(_palette(len(kinds))[k])
        axes.scatter(across, up, s=9, alpha=0.6, linewidths=0, color=color, label=label)
    if labels is not None:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
            fontsize=9,
            labelcolor=TEXT,
            markerscale=2,
        )
    return figure


def _labels(labels: Sequence[Any] | Array, rows: int) -> np.ndarray:
    """One label a row."""
    classes = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if classes.shape != (rows,):
        raise ValueError(f"`labels` must have shape ({rows},), got {classes.shape}")
    return classes


def _palette(number: int) -> Sequence[Any]:
    """As many colours as there are classes."""
    if number <= len(COLORS):
        return COLORS
    shades: Sequence[Any] = (
        _matplotlib("cm").ScalarMappable(cmap="turbo").to_rgba(np.linspace(0, 1, number))
    )
    return shades


def mixture(
    model: Any,
    x: Array | None = None,
    *,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show a fitted mixture: ellipses of two standard deviations in two columns, or
    densities where there is one column.

    Args:
        model: what has `weights` (components,), `means` (components, features)
            and `covariances` (components, features, features), as
            `models.GaussianMixture`.
        x: rows to show beneath, shape (n, features).
        columns: the two columns that are shown.
        names: names of all columns.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the rows do not fit the mixture, or there is no such
            column.

    Example:
        >>> from pyro_gen.models import GaussianMixture
        >>> x = np.random.default_rng(0).normal(size=(60, 2))
        >>> figure = mixture(GaussianMixture.from_data(x, 2), x)
        >>> len(figure.axes[0].patches)
        2
    """
    weights = _as_array(model.weights)
    means = _as_array(model.means)
    covariances = _as_array(model.covariances)
    features = means.shape[1]
    rows = np.empty((0, features)) if x is None else _as_array(x)
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ValueError(f"`x` must have shape (n, {features}), got {rows.shape}")
    labels = [f"column {k}" for k in range(features)] if names is None else list(names)
    if len(labels) != features:
        raise ValueError(f"`names` must be those of {features} columns, got {len(labels)}")
    if features == 1:
        figure, axes = _chart(labels[0], "density", title, ax)
        _densities(axes, rows[:, 0], weights, means[:, 0], np.sqrt(covariances[:, 0, 0]))
        return figure
    if len(set(columns)) != 2 or not set(columns) <= set(range(features)):
        raise ValueError(f"`columns` must be two of 0 to {features - 1}, got {columns}")
    first, second = columns
    figure, axes = _chart(labels[first], labels[second], title, ax, (5.6, 5.0))
    axes.scatter(rows[:, first], rows[:, second], s=7, color=COLORS[5], alpha=0.35, linewidths=0)
    for k, weight in enumerate(weights):
        block = covariances[k][np.ix_(columns, columns)]
        variances, directions = np.linalg.eigh(block)
        ellipse = _matplotlib("patches").Ellipse(
            (means[k, first], means[k, second]),
            *(4 * np.sqrt(variances)),
            angle=math.degrees(math.atan2(directions[1, 0], directions[0, 0])),
            edgecolor=_palette(len(weights))[k],
            facecolor="none",
            linewidth=1.8,
        )
        axes.add_patch(ellipse)
        across, up = float(means[k, first]), float(means[k, second])
        axes.text(across, up, f"{weight:.2f}", ha="center", va="center", fontsize=9, color=TEXT)
    axes.autoscale_view()
    return figure


def _densities(
    axes: Axes, x: np.ndarray, weights: np.ndarray, means: np.ndarray, deviations: np.ndarray
) -> None:
    """Histogram of a column, the density of each component and their sum."""
    if x.size:
        axes.hist(x, min(60, 5 + x.size // 10), density=True, color=LINE, label="data")
    low = float((means - 4 * deviations).min())
    high = float((means + 4 * deviations).max())
    grid = np.linspace(low, high, 500)
    scaled = (grid[:, None] - means) / deviations
    parts = weights * np.exp(-(scaled**2) / 2) / (deviations * math.sqrt(2 * math.pi))
    for k, part in enumerate(parts.T):
        axes.plot(grid, part, color=_palette(len(weights))[k], linewidth=1)
    axes.plot(grid, parts.sum(1), color=TEXT, linewidth=1.8, label="mixture")
    axes.legend(frameon=False, fontsize=9, labelcolor=TEXT)


def network(
    model: Any,
    marginals: Mapping[str, Array] | None = None,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a directed graph from top to bottom, with the distribution of each node.

    Args:
        model: a Bayesian network, or its `networkx.DiGraph`.
        marginals: by node, probabilities of its states, as
            ``network.marginals(evidence)`` returns for one case; bars beneath
            the names.
        title: a line above the picture.
        ax: axes to draw into; a new figure by default.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the graph has no node or a directed cycle, or `marginals`
            has unknown nodes or is for several cases.

    Example:
        >>> import networkx
        >>> figure = network(networkx.DiGraph([("rain", "wet"), ("sprinkler", "wet")]))
        >>> sorted(text.get_text() for text in figure.axes[0].texts if text.get_text())
        ['rain', 'sprinkler', 'wet']
    """
    graph = model if isinstance(model, nx.DiGraph) else getattr(model, "graph", None)
    if not isinstance(graph, nx.DiGraph) or not nx.is_directed_acyclic_graph(graph) or not graph:
        raise ValueError("`model` must be a network or a directed graph with nodes and no cycle")
    states = getattr(model, "states", {})
    bars = {node: _as_array(p) for node, p in (marginals or {}).items()}
    for node, p in bars.items():
        if node not in graph or p.ndim != 1:
            raise ValueError(
                f"`marginals` must have probabilities of one case for nodes of the graph, got "
                f"shape {p.shape} for {node!r}"
            )
    layers = [list(layer) for layer in nx.topological_generations(graph)]
    wide = max(len(layer) for layer in layers)
    places = {
        node: ((k + 0.5) * wide / len(layer), -float(depth))
        for depth, layer in enumerate(layers)
        for k, node in enumerate(layer)
    }
    size = (max(3.0, 1.5 * wide), max(2.0, 1.25 * len(layers)))
    axes = _figure(size).add_axes((0, 0, 1, 0.93)) if ax is None else ax
    boxes = {}
    for node, (x, y) in places.items():
        lines = [str(node)]
        for k, probability in enumerate(bars.get(node, ())):
            state = states[node][k] if node in states else k
            lines.append(f"{state}  {probability:.2f}")
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": COLORS[0]}
        text = axes.text(
            x, y, "\n".join(lines), ha="center", va="center", fontsize=9, color=TEXT, bbox=box
        )
        boxes[node] = text.get_bbox_patch()
    for parent, child in graph.edges:
        axes.annotate(
            "",
            places[child],
            places[parent],
            arrowprops={
                "arrowstyle": "-|>",
                "color": "#8a8a8a",
                "linewidth": 1,
                "patchA": boxes[parent],
                "patchB": boxes[child],
                "shrinkA": 1,
                "shrinkB": 2,
            },
        )
    axes.set(xlim=(0, wide), ylim=(0.5 - len(layers), 0.5))
    axes.set_axis_off()
    _title(axes, title)
    return _figure_of(axes)


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 160) -> None:
    """Write a figure to a file that is never half written.

    Args:
        figure: the figure.
        path: the file; its ending, such as ``.png``, ``.pdf`` or ``.svg``, says
            the format. Missing folders are made.
        dpi: dots an inch.

    Raises:
        ValueError: if matplotlib does not know the format.

    Example:
        >>> file = getfixture("tmp_path") / "pictures" / "samples.png"
        >>> save(sample_grid(np.zeros((4, 8, 8))), file)
        >>> file.exists()
        True
    """
    with replacing(path) as part:
        figure.savefig(part, dpi=dpi, bbox_inches="tight", pad_inches=0.12, facecolor="white")


def _matplotlib(part: str) -> Any:
    try:
        return import_module(f"matplotlib.{part}")
    except ImportError as error:
        raise ImportError(
            f"pyro_gen.plotting needs matplotlib: pip install pyro-gen[plot] ({error})"
        ) from error


def _as_array(values: Sequence[float] | Array) -> np.ndarray:
    return np.asarray(
        values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64
    )


def _positive(name: str, value: int) -> int:
    return whole_number(name, value)


def _tiles(name: str, values: Array, color: str) -> np.ndarray:
    """Images as colours, (n, rows, columns, 3); those of one channel in an ink."""
    array = _images(name, values)
    if array.ndim == 4:
        return np.moveaxis(array, 1, -1)
    return _ink(array, color)


def _images(name: str, values: Array) -> np.ndarray:
    array = _as_array(values)
    in_color = array.ndim == 4 and array.shape[1] == 3
    if not (array.ndim == 3 or in_color) or not array.size:
        raise ValueError(
            f"`{name}` must have shape (n, rows, columns) or (n, 3, rows, columns), none empty, "
            f"got {array.shape}"
        )
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"`{name}` must lie between 0 and 1, got values from {array.min()} to {array.max()}"
        )
    return array


def _grid_columns(columns: int | None, tiles: np.ndarray) -> int:
    """Return the number of columns asked for, or one that makes the grid a little
    wider than high.
    """
    height, width = tiles.shape[1:3]
    best = math.ceil(math.sqrt(1.4 * len(tiles) * height / width))
    return min(len(tiles), best if columns is None else _positive("columns", columns))


def _ink(images: np.ndarray, color: str) -> np.ndarray:
    """Return images on white paper in an ink of a colour, shape (n, rows, columns, 3)."""
    return 1 - images[..., None] * (1 - np.array(_matplotlib("colors").to_rgb(color)))


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Put each tile of `right` at the right of one of `left`, with a thin line between them."""
    if left.shape != right.shape:
        raise ValueError(
            f"`nearest` must have the shape of `images`, {left.shape[:3]}, got {right.shape[:3]}"
        )
    line = np.broadcast_to(_matplotlib("colors").to_rgb(LINE), (*left.shape[:2], 1, 3))
    return np.concatenate([left, line, right], axis=2)


def _mosaic(tiles: np.ndarray, columns: int, gap: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Lay tiles (n, height, width, 3) out in a grid.

    Return the picture and the upper left corner of each tile.
    """
    number, height, width = tiles.shape[:3]
    rows = math.ceil(number / columns)
    canvas = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3))
    canvas[:] = _matplotlib("colors").to_rgb(GAP)
    corners = [
        (gap + k // columns * (height + gap), gap + k % columns * (width + gap))
        for k in range(number)
    ]
    for tile, (row, column) in zip(tiles, corners, strict=True):
        canvas[row : row + height, column : column + width] = tile
    return canvas, corners


def _picture(canvas: np.ndarray, title: str | None, ax: Axes | None) -> tuple[Figure, Axes]:
    """Return a figure of at most 10 by 10 inches that shows the picture pixel by pixel."""
    height, width = canvas.shape[:2]
    if ax is None:
        inches = min(10 / max(height, width), 0.06)
        axes = _figure((width * inches, height * inches)).add_axes((0, 0, 1, 1))
    else:
        axes = ax
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    _title(axes, title)
    return _figure_of(axes), axes


def _chart(
    xlabel: str,
    ylabel: str | None,
    title: str | None,
    ax: Axes | None,
    size: tuple[float, float] = (6.4, 4.0),
) -> tuple[Figure, Axes]:
    axes = _figure(size).add_subplot() if ax is None else ax
    axes.set_xlabel(xlabel, color=TEXT)
    axes.set_ylabel(ylabel or "", color=TEXT)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=TEXT, left=False)
    _title(axes, title)
    return _figure_of(axes), axes


def _figure(size: tuple[float, float]) -> Figure:
    """A figure outside pyplot, which nobody need close, and which notebooks show."""
    figure: Figure = _matplotlib("figure").Figure(figsize=size)
    _matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    setattr(figure, "_repr_png_", partial(_png, figure))  # noqa: B010
    return figure


def _figure_of(axes: Axes) -> Figure:
    return cast("Figure", axes.figure)


def _png(figure: Figure) -> bytes:
    """The picture that a notebook shows."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=100, bbox_inches="tight", pad_inches=0.12, facecolor="white"
    )
    return buffer.getvalue()


def _title(axes: Axes, title: str | None) -> None:
    axes.set_title(title or "", loc="left", fontsize=11, color=TEXT)


def _read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(row: Row, key: str) -> float:
    try:
        return float(row[key])
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            f"`history` must hold numbers under {key!r}, got the row {dict(row)}"
        ) from None
