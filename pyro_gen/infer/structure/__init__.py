"""Structures of Bayesian networks from complete categorical data: trees, searches, tests."""

from pyro_gen.infer.structure.bootstrap import EdgeConfidence, bootstrap_edges
from pyro_gen.infer.structure.chow_liu import chow_liu, conditional_tables, mutual_information
from pyro_gen.infer.structure.equivalence import cpdag, dag_extension, structural_hamming_distance
from pyro_gen.infer.structure.exact import exact_search
from pyro_gen.infer.structure.independence import Independence, independence_test
from pyro_gen.infer.structure.pc import pc, pc_from_tests
from pyro_gen.infer.structure.scores import AIC, BIC, BDeu, QuotientNML, Score, graph_score
from pyro_gen.infer.structure.search import hill_climbing, learn_structure, tabu_search
from pyro_gen.infer.structure.table import CategoricalTable

__all__ = [
    "AIC",
    "BIC",
    "BDeu",
    "CategoricalTable",
    "EdgeConfidence",
    "Independence",
    "QuotientNML",
    "Score",
    "bootstrap_edges",
    "chow_liu",
    "conditional_tables",
    "cpdag",
    "dag_extension",
    "exact_search",
    "graph_score",
    "hill_climbing",
    "independence_test",
    "learn_structure",
    "mutual_information",
    "pc",
    "pc_from_tests",
    "structural_hamming_distance",
    "tabu_search",
]
