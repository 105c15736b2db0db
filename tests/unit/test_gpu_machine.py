"""Cards of this machine as planning and queries find them, through a cupy that is a stand-in."""

import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from support import fake_cupy

import wherry as wh
from wherry import col
from wherry.base.errors import InputError
from wherry.devices import cards as found_cards
from wherry.devices.cards import cards, link_to, profile_of
from wherry.devices.cuda import cuda_devices
from wherry.devices.this_machine import machine_with
from wherry.session import cards as session_cards


@pytest.fixture
def cupy(monkeypatch):
    made = fake_cupy.install(monkeypatch)
    made.__spec__ = ModuleSpec("cupy", None)
    return made


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Give a machine that has a driver, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia3").touch()  # as in a container that was given one of several
    boot = tmp_path / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("first\n")
    cards.cache_clear()
    yield tmp_path
    cards.cache_clear()


def test_cards_are_asked_for_once_a_start_of_the_machine(root, cupy, monkeypatch):
    asked = []

    def ask():
        asked.append(1)
        return cuda_devices()

    monkeypatch.setattr(found_cards, "cuda_devices", ask)
    first = cards(root)
    cards.cache_clear()
    assert cards(root) == first
    assert [card.name for card in first] == ["gpu0", "gpu1"]
    assert len(asked) == 1
    (root / "proc/sys/kernel/random/boot_id").write_text("second\n")
    cards.cache_clear()
    assert cards(root) == first
    assert len(asked) == 2


def test_a_machine_without_a_card_is_no_less_of_one(root, cupy, monkeypatch, tmp_path):
    assert cards(tmp_path / "elsewhere") == ()
    cards.cache_clear()
    fake_cupy.install(monkeypatch, devices=0).__spec__ = ModuleSpec("cupy", None)
    assert cards(root) == ()
    cards.cache_clear()
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(found_cards, "find_spec", lambda name: None)
    assert cards(root) == ()


def test_cards_that_are_too_old_are_left_out(root, cupy, monkeypatch):
    old = [replace(card, arch="sm_75") for card in cuda_devices()[:1]]
    monkeypatch.setattr(found_cards, "cuda_devices", lambda: (*old, *cuda_devices()[1:]))
    assert [card.name for card in cards(root)] == ["gpu1"]


def test_a_card_has_the_profile_of_its_model(cupy):
    class H200:
        name, model, cores, memory_bytes = "gpu0", "NVIDIA H200", 132, 150_000_000_000

    known = profile_of(H200)
    assert known.device.name == "h200"
    assert known.memory.capacity_bytes.value == 150_000_000_000
    assert known.memory.capacity_bytes.source.startswith("measured: ")
    other = profile_of(cuda_devices()[0])
    assert "all else is estimated as of h100-pcie" in other.device.title
    assert link_to("cpu0", H200).ends == ("cpu0", "gpu0")


def test_a_query_runs_from_the_file_to_the_answer(cupy, monkeypatch, tmp_path):
    """Everything but CUDA itself: this machine, its second card, the ring, streams, the program."""
    monkeypatch.setattr(session_cards, "_compiled", lambda text, arch: text.encode())
    monkeypatch.setattr(session_cards, "cards", cuda_devices)
    rng = np.random.default_rng(3)
    table = pa.table({"k": rng.integers(0, 9, 70_000), "x": rng.random(70_000)})
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=30_000)
    q = wh.scan(path).filter(col("k") > 3).agg(x=col("x").sum(), n=wh.count())
    system, wanted = machine_with(cuda_devices()), q.collect().to_pylist()[0]
    with session_cards.using():
        for _ in range(2):
            result = q.run(system, placement={"near": "gpu1", "partial": "gpu1"})
            seen = result.table.to_pylist()[0]
            assert seen["n"] == wanted["n"]
            assert seen["x"] == pytest.approx(wanted["x"], rel=1e-12)
        with pytest.raises(InputError, match="no card 'gpu7'; did you mean 'gpu1'"):
            session_cards.card("gpu7")
        session_cards.card("gpu1").reader.close()
