"""Which of a file's arrays is meant."""

from pathlib import Path

from common.system.errors import InputError

LISTED = 20  # variables that a message names
Shapes = dict[str, tuple[int, ...] | None]  # None for what is no array of numbers


def choose(path: Path, variable: str | None, shapes: Shapes, separator: str) -> str:
    """Return the variable to read: the one that is named, or the only array that is no vector.

    Without a name, one in a struct or group is meant only where there is none outside.

    `separator` stands between the name of a struct or group and what is in it.

    Raises
    ------
    InputError
        There is no such array of numbers, or several could be meant; it lists what there is.
    """
    if variable is None:
        found = arrays({name: shape for name, shape in shapes.items() if separator not in name})
        found = found or arrays(shapes)
        if len(found) != 1:
            raise InputError(
                f"{path}: say which variable to read; this file holds: {listed(shapes)}"
            )
        return found[0]
    if variable in shapes and shapes[variable] is not None:
        return variable
    inside = {n: s for n, s in shapes.items() if n.startswith(f"{variable}{separator}")}
    if inside:
        raise InputError(
            f"{path}: variable '{variable}' is not an array but holds some; name one of: "
            f"{listed(inside)}"
        )
    if variable in shapes:
        raise InputError(f"{path}: variable '{variable}' is not an array of numbers")
    raise InputError(
        f"{path}: no variable '{variable}' in this file, which holds: {listed(shapes) or 'none'}"
    )


def arrays(shapes: Shapes) -> list[str]:
    """Return the names of the arrays with more than one row and column."""
    return [name for name, shape in shapes.items() if shape and sum(n > 1 for n in shape) > 1]


def listed(shapes: Shapes) -> str:
    """Write variables with their sizes for a message, not too many of them."""
    text = ", ".join(
        f"{name[:99]} ({'×'.join(map(str, shape))})" if shape else name[:99]
        for name, shape in list(shapes.items())[:LISTED]
    )
    return text + (", …" if len(shapes) > LISTED else "")
