"""Small TPC-H tables, made once, and the command line called in this process."""

import json

import pytest

from wherry import cli
from wherry.benchmarks import tpch


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """The folder for `--data`: it holds tpch-0.001."""
    folder = tmp_path_factory.mktemp("data")
    tpch.generate(folder / "tpch-0.001", 0.001)
    return folder


class Said:
    """What a command printed and gave."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def wherry(capsys):
    """Run a command line; words may be paths."""

    def call(*words):
        code = cli.main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return call
