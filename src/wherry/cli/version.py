"""Which version of Wherry this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def wherry_version() -> str:
    """Give the installed version; a checkout on PYTHONPATH was never given one."""
    try:
        return version("wherry")
    except PackageNotFoundError:
        return "(not installed)"
