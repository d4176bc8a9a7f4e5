"""Bayesian networks over discrete nodes: one distribution, with exact answers to every query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import networkx as nx
import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen._arguments import whole_number
from pyro_gen._transforms import batched, refusal
from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.bayesian_network.elimination import safe_log
from pyro_gen.distributions.bayesian_network.engine import Engine
from pyro_gen.distributions.bayesian_network.evidence import (
    Evidence,
    EvidenceCase,
    distinct,
    parse,
    split_evidence,
    stack,
)
from pyro_gen.distributions.bayesian_network.messages import some
from pyro_gen.distributions.bayesian_network.structure import (
    NetworkStructure,
    States,
    structure_of,
)
from pyro_gen.distributions.bayesian_network.tables import (
    ConditionalTables,
    NetworkStates,
    cells_of,
    check_flat,
    check_rows,
    draw_states,
    flatten,
    point_mass,
)
from pyro_gen.distributions.expansion import Expandable

ENUMERABLE = 2**20
"""Up to how many states are listed."""
MAX_CELLS = 10**8
"""Cells of the largest clique that is worked on by default."""


class BayesianNetwork(Expandable):
    r"""The joint distribution of discrete nodes, each given its parents in a DAG.

    .. math:: p(x) = \prod_v p\bigl(x_v \,\big|\, x_{\mathrm{pa}(v)}\bigr)

    A value is a row of state numbers (int64), one for each node in the order of
    ``nodes``; log probabilities are in nats. Every query is exact, by variable
    elimination, for many rows with different missing cells at once, and
    differentiable in the tables; any number of nodes will do as long as the
    cliques fit. Evidence maps nodes to what is known of them:

    - the name of a state (a string) or its number (an integer): one case;
    - a set of names or numbers: one of these states, one case;
    - a list, an array, a tensor of integers or truth values, a pandas Series:
      one name or number a row, missing where it is -1, None or NaN;
    - a :class:`Likelihood` (states,) or (rows, states): soft evidence on one
      case, or on one case a row;
    - None: nothing.

    Strings are always names and integers always numbers. For one case results
    have no dimension of rows, and states come by name. Evidence on one case
    beside evidence of rows holds for every row. A query raises if evidence is
    malformed or has probability zero (it names the rows), or if a clique is too
    large.

    Args:
        graph: a networkx.DiGraph, or a ``NetworkStructure``. A node's parents
            come in the order of ``graph.predecessors(node)``.
        tables: for each node its conditional probabilities (..., states of each
            parent, own states); or all of them flattened, one after another in
            the order of the nodes, (..., cells).
        states: names of the states of each node (or their number), if ``graph``
            does not know them.
        max_cells: cells of the largest clique allowed; a query that needs more
            raises before anything is allocated.
        validate_args: whether to check tables and values.

    Raises:
        ValueError: the graph has a cycle, a table is missing, of the wrong
            shape, or a row of it misses one by more than 1e-5.

    References:
        Koller and Friedman (2009), Probabilistic graphical models, chapters 3
        and 9. Darwiche (2003), A differential approach to inference in Bayesian
        networks (marginals as derivatives).

    Example:
        >>> graph = nx.DiGraph([("rain", "wet"), ("sprinkler", "wet")])
        >>> tables = {
        ...     "rain": torch.tensor([0.8, 0.2]),
        ...     "wet": torch.tensor([[[1.0, 0.0], [0.1, 0.9]], [[0.2, 0.8], [0.01, 0.99]]]),
        ...     "sprinkler": torch.tensor([0.9, 0.1]),
        ... }
        >>> network = BayesianNetwork(graph, tables, states=("no", "yes"))
        >>> network.marginals({"wet": "yes"})["rain"]
        tensor([0.3053, 0.6947])
        >>> rows = {"wet": torch.tensor([1, -1]), "rain": torch.tensor([-1, 1])}
        >>> network.log_evidence(rows).exp()
        tensor([0.2358, 0.2000])
    """

    has_rsample = False

    def __init__(
        self,
        graph: nx.DiGraph | NetworkStructure,
        tables: Mapping[str, Tensor] | Tensor,
        states: States = None,
        max_cells: int = MAX_CELLS,
        validate_args: bool | None = None,
    ) -> None:
        shown: dict[str, int] = {}
        if isinstance(tables, Mapping):
            shown = {node: table.shape[-1] for node, table in tables.items() if table.dim()}
        self.structure = structure_of(graph, states, shown)
        if not isinstance(tables, Tensor):
            tables = flatten(self.structure, tables)
        self.tables = tables
        check_flat(self.structure, self.tables)
        self.max_cells = whole_number("max_cells", max_cells)
        self._engines: list[Engine] = []
        event_shape = Size((len(self.structure.nodes),))
        super().__init__(self.tables.shape[:-1], event_shape, validate_args=False)
        if validate_args is None:
            validate_args = type(self)._validate_args
        if validate_args:
            check_rows(self.structure, self.tables)
        self._validate_args = validate_args

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of a value's columns."""
        return self.structure.nodes

    @property
    def states(self) -> dict[str, tuple[str, ...]]:
        """Names of each node's states, in the order of their numbers."""
        return self.structure.states

    @property
    def num_parameters(self) -> int:
        """Free parameters: a row of K states has K - 1."""
        return self.structure.num_parameters

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Rows of tables are probabilities."""
        return {"tables": ConditionalTables(self.structure)}

    @property
    def support(self) -> constraints.Constraint:
        """State numbers of each node."""
        return NetworkStates(self.structure.cardinalities)

    @classmethod
    def infer_shapes(
        cls, structure: NetworkStructure | None = None, **arg_shapes: Any
    ) -> tuple[Size, Size]:
        """Batch and event shape from the shape of the flattened ``tables``.

        Raises:
            NotImplementedError: ``structure`` is not given.
        """
        if structure is None:
            raise NotImplementedError(
                "the number of nodes does not follow from the tables: give `structure`"
            )
        return Size(arg_shapes["tables"][:-1]), Size((len(structure.nodes),))

    def table(self, node: str) -> Tensor:
        """Conditional probabilities of a node, batch_shape + (states of each parent, own
        states).

        Args:
            node: its name.
        """
        structure = self.structure
        i = structure.number(node)
        part = self.tables.narrow(-1, structure.offsets[i], structure.sizes[i])
        return part.reshape(*part.shape[:-1], *structure.table_shape(node))

    def __repr__(self) -> str:
        """Names of the nodes, the first ones of many."""
        nodes = self.structure.nodes
        return f"{type(self).__name__}({len(nodes)} nodes: {some(nodes)})"

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of complete rows, in nats; -inf for impossible ones.

        Args:
            value: state numbers (..., nodes).

        Returns:
            Tensor of the broadcast shape of the value's and the distribution's
            batch.

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        if self._validate_args:
            self._validate_sample(value)
        cells = cells_of(self.structure, value.long())
        batch = torch.broadcast_shapes(cells.shape[:-1], self.batch_shape)
        if self.tables.dim() == 1:
            probs = self.tables[cells]
        else:
            tables = self.tables.expand(*batch, -1)
            probs = tables.gather(-1, cells.expand(*batch, -1))
        return safe_log(probs).sum(-1).expand(batch)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Exact draws, parents before children.

        Args:
            sample_shape: of independent draws.

        Returns:
            State numbers, sample_shape + batch_shape + (nodes,).
        """
        shape = self._extended_shape(Size(sample_shape))[:-1]
        states: dict[int, Tensor] = {}
        self._descend(states, shape)
        return torch.stack([states[i] for i in range(len(self.nodes))], -1)

    def _descend(self, states: dict[int, Tensor], shape: Size) -> None:
        """Draw all nodes that have no states yet, each given its parents."""
        for i in self.structure.order:
            if i not in states:
                states[i] = draw_states(self._rows_of(i, states, shape))

    def _rows_of(self, i: int, parents: Mapping[int, Tensor], shape: Size) -> Tensor:
        """Rows of a node's table at its parents' states, shape + (states,)."""
        table = self.table(self.nodes[i])
        family = self.structure.families[i]
        states = self.structure.cardinalities[i]
        table = table.reshape(*self.tables.shape[:-1], -1, states)
        code = torch.zeros((), dtype=torch.int64, device=table.device)
        for parent in family[:-1]:
            code = code * self.structure.cardinalities[parent] + parents[parent]
        if table.dim() == 2:
            return (
                table.index_select(0, code.flatten())
                .view(*code.shape, states)
                .expand(*shape, states)
            )
        rows = table.expand(*shape, *table.shape[-2:])
        return rows.gather(
            -2, code.expand(shape)[..., None, None].expand(*shape, 1, states)
        ).squeeze(-2)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """True if the states can be listed: at most 2^20."""
        return self.structure.num_states <= ENUMERABLE

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All rows of states.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (states,) + batch_shape + (nodes,), or with ones in place of
            the batch.

        Raises:
            NotImplementedError: there are more than 2^20.
        """
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"{self.structure.num_states:.4g} states are too many to list, the limit is "
                f"{ENUMERABLE}"
            )
        axes = [torch.arange(k, device=self.tables.device) for k in self.structure.cardinalities]
        return self._listed(torch.cartesian_prod(*axes).view(-1, len(axes)), expand)

    def log_evidence(self, evidence: Evidence | Tensor | None = None) -> Tensor:
        """Log probability of what was observed, everything else summed out, in nats.

        Args:
            evidence: see the class; or state numbers (rows, nodes) with -1
                where missing.

        Returns:
            Nats, batch_shape + (rows,), or batch_shape for one case;
            differentiable in the tables.

        Raises:
            ValueError: evidence has probability zero (it names the rows) or is
                malformed, or a clique is too large.
        """

        def one(engine: Engine, case: EvidenceCase) -> Tensor:
            log = case.finish(engine.joint(case.rows, ())[1])
            tracked = self.tables.requires_grad and torch.is_grad_enabled()
            if tracked and not log.requires_grad:  # nothing was observed: constant, its gradient 0
                log = log + 0.0 * engine.flat.sum()
            return log

        result: Tensor = self._each(one, evidence)
        return result

    def marginals(
        self, evidence: Evidence | Tensor | None = None, nodes: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """Distributions of single nodes given evidence.

        Args:
            evidence: see the class.
            nodes: which; None for all, observed ones one-hot.

        Returns:
            By node, probabilities of its states: batch_shape + (states,) for
            one case, batch_shape + (rows, states) for rows. Differentiable in
            the tables.

        Raises:
            ValueError: as :meth:`log_evidence`.
        """
        numbers = self._numbers(nodes)

        def one(engine: Engine, case: EvidenceCase) -> dict[str, Tensor]:
            open_nodes = [i for i in numbers if i not in case.rows.hard]
            distributions: dict[int, Tensor] = {}
            if open_nodes:
                distributions, log = engine.marginals(case.rows, open_nodes)
            else:
                _, log = engine.joint(case.rows, ())
            case.check(log)
            sizes = self.structure.cardinalities
            distributions |= {
                i: case.one_hot(i, sizes[i], self.tables) for i in numbers if i in case.rows.hard
            }
            return {self.nodes[i]: case.spread(distributions[i].movedim(-1, 0)) for i in numbers}

        result: dict[str, Tensor] = self._each(one, evidence)
        return result

    def joint_marginal(
        self, nodes: Sequence[str], evidence: Evidence | Tensor | None = None
    ) -> Tensor:
        """Joint distribution of several nodes given evidence.

        Args:
            nodes: their names, in the order of the axes of the result.
            evidence: see the class.

        Returns:
            batch_shape + (states of each node) for one case, batch_shape +
            (rows, states of each node) for rows.

        Raises:
            ValueError: as :meth:`log_evidence`, or a node comes twice.
        """
        numbers = self._numbers(nodes)

        def one(engine: Engine, case: EvidenceCase) -> Tensor:
            distribution, log = engine.joint(
                case.rows, tuple(i for i in numbers if i not in case.rows.hard)
            )
            case.check(log)
            if distribution.dim() == 1:  # all nodes are observed
                distribution = torch.ones_like(distribution)
            for axis, i in enumerate(numbers):
                if i in case.rows.hard:
                    indicator = case.one_hot(i, self.structure.cardinalities[i], self.tables)
                    distribution = distribution.unsqueeze(axis) * indicator.view(
                        -1, *(1,) * (distribution.dim() - axis - 1), indicator.shape[-1]
                    )
            return case.spread(distribution.movedim(-1, 0))

        result: Tensor = self._each(one, evidence)
        return result

    def pair_marginals(
        self,
        evidence: Evidence | Tensor | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> dict[tuple[str, str], Tensor]:
        """Joint distributions of pairs of nodes given evidence.

        Args:
            evidence: see the class.
            pairs: which; None for all edges (parent, child).

        Returns:
            By pair, batch_shape + (states, states), or batch_shape + (rows,
            states, states).

        Raises:
            ValueError: as :meth:`log_evidence`.
        """
        if pairs is None:
            pairs = self.structure.edges
        return {(a, b): self.joint_marginal((a, b), evidence) for a, b in pairs}

    def expected_counts(
        self, evidence: Evidence | Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Expected uses of each cell of each table given evidence: the E-step of EM.

        Args:
            evidence: see the class.
            weights: of the rows, (rows,); None for one each.

        Returns:
            By node, batch_shape + (states of each parent, own states), summed
            over rows. No gradient.

        Raises:
            ValueError: as :meth:`log_evidence`, or ``weights`` has another
                shape.
        """

        def one(engine: Engine, case: EvidenceCase) -> dict[str, Tensor]:
            counts, log = engine.expected_counts(case.rows, case.weigh(weights, self.tables))
            case.check(log)
            return dict(zip(self.nodes, engine.tables(counts), strict=True))

        result: dict[str, Tensor] = self._each(one, evidence)
        return result

    def most_probable(self, evidence: Evidence | Tensor | None = None) -> dict[str, Any]:
        """The most probable states of all nodes together given evidence; the first of equals.

        Args:
            evidence: see the class.

        Returns:
            By node, the name of its state for one case, or state numbers
            (rows,). Not for batched tables.

        Raises:
            ValueError: as :meth:`log_evidence`, or the tables come in a batch.
        """
        if self.tables.dim() > 1:
            raise ValueError(
                "`most_probable` takes no batch of tables, "
                f"got batch_shape {tuple(self.tables.shape[:-1])}"
            )

        def one(engine: Engine, case: EvidenceCase) -> dict[str, Any]:
            states, log = engine.best(case.rows)
            case.check(log)
            states |= {i: case.number(i, self.tables.device) for i in case.rows.hard}
            if case.observed.rows is None:
                return {
                    node: self.states[node][int(states[i])] for i, node in enumerate(self.nodes)
                }
            return {node: case.spread(states[i]) for i, node in enumerate(self.nodes)}

        result: dict[str, Any] = self._each(one, evidence)
        return result

    @torch.no_grad()
    def sample_posterior(
        self, evidence: Evidence | Tensor | None = None, num_samples: int = 1
    ) -> dict[str, Tensor]:
        """Exact, independent draws of all nodes given evidence.

        Args:
            evidence: see the class.
            num_samples: how many draws for each case.

        Returns:
            By node, state numbers (num_samples,) for one case, (num_samples,
            rows) for rows; batch_shape comes first.

        Raises:
            ValueError: as :meth:`log_evidence`, or ``num_samples`` is below 1.
        """
        num_samples = whole_number("num_samples", num_samples)

        def one(engine: Engine, case: EvidenceCase) -> dict[str, Tensor]:
            shape = Size((num_samples, case.rows.count))
            states, log = engine.draw(case.rows, num_samples)
            case.check(log)
            states |= {i: case.number(i, self.tables.device).expand(shape) for i in case.rows.hard}
            BayesianNetwork(self.structure, engine.flat, validate_args=False)._descend(
                states, shape
            )
            if case.observed.rows is None:
                return {node: states[i].squeeze(1) for i, node in enumerate(self.nodes)}
            return {node: states[i] for i, node in enumerate(self.nodes)}

        result: dict[str, Tensor] = self._each(one, evidence, merge=False)
        return result

    def do(self, interventions: Mapping[str, str | int]) -> Self:
        """The network after an intervention: nodes are cut off from their parents and set.

        Args:
            interventions: for each node the name or number of its state.

        Returns:
            The mutilated network.

        Raises:
            ValueError: a node or state is unknown.

        References:
            Pearl (2009), Causality, section 3.2.3.
        """
        structure = self.structure.mutilated(interventions)
        tables = {node: self.table(node) for node in self.nodes}
        for node, state in interventions.items():
            tables[node] = point_mass(self.structure, node, state, self.tables)
        return type(self)(
            structure, flatten(structure, tables), max_cells=self.max_cells, validate_args=False
        ).expand(self.batch_shape)

    def d_separated(self, x: Iterable[str], y: Iterable[str], given: Iterable[str] = ()) -> bool:
        """True if every path between two sets of nodes is blocked by a third.

        Args:
            x: nodes; a name alone is one node.
            y: nodes.
            given: nodes that are observed.
        """
        return self.structure.d_separated(x, y, given)

    def _numbers(self, nodes: Iterable[str] | None) -> list[int]:
        if nodes is None:
            return list(range(len(self.nodes)))
        if isinstance(nodes, str):
            nodes = [nodes]
        numbers = [self.structure.number(node) for node in nodes]
        if len(set(numbers)) < len(numbers):
            raise ValueError("`nodes` must be different nodes")
        return numbers

    def _each(
        self,
        query: Callable[[Engine, EvidenceCase], Any],
        evidence: Evidence | Tensor | None,
        merge: bool = True,
    ) -> Any:
        """The answers for each set of tables, stacked; ``merge`` does equal rows but once."""
        if batched([self.tables]):
            instead = "give a distribution a batch of `tables`, or ask one network after the other"
            raise refusal(
                "exact inference in a BayesianNetwork",
                "its way depends on the numbers",
                instead,
                "vmap",
            )
        observed = parse(self.structure, evidence, self.tables)
        distinct_rows = observed
        inverse = None
        if merge:
            distinct_rows, inverse = distinct(observed)
        rows = split_evidence(distinct_rows, self.structure.cardinalities, self.tables)
        case = EvidenceCase(observed, rows, inverse, distinct_rows.log_scale)
        answers = [query(engine, case) for engine in self._all_engines()]
        return stack(answers, self.tables.shape[:-1], self.batch_shape)

    def _all_engines(self) -> list[Engine]:
        """One for each set of tables; they keep what they prepared."""
        flat = self.tables.unsqueeze(0).flatten(0, -2)
        if self.tables.requires_grad or self.tables.dim() > 1:
            return [Engine(self.structure, row, self.max_cells) for row in flat]
        if not self._engines:
            self._engines.append(Engine(self.structure, self.tables, self.max_cells))
        return self._engines

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_engines": []}


__all__ = ["MAX_CELLS", "BayesianNetwork"]
