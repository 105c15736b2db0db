"""The reader of a device by name; another in its place only where that may be, and told."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.base.errors import InputError, unknown_name
from wherry.data.file_reads import Way
from wherry.devices.accelerator import Accelerator
from wherry.devices.found import Found
from wherry.devices.gpu_paths import WAYS
from wherry.devices.kvikio_reader import KvikioReader
from wherry.devices.loading import DeviceReader
from wherry.devices.pinned import PinnedReader


def open_reader(
    device: Accelerator,
    name: str,
    paths: Mapping[str, Found],
    *,
    strict: bool = False,
    files: Way = "cached",
) -> DeviceReader:
    """Give a reader into a device's memory.

    Parameters
    ----------
    name : str
        "pinned", "kvikio" or "gds".
    paths : mapping
        What `gpu_paths` says of each on this machine: nothing is begun that is not there.
    strict : bool
        Whether to refuse where that reader cannot be; otherwise `pinned` takes its place, and every
        load's evidence says why.
    files : "cached", "direct" or "either"
        How `pinned` reads files.

    Raises
    ------
    InputError
        If there is no such reader; if it is not there and `strict`, or it is `pinned`.
    Retryable
        If the device has no room for what the reader needs.
    """
    if name not in WAYS:
        raise unknown_name("reader", name, WAYS)
    there = paths[name]
    why = "" if there.present else f"{device.name} has no reader {name!r}: {there.detail}"
    if not why and name != "pinned":
        try:
            return KvikioReader(device, gds=name == "gds", strict=strict)
        except InputError as error:
            why = str(error)
    if why and (strict or name == "pinned"):
        raise InputError(why)
    return PinnedReader(device, way=files, why=why)
