"""Benchmarks run, check their answers, and say that they were measured."""

from wherry.benchmarks.engines import compare_engines
from wherry.benchmarks.tpch import generate


def test_engines_are_compared_on_equal_answers(tmp_path_factory):
    tables = generate(tmp_path_factory.mktemp("engines") / "tpch", 0.001)
    found = compare_engines(tables, rounds=1)
    assert set(found) == {"q6", "q1"}
    for figures in found.values():
        assert figures["wherry_ms"] > 0
        assert figures["duckdb_ms"] > 0
