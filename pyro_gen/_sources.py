"""Public collections of binary and grey data, and their conversion to npz files."""

from __future__ import annotations

import bz2
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COMMIT = "37d53c1a8ba488d0a39e8c64bd3387577080b143"
DENSITY_ESTIMATION = (
    f"https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/{COMMIT}/datasets/"
)
LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
USPS_INK = 2000
"""Full ink of USPS: its pixels from -1 to 1 have three digits."""


@dataclass(frozen=True)
class Source:
    """A data set by the files that it is made of.

    Args:
        files: checksum by address.
        convert: the arrays of the npz file, from the files in their order.
    """

    files: Mapping[str, str]
    convert: Callable[[list[Path]], dict[str, Any]]


def _packed(files: list[Path], columns: int, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Three texts of zeros and ones, one row a line, packed."""
    arrays: dict[str, Any] = {"D": columns}
    for split, file in zip(("train", "valid", "test"), files, strict=True):
        characters = np.frombuffer(file.read_bytes(), np.uint8)
        digits = characters[(characters == ord("0")) | (characters == ord("1"))] - ord("0")
        arrays[split] = np.packbits(digits.reshape(-1, columns), axis=1)
    if shape is not None:
        arrays["shape"] = shape
    return arrays


def _starai(
    name: str, columns: int, *checksums: str, shape: tuple[int, ...] | None = None
) -> Source:
    """A set of the collection of UCLA's StarAI laboratory."""
    splits = zip(("train", "valid", "test"), checksums, strict=True)
    files = {
        f"{DENSITY_ESTIMATION}{name}/{name}.{split}.data": f"sha256:{checksum}"
        for split, checksum in splits
    }
    return Source(files, lambda paths: _packed(paths, columns, shape))


def _libsvm(files: list[Path]) -> dict[str, Any]:
    """USPS: a digit from 1 to 10 and its pixels from -1 to 1 a line."""
    arrays: dict[str, Any] = {"scale": float(USPS_INK)}
    for split, file in zip(("train", "test"), files, strict=True):
        lines = [line.split() for line in bz2.decompress(file.read_bytes()).decode().splitlines()]
        images = np.zeros((len(lines), 256))
        for image, line in zip(images, lines, strict=True):
            for entry in line[1:]:
                place, value = entry.split(":")
                image[int(place) - 1] = (float(value) + 1) / 2
        inks = np.rint(images * USPS_INK).astype(np.uint16)
        arrays[f"x_{split}"] = inks.reshape(-1, 16, 16)
        arrays[f"y_{split}"] = np.array([int(line[0]) - 1 for line in lines], np.uint8)
    return arrays


def _archive(files: list[Path]) -> dict[str, Any]:
    """An npz file that has the right arrays already."""
    with np.load(files[0]) as arrays:
        return dict(arrays)


SOURCES: Mapping[str, Source] = {
    "nltcs": _starai(
        "nltcs",
        16,
        "e547a7aedad1dd2f7177030881ab1b92c7e24ae5464c71a0f1f89daecaf52b30",
        "93bbbf5c6febdc9bc6e5b5bfab636f4dc0685ab2896d24b23dd267794c3bfcf6",
        "f9ffa6b74b27dc03bee3203d157ee31079e80b13be40d0c0093d635c25aed523",
    ),
    "plants": _starai(
        "plants",
        69,
        "1fb1219ff94068d12a563f9e81f8889a1885f41e867884cff608669300c6848f",
        "47834ed318b2d74f48e4b083226ef47fd446d41986012ceae19d230574821b34",
        "95f53c033cd1d86467aec2610dc5bfe014534206c2da4919f73bcab246ab8755",
    ),
    "bnetflix": _starai(
        "bnetflix",
        100,
        "73c87cf0635ec734cc0726a5c644b904ff33e81ea51f1049db0e77b787ebad7c",
        "7f0a3e597c6f305f707f9ecd2b2aa523c576cdb17fdc5d902fc832ebea5163de",
        "af73990782fd2f146d96059855c4f3bbb6a7a7caefc417ff620a3ed1415a2395",
    ),
    "dna": _starai(
        "dna",
        180,
        "bb8de0ca4b6ad9b610036b7a302962ebecd4b504354b14c02c7d0bee48d207d9",
        "4b0fc89cda5eaf5c75926e281afb6af99de194a546070d5b81b524ba251f4f3f",
        "fec3ae7b26804020a9c43c99828441c5e08bb76b23719368a74ad2b09af99100",
    ),
    "mushrooms": _starai(
        "mushrooms",
        112,
        "465c712c066bbbee3ccceded24bbe42b4c379df67b524e28cce9bf3a8b83f27b",
        "5a067e6854df71623415e6adc8e913cbff766637a324788882ba800907aa5385",
        "313c5f04b5d0a18bee2f2ffa264be265d09f5362aad6f714637acd9552f81aa0",
    ),
    "binarized_mnist": _starai(
        "binarized_mnist",
        784,
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        shape=(28, 28),
    ),
    "mnist_gray": Source(
        {
            f"{KERAS}mnist.npz": "sha256:"
            "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
        },
        _archive,
    ),
    "usps": Source(
        {
            f"{LIBSVM}usps.bz2": "md5:ec16c51db3855ca6c91edd34d0e9b197",
            f"{LIBSVM}usps.t.bz2": "md5:8ea070ee2aca1ac39742fdd1ef5ed118",
        },
        _libsvm,
    ),
}
"""Data sets that `pyro_gen.datasets.load` and `load_gray` download."""


def download(source: Source, folder: Path, retrieve: Callable[..., str]) -> dict[str, Any]:
    """Arrays of a data set, from files that are fetched into a folder.

    Args:
        source: the set.
        folder: where the files are put.
        retrieve: `pooch.retrieve`.

    Returns:
        What the npz file of the set holds.
    """
    files = [
        Path(
            retrieve(
                url,
                known_hash=checksum,
                fname=url.rsplit("/", 1)[-1],
                path=folder,
                progressbar=True,
            )
        )
        for url, checksum in source.files.items()
    ]
    return source.convert(files)


__all__ = ["SOURCES", "Source", "download"]
