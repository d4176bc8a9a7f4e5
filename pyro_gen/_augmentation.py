"""More images than there are: small changes that leave a character what it is.
`pyro_gen.datasets` re-exports them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CONTROL_POINTS = 4
"""Rows and columns of the grid of points that an elastic distortion moves."""


def shifted(x: Tensor, shape: tuple[int, int], probability: float = 0.5) -> Tensor:
    """Move images by one pixel up, down, left or right, each with some probability:
    more data than there is.

    What moves in from outside is 0. The draws come from torch's generator.

    Args:
        x: images as rows, shape (n, rows * columns).
        shape: rows and columns of an image.
        probability: share of the images to move, between 0 and 1.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: if `shape` does not fit `x`, or `probability` is outside [0,
            1].

    Example:
        >>> _ = torch.manual_seed(0)
        >>> shifted(torch.eye(4), (2, 2), probability=1.0).sum().item() <= 4
        True
    """
    rows, columns = shape
    _check_images(x, shape, probability)
    padded = torch.nn.functional.pad(x.view(-1, rows, columns), (1, 1, 1, 1))
    corners = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # the first leaves the image where it is
    views = torch.stack([padded[:, r : r + rows, c : c + columns] for r, c in corners])
    direction = torch.randint(1, len(corners), (len(x),)) * (torch.rand(len(x)) < probability)
    return views[direction.to(x.device), torch.arange(len(x), device=x.device)].reshape(x.shape)


def warped(
    x: Tensor,
    shape: tuple[int, int],
    probability: float = 0.5,
    *,
    affine: float = 0.05,
    elastic: float = 0.5,
) -> Tensor:
    r"""Bend images smoothly, each with some probability: handwriting as another hand
    would have written it.

    A pixel at :math:`p`, counted from the centre, takes the value of the old
    image at :math:`(I + E) p + u(p)`, by bilinear interpolation and rounded to
    0 or 1. The entries of E are normal; u interpolates normal displacements of
    a grid of 4 by 4 points. What moves in from outside is 0. The draws come
    from torch's generator.

    Args:
        x: images of zeros and ones as rows, shape (n, rows * columns).
        shape: rows and columns of an image.
        probability: share of the images to bend, between 0 and 1.
        affine: standard deviation of the entries of E: shear, rotation and
            scale, 0.05 being about 3 degrees.
        elastic: standard deviation of the displacements, in pixels.

    Returns:
        Images of zeros and ones, of the same shape and dtype.

    Raises:
        ValueError: if `shape` does not fit `x`, `probability` is outside [0,
            1], or a deviation is negative.

    References:
        Simard, Steinkraus and Platt (2003), Best practices for convolutional
        neural networks applied to visual document analysis, Section 2.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> bar = torch.zeros(1, 8, 8)
        >>> bar[:, 2:6, 3:5] = 1
        >>> warped(bar.flatten(1), (8, 8), probability=1.0).unique()
        tensor([0., 1.])
    """
    _check_images(x, shape, probability)
    for name, value in (("affine", affine), ("elastic", elastic)):
        if not value >= 0:
            raise ValueError(f"`{name}` must not be negative, got {value}")
    selected = (torch.rand(len(x)) < probability).to(x.device).nonzero().squeeze(1)
    if not len(selected):
        return x.clone()
    images = x[selected].view(-1, 1, *shape)
    bent = functional.grid_sample(images, _grid(images, affine, elastic), align_corners=False)
    return x.index_copy(0, selected, (bent > 0.5).to(x.dtype).flatten(1))


def _grid(images: Tensor, affine: float, elastic: float) -> Tensor:
    """Sampling grid, (n, rows, columns, 2): coordinates (x, y) from -1 to 1 that
    each pixel reads.
    """
    count = len(images)
    (rows, columns) = images.shape[-2:]
    # of the image, in pixels: what a unit of the coordinates is
    half = torch.tensor([columns / 2, rows / 2])
    matrix = torch.eye(2) + affine * torch.randn(count, 2, 2)
    matrix = matrix * half / half[:, None]
    straight = functional.affine_grid(
        torch.cat([matrix, torch.zeros(count, 2, 1)], -1),
        [count, 1, rows, columns],
        align_corners=False,
    )
    points = elastic * torch.randn(count, 2, CONTROL_POINTS, CONTROL_POINTS)
    moved = functional.interpolate(
        points, size=(rows, columns), mode="bicubic", align_corners=True
    )
    return (straight + moved.permute(0, 2, 3, 1) / half).to(images)


def _check_images(x: Tensor, shape: tuple[int, int], probability: float) -> None:
    """Raise where images and shape, or the share, do not fit."""
    rows, columns = shape
    if x.ndim != 2 or x.shape[1] != rows * columns:
        raise ValueError(
            f"`shape` must be rows and columns of the images in `x` {tuple(x.shape)}, got "
            f"{tuple(shape)}"
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"`probability` must lie between 0 and 1, got {probability}")
