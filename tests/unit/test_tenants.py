"""The tenants file: who is whose, what they may read, how much they may use."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.base.errors import InputError, Refused, WherryError
from wherry.serve.peer import AGENTS, Forbidden
from wherry.serve.tenants import FILE_BYTES_MAX, Bounds, only_user, tenants_of

FILE = """
[bounds]
time_s = 60
rows = 1000

[[tenant]]
name = "sales"
who = ["certificate alice", "uid 0", "uid 1000"]
datasets = ["orders"]

[[tenant]]
name = "ops team"
who = ["certificate bob"]
datasets = ["*"]
[tenant.bounds]
rows = 5
weight = 7
"""


def read(text):
    return tenants_of(text.encode(), "t.toml")


def test_who_is_of_which_tenant():
    tenants = read(FILE)
    assert tenants.of_certificate("alice") == tenants.of_uid(0) == tenants.of_uid(1000)
    assert tenants.of_certificate("alice").name == "sales"
    assert tenants.of_certificate("bob") == tenants.tenant("ops team")
    for ask in (
        lambda: tenants.of_certificate("eve"),
        lambda: tenants.of_certificate("sales"),
        lambda: tenants.of_uid(1),
        lambda: tenants.tenant("eve"),
    ):
        with pytest.raises(Forbidden, match="tenant"):
            ask()


def test_bounds_are_the_files_the_tenants_or_the_defaults():
    tenants = read(FILE)
    assert tenants.tenant("sales").bounds == Bounds(time_s=60, rows=1000)
    assert tenants.tenant("ops team").bounds == Bounds(time_s=60, rows=5, weight=7)
    assert tenants.tenant(AGENTS).bounds == Bounds(time_s=60, rows=1000)


def test_a_dataset_that_may_not_be_read_looks_like_none():
    tenants = read(FILE)
    sales, catalogue = tenants.tenant("sales"), {"orders": 1, "salaries": 2}
    assert sales.dataset("orders", catalogue) == 1
    assert tenants.tenant("ops team").dataset("salaries", catalogue) == 2
    assert sales.readable(catalogue) == ["orders"]
    there, absent = [], []
    for found, names in ((there, catalogue), (absent, {"orders": 1})):
        with pytest.raises(InputError) as caught:
            sales.dataset("salaries", names)
        found.append(str(caught.value))
    assert there == absent
    with pytest.raises(InputError, match="none"):
        tenants.tenant(AGENTS).dataset("orders", catalogue)


def test_without_a_file_one_user_reads_all():
    tenants = only_user(0)
    assert tenants.of_uid(0).may_read("anything")
    for refused in (lambda: tenants.of_uid(1), lambda: tenants.of_certificate("alice")):
        with pytest.raises(Forbidden):
            refused()


def test_every_problem_is_named_at_once():
    with pytest.raises(Refused) as caught:
        read(FILE.replace("time_s", "times_s").replace("rows = 5", "rows = 0") + "\nx = 1\n")
    assert len(caught.value.reasons) == 3
    assert "'time_s'" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("uid 1000", "uid -1"), "uid NUMBER"),
        (("uid 1000", "uid 01"), "uid NUMBER"),
        (("certificate bob", "certificate ../bob"), "certificate NAME"),
        (("certificate bob", "certificate alice"), "both of 'sales' and of 'ops team'"),
        (("ops team", "sales"), "twice"),
        (("ops team", AGENTS), "reserved"),
        (("ops team", "ops\\u0007team"), "possible"),
        (("weight = 7", f"weight = {1 << 62}1"), "possible"),
        (("weight = 7", "weight = 1.5"), "whole number"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(Refused, match=said):
        read(FILE.replace(*change))


def test_what_is_no_text_is_refused():
    for data in (b"\xff", b"[", b"a = " + b"[" * 50_000, b"#" * (FILE_BYTES_MAX + 1), b""):
        with pytest.raises(InputError, match=r"t\.toml"):
            tenants_of(data, "t.toml")


@given(st.text("[]tenan.=bouds\"'{}, \n1\\u_who", max_size=80))
def test_any_text_is_an_answer_or_an_error(text):
    with contextlib.suppress(WherryError):
        read(FILE + text)
