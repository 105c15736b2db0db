"""The fuzzer of plans: what is sound runs, mutants do no harm, and without checks they do."""

import os
import random
import re
import subprocess
import sys

import pytest

from fuzz.plan_case import plans, run_sound
from fuzz.plan_mutations import mutated_plan
from fuzz.plan_queries import queries


def fuzzer(module, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", module, *map(str, words), "--processes", "1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", range(len(queries())))
def test_sound_plans_run_and_mean_what_they_say(number):
    assert run_sound(number) == "ran"


def test_mutants_follow_from_the_seed():
    sound = list(plans().values())
    made = [mutated_plan(sound[3], sound, random.Random(seed)) for seed in range(200)]
    assert made == [mutated_plan(sound[3], sound, random.Random(seed)) for seed in range(200)]
    assert len(set(made)) > 150


def test_a_short_run_finds_nothing():
    done = fuzzer("fuzz.plans", "--cases", 600, "--seed", 5)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 found" in done.stdout


def test_mutants_are_found_where_nothing_is_verified():
    done = fuzzer("fuzz.unverified", "--cases", 150, "--seed", 1)
    assert done.returncode == 1
    assert re.search(r"row \d+ of '\w+' is .*, not", done.stdout)
