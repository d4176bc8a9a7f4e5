"""The XML form of the Bayesian interchange format (XMLBIF 0.3): reading and writing."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from torch import Tensor

from pyro_gen._files import replacing
from pyro_gen.distributions.bayesian_network.files.common import (
    Draft,
    FileError,
    NetworkFile,
    PathLike,
    probability,
    read_text,
    table_of,
)
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import named_rows


def read_xmlbif(path: PathLike, normalize: bool = True) -> NetworkFile:
    """Structure and tables of an XMLBIF file; errors name the file, and the line or variable."""
    network = _root(path)
    draft = Draft(path)
    for variable in network.iter("VARIABLE"):
        draft.add_variable(
            _text(path, variable, "NAME"),
            [_stripped(outcome) for outcome in variable.iter("OUTCOME")],
        )
    for definition in network.iter("DEFINITION"):
        name = _text(path, definition, "FOR")
        shape = draft.add_family(name, [_stripped(parent) for parent in definition.iter("GIVEN")])
        values = [
            probability(path, None, text) for text in _text(path, definition, "TABLE").split()
        ]
        draft.tables[name] = table_of(path, None, name, values, shape)
    return draft.network(normalize)


def _root(path: PathLike) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise FileError(path, error.position[0], f"it is no XML ({error})") from error
    network: ElementTree.Element | None = root
    if root.tag != "NETWORK":
        network = root.find("NETWORK")
    if network is None:
        raise FileError(path, None, "it has no element NETWORK")
    return network


def _text(path: PathLike, element: ElementTree.Element, tag: str) -> str:
    child = element.find(tag)
    if child is None:
        raise FileError(path, None, f"an element {element.tag} has no {tag}")
    return _stripped(child)


def _stripped(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def write_xmlbif(
    path: PathLike, structure: NetworkStructure, tables: Tensor, name: str = "unknown"
) -> None:
    """Write an XMLBIF file; numbers are written so that they are read back exactly."""
    root = ElementTree.Element("BIF", VERSION="0.3")
    network = ElementTree.SubElement(root, "NETWORK")
    for element in _elements(structure, tables.detach().double().cpu(), name):
        network.append(element)
    ElementTree.indent(root)
    with replacing(path) as part:
        ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)


def _elements(
    structure: NetworkStructure, tables: Tensor, name: str
) -> Iterator[ElementTree.Element]:
    yield _leaf("NAME", name)
    for node, states in structure.states.items():
        variable = ElementTree.Element("VARIABLE", TYPE="nature")
        variable.extend([_leaf("NAME", node), *(_leaf("OUTCOME", state) for state in states)])
        yield variable
    for node, rows in named_rows(structure, tables):
        definition = ElementTree.Element("DEFINITION")
        definition.append(_leaf("FOR", node))
        definition.extend(_leaf("GIVEN", parent) for parent in structure.parents[node])
        definition.append(_leaf("TABLE", " ".join(map(repr, rows.flatten().tolist()))))
        yield definition


def _leaf(tag: str, text: str) -> ElementTree.Element:
    element = ElementTree.Element(tag)
    element.text = text
    return element


__all__ = ["read_xmlbif", "write_xmlbif"]
