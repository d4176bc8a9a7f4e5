"""Pictures: grids of samples, filters, learning curves and sweeps.

Every function returns a `matplotlib.figure.Figure` that belongs to no window
and to no global state of `pyplot`: a notebook shows it, `save` writes it.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["filters", "learning_curve", "log_weights", "sample_grid", "save", "sweep"]

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
) -> Figure:
    """Show images side by side, each with its nearest training image if these are given.

    A sample that equals its neighbour was memorised; samples that look alike
    did not mix.

    Args:
        images: shape (n, rows, columns), from 0 (white) to 1 (ink), or in colour
            (n, 3, rows, columns), red, green and blue from 0 to 1.
        nearest: for each image the one to be shown in blue at its right, same
            shape.
        titles: for each image a few characters above it.
        columns: images in a row of the grid; about as many as makes the picture
            square by default.
        title: a line above the picture.

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
    figure, axes = _picture(canvas, title)
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
    figure, axes = _picture(canvas, title)
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
    figure, axes = _chart(x, ylabel, title)
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
    figure, axes = _chart(xlabel, ylabel, title)
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
    figure, axes = _chart("log weight of a chain [nats]", "density", title)
    together = np.concatenate(list(arrays.values()))
    bins = np.linspace(together.min(), together.max() + 1e-6, 60).tolist()
    for (name, values), color in zip(arrays.items(), COLORS, strict=False):
        axes.hist(values, bins, density=True, color=color, alpha=0.55, label=name)
    if bracket is not None:
        axes.axvspan(*bracket, color=COLORS[2], alpha=0.3, linewidth=0, label="bracket")
    axes.legend(frameon=False, fontsize=9, labelcolor=TEXT)
    return figure


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


def _picture(canvas: np.ndarray, title: str | None) -> tuple[Figure, Axes]:
    """Return a figure of at most 10 by 10 inches that shows the picture pixel by pixel."""
    height, width = canvas.shape[:2]
    inches = min(10 / max(height, width), 0.06)
    figure = _figure((width * inches, height * inches))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    _title(axes, title)
    return figure, axes


def _chart(xlabel: str, ylabel: str | None, title: str | None) -> tuple[Figure, Axes]:
    figure = _figure((6.4, 4.0))
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, color=TEXT)
    axes.set_ylabel(ylabel or "", color=TEXT)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=TEXT, left=False)
    _title(axes, title)
    return figure, axes


def _figure(size: tuple[float, float]) -> Figure:
    figure: Figure = _matplotlib("figure").Figure(figsize=size)
    _matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


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
