"""The tables of the native entry: what each word of an entry's state and of its candidates is.

Tables are words of 64 bits. `entry` fills them; the code of `entry_code` reads them.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """Words of an entry's state; pointers to candidates follow."""

    slow = 0  # the callable of the Python path
    functions = 1  # the C functions, by Function
    count = 2
    first = 3


class Candidate(IntEnum):
    """Words of a candidate; each table is its length and its address."""

    busy = 0
    positional = 1  # how many arguments by position, and by name
    named = 2
    holds = 3  # whether arguments come from containers that may change under way, and are held by references
    releases = 4  # whether the run is long enough to release the interpreter's lock
    code = 5
    table = 6  # the code's argument
    status = 7
    nodes = 8
    overlaps = 10
    makes = 12
    guards = 14
    copies = 16
    builds = 18
    held = 20
    functions = 21
    size = 22


class Node(IntEnum):
    """Words of a node of the arguments' tree: where its object comes from, what it must be, and where its data go."""

    how = 0
    parent = 1  # the record of the node that it is in
    index = 2  # its place there; a key
    kind = 3
    type = 4  # the type it must have, or for Kind.same the object it must be
    other = 5  # another type it may have
    count = 6  # of a container; the rank of an array
    dims = 7
    dtype = 8
    flags = 9
    slot = 10  # where the address of its data is put
    object = 11  # the object found
    value = 12  # an integer's value
    size = 13


class How(IntEnum):
    """Where a node's object is."""

    argument = 0
    keyword = 1
    tuple = 2
    list = 3
    dict = 4


class Kind(IntEnum):
    """What a node's object must be."""

    same = 0
    container = 1
    dict = 2
    array = 3
    number = 4
    integer = 5


class Overlap(IntEnum):
    """Words of a pair of buffers that must not overlap."""

    slot = 0
    nbytes = 1
    other = 2
    other_nbytes = 3
    size = 4


class Make(IntEnum):
    """Words of a fresh array."""

    rank = 0
    dims = 1
    number = 2  # of its dtype
    slot = 3
    object = 4
    size = 5


class Guard(IntEnum):
    """Words of a value that must come out as it did when it was recorded; also of a copy: to `slot`, from the one at `expected`."""

    slot = 0
    expected = 1
    nbytes = 2
    size = 3


class Build(IntEnum):
    """Words of a part of the result's tree, a container before what is in it."""

    what = 0
    operand = 1
    dtype = 2
    how = 3  # How, of its container; -1 for the whole
    parent = 4
    index = 5
    object = 6
    size = 7


class What(IntEnum):
    """What a part of the result is."""

    array = 0  # that an operand of Make made
    scalar = 1
    object = 2  # a constant
    given = 3  # an argument, by its node
    tuple = 4
    list = 5
    dict = 6
    float64 = 7


class Function(IntEnum):
    """The C functions, in the order of their table."""

    ndarray = 0  # no function, but the type of arrays
    array = 1
    scalar = 2
    incref = 3
    decref = 4
    tuple = 5
    tuple_set = 6
    list = 7
    list_set = 8
    dict = 9
    dict_set = 10
    dict_get = 11
    clear = 12
    integer = 13
    save = 14
    restore = 15
    call = 16
    float64 = 17  # no function, but the type of float64 scalars
    float64_new = 18
