"""The fuzzer itself: it passes over what is right, and sees what is wrong."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import agent
from fuzz.case import run_case
from fuzz.corruptions import corrupted
from fuzz.hostile import hostile
from fuzz.seeds import files
from wherry.data.source import open_source
from wherry.serve.requests import reply_of

TESTS = Path(__file__).parents[1]
FAULTS = {
    "aborts": "os.abort()",
    "raises": "raise ValueError('not of Wherry')",
    "hides": "raise wherry.InputError('some file is bad')",
}


def fuzzer(*words, path=(), module="fuzz"):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path])}
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_sound_files_are_read(tmp_path):
    for name, content in files().items():
        path = tmp_path / name
        path.write_bytes(content)
        source = open_source(path)
        rows = sum(source.read(ref, source.schema.names).num_rows for ref in source.chunks())
        assert rows == (0 if name.startswith("empty") else 150)


def test_corruptions_follow_from_the_seed():
    sound = bytes(range(256)) * 20
    made = [corrupted(sound, random.Random(seed)) for seed in range(200)]
    assert made == [corrupted(sound, random.Random(seed)) for seed in range(200)]
    assert len(set(made)) > 190


def test_a_short_run_finds_nothing():
    done = fuzzer("--cases", 400, "--seed", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 found" in done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_reader_are_found(tmp_path, fault):
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, wherry, wherry.data.source\ndef bad(path): {FAULTS[fault]}\n"
        "wherry.data.source.open_source = bad\n"
    )
    done = fuzzer("--cases", 3, path=[tmp_path])
    assert done.returncode == 1
    assert "3 found" in done.stdout
    assert "again: python -m fuzz --seed 1 --case 2" in done.stdout


def test_a_case_can_be_run_again(tmp_path):
    sound = files()
    outcomes = [run_case(1, case, sound, tmp_path) for case in range(20)]
    assert outcomes == [run_case(1, case, sound, tmp_path) for case in range(20)]
    assert f"case 7: {outcomes[7]}" in fuzzer("--case", 7).stdout


def test_hostile_requests_find_nothing():
    done = fuzzer("--cases", 20, "--seed", 2, module="fuzz.agent")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 answered, 0 found" in done.stdout


def test_hostile_strings_for_listeners_find_nothing():
    done = fuzzer("--strings", 2000, "--seed", 2, module="fuzz.listeners")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 found" in done.stdout


@pytest.mark.parametrize("module", ["fuzz.agent", "fuzz.listeners"])
@pytest.mark.parametrize("fault", ["os.abort()", "raise ValueError('not of Wherry')"])
def test_faults_of_an_agent_are_found(tmp_path, module, fault):
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, wherry.serve.station as place\ndef bad(*_): {fault}\n"
        "place._ANSWERS[place.requests.Renew] = bad\n"
    )
    size = ("--strings", 2000) if module == "fuzz.listeners" else ("--cases", 4)
    done = fuzzer(*size, path=[tmp_path], module=module)
    assert done.returncode == 1
    assert " 0 found" not in done.stdout


def test_hostile_requests_reach_what_is_behind_the_decoders():
    prepared = agent.prepare_folder()
    kinds = set()
    with prepared.keeper:
        for seed in range(20):  # a hostile epoch ends what there is to damage, so often anew
            made, draw = agent.station(prepared), random.Random(seed)
            known, key, _ = agent.sound(made)
            for _ in range(200):
                reply = reply_of(made.handle(hostile(known, key, draw), agent.PEER))
                kinds.add(type(reply).__name__)
            made.close()
    assert kinds >= {"Made", "Rows", "Accepted", "Unpacked", "Done", "Failed"}
