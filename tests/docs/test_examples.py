"""Every Python block of the documentation runs, and prints what the comments below it say."""

import contextlib
import doctest
import io
import itertools
import re
from pathlib import Path

import pytest

import wherry

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(page, block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


def expected_output(block: str) -> list[str]:
    """Give the comment lines that directly follow a print: what it must print."""
    lines = block.splitlines()
    return [
        line.removeprefix("# ")
        for before, line in itertools.pairwise(lines)
        if line.startswith("# ") and before.lstrip().startswith("print(")
    ]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_block_runs_and_prints_what_it_says(page: Path, block: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, str(page), "exec"), {"__name__": "example"})
    assert out.getvalue().splitlines() == expected_output(block)


def test_the_package_docstring_is_true() -> None:
    failed, tried = doctest.testmod(wherry)
    assert tried > 0
    assert failed == 0
