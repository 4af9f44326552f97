"""What the user's wrong input becomes: one line."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn


class InputError(Exception):
    """Bad input, told in one line: what is wrong (file, flag or value) and what to do.

    The command line prints it on stderr and exits with status 2.
    """


LONGEST_LINE = 1000  # characters; of a longer message the middle is left out


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that raises `InputError` instead of printing its usage and leaving.

    It takes no abbreviated flags: today's abbreviation may be another flag's tomorrow.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise the message with a hint where to look."""
        raise InputError(f"{message} (see --help)")


@contextlib.contextmanager
def damage_in_one_line(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged or foreign file into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # parsers raise anything at all on a damaged file
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable {kind} ({reason})") from error


def run_program(program: str, work: Callable[[], int | None], interrupted: str) -> int:
    """Do the work of a command line; return its exit status.

    What `work` returns, None being 0.  2: the user's input was wrong, or a file cannot be read or
    written, told in one line on stderr.  130: interrupted, and `interrupted` says what now.
    """
    try:
        return work() or 0
    except InputError as error:
        message = str(error)
    except OSError as error:  # no permission, a name that is too long, a full disk
        reason = error.strerror or str(error)
        message = f"{error.filename}: {reason}" if error.filename else reason
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted{interrupted}", file=sys.stderr)
        return 130
    print(f"{program}: error: {one_line(message)}", file=sys.stderr)
    return 2


def one_line(message: str) -> str:
    """Return the message without line breaks and other characters that have no shape."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"
