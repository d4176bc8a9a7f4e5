"""Picture of the package's parts and of the imports between them, read from the source.

Example:
    python tools/picture_rooms.py --out docs/images/rooms.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.house import BESIDE, CORE, PACKAGE, imports_of, part_of  # noqa: E402  # the checkout is on the path now

PRIVATE = "private files (_*.py)"


def imports_between_parts(root: Path) -> set[tuple[str, str]]:
    """Pairs (importing part, imported part) of the package under ``root``; private
    files are one part.
    """
    package = root / PACKAGE
    pairs: set[tuple[str, str]] = set()
    for file in sorted(package.rglob("*.py")):
        part = part_of(file, package)
        for _, target in imports_of(file, root):
            names = target.split(".")
            if names[0] != PACKAGE or len(names) < 2 or not part:
                continue
            pairs.add((_room(part), _room(names[1])))
    rooms = {*CORE, *BESIDE, PRIVATE}
    return {
        (source, target)
        for source, target in pairs
        if source != target and {source, target} <= rooms
    }


def _room(part: str) -> str:
    if part.startswith("_"):
        return PRIVATE
    return part


def draw(pairs: set[tuple[str, str]], path: Path) -> None:
    """Draw the core as a row, the parts beside it above, the private files below.

    Grey arrows are imports.
    """
    from matplotlib import pyplot

    centres = {part: (3.0 * i, 2.0) for i, part in enumerate(CORE)}
    centres |= {part: (2.0 * i, 4.6) for i, part in enumerate(sorted(BESIDE))}
    centres[PRIVATE] = (6.0, 0.0)
    figure, axes = pyplot.subplots(figsize=(9, 4))
    boxes = {}
    for part, (x, y) in centres.items():
        face = "#dbe9f6" if part in CORE else "#f2f2f2"
        box = {"boxstyle": "round,pad=0.4", "facecolor": face, "edgecolor": "0.3"}
        boxes[part] = axes.text(
            x, y, part, ha="center", va="center", fontsize=10, bbox=box, zorder=3
        )
    figure.canvas.draw()  # the boxes have their sizes now
    for source, target in sorted(pairs):
        if target == PRIVATE:
            continue  # every part imports them
        in_core = source in CORE and target in CORE
        curve = 0.0
        if in_core and CORE.index(source) - CORE.index(target) > 1:
            curve = -0.3
        style = {
            "arrowstyle": "-|>",
            "color": "black" if in_core else "0.6",
            "connectionstyle": f"arc3,rad={curve}",
            "patchA": boxes[source].get_bbox_patch(),
            "patchB": boxes[target].get_bbox_patch(),
        }
        axes.annotate("", xy=centres[target], xytext=centres[source], arrowprops=style, zorder=2)
    axes.text(
        6.0,
        -0.75,
        "any part may import them; they import nothing of the package",
        ha="center",
        fontsize=8,
    )
    axes.set_xlim(-1.2, 13.2)
    axes.set_ylim(-1.1, 5.3)
    axes.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main(arguments: argparse.Namespace) -> None:
    """Write the picture."""
    pairs = imports_between_parts(ROOT)
    draw(pairs, arguments.out)
    print(f"{len(pairs)} arrows, written to {arguments.out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "rooms.png")
    main(parser.parse_args())
