"""What a job, a page and a fault are, as numbers: shared by the skeletons and by who calls them.

A job is a table of int64, a page too; the names below number their entries. Nothing here imports
numba.
"""

from typing import Final, NamedTuple


class _Page(NamedTuple):
    """The entries of a page."""

    KIND: int = 0
    START: int = 1  # address of the body
    STORED: int = 2  # bytes of the body
    SIZE: int = 3  # bytes of the body once decompressed
    VALUES: int = 4  # nulls included
    ENCODING: int = 5
    LEVELS: int = 6  # version 2: bytes of the definition levels
    REPEATS: int = 7  # version 2: bytes of the repetition levels
    PACKED: int = 8  # 1 when the body is compressed
    HEADER: int = 9  # address of the header
    ROWS: int = 10  # version 2: rows, or -1
    CHECKSUM: int = 11  # CRC-32 of the body as it is stored, or -1
    COUNT: int = 12


PAGE: Final = _Page()


class _Pages(NamedTuple):
    """What is known of all pages of a chunk; of data pages where nothing else is said."""

    FAULT_AT: int = 0  # address of the header read last
    MOST_VALUES: int = 1
    MOST_SIZE: int = 2
    PLAIN: int = 3  # pages whose values are no indices
    PLAIN_SIZE: int = 4  # their bytes once decompressed
    HAS_TABLE: int = 5  # 1 when there is a dictionary
    ENTRIES: int = 6  # of the dictionary
    TABLE_SIZE: int = 7  # bytes of its page once decompressed
    CHECKED: int = 8  # 1 when a page has a checksum
    COUNT: int = 9


PAGES: Final = _Pages()


class _Job(NamedTuple):
    """The entries of a job; those from `NEXT` on are changed while it runs."""

    PAGES: int = 0  # address of the pages
    PAGE_COUNT: int = 1
    CODEC: int = 2  # of Codec
    FORM: int = 3  # of Form: what is stored
    STORED_WIDTH: int = 4  # bytes of a stored value; 0 for text and booleans
    WIDTH: int = 5  # bytes of a value on its way: 8 for text, 1 for booleans
    SINK: int = 6  # of Sink: how values are put down
    NULLABLE: int = 7
    KEPT: int = 8  # address of the bits of the rows that are wanted; 0: all
    VALUES: int = 9  # address where values, offsets or views are written
    VALID: int = 10  # address of the validity bits; 0 if not nullable
    TEXT: int = 11  # address where bytes of texts are written
    TEXT_ROOM: int = 12
    TABLE: int = 13  # scratch for a table of the dictionary; then the address where it is
    TABLE_TEXT: int = 14  # address of the dictionary's page once decompressed
    PLAIN_PAGE: int = 15  # scratch: a page once decompressed
    CODES: int = 16  # scratch: 8 bytes per value of a page
    DENSE: int = 17  # scratch: WIDTH bytes per value of a page
    SPREAD: int = 18  # scratch: WIDTH bytes per row of a page
    BITS: int = 19  # scratch: a bit per row of a page
    STRIP: int = 20  # scratch: 32 int32
    NEXT: int = 21  # next page
    ROW: int = 22  # rows behind us
    WRITTEN: int = 23  # rows written
    VALID_COUNT: int = 24  # of the rows written
    TEXT_USED: int = 25
    TABLE_COUNT: int = 26  # values in the dictionary
    NEEDED: int = 27  # room for text that the next page needs
    FAULT_AT: int = 28  # address
    SKIPPED: int = 29  # pages without a wanted row
    UNPACKED: int = 30  # bytes of the other pages once decompressed
    IN_PLACE: int = 31  # 1: rows keep their places, those of skipped pages are not written
    RANGE: int = 32  # width of the table's integers, negative if unsigned, to find their range
    LOW: int = 33  # of the table's integers
    HIGH: int = 34
    COUNT: int = 35


JOB: Final = _Job()


class _Test(NamedTuple):
    """The entries of a test of a column by its dictionary; those from `PASSED` on are written."""

    DICTIONARY: int = 0  # address of the job that decodes the values
    MATCH: int = 1  # address of the job that decodes a flag for each row
    VALUES: int = 2  # address of the values: room for a block of zeros behind them
    ENTRIES: int = 3  # how many they are
    WIDTH: int = 4  # bytes of a value
    CHECKED: int = 5  # 1: values of 16 bytes must lie from LOW to HIGH
    LOW: int = 6
    HIGH: int = 7
    MASK: int = 8  # address of the block function that tests values
    WHOLE: int = 9  # addresses of its contexts, for whole blocks and for the rest
    PADDED: int = 10
    WORDS: int = 11  # scratch: a bit per value, and a word more
    FLAGS: int = 12  # scratch: a byte per value, and two blocks more
    NULLS: int = 13  # 1: rows may be null
    PASSED: int = 14  # how many values pass
    DONE: int = 15  # 1: rows were narrowed by it
    FAILED: int = 16  # 1: its bytes are damaged
    COUNT: int = 17


TEST: Final = _Test()
UNSOUND: Final = -100
"""Given when a dictionary has a value that its type excludes; perhaps no row has that one."""


class _Codec(NamedTuple):
    """How bodies are compressed; the caller decompresses what is `OTHER` before a job runs."""

    NONE: int = 0
    SNAPPY: int = 1
    OTHER: int = 2


CODEC: Final = _Codec()


class _Form(NamedTuple):
    """What is stored, and how it becomes a value of the job's width."""

    SAME: int = 0  # copied
    NARROW: int = 1  # int32 cut to 1 or 2 bytes
    WIDEN_4: int = 2  # int32 to 16 bytes
    WIDEN_8: int = 3  # int64 to 16 bytes
    BIG_ENDIAN: int = 4  # 1 to 16 bytes to 16 bytes
    TEXT: int = 5
    BOOLEAN: int = 6


FORM: Final = _Form()


class _Sink(NamedTuple):
    """How values are put down."""

    FIXED: int = 0
    BITS: int = 1
    TEXT_4: int = 2  # int32 offsets
    TEXT_8: int = 3
    VIEWS: int = 4
    CODES_1: int = 5  # indices of a dictionary
    CODES_2: int = 6
    CODES_4: int = 7


SINK: Final = _Sink()


class _Encoding(NamedTuple):
    """The encodings that are decoded here, numbered as in the format."""

    PLAIN: int = 0
    PLAIN_DICTIONARY: int = 2
    RLE: int = 3
    DELTA: int = 5
    DICTIONARY: int = 8


ENCODING: Final = _Encoding()


class _Kind(NamedTuple):
    """The kinds of page, numbered as in the format."""

    DATA: int = 0
    INDEX: int = 1
    DICTIONARY: int = 2
    DATA_2: int = 3


KIND: Final = _Kind()

MORE_TEXT: Final = 1
"""Given when a page's text does not fit; `JOB.NEEDED` says what would."""


class _Fault(NamedTuple):
    """What a skeleton gives when it refuses bytes."""

    HEADER_ENDS: int = -1
    HEADER_FIELD: int = -2
    PAGE_KIND: int = -3
    PAGE_SIZE: int = -4
    TOO_MANY_PAGES: int = -5
    VALUE_COUNT: int = -6
    DICTIONARY_PLACE: int = -7
    ENCODING: int = -8
    LEVEL_ENCODING: int = -9
    SNAPPY: int = -10
    LEVELS: int = -11
    VALUES_END: int = -12
    CODE_WIDTH: int = -13
    CODE_RANGE: int = -14
    DELTA_HEADER: int = -15
    TEXT_LENGTH: int = -16
    DICTIONARY_END: int = -17
    REPEATED: int = -18
    TEXT_TOTAL: int = -19
    CHECKSUM: int = -20


FAULT: Final = _Fault()

MEANING: Final = {
    FAULT.HEADER_ENDS: "the page header runs over the end of the column chunk",
    FAULT.HEADER_FIELD: "the page header holds a field that cannot be read",
    FAULT.PAGE_KIND: "the page is of no known kind",
    FAULT.PAGE_SIZE: "the page's size is negative, too large for its bytes, or runs over the end",
    FAULT.TOO_MANY_PAGES: "there are more pages than rows could need",
    FAULT.VALUE_COUNT: "the pages hold another number of values than the row group has rows",
    FAULT.DICTIONARY_PLACE: "a dictionary stands where none may stand, or is missing",
    FAULT.ENCODING: "the page is in an encoding that the footer does not name for this column",
    FAULT.LEVEL_ENCODING: "the definition levels are not run-length encoded",
    FAULT.SNAPPY: "the snappy data is damaged",
    FAULT.LEVELS: "the definition levels are damaged",
    FAULT.VALUES_END: "the values run over the end of the page",
    FAULT.CODE_WIDTH: "dictionary indices are wider than 32 bits",
    FAULT.CODE_RANGE: "an index points behind the end of the dictionary",
    FAULT.DELTA_HEADER: "the header of the delta encoding is damaged",
    FAULT.TEXT_LENGTH: "a text runs over the end of the page",
    FAULT.DICTIONARY_END: "the dictionary's values run over the end of its page",
    FAULT.REPEATED: "the page holds repetition levels although the column is flat",
    FAULT.CHECKSUM: "the page's checksum does not match its bytes",
    FAULT.TEXT_TOTAL: "the texts have more bytes than their offsets can number",
}
