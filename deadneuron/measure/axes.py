"""The unit axis on its way through one operation of the autograd graph."""

from __future__ import annotations

from typing import Any

NO_AXIS = -1
_ALIGNED = ("Add", "Sub", "Mul", "Div", "Expand", "Where", "Maximum", "Minimum", "Pow", "Fmod", "Remainder", "Lerp")
_RESHAPES = ("View", "UnsafeView", "ReshapeAlias", "Reshape", "Squeeze", "Unsqueeze", "Unflatten", "Alias", "AsStrided")


def carry(node: Any, before: tuple[int, ...], after: tuple[int, ...], axis: int, units: int) -> int | None:
    """The axis of the node's output (shape `after`) that is `axis` of its input (shape `before`), or None if lost.

    `NO_AXIS` where the axis held a single unit and was squeezed away: all of the output is that unit's.
    Elementwise operations, pooling, dropout, padding, slicing and concatenation keep it; broadcasting aligns on the
    right; a reshape keeps it where the sizes factor, and otherwise gives the axis into which it was merged.
    """
    name = node.name()
    if axis == NO_AXIS:
        return NO_AXIS if len(after) == len(before) else None
    if len(after) < len(before) and before[axis] == 1 and units == 1 and _product(before) == _product(after):
        return NO_AXIS
    if name.startswith("Permute"):
        dims = [wrapped(dim, len(after)) for dim in node._saved_dims]
        return dims.index(axis)
    if name.startswith("Transpose"):
        return _swapped(axis, wrapped(node._saved_dim0, len(after)), wrapped(node._saved_dim1, len(after)))
    if name.startswith("TBackward"):
        return _swapped(axis, 0, 1)
    if name.startswith("Select"):
        dim = wrapped(node._saved_dim, len(before))
        return None if dim == axis else axis - (dim < axis)
    if name.startswith("Unbind"):
        dim = wrapped(node._saved_dim, len(before))
        return None if dim == axis else axis - (dim < axis)
    if name.startswith("Stack"):
        dim = wrapped(node._saved_dim, len(after))
        return axis + (axis >= dim)
    if name.startswith("Unfold"):
        return axis  # the new axis comes last
    if len(after) < len(before) and hasattr(node, "_saved_dim") and not name.startswith(_RESHAPES):
        return _after_reduction(node, before, after, axis)
    if name.startswith(_RESHAPES):
        return reshaped(before, after, axis, units)
    if len(before) == len(after):
        return axis
    moved = axis + len(after) - len(before)  # broadcasting aligns on the right
    return moved if name.startswith(_ALIGNED) and moved >= 0 else None


def reshaped(before: tuple[int, ...], after: tuple[int, ...], axis: int, units: int) -> int | None:
    """Where `axis`, which holds `units` units, goes in a reshape.

    Both shapes are cut into the smallest groups of axes with equal products. In the axis' own group, an axis of the
    same size and the same extent in front of it is the axis itself; failing that, one that holds `units` (instance
    norm runs a batch norm over N × C); failing that, the last of the group for features (split into heads) and the
    first for channels (split by a pixel shuffle).

    >>> reshaped((6, 5), (2, 3, 5), 1, 5)      # a linear layer's rows become (N, T)
    2
    >>> reshaped((7, 5, 3, 3), (7, 45), 1, 5)  # flatten after a convolution
    1
    >>> reshaped((1, 35, 3, 3), (7, 5, 3, 3), 1, 5)
    1
    """
    for own, theirs in _groups(before, after):
        if axis not in own or not theirs:
            continue
        front = _product(before[own.start : axis])
        for candidate in theirs:
            if after[candidate] == before[axis] and _product(after[theirs.start : candidate]) == front:
                return candidate
        holding = [candidate for candidate in theirs if after[candidate] == units]
        if holding:
            return holding[-1]
        return theirs[-1] if axis == len(before) - 1 else theirs[0]
    return None


def _groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[range, range]]:
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        left = right = 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            if left < right and i < len(before):
                left, i = left * before[i], i + 1
            elif j < len(after):
                right, j = right * after[j], j + 1
            else:
                return groups
        groups.append((range(start_i, i), range(start_j, j)))
    return groups


def _after_reduction(node: Any, before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    saved = getattr(node, "_saved_dim", None)
    if saved is None:
        return None
    dims = {wrapped(dim, len(before)) for dim in (saved if isinstance(saved, (tuple, list)) else [saved])}
    if axis in dims or len(before) - len(dims) != len(after):
        return None
    return axis - sum(dim < axis for dim in dims)


def wrapped(dim: int, rank: int) -> int:
    # Autograd saves dimensions unsigned: -1 comes back as 2^64 - 1.
    dim = dim - 2**64 if dim >= 2**63 else dim
    return dim + rank if dim < 0 else dim


def _swapped(axis: int, a: int, b: int) -> int:
    return b if axis == a else a if axis == b else axis


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
