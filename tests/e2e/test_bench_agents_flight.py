"""The benchmark of Flight runs and checks its answers."""

from __future__ import annotations

from wherry.benchmarks.agents.flight import measured


def test_figures_are_there() -> None:
    found = measured(nbytes=16 << 20, rounds=2, requests=20)
    assert found.nbytes == 16 << 20
    rates = (found.pyarrow_gbs, found.pyarrow_cut_gbs, found.pyarrow_client_gbs, found.wherry_gbs)
    assert all(rate > 0.01 for rate in rates)
    assert found.share > 0.3
    assert 10 < found.request_us < 100_000
