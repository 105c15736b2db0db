"""The package works from a wheel, from a wheel made of the sdist, editable, and from a checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PROBE = """
import sys
from importlib.resources import files
import wherry, wherry.benchmarks, wherry.device_profiles, wherry.kernels, wherry.testing
from wherry.cli import main
from wherry.devices.profile import load_profile
from wherry.devices.system import system_names
assert load_profile("newport").device.kind == "csd"
assert "dpu-csd-host" in system_names()
assert (files("wherry") / "py.typed").is_file()
assert "Wherry" in wherry.__doc__
table = wherry.scan(__import__("pyarrow").table({"a": [1, 2, 3]})).filter(wherry.col("a") > 1)
assert table.collect("dpu-csd-host").num_rows == 2
print(wherry.__file__)
"""


def probe(place: Path, folder: Path) -> Path:
    """Run the probe in a fresh process that sees the package only at `place`; give where it was."""
    path = os.pathsep.join([str(place), *(p for p in sys.path if p.endswith("site-packages"))])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONNOUSERSITE": "1"}
    # Without site, a checkout that is installed editable cannot answer for the one in question.
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-W", "error", "-c", PROBE],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def unpacked(wheel: Path, place: Path) -> Path:
    """Lay a wheel out as an installer does: it is a zip archive of what goes to site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build a wheel and an sdist of the checkout, and a wheel of the sdist, without a network."""
    folder = tmp_path_factory.mktemp("dist")
    wheel = Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    sdist = Path(next(SdistBuilder(str(ROOT)).build(directory=str(folder))))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    again = WheelBuilder(str(source)).build(directory=str(folder / "again"), versions=["standard"])
    return {"wheel": wheel, "sdist": sdist, "wheel of sdist": Path(next(again))}


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("which", ["wheel", "wheel of sdist"])
def test_a_wheel_is_whole(which: str, built: dict[str, Path], tmp_path: Path) -> None:
    place = unpacked(built[which], tmp_path / "site")
    found = probe(place, tmp_path)
    assert found == place / "wherry" / "__init__.py"
    for name in ("kernels", "device_profiles", "benchmarks"):
        assert not (place / "wherry" / name).is_symlink()
        assert any((place / "wherry" / name).rglob("*"))


def test_both_wheels_hold_the_same_files(built: dict[str, Path]) -> None:
    assert names(built["wheel"]) == names(built["wheel of sdist"])


def test_a_wheel_holds_each_file_once_and_nothing_else(built: dict[str, Path]) -> None:
    tops = {name.split("/")[0] for name in names(built["wheel"])}
    assert tops == {"wherry", next(t for t in tops if t.endswith(".dist-info"))}
    assert len(tops) == 2
    with zipfile.ZipFile(built["wheel"]) as archive:
        assert len(archive.namelist()) == len(set(archive.namelist()))
    tracked = subprocess.run(
        ["git", "ls-files", "src/wherry", "kernels", "device_profiles", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode == 0:
        links = {f"src/wherry/{name}" for name in ("kernels", "device_profiles", "benchmarks")}
        wanted = {path for path in tracked.stdout.split() if path not in links}
        inside = {
            path.removeprefix("src/") if path.startswith("src/") else f"wherry/{path}"
            for path in wanted
        }
        assert inside <= names(built["wheel"])


def test_an_editable_install_works(tmp_path: Path) -> None:
    place = unpacked(_editable(ROOT, tmp_path), tmp_path / "site")
    assert probe(_through(place), tmp_path) == ROOT / "src" / "wherry" / "__init__.py"


def _editable(source: Path, folder: Path) -> Path:
    built = WheelBuilder(str(source)).build(directory=str(folder / "e"), versions=["editable"])
    return Path(next(built))


def _through(place: Path) -> Path:
    """Give the folder that an editable wheel's .pth file leads to, as `site` would."""
    (pth,) = place.glob("*.pth")
    lines = pth.read_text().split()
    assert len(lines) == 1
    return Path(lines[0])


def test_a_checkout_works_by_its_path(tmp_path: Path) -> None:
    assert probe(ROOT / "src", tmp_path) == ROOT / "src" / "wherry" / "__init__.py"
