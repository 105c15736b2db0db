"""Every operator over every type means at agents what it means in one process, to the nanosecond.

The types and operators are those of the conformance kit. Each is run at agents and at their twin
(`support.clusters`), and both are compared with the reference.
"""

import shutil
from itertools import groupby

import pyarrow as pa
import pytest
from hypothesis import settings
from support.clusters import DRIVES, check_same, cluster, store

from wherry import Pipeline
from wherry.session import Options
from wherry.testing import cases, check_rows, placements_of_kinds

SOAK = settings().max_examples > 1000
SHAPES = ("nulls", "no rows", "slice", "values", "only nulls")
FORMS = ("arrow", "lz4", "parquet")


def _by_type(case):
    return str(case.rows.schema.types[0])


TITLES = {key: list(group) for key, group in groupby(cases(), _by_type)}


@pytest.fixture(scope="module", params=[True, False], ids=["emulated", "measured"])
def agents(request, tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("c"), emulate=request.param) as found:
        yield found, request.param


def _chosen(type_name, *, emulated):
    """Give every case in a soak; otherwise one or two of each type, another operator each time."""
    found, first = TITLES[type_name], list(TITLES).index(type_name)
    if SOAK:
        return found
    step = 61 if emulated else 97
    return found[(first * 7) % step :: step]


def _stored(agents, name, case, form):
    """Store the rows of a case; as plain Arrow if the form does not keep their types.

    Of what is decoded each agent has dictionaries of its own, and counts the bytes of each.
    """
    t = case.rows.schema.types[0]
    nested = pa.types.is_struct(t) or pa.types.is_dictionary(t)
    views = t in {pa.string_view(), pa.binary_view()}
    other = pa.types.is_duration(t) or t in {pa.date64(), pa.time32("s"), pa.timestamp("s")}
    decimal = pa.types.is_decimal32(t) or pa.types.is_decimal64(t)
    if nested or views or (form == "parquet" and (other or decimal)):
        form = "arrow"
    compression = {"arrow": None, "lz4": "lz4", "parquet": "zstd"}[form]
    suffix = "parquet" if form == "parquet" else "arrow"
    store(agents.folder, case.rows, name, rows=4, form=suffix, compression=compression)
    return form


@pytest.mark.parametrize("type_name", TITLES)
def test_agents_give_the_reference(agents, type_name):
    there, emulated = agents
    for number, case in enumerate(_chosen(type_name, emulated=emulated)):
        form = FORMS[(number + list(TITLES).index(type_name)) % len(FORMS)]
        form = _stored(there, "rows", case, form)
        stored = there.scan("rows")
        operator = case.operator
        declared = operator.schema(case.rows.schema)
        if not stored.schema.equals(case.rows.schema):
            pytest.fail(f"{form} does not keep {case.rows.schema}")
        query = Pipeline(stored.source, (operator,), declared)
        wanted = operator.reference(case.rows)
        ways = [{}, *(pins for _, pins in placements_of_kinds(*there.near(query)))]
        for pins in ways if emulated else ways[:1] + ways[-2:]:
            far, near = there.both(query, Options(pins=pins))
            check_same(far, near, modelled=emulated)
            check_rows(far.table, wanted, f"{case.title}, {form}, {far.placement}")
        for drive in DRIVES:
            shutil.rmtree(there.folder / drive / "rows")
