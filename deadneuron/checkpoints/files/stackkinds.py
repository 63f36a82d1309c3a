"""What lies on a pickle's stack, told by its instructions alone: so that nothing is called or hashed that is not fit.

torch's unpickler builds tuples, lists and dicts as it is told. Two things about them can hang or kill a process: the
hash of a tuple walks through all that it holds, and through what is shared as often as it is met; and what is called
but is no function is printed in full in the error. So here keys must be plain or short tuples of plain values, calls
must be of stand-ins, with a short tuple of arguments. Weights, optimizer states and training dicts never need more.
"""

from __future__ import annotations

from collections.abc import Callable

_LONGEST = 64  # arguments of a call, and elements of a key
_DEEPEST = 1000  # marks that are open at once
_KEYS = 5_000  # keys that are tuples: their hashes can be made to collide
FUNCTION, PLAIN, RESULT, OTHER = -1, -2, -3, -4
"""A stand-in; a number, text or None; what a call made; a list or dict. A tuple is twice its length, plus one where it
holds anything but plain values."""

_SIMPLE = {
    **dict.fromkeys(["NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"], PLAIN),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINSTRING"), PLAIN),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), OTHER),
    **{"GLOBAL": FUNCTION, "EMPTY_TUPLE": 0},
}


class UnfitError(ValueError):
    """The pickle does what no pickler writes."""


class Kinds:
    """Follows the instructions as torch's unpickler does, with kinds in place of objects."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._below: list[tuple[list[int], int]] = []  # stacks under marks, and where these marks were set
        self._memo: dict[int, int] = {}
        self._keys = 0
        self._rules: dict[str, Callable[[], None]] = {
            "TUPLE1": lambda: self._tuple(self._take(1)),
            "TUPLE2": lambda: self._tuple(self._take(2)),
            "TUPLE3": lambda: self._tuple(self._take(3)),
            "APPEND": lambda: self._drop(1),
            "BUILD": lambda: self._drop(1),
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "SETITEM": lambda: self._check_keys(self._take(2)),
            "BINPERSID": self._refer,
            "STOP": lambda: self._drop(1, left=0),
            "PROTO": lambda: None,
        }

    def follow(self, name: str, argument: object, at: int) -> int:
        """One instruction that stands at byte `at`. Of those that end at a mark, returns where it stands; else -1.

        Raises `UnfitError`, and IndexError or KeyError where the stack or the memo holds less than is asked for.
        """
        kind = _SIMPLE.get(name)
        if kind is not None:
            self._stack.append(kind)
        elif name == "MARK":
            if len(self._below) >= _DEEPEST:
                raise UnfitError("is nested like no checkpoint")
            self._below.append((self._stack, at))
            self._stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            items = self._stack
            self._stack, place = self._below.pop()
            if name == "TUPLE":
                self._tuple(items)
                return place
            if name == "SETITEMS":
                self._check_keys(items)
            self._drop(0)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[_number(argument)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[_number(argument)])
        else:
            self._rules[name]()
        return -1

    def _take(self, count: int) -> list[int]:
        if len(self._stack) < count:
            raise IndexError("the stack is shorter")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _drop(self, count: int, left: int = 1) -> None:
        """Takes so many away; what is worked on stays."""
        if len(self._stack) < count + left:
            raise IndexError("the stack is shorter")
        del self._stack[len(self._stack) - count :]

    def _tuple(self, items: list[int]) -> None:
        self._stack.append(2 * len(items) + any(kind != PLAIN for kind in items))

    def _call(self) -> None:
        function, arguments = self._take(2)
        if function != FUNCTION or not 0 <= arguments <= 2 * _LONGEST + 1:
            raise UnfitError("calls what is no function, or with odd arguments")
        self._stack.append(RESULT)

    def _refer(self) -> None:
        self._drop(1, left=0)
        self._stack.append(RESULT)

    def _check_keys(self, items: list[int]) -> None:
        for kind in items[::2]:
            flat = kind >= 0 and kind % 2 == 0
            self._keys += flat
            if not (kind in (PLAIN, RESULT) or (flat and kind <= 2 * _LONGEST)) or self._keys > _KEYS:
                raise UnfitError("has keys that no dict of a checkpoint has")


def _number(argument: object) -> int:
    if not isinstance(argument, int):
        raise UnfitError("keeps things under no number")
    return argument
