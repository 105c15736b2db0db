"""Streams that strangers send: refused if they are compressed, before a byte is decompressed."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import ipc

from wherry.base.errors import CorruptError
from wherry.data.ipc_message import batch_layout, dictionary_codec


def check_plain(stream: pa.Buffer, label: str) -> None:
    """Refuse a stream with compressed buffers: they would take as much memory as they say.

    Nothing compressed is sent where this is asked, so that what is read takes what was received.

    Parameters
    ----------
    stream : pyarrow.Buffer
        An Arrow IPC stream.

    Raises
    ------
    CorruptError
        Naming `label`. What pyarrow raises of bytes that are no stream is left to the caller.
    """
    if any(map(_codec, _messages(stream))):
        raise CorruptError(f"{label} are compressed, as none are sent")


def _messages(stream: pa.Buffer) -> Iterator[ipc.Message]:
    reader = ipc.MessageReader.open_stream(pa.BufferReader(stream))
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _codec(message: ipc.Message) -> str:
    if message.type == "dictionary":
        return dictionary_codec(message.metadata.to_pybytes())
    if message.type == "record batch":
        return batch_layout(message.metadata.to_pybytes()).codec
    return ""
