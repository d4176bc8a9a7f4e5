"""Bayesian networks as Pyro programs, with exact inference beyond Pyro's enumeration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, cast

import networkx as nx
import pyro
import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen._arguments import is_single, whole_number
from pyro_gen._evaluation import evaluating
from pyro_gen._module import Module
from pyro_gen._optional import require
from pyro_gen._plates import check_rows, counted_plate
from pyro_gen._registration import register
from pyro_gen.distributions import NetworkStructure
from pyro_gen.distributions.bayesian_network import MAX_CELLS, ConditionalGaussianNetwork, Evidence
from pyro_gen.distributions.bayesian_network.evidence import by_name
from pyro_gen.distributions.bayesian_network.files.bif import read_bif, write_bif
from pyro_gen.distributions.bayesian_network.files.common import NetworkFile, PathLike
from pyro_gen.distributions.bayesian_network.files.uai import read_uai, write_uai
from pyro_gen.distributions.bayesian_network.files.xmlbif import read_xmlbif, write_xmlbif
from pyro_gen.distributions.bayesian_network.messages import some
from pyro_gen.distributions.bayesian_network.observation import missing
from pyro_gen.distributions.bayesian_network.structure import States
from pyro_gen.distributions.bayesian_network.tables import by_node, flatten, point_mass
from pyro_gen.models.bayesian_network.learning import CPDDraws, CPDLearner
from pyro_gen.models.bayesian_network.parts import (
    column,
    cpd_that_fits,
    discrete_part,
    gaussian,
    steady_tensors,
    structure_with_cpds,
)
from pyro_gen.models.bayesian_network.table_learning import Counts, checked_weights
from pyro_gen.models.em import FitResult
from pyro_gen.nn import CPD, DiscreteCPD, TabularCPD

SHOWN = 20
"""Nodes that are printed."""
Data = Mapping[str, Any]
"""By node, one number or name of a state a row, as in evidence, or real numbers.

A node that is None is missing.
"""


class BayesianNetwork(Module):
    r"""Bayesian network: a distribution for each node given its parents, with exact inference.

    .. math:: p(x) = \prod_v p\bigl(x_v \,\big|\, x_{\mathrm{pa}(v)}\bigr)

    ``model`` has one site per node in the plate ``rows``. ``SVI(network.model,
    network.guide, ...)`` learns from complete data with ``Trace_ELBO`` and,
    where the missing nodes fit into Pyro's dimensions, from incomplete data
    with ``TraceEnum_ELBO``; ``evidence_model`` learns from any missing cells in
    networks of any size whose cliques fit. Tables do not need an optimiser:
    ``fit`` counts, by EM if cells are missing, and ``sample_cpds`` draws from
    their posterior. Calling the network gives
    :class:`pyro_gen.distributions.BayesianNetwork` over the current tables.

    ``log_evidence`` carries a gradient to the parameters. The other queries
    have no gradient; use the distribution for that:
    ``network().marginals(...)``. Evidence maps nodes to the name or number of a
    state, to a set of these, to one a row (a list, an array, a tensor; -1 where
    missing), or to a :class:`pyro_gen.distributions.Likelihood`; see the
    distribution.

    Nodes with a :class:`pyro_gen.nn.LinearGaussianCPD` or
    :class:`pyro_gen.nn.ConditionalGaussianCPD` are real numbers; then calling
    the network gives a ``ConditionalGaussianNetwork``, which answers
    ``log_evidence``, ``marginals`` and ``sample_posterior`` exactly. Discrete
    nodes have no real parents.

    Args:
        graph: a networkx.DiGraph, or a ``NetworkStructure``. A node's parents
            come in the order of ``graph.predecessors(node)``.
        cpds: for each node a CPD, or a table of its conditional probabilities
            (states of each parent, own states); a node without one gets a table
            of equal probabilities. None for such tables everywhere.
        states: names of the states of each node (or their number), if ``graph``
            does not know them.
        size: rows of the whole data set, which scales minibatches; None for
            those given.
        max_cells: cells of the largest clique allowed in exact inference.

    Raises:
        ValueError: the graph has a cycle, or a CPD does not fit it.

    References:
        Koller and Friedman (2009), Probabilistic graphical models.

    Example:
        >>> graph = nx.DiGraph([("rain", "wet"), ("sprinkler", "wet")])
        >>> wet = torch.tensor([[[1.0, 0.0], [0.1, 0.9]], [[0.2, 0.8], [0.01, 0.99]]]).double()
        >>> rain = torch.tensor([0.8, 0.2]).double()
        >>> network = BayesianNetwork(graph, {"wet": wet, "rain": rain}, states=("no", "yes"))
        >>> network.marginals({"wet": "yes"})["rain"]
        tensor([0.6679, 0.3321], dtype=torch.float64)
        >>> network.most_probable({"wet": "yes"})
        {'rain': 'no', 'wet': 'yes', 'sprinkler': 'yes'}
    """

    def __init__(
        self,
        graph: nx.DiGraph | NetworkStructure,
        cpds: Mapping[str, CPD | Tensor] | None = None,
        states: States = None,
        size: int | None = None,
        max_cells: int = MAX_CELLS,
    ) -> None:
        super().__init__()
        self.size = None if size is None else whole_number("size", size)
        self.max_cells = whole_number("max_cells", max_cells)
        cpds_ = {} if cpds is None else dict(cpds)
        self.skeleton = structure_with_cpds(graph, states, cpds_)
        self.structure = discrete_part(self.skeleton, cpds_)
        if strangers := [node for node in cpds_ if node not in self.skeleton.index]:
            raise ValueError(f"`cpds` names {strangers[0]!r}, which is no node of the network")
        self.cpds = nn.ModuleList(cpd_that_fits(self.skeleton, node, cpds_) for node in self.nodes)
        self._known: tuple[list[tuple[int, int]], list[Tensor], Any] | None = None

    @classmethod
    def from_bif(
        cls,
        path: PathLike,
        dtype: torch.dtype = torch.float64,
        normalize: bool = True,
        **settings: Any,
    ) -> Self:
        """Read a network from a BIF file.

        Args:
            path: of the file.
            dtype: of the tables.
            normalize: divide rows by their sums, which miss one by at most
                1e-5; False keeps them as they are.
            **settings: ``size`` and ``max_cells`` of the constructor.

        Returns:
            A network of :class:`pyro_gen.nn.TabularCPD`.

        Raises:
            ValueError: the file is cut off or malformed; the message names file
                and line.
            FileNotFoundError: there is no such file.
        """
        return cls._from_file(read_bif(path, normalize), dtype, normalize, settings)

    @classmethod
    def from_xmlbif(
        cls,
        path: PathLike,
        dtype: torch.dtype = torch.float64,
        normalize: bool = True,
        **settings: Any,
    ) -> Self:
        """Read a network from an XMLBIF file; see :meth:`from_bif`."""
        return cls._from_file(read_xmlbif(path, normalize), dtype, normalize, settings)

    @classmethod
    def from_uai(
        cls,
        path: PathLike,
        states: Mapping[str, Sequence[str]] | None = None,
        dtype: torch.dtype = torch.float64,
        normalize: bool = True,
        **settings: Any,
    ) -> Self:
        """Read a network from a UAI file, which has no names; see :meth:`from_bif`.

        Args:
            path: of the file.
            states: names of nodes and states in the order of the file's
                variables; None for "0", "1", ...
            dtype: as for :meth:`from_bif`; so are the others.
            normalize: divide rows by their sums.
            **settings: ``size`` and ``max_cells`` of the constructor.
        """
        return cls._from_file(read_uai(path, states, normalize), dtype, normalize, settings)

    @classmethod
    def _from_file(
        cls, file: NetworkFile, dtype: torch.dtype, normalize: bool, settings: dict[str, Any]
    ) -> Self:
        tables = by_node(file.structure, file.tables.to(dtype))
        return cls(
            file.structure,
            {node: TabularCPD(x, normalize) for node, x in tables.items()},
            **settings,
        )

    @classmethod
    def fully_factorised(
        cls, nodes: int | Iterable[str], states: States = 2, **settings: Any
    ) -> Self:
        """Independent nodes: n parameters for n nodes with two states.

        Args:
            nodes: their names, or how many ("x1", "x2", ...).
            states: names of states or their number, for all nodes or by node.
            **settings: of the constructor.

        Example:
            >>> BayesianNetwork.fully_factorised(10).num_parameters
            10
        """
        return cls._chained(nodes, 0, states, settings)

    @classmethod
    def markov_chain(
        cls, nodes: int | Iterable[str], states: States = 2, order: int = 1, **settings: Any
    ) -> Self:
        """Each node given the one before it: 2n - 1 parameters for n nodes with two states.

        Args:
            nodes: as for :meth:`fully_factorised`; so are the others.
            states: names of states or their number.
            order: how many nodes before it a node depends on.
            **settings: of the constructor.

        Example:
            >>> BayesianNetwork.markov_chain(10).num_parameters
            19
        """
        return cls._chained(nodes, order, states, settings)

    @classmethod
    def chain_rule(cls, nodes: int | Iterable[str], states: States = 2, **settings: Any) -> Self:
        """Each node given all before it: any distribution, with 2^n - 1 parameters for n
        nodes with two states.

        Args:
            nodes: their names, or how many ("x1", "x2", ...).
            states: names of states or their number, for all nodes or by node.
            **settings: of the constructor.

        Raises:
            ValueError: a table would have more than 2^26 cells.

        Example:
            >>> BayesianNetwork.chain_rule(10).num_parameters  # 2**10 - 1
            1023
        """
        return cls._chained(nodes, None, states, settings)

    @classmethod
    def _chained(
        cls,
        nodes: int | Iterable[str],
        order: int | None,
        states: States,
        settings: dict[str, Any],
    ) -> Self:
        if is_single(nodes) and not isinstance(nodes, str):
            nodes = [f"x{i + 1}" for i in range(whole_number("nodes", nodes))]
        names = list(cast("Iterable[str]", nodes))
        if not names:
            raise ValueError(f"`nodes` must be at least one, got {nodes}")
        order = None if order is None else whole_number("order", order, 0)
        graph = nx.DiGraph()
        graph.add_nodes_from(names)
        for i, node in enumerate(names):
            graph.add_edges_from(
                (parent, node) for parent in names[0 if order is None else max(0, i - order) : i]
            )
        structure = NetworkStructure.from_graph(graph, states)
        if max(structure.sizes) > 2**26:
            raise ValueError(
                f"`nodes` are too many: a table would have {max(structure.sizes):.4g} cells"
            )
        return cls(structure, **settings)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes in order."""
        return self.skeleton.nodes

    @property
    def states(self) -> dict[str, tuple[str, ...]]:
        """Names of each node's states, in the order of their numbers."""
        return self.structure.states

    @property
    def graph(self) -> nx.DiGraph:
        """The graph, frozen, with the states as attributes of the nodes."""
        return self.skeleton.graph

    @property
    def num_parameters(self) -> int:
        """Free parameters of all CPDs."""
        return sum(cpd.num_parameters for cpd in self._cpds)

    @property
    def _cpds(self) -> list[CPD]:
        return list(self.cpds)  # type: ignore[arg-type]  # a ModuleList forgets what it holds

    def cpd(self, node: str) -> CPD:
        """The CPD of a node.

        Args:
            node: its name.

        Raises:
            ValueError: there is no such node.
        """
        return self._cpds[self.skeleton.number(node)]

    def to_bif(self, path: PathLike, name: str = "unknown") -> None:
        """Write the network with its present tables as a BIF file.

        Args:
            path: of the file, which is replaced.
            name: of the network.
        """
        write_bif(path, self.structure, self._tables(), name)

    def to_xmlbif(self, path: PathLike, name: str = "unknown") -> None:
        """Write the network with its present tables as an XMLBIF file."""
        write_xmlbif(path, self.structure, self._tables(), name)

    def to_uai(self, path: PathLike) -> None:
        """Write the network with its present tables as a UAI file, which keeps no names."""
        write_uai(path, self.structure, self._tables())

    def model(self, data: Data | Tensor | None = None) -> dict[str, Tensor]:
        """The generative program: every node given its parents.

        Args:
            data: see ``Data``, or state numbers (rows, nodes); None draws
                ``size`` rows, or one. Nodes with missing cells are enumerated:
                for inference with ``TraceEnum_ELBO``.

        Returns:
            By node, state numbers of the rows.
        """
        register("bayesian_network", self)
        data, rows = self._columns(data)
        values: dict[str, Tensor] = {}
        with counted_plate(self.size, rows):
            for node in (self.nodes[i] for i in self.skeleton.order):
                distribution = self.cpd(node)(
                    *(values[parent] for parent in self.skeleton.parents[node])
                )
                observed = data.get(node)
                if node not in self.states:
                    values[node] = pyro.sample(node, distribution, obs=observed)
                elif observed is None or not (missing := observed < 0).any():
                    values[node] = pyro.sample(
                        node, distribution, obs=observed, infer={"enumerate": "parallel"}
                    )
                else:
                    # in some rows: a latent state that must agree with the
                    # observed values in the others
                    values[node] = pyro.sample(node, distribution, infer={"enumerate": "parallel"})
                    agrees = missing | (values[node] == observed)
                    pyro.factor(
                        f"{node} as seen",
                        torch.where(agrees, 0.0, -torch.inf).to(distribution.logits.dtype),
                    )
        return values

    def guide(self, data: Data | Tensor | None = None) -> None:
        """Empty guide: nodes are observed, or summed over; ``data`` have at most ``size`` rows."""
        columns = by_name(self.nodes, data, "data").values()
        check_rows(self.size, max((len(x) for x in columns if x is not None), default=0))

    def evidence_model(self, data: Data | Tensor) -> None:
        """A program with the same likelihood as ``model``, by exact inference: for
        ``Trace_ELBO`` with ``guide``.

        Any cells of any number of nodes may be missing, as long as the cliques
        fit.

        Args:
            data: as for ``model``.
        """
        register("bayesian_network", self)
        data, rows = self._columns(data)
        with counted_plate(self.size, rows):
            pyro.factor("evidence", self.log_evidence(data) if data else torch.zeros(rows))

    def fit(
        self,
        data: Any,
        pseudo_count: Counts = 0.0,
        *,
        weights: Tensor | None = None,
        num_starts: int | None = None,
        num_steps: int = 1000,
        tolerance: float = 1e-8,
        batch_size: int = 2000,
    ) -> FitResult:
        r"""Learn the CPDs: from counts where rows are complete, by EM where cells are missing.

        .. math:: \theta_{x | u} = \frac{N_{xu} + a}{\sum_{x'} (N_{x'u} + a)}

        with counts :math:`N`, expected ones given what was observed in EM. That
        is the mode of the posterior under Dirichlet priors with parameters 1 +
        a, maximum likelihood for a = 0; for complete rows it is also the
        posterior mean under Dirichlet(a). EM uses every row and every cell
        seen, so it is right where cells are missing at random: whether one is
        missing may depend on what was seen in the row, not on the missing value
        itself. Dropping incomplete rows, in contrast, is right only where cells
        are missing completely at random.

        Gaussian nodes are regressed on their parents by least squares, in each
        configuration of the discrete ones; rows must then be complete (with
        missing cells use ``SVI`` and ``evidence_model``).

        CPDs whose parameters do not require gradients stay as they are
        (``network.cpd("x").requires_grad_(False)``). A row of a table without
        counts keeps its probabilities. In EM a probability that is zero stays
        zero where ``pseudo_count`` is zero.

        Args:
            data: as for ``model``, -1 where missing; a node that is not there
                was never observed.
            pseudo_count: a, one number, or by node a number or a table (nodes
                left out have 0); for tables only.
            weights: of the rows, (rows,); None for one each.
            num_starts: random starts of EM; 0 starts at the present tables.
                None starts there unless a node was never observed, whose states
                cannot be distinguished in equal tables: then it is 10.
            num_steps: of each start, at most.
            tolerance: gain in nats a row below which EM ends.
            batch_size: distinct rows in one call of exact inference.

        Returns:
            Log likelihood, with the objective of every step.

        Raises:
            ValueError: an argument is out of range, a row has probability zero,
                a clique is too large, a CPD is neither a table nor Gaussian
                (learn that by ``SVI``), or the rows leave a Gaussian node no
                residual.

        References:
            Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete
            data via the EM algorithm. Lauritzen (1995), The EM algorithm for
            graphical association models with missing data. Rubin (1976),
            Inference and missing data.

        Example:
            >>> network = BayesianNetwork(nx.DiGraph([("a", "b")]))
            >>> _ = network.fit({"a": torch.tensor([0, 0, 1, 1]), "b": torch.tensor([0, 1,
            ...     1, -1])}, pseudo_count=1.0)
            >>> network.cpd("b").table()  # doctest: +NORMALIZE_WHITESPACE
            tensor([[0.5000, 0.5000],
                    [0.3333, 0.6667]], dtype=torch.float64, grad_fn=<SoftmaxBackward0>)
        """
        num_steps = whole_number("num_steps", num_steps)
        batch_size = whole_number("batch_size", batch_size)
        if num_starts is not None:
            num_starts = whole_number("num_starts", num_starts, 0)
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must not be negative, got {tolerance}")
        learner = self._learner(data, weights)
        return learner.fit(pseudo_count, num_starts, num_steps, tolerance, batch_size)

    def sample_cpds(
        self,
        data: Any,
        concentration: Counts = 1.0,
        *,
        num_samples: int = 1000,
        num_chains: int = 4,
        warmup_steps: int = 100,
    ) -> CPDDraws:
        """Draw the tables from their posterior under Dirichlet priors.

        Draws are exact and independent where rows are complete. Where cells are
        missing they come by Gibbs sampling: the missing cells exactly given the
        tables (all of a row together), then the tables exactly given all cells;
        chains start at random. States of a node that was never observed may
        change places from chain to chain. The network keeps its tables;
        ``pyro_gen.arviz.from_cpds`` hands the draws to ArviZ.

        Args:
            data: as for ``model``, -1 where missing.
            concentration: parameters of the Dirichlet priors, positive: one
                number, or by node a number or a table (1 for nodes left out).
            num_samples: draws of each chain that are kept.
            num_chains: chains.
            warmup_steps: sweeps of each chain before them.

        Returns:
            The draws by node.

        Raises:
            ValueError: as :meth:`fit`.

        References:
            Tanner and Wong (1987), The calculation of posterior distributions
            by data augmentation.

        Example:
            >>> network = BayesianNetwork(nx.DiGraph([("a", "b")]))
            >>> draws = network.sample_cpds({"a": torch.tensor([0, 1]),
            ...     "b": torch.tensor([1, -1])}, num_samples=50)
            >>> draws.tables["b"].shape  # chains, draws, states of a, states of b
            torch.Size([4, 50, 2, 2])
        """
        num_samples = whole_number("num_samples", num_samples)
        num_chains = whole_number("num_chains", num_chains)
        warmup_steps = whole_number("warmup_steps", warmup_steps, 0)
        if len(self.structure.nodes) < len(self.nodes):
            raise ValueError(
                "tables of networks with real nodes are not drawn: use `fit`, or SVI with `model`"
            )
        learner = self._learner(data, None)
        return learner.sample(concentration, num_samples, num_chains, warmup_steps)

    def _learner(self, data: Any, weights: Tensor | None) -> CPDLearner:
        """The CPDs beside the rows to learn them from, of which there is at least one."""
        if data is None:
            raise ValueError("`data` must hold rows, got None")
        columns, rows = self._columns(data)
        if not rows or not columns:
            raise ValueError(
                "`data` must hold at least one row and one cell that was observed, got none"
            )
        check_rows(self.size, rows)
        cpds = dict(zip(self.nodes, self._cpds, strict=True))
        row_weights = checked_weights(weights, rows)
        return CPDLearner(
            self.skeleton, self.structure, cpds, columns, row_weights, self.max_cells
        )

    def _columns(self, data: Data | Tensor | None) -> tuple[dict[str, Tensor], int]:
        """Observed columns by node, without nodes missing in all rows; the number of rows."""
        example = next(self.parameters(), torch.empty(0))
        observed = {
            node: x for node, x in by_name(self.nodes, data, "data").items() if not missing(x)
        }
        columns = {
            node: column(self.skeleton, self.states, node, x, example)
            for node, x in observed.items()
        }
        counts = {node: len(value) for node, value in columns.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"all of `data` must have the same number of rows, got {counts}")
        rows = next(iter(counts.values()), self.size or 1)
        return {
            node: value
            for node, value in columns.items()
            if node not in self.states or not (value < 0).all()
        }, rows

    def forward(self) -> distributions.BayesianNetwork | ConditionalGaussianNetwork:
        """The joint distribution with the current parameters, differentiable in them."""
        if len(self.structure.nodes) == len(self.nodes):
            return self._discrete()
        real = [self.nodes[i] for i in self.skeleton.order if self.nodes[i] not in self.states]
        densities = {node: gaussian(self.skeleton, node, self.cpd(node)) for node in real}
        return ConditionalGaussianNetwork(self._discrete() if self.states else None, densities)

    def _discrete(self) -> distributions.BayesianNetwork:
        """The distribution of the discrete nodes."""
        cpds = ((node, self.cpd(node)) for node in self.structure.nodes)
        tables = {node: cpd.table() for node, cpd in cpds if isinstance(cpd, DiscreteCPD)}
        flat = flatten(self.structure, tables)
        return distributions.BayesianNetwork(
            self.structure, flat, max_cells=self.max_cells, validate_args=False
        )

    def _read_off(self) -> Any:
        """Distribution in evaluation mode, without gradients; cached until the weights change."""
        with torch.no_grad(), evaluating(self):
            parameters = steady_tensors(self)
            if parameters is None:
                return self()
            now = [(x.data_ptr(), x._version) for x in parameters]
            if self._known is None or self._known[0] != now:
                detached = [
                    x.detach() for x in parameters
                ]  # so that no other tensor takes one of these addresses
                self._known = now, detached, self()
            return self._known[2]

    def _tables(self) -> Tensor:
        """Tables of all nodes for a file, which knows no real nodes."""
        if len(self.structure.nodes) < len(self.nodes):
            raise ValueError("a network with real nodes cannot be written to this kind of file")
        with torch.no_grad(), evaluating(self):
            return self._discrete().tables

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of complete rows, (..., nodes) -> (...), in nats."""
        result: Tensor = (self() if torch.is_grad_enabled() else self._read_off()).log_prob(value)
        return result

    def log_evidence(self, evidence: Evidence | Tensor | None = None) -> Tensor:
        """Log probability of the evidence, in nats; differentiable in the parameters.

        Args:
            evidence: see the class.

        Returns:
            Nats, (rows,), or () for one case.

        Raises:
            ValueError: evidence has probability zero (it names the rows) or is
                malformed, or a clique is too large.
        """
        return (self() if torch.is_grad_enabled() else self._read_off()).log_evidence(evidence)

    def marginals(
        self, evidence: Evidence | Tensor | None = None, nodes: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Distributions of single nodes given evidence.

        See :meth:`pyro_gen.distributions.BayesianNetwork.marginals`.

        Args:
            evidence: see the class.
            nodes: which; None for all, observed ones one-hot.

        Returns:
            By node, (states,) for one case, (rows, states) for rows; a
            distribution for a real node.
        """
        return dict(self._read_off().marginals(evidence, nodes))

    def joint_marginal(
        self, nodes: Sequence[str], evidence: Evidence | Tensor | None = None
    ) -> Tensor:
        """Joint distribution of several nodes given evidence.

        Args:
            nodes: their names, in the order of the axes of the result.
            evidence: see the class.

        Returns:
            (states of each node) for one case, (rows, states of each node) for
            rows.
        """
        return self._read_off().joint_marginal(nodes, evidence)

    def pair_marginals(
        self,
        evidence: Evidence | Tensor | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> dict[tuple[str, str], Tensor]:
        """Joint distributions of pairs of nodes given evidence.

        None for all edges (parent, child).

        Args:
            evidence: see the class.
            pairs: which.
        """
        return self._read_off().pair_marginals(evidence, pairs)

    def expected_counts(
        self, evidence: Evidence | Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Expected uses of each cell of each table given evidence, summed over rows.

        Args:
            evidence: see the class.
            weights: of the rows.
        """
        return self._read_off().expected_counts(evidence, weights)

    def most_probable(self, evidence: Evidence | Tensor | None = None) -> dict[str, Any]:
        """The most probable states of all nodes together: names for one case, state
        numbers (rows,) for rows.

        Args:
            evidence: see the class.
        """
        return self._read_off().most_probable(evidence)

    @torch.no_grad()
    def sample(self, num_samples: int = 1) -> Tensor:
        """Draw rows.

        Args:
            num_samples: how many.

        Returns:
            State numbers, (num_samples, nodes).
        """
        return self._read_off().sample((whole_number("num_samples", num_samples),))

    def sample_posterior(
        self, evidence: Evidence | Tensor | None = None, num_samples: int = 1
    ) -> dict[str, Tensor]:
        """Exact, independent draws of all nodes given evidence.

        Args:
            evidence: see the class.
            num_samples: how many for each case.

        Returns:
            By node, (num_samples,) for one case, (num_samples, rows) for rows.
        """
        return self._read_off().sample_posterior(evidence, num_samples)

    def to_frame(self, rows: Tensor | Mapping[str, Tensor], index: Any = None) -> Any:
        """Rows as a data frame with the names of states.

        Args:
            rows: what ``sample`` or ``sample_posterior`` gives: (rows, nodes),
                or by node (rows,); -1 and NaN where missing.
            index: row labels; None numbers them.

        Returns:
            A `pandas.DataFrame`: categories for discrete nodes, numbers for
            real ones.

        Raises:
            ImportError: pandas is not installed.
            ValueError: ``rows`` have another shape, or name a node that is
                unknown.

        Example:
            >>> network = BayesianNetwork(nx.DiGraph([("rain", "wet")]), states=("no", "yes"))
            >>> network.to_frame(torch.tensor([[0, 1]]))
              rain  wet
            0   no  yes
        """
        pandas = require("pandas", "BayesianNetwork.to_frame", "arviz")
        if isinstance(rows, Tensor):
            if rows.dim() != 2 or rows.shape[1] != len(self.nodes):
                raise ValueError(
                    f"`rows` must have shape (rows, {len(self.nodes)}), got {tuple(rows.shape)}"
                )
            rows = dict(zip(self.nodes, rows.unbind(-1), strict=True))
        if unknown := [node for node in rows if node not in self.nodes]:
            raise ValueError(
                f"`rows` must name nodes among {some(self.nodes)}, got {unknown[0]!r}"
            )
        columns = {}
        for node in self.nodes:
            if node not in rows:
                continue
            values = rows[node].detach().cpu().numpy()
            if node in self.states:
                values = pandas.Categorical.from_codes(values, list(self.states[node]))
            columns[node] = values
        return pandas.DataFrame(columns, index=index)

    def d_separated(self, x: Iterable[str], y: Iterable[str], given: Iterable[str] = ()) -> bool:
        """True if the graph alone makes two sets of nodes independent given a third.

        Args:
            x: nodes; a name alone is one node.
            y: nodes.
            given: nodes that are observed.
        """
        return self.skeleton.d_separated(x, y, given)

    def do(self, interventions: Mapping[str, str | int]) -> BayesianNetwork:
        """The network after an intervention: nodes are cut off from their parents and set.

        Other CPDs are shared.

        Args:
            interventions: for each node the name or number of its state.

        Returns:
            The mutilated network.

        Raises:
            ValueError: a node or state is unknown.
        """
        cpds = dict(zip(self.nodes, self._cpds, strict=True))
        for node, state in interventions.items():
            cpd = self.cpd(node)
            if not isinstance(cpd, DiscreteCPD):
                raise NotImplementedError(
                    f"an intervention on a real node is not supported: {node!r}"
                )
            fixed = TabularCPD(point_mass(self.skeleton, node, state, cpd.table().detach()))
            cpds[node] = fixed.requires_grad_(False)
        return BayesianNetwork(
            self.skeleton.mutilated(interventions), cpds, size=self.size, max_cells=self.max_cells
        )

    def __repr__(self) -> str:
        """Nodes with their parents, states and CPDs, the first ones of many."""
        lines = [f"{type(self).__name__}({len(self.nodes)} nodes)"]
        for node in self.nodes[:SHOWN]:
            parents = ", ".join(self.skeleton.parents[node])
            states = some(self.states[node]) if node in self.states else "a real number"
            given = f" | {parents}" if parents else ""
            lines.append(f"  {node}{given}: {type(self.cpd(node)).__name__}, {states}")
        if len(self.nodes) > SHOWN:
            lines.append(f"  ... and {len(self.nodes) - SHOWN} more")
        return "\n".join(lines)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_known": None}


__all__ = ["BayesianNetwork", "Data"]
