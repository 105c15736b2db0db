"""Golden texts: compared, or rewritten with `--update-golden` (then read the diff)."""

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden texts")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    def compare(name: str, text: str) -> None:
        path = FOLDER / f"{name}.txt"
        if request.config.getoption("--update-golden", default=False):
            path.write_text(text + "\n")
        assert path.exists(), f"no {path.name}; make it with pytest tests/golden --update-golden"
        assert text + "\n" == path.read_text()

    return compare
