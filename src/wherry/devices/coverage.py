"""How many figures come from where: what a profile or a system rests on."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wherry.devices.figures import SOURCE_KINDS, Count, Figure
from wherry.devices.profile import Profile
from wherry.devices.system import System


def coverage(found: Profile | System) -> dict[str, int]:
    """Give the number of figures of each kind of source, in the order of `SOURCE_KINDS`.

    Of a system they are those of its links, each once: what a group says of many links is one.
    """
    figures: list[Figure | Count] = []
    if isinstance(found, System):
        figures.extend(dict.fromkeys(f for link in found.links for f in _figures(link)))
    else:
        figures.extend(_figures(found))
    kinds = [figure.source.partition(":")[0] for figure in figures]
    return {kind: kinds.count(kind) for kind in SOURCE_KINDS}


def _figures(value: object) -> Iterator[Figure | Count]:
    if isinstance(value, Figure | Count):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _figures(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _figures(getattr(value, name))
