"""Data of a user's files and of public collections: read, divided, written, downloaded."""

from __future__ import annotations

import bz2
import hashlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gen import _sources, datasets
from pyro_gen._sources import SOURCES, Source

SPLITS = ("train", "valid", "test")
needs_data = pytest.mark.skipif("PYRO_GEN_DATA" not in os.environ, reason="needs the data folder")


def rows(n: int = 40, width: int = 11) -> np.ndarray:
    return (np.random.default_rng(0).random((n, width)) < 0.5).astype(np.uint8)


class Quiet(SimpleHTTPRequestHandler):
    """A server without a log."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a web server."""
    folder = tmp_path / "web"
    folder.mkdir()
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}/", folder
    web.shutdown()
    thread.join()
    web.server_close()


def publish(server: tuple[str, Path], splits: dict[str, np.ndarray]) -> Source:
    """A set as UCLA's collection has it."""
    address, folder = server
    files = {}
    for split, x in splits.items():
        text = "".join(",".join(map(str, row)) + "\n" for row in x)
        (folder / f"coins.{split}.data").write_text(text)
        files[f"{address}coins.{split}.data"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return Source(files, lambda paths: _sources._packed(paths, x.shape[1], None))


def test_a_public_set_is_downloaded_once(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {split: rows()[start::3] for start, split in enumerate(SPLITS)}
    monkeypatch.setattr(datasets, "SOURCES", {"coins": publish(server, splits)})
    data = datasets.load("coins", tmp_path / "sets")
    assert all(np.array_equal(getattr(data, split), x) for split, x in splits.items())
    assert [file.name for file in (tmp_path / "sets").iterdir()] == ["coins.npz"]
    for file in server[1].iterdir():
        file.unlink()
    assert torch.equal(datasets.load("coins", tmp_path / "sets").test, data.test)
    assert datasets.available("coins", "alphadigits", tmp_path / "sets") == "coins"


@pytest.mark.parametrize("fault", ["changed", "missing", "no pooch", "no network"])
def test_what_cannot_be_downloaded_is_named_with_the_way_out(
    fault: str, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = publish(server, dict.fromkeys(SPLITS, rows()))
    if fault == "changed":
        file = server[1] / "coins.valid.data"
        file.write_text(file.read_text().replace("1", "0", 1))
    elif fault == "missing":
        (server[1] / "coins.test.data").unlink()
    elif fault == "no pooch":
        monkeypatch.setitem(sys.modules, "pooch", None)
    else:
        source = Source({"http://127.0.0.1:9/coins.data": "md5:0"}, source.convert)
    monkeypatch.setattr(datasets, "SOURCES", {"coins": source})
    folder = tmp_path / "sets"
    reason = r"pip install pyro-gen\[data\]" if fault == "no pooch" else ""
    message = rf"(?s)no data file .*coins\.npz, and it could not be downloaded: .*{reason}.* or get http://127"
    with pytest.raises(FileNotFoundError, match=message):
        datasets.load("coins", folder)
    assert not folder.exists() or not list(folder.iterdir())
    with pytest.warns(UserWarning, match="`alphadigits` in place of `coins`: there is no data file"):
        assert datasets.available("coins", "alphadigits", folder) == "alphadigits"


@needs_data
@pytest.mark.parametrize("name", ["nltcs", "plants", "bnetflix", "dna", "mushrooms", "binarized_mnist"])
def test_the_checksums_are_those_of_the_sets_of_the_figures(name: str) -> None:
    data = datasets.load(name, dtype=torch.uint8)
    separator = " " if name == "binarized_mnist" else ","
    for split, checksum in zip(SPLITS, SOURCES[name].files.values(), strict=True):
        x = getattr(data, split).numpy()
        text = np.full((len(x), 2 * x.shape[1]), ord(separator), np.uint8)
        text[:, ::2] = x + ord("0")
        text[:, -1] = ord("\n")
        assert checksum == f"sha256:{hashlib.sha256(text.tobytes()).hexdigest()}"


@needs_data
def test_usps_is_converted_as_the_file_of_the_figures(tmp_path: Path) -> None:
    data = datasets.load_gray("usps", dtype=torch.float64)
    files = []
    for split in ("train", "test"):
        lines = []
        for x, y in zip(getattr(data, split)[:50], getattr(data, f"{split}_labels"), strict=False):
            entries = (f"{place}:{value:.6g}" for place, value in enumerate(2 * x.numpy() - 1, 1))
            lines.append(f"{int(y) + 1} {' '.join(entries)}\n")
        files.append(tmp_path / split)
        files[-1].write_bytes(bz2.compress("".join(lines).encode()))
    np.savez(tmp_path / "usps.npz", **_sources._libsvm(files))
    again = datasets.load_gray(tmp_path / "usps.npz", dtype=torch.float64)
    assert torch.equal(again.train, data.train[:50])
    assert torch.equal(again.test_labels, data.test_labels[:50])


@pytest.mark.parametrize("kind", ["tensor", "numpy", "list", "frame", "bool"])
def test_split_takes_every_kind_of_rows(kind: str) -> None:
    x = rows()
    kinds = {
        "tensor": torch.from_numpy(x),
        "numpy": x,
        "list": x.tolist(),
        "frame": pd.DataFrame(x),
        "bool": x.astype(bool),
    }
    state = torch.get_rng_state()
    data = datasets.split(kinds[kind], valid=0.25, test=0.1)
    assert torch.equal(state, torch.get_rng_state())
    assert (len(data.train), len(data.valid), len(data.test)) == (26, 10, 4)
    index = torch.cat([getattr(data, f"{split}_index") for split in SPLITS])
    assert sorted(index.tolist()) == list(range(40))
    assert np.array_equal(torch.cat([data.train, data.valid, data.test]), x[index])


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        (2 * rows(), {}, "matrix of zeros and ones.* with the value 2"),
        (rows()[0], {}, "matrix of zeros and ones"),
        ("coins", {}, "got str"),
        ([[0, 1], [None, 1]], {}, "matrix of zeros and ones.* with the value nan"),
        (rows(5), {}, "`valid` and `test` must be shares"),
        (rows(), {"valid": 0.6, "test": 0.4}, "`valid` and `test` must be shares"),
    ],
)
def test_split_refuses_what_is_not_binary_or_leaves_a_part_empty(
    x: object, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.split(x, **settings)


TEXTS = {
    "rows.csv": lambda frame: frame.to_csv(index=False),
    "semicolons.csv": lambda frame: frame.to_csv(index=False, sep=";"),
    "plain.csv": lambda frame: frame.to_csv(index=False, header=False),
    "rows.tsv": lambda frame: frame.to_csv(index=False, sep="\t"),
    "floats.txt": lambda frame: "\n".join(" ".join(map(str, map(float, row))) for row in frame.to_numpy()),
    "excel.csv": lambda frame: "\ufeff" + frame.to_csv(index=False, lineterminator="\r\n"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_load_reads_texts_of_zeros_and_ones(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(rows(), columns=[f"question {k}" for k in range(11)])
    if name.endswith((".tsv", "excel.csv", "rows.csv", "semicolons.csv")):
        frame.columns = [f"q{k}" for k in range(11)]
    (tmp_path / name).write_text(TEXTS[name](frame), encoding="utf-8", newline="")
    data = datasets.load(str(tmp_path / name))
    assert data.name == Path(name).stem
    assert torch.equal(data.train, datasets.split(frame).train)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no rows"),
        ("a,b\n", "it has no rows"),
        ("0,1\n1,2\n", "2 zeros and ones, got 2 in row 2"),
        ("0,1\n1\n", "2 zeros and ones, got 1 values in row 2"),
        ("a,b\n0,1\n1,\n", "got 1 values in row 2"),
    ],
)
def test_a_text_that_is_not_binary_is_named_with_the_row(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))} is not such a data set: .*{message}"):
        datasets.load(file)


def test_load_reads_unpacked_archives(tmp_path: Path) -> None:
    x = rows()
    np.savez(tmp_path / "plain.npz", train=x[:30], valid=x[30:35].astype(bool), test=x[35:].astype(float))
    data = datasets.load(tmp_path / "plain.npz")
    assert np.array_equal(torch.cat([data.train, data.valid, data.test]), x)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    for data in (datasets.alphadigits("AB"), datasets.split(rows(), "coins", dtype=torch.float64)):
        datasets.save_binary(data, tmp_path / f"{data.name}.npz")
        again = datasets.load(tmp_path / f"{data.name}.npz", dtype=data.train.dtype)
        for name, value in vars(data).items():
            other = getattr(again, name)
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


def test_save_binary_refuses_other_values_and_endings(tmp_path: Path) -> None:
    x = torch.full((2, 3), 0.5)
    with pytest.raises(ValueError, match=r"`data.train` must be rows of 3 zeros and ones.* value 0\.5"):
        datasets.save_binary(datasets.BinaryDataset("half", x, x, x), tmp_path / "half.npz")
    with pytest.raises(ValueError, match=r"`path` must end in \.npz"):
        datasets.save_binary(datasets.alphadigits(), tmp_path / "digits.csv")
    assert list(tmp_path.iterdir()) == []


def test_mnist_has_the_arrays_of_load_gray(tmp_path: Path) -> None:
    images = np.full((2, 4, 4), 51, np.uint8)
    content: dict[str, Any] = {"x_train": images, "y_train": np.arange(2), "x_test": images, "y_test": np.arange(2)}
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    (tmp_path / "mnist.npz").write_bytes(buffer.getvalue())
    assert set(SOURCES["mnist_gray"].convert([tmp_path / "mnist.npz"])) == set(content)
