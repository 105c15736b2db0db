"""Answers that stay on a card, as CuPy, or numpy where the card is a stand-in, takes them."""

import ctypes
from importlib import import_module

import numpy as np
import pytest
from support.accelerators import ACCELERATORS, the_card
from support.cards import card

import wherry as wh
from wherry import col
from wherry.benchmarks.gpu import lineitem
from wherry.devices.this_machine import THIS_MACHINE
from wherry.run import capsules


@pytest.fixture(params=ACCELERATORS)
def machine(request):
    """Give a system with a card, the card, and what takes arrays there."""
    if request.param == "card":
        yield THIS_MACHINE, the_card(), import_module("cupy")
        return
    with card(1 << 28) as (system, made):
        yield system, made, np


def asked(rows):
    table = lineitem.made(1.0).first(rows).table()
    return wh.scan(table).filter(col("l_tax") > 0.02).select("key", "l_tax", "l_returnflag")


def on_host(array):
    return array if isinstance(array, np.ndarray) else array.get()


def test_arrays_are_taken(machine):
    system, made, taker = machine
    q = asked(70_000 if taker is np else 6_000_000)
    wanted, found = q.collect(), q.collect_on(made.device.name, system)
    assert found.to_arrow().equals(wanted) or found.to_arrow().combine_chunks().equals(
        wanted.combine_chunks()
    )
    for name in ("key", "l_tax"):
        parts = [taker.from_dlpack(batch.column(name)) for batch in found.batches]
        whole = np.concatenate([on_host(part * 2) for part in parts])
        assert np.array_equal(whole, wanted.column(name).to_numpy() * 2)
    codes = [taker.from_dlpack(batch.column("l_returnflag").stored) for batch in found.batches]
    assert sum(len(part) for part in codes) == wanted.num_rows


def test_memory_that_was_let_go_of_is_used_anew_later(machine):
    system, made, taker = machine
    q = asked(70_000 if taker is np else 6_000_000)
    name = made.device.name
    wanted = q.collect().column("l_tax").to_numpy().sum()
    sums = []
    for _ in range(20):
        parts = [taker.from_dlpack(b.column("l_tax")) for b in q.collect_on(name, system).batches]
        # Not waited for: the memory is given back, and filled again, while this is under way.
        sums.append(sum(part.sum() for part in parts))
        del parts
    assert np.allclose([float(one) for one in sums], wanted)


def test_the_event_and_the_addresses(machine):
    system, made, taker = machine
    batch = asked(50_000).collect_on(made.device.name, system).batches[0]
    _, capsule = batch.__arrow_c_device_array__()
    found = capsules._ArrowDeviceArray.from_address(
        capsules._pointer(capsule, b"arrow_device_array")
    )
    assert (found.device_type, found.device_id) == made.device.kind
    if taker is not np:
        event = ctypes.c_void_p.from_address(found.sync_event).value
        taker.cuda.runtime.eventSynchronize(event)
    values = found.array.children[0].contents.buffers[1]
    host = made.device.get(values, 8 * batch.num_rows).view(np.int64)
    assert np.array_equal(host, batch.column("key").to_arrow().to_numpy())
