"""The dictionaries of a column's chunks as one, in which every value has one code for good."""

from __future__ import annotations

import pyarrow as pa

from wherry.base.compute import pc
from wherry.base.errors import InputError
from wherry.data.arrays import plain, restored


class Vocabulary:
    """A dictionary that grows by the values of others; what has a code keeps it.

    Parameters
    ----------
    t : pyarrow.DictionaryType
    label : str
        What errors call the column.

    Attributes
    ----------
    texts : pyarrow.Array
        The values so far, none null and none there twice.
    """

    def __init__(self, t: pa.DataType, label: str) -> None:
        self.texts = pa.array([], t.value_type)
        self._type, self._label = t, label
        self._plain = plain(self.texts)
        self._known: dict[tuple[tuple[int, int], ...], tuple[pa.Array, pa.Array | None]] = {}

    def codes(self, array: pa.Array) -> pa.Array:
        """Give the codes of an array's rows, of its index type; they are its own where they can be.

        Raises
        ------
        InputError
            If there are more values together than the index type can number.
        """
        moved = self._moved(array.dictionary)
        if moved is None:
            return array.indices
        return pc.take(moved, array.indices)

    def _moved(self, texts: pa.Array) -> pa.Array | None:
        """Give the code of each value of a dictionary; None: its own."""
        # An empty buffer may have any address.
        place = tuple((b.address, b.size) for b in texts.buffers() if b is not None and b.size)
        key = (*place, (texts.offset, len(texts)))
        if key not in self._known:
            # The dictionary is kept, so that its addresses do not come again.
            self._known[key] = texts, self._learnt(texts)
        return self._known[key][1]

    def _learnt(self, texts: pa.Array) -> pa.Array | None:
        given, known = plain(texts), self._plain
        own = pc.unique(given).drop_null()
        new = own if not len(known) else own.filter(pc.invert(pc.is_in(own, known)))
        if len(new):
            self._plain = pa.concat_arrays([known, new])
            self.texts = restored(self._plain, self._type.value_type)
        found = pc.index_in(given, self._plain)
        if found.equals(pa.array(range(len(texts)), pa.int32())):
            return None
        try:
            return found.cast(self._type.index_type)
        except pa.ArrowInvalid:
            raise InputError(
                f"{self._label}: its dictionaries have {len(self.texts)} values together, which "
                f"{self._type.index_type} cannot number; cast it to pa.utf8() or wider indices"
            ) from None
