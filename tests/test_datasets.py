"""Data sets: what is shipped is the original, what is generated is complete, a broken file says that it is broken."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch

from pyro_gen import datasets

SPLITS = ("train", "valid", "test")
Arrays = dict[str, Any]


def arrays(rows: int = 20, width: int = 11) -> Arrays:
    generator = np.random.default_rng(0)
    made: Arrays = {"D": np.array(width), "shape": np.array([1, width]), "classes": np.array(["a", "b"])}
    for split in SPLITS:
        made[split] = np.packbits(generator.random((rows, width)) < 0.5, axis=1)
        made[f"n_{split}"] = np.array(rows)
        made[f"y_{split}"] = np.arange(rows, dtype=np.uint8) % 2
    return made


def gray_arrays() -> Arrays:
    images = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
    labels = np.array([3, 1], dtype=np.uint8)
    return {"x_train": images, "y_train": labels, "x_test": images[:1], "y_test": labels[:1], "scale": np.array(40.0)}


def write(path: Path, content: Arrays) -> Path:
    np.savez_compressed(path, **content)
    return path


def test_alphadigits_is_the_whole_collection_once() -> None:
    data = datasets.alphadigits()
    assert isinstance(data, datasets.LabelledImages)
    assert (data.name, data.shape, data.classes) == (
        "alphadigits",
        (20, 16),
        tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    )
    assert data.train.dtype == torch.float32
    index = torch.cat([getattr(data, f"{split}_index") for split in SPLITS])
    labels = torch.cat([getattr(data, f"{split}_labels") for split in SPLITS])
    assert index.sort().values.equal(torch.arange(36 * 39))
    assert labels.equal(index // 39)
    for split, each in zip(SPLITS, (29, 5, 5), strict=True):
        assert getattr(data, f"{split}_labels").bincount().tolist() == [each] * 36
        assert set(getattr(data, split).unique().tolist()) == {0.0, 1.0}


def test_alphadigits_are_the_bits_of_the_original() -> None:
    # Ink per split, counted in the source file: a shifted row, a flipped bit order or a lost image changes it.
    data = datasets.alphadigits(dtype=torch.float64)
    assert [int(getattr(data, split).sum()) for split in SPLITS] == [136964, 24546, 23836]
    assert data.train.dtype == torch.float64
    top, bottom = data.train[0].reshape(20, 16)[[0, -1]]
    assert "".join(str(int(pixel)) for pixel in top) == "0000011100000000"
    assert bottom.sum() == 10


def test_chosen_characters_keep_their_images_in_the_order_asked_for() -> None:
    everything, some = datasets.alphadigits(), datasets.alphadigits(["C", "A"])
    assert some.classes == ("C", "A")
    assert some.train.shape == (58, 320)
    for new, old in ((0, 12), (1, 10)):
        assert some.train[some.train_labels == new].equal(everything.train[everything.train_labels == old])
    assert sorted(set((some.test_index // 39).tolist())) == [10, 12]


def test_labelled_images_need_all_their_fields() -> None:
    data = datasets.alphadigits("AB")
    with pytest.raises(TypeError, match="required positional arguments: 'train_labels'"):
        datasets.LabelledImages(data.name, data.train, data.valid, data.test)  # type: ignore[call-arg]  # what is tested


@pytest.mark.parametrize(
    ("characters", "message"), [(["A", "ä", "b"], "unknown 'ä', 'b'"), ("AA", "each once"), ([], "one or more")]
)
def test_bad_characters_are_named(characters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.alphadigits(characters)


@pytest.mark.parametrize(
    ("rows", "columns", "count"), [(3, 3, 14), (4, 4, 30), (2, 3, 10), (1, 3, 8), (3, 1, 8), (1, 1, 2)]
)
def test_bars_and_stripes_are_all_there_is_each_once(rows: int, columns: int, count: int) -> None:
    x = datasets.bars_and_stripes(rows, columns, dtype=torch.int64)
    images = itertools.product((0, 1), repeat=rows * columns)
    grids = (np.array(image).reshape(rows, columns) for image in images)
    wanted = {tuple(g.ravel().tolist()) for g in grids if (g == g[:1]).all() or (g == g[:, :1]).all()}
    assert {tuple(row) for row in x.tolist()} == wanted
    assert len(x) == len(wanted) == count
    both = datasets.bars_and_stripes(rows, columns, distinct=False)
    assert len(both) == 2**rows + 2**columns == count + 2


@pytest.mark.parametrize(
    ("sides", "message"), [((0, 3), "`rows` must be at least 1, got 0"), ((3, 17), "between 1 and 16, got 3 and 17")]
)
def test_bars_and_stripes_refuse_impossible_sides(sides: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.bars_and_stripes(*sides)


def test_load_finds_a_set_by_name_by_path_and_under_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = arrays()
    path = write(tmp_path / "coins.npz", content)
    monkeypatch.setenv("PYRO_GEN_DATA", str(tmp_path))
    for data in (
        datasets.load("coins"),
        datasets.load(path),
        datasets.load(str(path)),
        datasets.load("coins", root=tmp_path),
    ):
        assert (data.name, data.shape, data.classes) == ("coins", (1, 11), ("a", "b"))
        assert data.train.equal(torch.from_numpy(np.unpackbits(content["train"], axis=1, count=11)).float())
        assert data.valid_labels is not None
        assert data.valid_labels.tolist() == [0, 1] * 10


def test_load_finds_the_shipped_characters_unless_a_folder_is_named(tmp_path: Path) -> None:
    assert datasets.load("alphadigits").train.equal(datasets.alphadigits().train)
    assert datasets.load("alphadigits", dtype=torch.float64).train.dtype == torch.float64
    write(tmp_path / "alphadigits.npz", arrays())
    assert datasets.load("alphadigits", tmp_path).train.shape == (20, 11)


def test_images_of_a_file_have_classes_and_places(tmp_path: Path) -> None:
    content = arrays()
    both = datasets.load_images(write(tmp_path / "coins.npz", content))
    assert isinstance(both, datasets.LabelledImages)
    assert (both.shape, both.classes, both.valid_index.tolist()) == ((1, 11), ("a", "b"), list(range(20, 40)))
    second = datasets.load_images(tmp_path / "coins.npz", classes=["b"])
    assert second.train.equal(both.train[1::2])
    assert (second.classes, second.train_labels.tolist(), second.train_index[:2].tolist()) == (("b",), [0] * 10, [1, 3])
    del content["classes"]
    content["y_test"] = content["y_test"] + 2  # a class that training lacks
    content |= {f"index_{split}": np.arange(20)[::-1] for split in SPLITS}
    unnamed = datasets.load_images(write(tmp_path / "unnamed.npz", content), dtype=torch.float64)
    assert (unnamed.classes, unnamed.train.dtype) == (("0", "1", "2", "3"), torch.float64)
    assert unnamed.test_index.tolist() == list(range(20))[::-1]


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        (
            ("shape",),
            "need images of rows and columns, and `coins` holds none: its `shape` must be two numbers, got None",
        ),
        (("y_valid", "y_test"), "coins must hold the labels of its images, lacks `y_valid`, `y_test`"),
    ],
)
def test_what_images_lack_is_named(lacking: tuple[str, ...], message: str, tmp_path: Path) -> None:
    content = {key: value for key, value in arrays().items() if key not in lacking}
    with pytest.raises(ValueError, match=f"{message}$"):
        datasets.load_images(write(tmp_path / "coins.npz", content))


def test_classes_that_images_do_not_have_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "coins.npz", arrays())
    with pytest.raises(ValueError, match="`classes` must be among a b, got unknown 'c'"):
        datasets.load_images(path, classes=["a", "c"])
    content = arrays() | {"shape": np.array([1, 11, 1])}
    with pytest.raises(ValueError, match=r"its `shape` must be two numbers, got \(1, 11, 1\)"):
        datasets.load_images(write(path, content))


def test_load_needs_only_the_rows(tmp_path: Path) -> None:
    content = arrays()
    path = write(tmp_path / "bare.npz", {key: content[key] for key in ("D", *SPLITS)})
    data = datasets.load(path)
    assert data.test.shape == (20, 11)
    assert (data.shape, data.classes, data.test_labels, data.test_index) == (None, None, None, None)


def test_a_missing_file_is_named_with_the_way_to_say_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz; set PYRO_GEN_DATA or pass `root`"):
        datasets.load("nothing", root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz$"):
        datasets.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [
        ("linux", "XDG_CACHE_HOME", "cache/pyro_gen"),
        ("win32", "LOCALAPPDATA", "cache/pyro_gen"),
        ("darwin", "HOME", "cache/Library/Caches/pyro_gen"),
    ],
)
def test_the_default_folder_is_the_users_cache(
    platform: str, variable: str, tail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYRO_GEN_DATA", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    assert datasets.data_folder() == tmp_path / tail
    assert datasets.data_folder(tmp_path) == tmp_path


BROKEN: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "missing split": (lambda z: z.pop("valid"), "no array `valid`"),
    "missing D": (lambda z: z.pop("D"), "without `D`, `train` must be rows of 2 zeros and ones, got uint8"),
    "short rows": (
        lambda z: z.update(train=z["train"][:, :1]),
        r"`train` must be .* \(20, 2\), got uint8 of shape \(20, 1\)",
    ),
    "lost row": (lambda z: z.update(test=z["test"][:-1]), r"`test` must be .* \(20, 2\), got uint8 of shape \(19, 2\)"),
    "no row": (lambda z: [z.pop("n_train"), z.update(train=z["train"][:0])], r"`train` must be .* got .* \(0, 2\)"),
    "unpacked": (lambda z: z.update(train=z["train"].astype(float)), "`train` must be .* got float64"),
    "flat": (lambda z: [z.pop("n_train"), z.update(train=z["train"].ravel())], r"got uint8 of shape \(40,\)"),
    "scalar": (lambda z: [z.pop("n_train"), z.update(train=np.array(3))], r"got int64 of shape \(\)"),
    "D of zero": (lambda z: z.update(D=np.array(0)), "`D` must be one positive number"),
    "D as a list": (lambda z: z.update(D=np.array([11, 11])), "`D` must be one positive number"),
    "shape": (lambda z: z.update(shape=np.array([3, 4])), r"`shape` must multiply to D = 11, got \(3, 4\)"),
    "labels": (lambda z: z.update(y_test=z["y_test"][1:]), r"`y_test` must have shape \(20,\)"),
    "negative label": (lambda z: z.update(y_test=-z["y_test"].astype(int)), "`y_test` must .* from 0 on"),
    "label without class": (lambda z: z.update(y_test=z["y_test"] + 1), "test_labels must be below 2"),
    "pickle": (lambda z: z.update(train=np.array([{"a": 1}], dtype=object)), "allow_pickle=False"),
    "grey": (lambda z: z.update(x_train=z["train"]), "`load_gray` reads"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_wrong_file_is_named_with_the_reason(mistake: str, tmp_path: Path) -> None:
    content = arrays()
    spoil, reason = BROKEN[mistake]
    spoil(content)
    with pytest.raises(ValueError, match=rf"(?s)wrong\.npz is not .*{reason}"):
        datasets.load(write(tmp_path / "wrong.npz", content))


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz", arrays()).read_bytes()
    part = tmp_path / "part.npz"
    for size in range(0, len(whole), 37):
        part.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"part\.npz is not a readable data set"):
            datasets.load(part)


def test_a_flipped_byte_is_an_error_or_harmless(tmp_path: Path) -> None:
    path = write(tmp_path / "flip.npz", arrays())
    whole, good, caught = path.read_bytes(), datasets.load(path), 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            data = datasets.load(path)
        except ValueError as error:
            assert "flip.npz" in str(error)  # noqa: PT017 (either outcome is right; the error must name the file)
            caught += 1
        else:
            assert all(getattr(data, split).equal(getattr(good, split)) for split in SPLITS)
    assert caught > len(whole) / 5 / 2


def test_gray_images_are_scaled_to_one(tmp_path: Path) -> None:
    content = gray_arrays()
    data = datasets.load_gray(write(tmp_path / "gray.npz", content))
    assert (data.name, data.shape, data.train.dtype) == ("gray", (3, 4), torch.float32)
    torch.testing.assert_close(data.train, torch.arange(24.0).reshape(2, 12) / 40)
    assert data.train_labels.tolist() == [3, 1]
    assert data.test_labels.tolist() == [3]
    del content["scale"]
    torch.testing.assert_close(
        datasets.load_gray(write(tmp_path / "byte.npz", content)).test, torch.arange(12.0)[None] / 255
    )


GRAY_BROKEN: dict[str, tuple[Arrays, str]] = {
    "flat": ({"x_train": np.zeros((2, 12), np.uint8)}, r"`x_train` must be unsigned, .* got uint8 of shape \(2, 12\)"),
    "sizes": ({"x_test": np.zeros((1, 4, 4), np.uint8)}, "`x_test` must .* sized alike"),
    "labels": ({"y_train": np.arange(5)}, r"`y_train` must have shape \(2,\)"),
    "ink": ({"scale": np.array(10.0)}, "at most 10, the value of full ink, got 23"),
    "scale": ({"scale": np.array(np.nan)}, "`scale` must be one positive number"),
}


@pytest.mark.parametrize("mistake", GRAY_BROKEN)
def test_wrong_gray_images_are_named_with_the_reason(mistake: str, tmp_path: Path) -> None:
    change, reason = GRAY_BROKEN[mistake]
    with pytest.raises(ValueError, match=rf"gray\.npz is not .*{reason}"):
        datasets.load_gray(write(tmp_path / "gray.npz", gray_arrays() | change))


def test_every_pass_gives_every_row_once_in_a_new_order() -> None:
    batches = datasets.minibatches(torch.arange(1000.0)[:, None], 3)
    first, second = (torch.cat(list(batches)).flatten() for _ in range(2))
    assert first.sort().values.equal(torch.arange(1000.0))
    assert second.sort().values.equal(torch.arange(1000.0))
    assert not first.equal(second)
    sizes = [len(batch) for batch in batches]
    assert sizes == [3] * 333 + [1]
    assert len(batches) == 334 == math.ceil(1000 / 3)


def test_the_order_follows_pyros_seed() -> None:
    batches = datasets.minibatches(torch.arange(50), 7)
    orders = []
    for _ in range(2):
        pyro.set_rng_seed(3)
        orders.append(torch.cat(list(batches)).tolist())
    assert orders[0] == orders[1]


def test_orders_are_uniform() -> None:
    # 6 orders of 3 rows in 6000 passes: chi-squared with 5 degrees of freedom exceeds 30.9 once in 1e5.
    batches = datasets.minibatches(torch.arange(3), 3)
    seen = [tuple(batch.tolist()) for _ in range(6000) for batch in batches]
    counts = np.array([seen.count(order) for order in itertools.permutations(range(3))])
    assert ((counts - 1000) ** 2 / 1000).sum() < 30.9


def test_batches_in_order_and_of_several_dimensions() -> None:
    x = torch.arange(24).reshape(4, 3, 2)
    assert torch.cat(list(datasets.minibatches(x, 3, shuffle=False))).equal(x)
    (batch,) = datasets.minibatches(x, 9)
    assert batch.shape == x.shape


@pytest.mark.parametrize(
    ("x", "size", "message"),
    [
        (torch.zeros(0, 3), 2, r"at least one row, got shape \(0, 3\)"),
        (torch.tensor(1.0), 2, "at least one row"),
        (torch.zeros(4, 3), 0, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_empty_data_and_empty_batches_are_refused(x: torch.Tensor, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.minibatches(x, size)


def test_shifted_moves_some_images_by_one_pixel() -> None:
    image = torch.zeros(3, 4)
    image[1, 2] = 1
    x = image.flatten().repeat(4000, 1)
    moved = datasets.shifted(x, (3, 4), 0.5).view(-1, 3, 4)
    expected = torch.zeros(3, 4)
    expected[1, 2] = 0.5
    expected[0, 2] = expected[2, 2] = expected[1, 1] = expected[1, 3] = 0.125
    # Twelve cells, five of them random with sd at most 0.008: five sd is a false alarm of 3e-6 for a fresh seed.
    torch.testing.assert_close(moved.mean(0), expected, rtol=0, atol=0.04)
    assert torch.equal(datasets.shifted(x, (3, 4), 0.0), x)


def test_shifted_fills_with_zeros_at_the_border() -> None:
    moved = datasets.shifted(torch.ones(100, 6), (2, 3), 1.0)
    assert set(moved.sum(1).tolist()) == {3.0, 4.0}


@pytest.mark.parametrize(
    ("shape", "probability", "message"),
    [((2, 2), 0.5, "`shape`"), ((2, 3), 1.5, "`probability`"), ((2, 3), -0.1, "`prob")],
)
def test_shifted_names_what_is_wrong(shape: tuple[int, int], probability: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.shifted(torch.ones(2, 6), shape, probability)


def test_warped_bends_by_the_distribution_it_states() -> None:
    # A pixel beside an edge sees the other side with a probability that is known exactly where it looks by a normal
    # draw: p + E p for the affine part, the draw itself at a control point of the elastic one.
    count, normal = 20_000, torch.distributions.Normal(0.0, 1.0)
    image = torch.zeros(16, 16)
    image[:, 8:] = 1  # edge at x = 0
    bent = datasets.warped(image.flatten().repeat(count, 1), (16, 16), 1.0, affine=0.2, elastic=0.0).view(-1, 16, 16)
    x, y = torch.tensor(0.5), torch.tensor(3.5)  # the pixel in row 11 and column 8, from the centre
    expected = normal.cdf(x / (0.2 * (x**2 + y**2).sqrt()))
    # sd of a share below 0.0036: five of them, twice, are a false alarm of 1e-6 for a fresh seed.
    torch.testing.assert_close(bent[:, 11, 8].mean(), expected, rtol=0, atol=0.018)
    image = torch.zeros(16, 16)
    image[:, 6:] = 1
    bent = datasets.warped(image.flatten().repeat(count, 1), (16, 16), 1.0, affine=0.0, elastic=0.7).view(-1, 16, 16)
    torch.testing.assert_close(bent[:, 5, 5].mean(), normal.cdf(torch.tensor(-0.5 / 0.7)), rtol=0, atol=0.018)


def test_warped_shears_pixels_and_not_their_coordinates() -> None:
    image = torch.zeros(4, 32)  # flat: a unit of the coordinates is 2 rows, or 16 columns
    image[:, 16:] = 1
    bent = datasets.warped(image.flatten().repeat(20_000, 1), (4, 32), 1.0, affine=0.2, elastic=0.0).view(-1, 4, 32)
    point = torch.tensor([0.5, 0.5])
    expected = torch.distributions.Normal(0.0, 1.0).cdf(point[0] / (0.2 * point.norm()))
    torch.testing.assert_close(bent[:, 2, 16].mean(), expected, rtol=0, atol=0.018)  # sd below 0.0036


def test_warped_bends_the_share_asked_for_and_nothing_without_deviations() -> None:
    x = datasets.alphadigits(dtype=torch.float64).train
    assert torch.equal(datasets.warped(x, (20, 16), 1.0, affine=0.0, elastic=0.0), x)
    assert torch.equal(datasets.warped(x, (20, 16), 0.0), x)
    bent = datasets.warped(x, (20, 16), 0.3)
    assert bent.dtype == torch.float64
    assert set(bent.unique().tolist()) == {0.0, 1.0}
    share = (bent != x).any(1).double().mean()
    assert abs(share - 0.3) < 0.08  # sd 0.0142: 2e-8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (2, 2)}, "`shape`"),
        ({"probability": float("nan")}, "`probability`"),
        ({"affine": -0.1}, "`affine` must not be negative, got -0.1"),
        ({"elastic": float("nan")}, "`elastic`"),
    ],
)
def test_warped_names_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.warped(torch.ones(2, 6), **({"shape": (2, 3)} | settings))


@pytest.mark.parametrize("name", ["../coins", "/coins", "a/b", "a\\b", "", ".", "..", "C:coins", "coins\0"])
def test_a_name_leads_out_of_no_folder(name: str, tmp_path: Path) -> None:
    write(tmp_path / "coins.npz", arrays())
    (tmp_path / "sets").mkdir()
    for load in (datasets.load, datasets.load_gray):
        with pytest.raises(ValueError, match="`name` must be the name of a data set, without folders"):
            load(name, root=tmp_path / "sets")
    assert datasets.load("coins", root=tmp_path).train.equal(datasets.load(tmp_path / "coins.npz").train)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": np.array(["a", "b", "a"])}, "`classes` must be different names"),
        ({"shape": np.array([-1, -11])}, r"`shape` must be positive integers, got \(-1, -11\)"),
        ({"shape": np.array([1.0, 11.0])}, "`shape` must be positive integers"),
        ({"shape": np.array([], dtype=int)}, "`shape` must be positive integers"),
        ({"n_train": np.array(10**15)}, "`train` must be rows of bits"),
        ({"D": np.array(10**15)}, "`train` must be rows of bits"),
        ({"D": np.array(-11)}, "`D` must be one positive number"),
    ],
)
def test_sizes_and_names_that_cannot_be_are_refused(changes: Arrays, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "wrong.npz", arrays() | changes)
    with pytest.raises(ValueError, match=rf"wrong\.npz is not .*{message}"):
        datasets.load(file)


def test_an_array_with_another_length_than_its_header_says_is_refused(tmp_path: Path) -> None:
    import io
    import zipfile

    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(5))
    for content in (stream.getvalue() + b"\0", stream.getvalue()[:-8], stream.getvalue().replace(b"(5,)", b"(-5,)")):
        with zipfile.ZipFile(tmp_path / "wrong.npz", "w") as archive:
            archive.writestr("train.npy", content)
        with pytest.raises(ValueError, match=r"wrong\.npz is not a readable data set"):
            datasets.load(tmp_path / "wrong.npz")
    with zipfile.ZipFile(tmp_path / "wrong.npz", "w") as archive:
        archive.writestr("train.txt", "0 1")
    with pytest.raises(ValueError, match="is no array"):
        datasets.load(tmp_path / "wrong.npz")
