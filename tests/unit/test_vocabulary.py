"""Dictionaries as one: every row keeps its value, and every value its code."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.base.errors import InputError
from wherry.data.vocabulary import Vocabulary

TYPE = pa.dictionary(pa.int8(), pa.utf8())
dictionaries = st.lists(st.none() | st.sampled_from("abcdef"), min_size=1, max_size=6)


@given(st.lists(dictionaries, min_size=1, max_size=4), st.data())
def test_rows_keep_their_values(found, data):
    known, made = Vocabulary(TYPE, "c"), []
    for texts in found:
        rows = data.draw(st.lists(st.none() | st.integers(0, len(texts) - 1), max_size=8))
        array = pa.DictionaryArray.from_arrays(
            pa.array(rows, pa.int8()), pa.array(texts, pa.utf8())
        )
        made.append((known.codes(array), array))
    assert known.texts.null_count == 0
    assert len(set(known.texts.to_pylist())) == len(known.texts)
    for codes, array in made:
        assert codes.type == pa.int8()
        values = pa.DictionaryArray.from_arrays(codes, known.texts).cast(pa.utf8())
        assert values.equals(array.cast(pa.utf8()))


def test_codes_of_the_first_dictionary_are_its_own():
    array = pa.array(["x", "y", "x"]).dictionary_encode().cast(TYPE)
    assert Vocabulary(TYPE, "c").codes(array).buffers()[1].address == (
        array.indices.buffers()[1].address
    )


def test_more_values_than_indices_number():
    known = Vocabulary(TYPE, "orders.c")
    known.codes(pa.array([str(i) for i in range(100)]).dictionary_encode().cast(TYPE))
    more = pa.array([str(i) for i in range(100, 200)]).dictionary_encode().cast(TYPE)
    with pytest.raises(InputError, match=r"orders\.c: its dictionaries have 200 values"):
        known.codes(more)
