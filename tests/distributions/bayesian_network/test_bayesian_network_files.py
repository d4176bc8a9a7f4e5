"""BIF, XMLBIF and UAI files: every name survives a round trip, and what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyro_gen.distributions import BayesianNetwork, NetworkStructure
from pyro_gen.distributions.bayesian_network.files.bif import read_bif, write_bif
from pyro_gen.distributions.bayesian_network.files.common import NetworkFile
from pyro_gen.distributions.bayesian_network.files.uai import read_uai, write_uai
from pyro_gen.distributions.bayesian_network.files.xmlbif import read_xmlbif, write_xmlbif
from pyro_gen.models import BayesianNetwork as Model
from pyro_gen.testing.networks import random_structure, random_tables

ODD = (
    "Asy/Patch",
    "<5",
    "12+",
    ">=7.5",
    "0-3_days",
    "Transp.",
    "a b",
    "x, y",
    "(0;1]",
    'say "no"',
    "//",
    "table",
    "ä|ß&",
)
GOOD = """network unknown {
}
variable rain { type discrete [ 2 ] { yes, no }; }
variable wet {
  type discrete [ 3 ] { <5, 5-12, 12+ };
}
probability ( rain ) {
  table 0.2, 0.8;
}
probability ( wet | rain ) {
  (yes) 0.1, 0.2, 0.7;
  (no) 0.5, 0.25, 0.25;
}
"""


def odd_network() -> NetworkFile:
    """Nodes with the odd names, each with states of the odd names."""
    names = {f"node {name}": ODD[: 2 + i % 4] if i % 2 else ODD[-3:] for i, name in enumerate(ODD)}
    nodes = list(names)
    structure = NetworkStructure(names, {node: nodes[max(0, i - 3) : i][::-1] for i, node in enumerate(nodes)})
    return NetworkFile(structure, random_tables(structure, 0.2, seed=1))


@pytest.mark.parametrize("form", ["bif", "xml", "uai"])
@pytest.mark.parametrize("seed", range(4))
def test_a_round_trip_keeps_names_orders_and_every_bit_of_the_numbers(form: str, seed: int, tmp_path: Path) -> None:
    structure = random_structure(12, 3, seed=seed)
    network = odd_network() if seed == 0 else NetworkFile(structure, random_tables(structure, 0.2, seed))
    path = tmp_path / f"network.{form}"
    if form == "bif":
        write_bif(path, *network, name="my (odd) name")
        again = read_bif(path, normalize=False)
    elif form == "xml":
        write_xmlbif(path, *network)
        again = read_xmlbif(path, normalize=False)
    else:
        write_uai(path, *network)
        again = read_uai(path, network.structure.states, normalize=False)
        assert read_uai(path).structure.nodes[1] == "1"
    assert again.structure == network.structure
    assert torch.equal(again.tables, network.tables)


def test_a_module_writes_and_reads_itself(tmp_path: Path) -> None:
    structure, tables = odd_network()
    model = Model(structure, {node: BayesianNetwork(structure, tables).table(node) for node in structure.nodes})
    model.to_bif(tmp_path / "bif")
    model.to_xmlbif(tmp_path / "xml")
    model.to_uai(tmp_path / "uai")
    read = Model.from_bif(tmp_path / "bif"), Model.from_xmlbif(tmp_path / "xml")
    for again in (*read, Model.from_uai(tmp_path / "uai", structure.states)):
        assert again.structure == structure
        torch.testing.assert_close(again().tables, tables, rtol=1e-12, atol=0.0)
    assert Model.from_bif(tmp_path / "bif", dtype=torch.float32)().tables.dtype == torch.float32


def test_a_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "rain.bif"
    path.write_text(GOOD)
    structure, tables = read_bif(path)
    assert structure.states == {"rain": ("yes", "no"), "wet": ("<5", "5-12", "12+")}
    assert structure.parents == {"rain": (), "wet": ("rain",)}
    torch.testing.assert_close(tables, torch.tensor([0.2, 0.8, 0.1, 0.2, 0.7, 0.5, 0.25, 0.25]).double())


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_variants_of_the_format_are_read(ends: str, tmp_path: Path) -> None:
    """Comments, properties, quoted names, tables in one list (the own state slowest), defaults, and no commas."""
    text = """// a comment
    network "two words" { property version 1; }
    variable "the rain" { property weather is wet; type discrete[2] {yes no, "no, not"}; } /* more
    comments */ variable wet { type discrete [2] { a, b }; }
    variable third { type discrete [2] { a, b }; }
    probability("the rain") {// at a mark
    table 2e-1 .8;/* here too */}
    probability(wet | "the rain") { table 0.1 0.3 0.9 0.7; }
    probability(third | wet, the rain) { default 0.5 0.5; (a, yes no) 0.25, 0.75; }
    """
    path = tmp_path / "variants.bif"
    path.write_bytes(text.replace("\n", ends).encode())
    structure, tables = read_bif(path)
    assert structure.states["the rain"] == ("yes no", "no, not")
    expected = [0.2, 0.8, 0.1, 0.9, 0.3, 0.7, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    torch.testing.assert_close(tables, torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("0.5, 0.25, 0.25;\n}\n", "", 12, "cut off"),
        ("(no) 0.5, 0.25, 0.25;\n}\n", "", 11, "cut off"),
        ("table 0.2, 0.8", "table 0.2, 0.7", 8, "must sum to 1"),
        ("table 0.2, 0.8", "table 0.2, 0.80002", 8, "must sum to 1"),
        ("table 0.2, 0.8", "table 0.2, nan", 8, "from 0 to 1"),
        ("table 0.2, 0.8", "table 0.2, -0.8", 8, "from 0 to 1"),
        ("table 0.2, 0.8", "table 0.2, eight", 8, "expected a probability"),
        ("table 0.2, 0.8", "table 0.2, 0.4, 0.4", 8, "2 numbers, got 3"),
        ("(no) 0.5", "(maybe) 0.5", 12, "no state of the parent"),
        ("(no) 0.5", "(yes) 0.5", 12, "comes twice"),
        ("  (no) 0.5, 0.25, 0.25;\n", "", 10, "no row for"),
        ("( wet | rain )", "( wet | snow )", 10, "no variable 'snow'"),
        ("[ 3 ]", "[ 4 ]", 5, "4 states, got 3"),
        ("<5, 5-12", "<5, <5", 5, "same state twice"),
        ("variable wet {", "variable rain {", 4, "comes twice"),
        ("probability ( rain )", "prob ( rain )", 7, "expected 'network'"),
        ("type discrete [ 2 ]", "type continuous [ 2 ]", 3, "only discrete"),
        ("yes, no }", 'yes, "no }', 3, "quotation mark"),
        ("0.2, 0.8;\n", "0.2, 0.8;\n  table 0.3, 0.7;\n", 9, "one table, or rows"),
        ("  (no)", "  table 0.1, 0.1, 0.2, 0.2, 0.7, 0.7;\n  (no)", 12, "one table, or rows"),
        ("  (no)", "  default 0.1, 0.2, 0.7;\n  default 0.1, 0.2, 0.7;\n  (no)", 13, "at most one default"),
        ("{ yes, no };", "{ yes, no }; type discrete [ 2 ] { on, off };", 3, "comes twice"),
        ("( wet | rain )", "( wet | rain, rain )", 10, "different variables"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, line: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.bif"
    path.write_text(GOOD.replace(old, new))
    assert path.read_text() != GOOD
    with pytest.raises(ValueError, match=rf"bad\.bif, line {line}: .*{message}"):
        read_bif(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.bif"
    for end in range(len(GOOD.rstrip())):
        path.write_text(GOOD[:end])
        with pytest.raises(ValueError, match=r"cut\.bif"):
            read_bif(path)


def test_small_misses_are_divided_away_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "rounded.bif"
    path.write_text(GOOD.replace("0.5, 0.25, 0.25", "0.5, 0.25, 0.250005"))
    assert read_bif(path).tables[5:].sum().item() == pytest.approx(1, abs=1e-15)
    assert read_bif(path, normalize=False).tables[-1] == 0.250005
    assert Model.from_bif(path, normalize=False)().tables[-1].item() == pytest.approx(0.250005, abs=1e-15)


def test_a_cycle_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cycle.bif"
    rows = "{ (yes) 0.5, 0.5; (no) 0.5, 0.5; }"
    variables = "".join(f"variable {v} {{ type discrete [ 2 ] {{ yes, no }}; }}\n" for v in "ab")
    path.write_text(f"{variables}probability (a | b) {rows} probability (b | a) {rows}")
    with pytest.raises(ValueError, match=r"cycle\.bif: the graph must have no cycle"):
        read_bif(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MARKOV\n1\n2\n", r"line 1: .*BAYES"),
        ("BAYES\n1\n2\n1\n1 0\n\n2\n0.5", r"line 8: .*cut off"),
        ("BAYES\n1\n2\n1\n1 0\n\n2\n0.5 0.6", r"line 8: .*sum to 1"),
        ("BAYES\n1\n2\n1\n1 0\n\n3\n0.5 0.5", r"line 7: .*at least 2 and at most 2"),
        ("BAYES\n1\n2\n1\n1 4\n\n2\n0.5 0.5", r"line 5: .*at most 0"),
        ("BAYES\n2\n2 2\n2\n1 0\n1 0\n2\n0.5 0.5\n2\n0.5 0.5", "last of exactly one scope"),
        ("BAYES\n1\n2\n1\n1 0\n\n2\n0.5 0.5\n7", r"line 9: .*end here"),
        ("", "line 1: .*cut off"),
    ],
)
def test_bad_uai_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.uai"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.uai.*{message}"):
        read_uai(path)


def test_bad_xml_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.xml"
    write_xmlbif(path, *odd_network())
    text = path.read_text()
    for bad, message in (
        (text[: len(text) // 2], "line .*it is no XML"),
        (text.replace("<FOR>", "<FOUR>", 1).replace("</FOR>", "</FOUR>", 1), "has no FOR"),
        (text.replace("<TABLE>", "<TABLE>0.5 ", 1), "numbers, got"),
        ("<a/>", "no element NETWORK"),
    ):
        path.write_text(bad)
        with pytest.raises(ValueError, match=rf"bad\.xml.*{message}"):
            read_xmlbif(path)
    with pytest.raises(FileNotFoundError):
        read_bif(tmp_path / "nothing.bif")
