"""What the user's wrong input becomes: one line."""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from common.system.interrupts import Terminated, interruptible
from common.system.streams import make_streams_tolerant

LONGEST_LINE = 2000  # characters


class InputError(Exception):
    """Bad input, told in one line: what is wrong (file, flag or value) and what to do.

    The command line prints it on stderr and exits with status 2.  Line feeds and the like, which
    names in a file may hold, are written as escapes, and what is too long is cut in its middle.
    """

    def __init__(self, message: object) -> None:
        text = str(message)
        if len(text) > LONGEST_LINE:
            text = f"{text[: LONGEST_LINE // 2]} … {text[-LONGEST_LINE // 2 :]}"
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        )


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
        with warnings.catch_warnings(action="ignore"):  # which would be further lines
            yield
    except InputError:
        raise
    except Exception as error:  # parsers raise anything at all on a damaged file
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable {kind} ({reason})") from error


def run_program(program: str, work: Callable[[], int | None], interrupted: str) -> int:
    """Do the work of a command line; return its exit status.

    What `work` returns, None being 0.  2: the user's input was wrong, or a file cannot be read or
    written, told in one line on stderr.  130 or 143: interrupted by Ctrl-C or SIGTERM.  Notes of
    the error, as where results so far are, follow; where an interruption has none, `interrupted`
    says what now.
    """
    make_streams_tolerant()
    try:
        with interruptible():
            return work() or 0
    except InputError as error:
        told = error
    except OSError as error:  # no permission, a name that is too long, a full disk
        reason = error.strerror or str(error)
        told = InputError(f"{error.filename}: {reason}" if error.filename else reason)
        told.__cause__ = error
    except KeyboardInterrupt as interruption:
        what_now = _notes(interruption) or interrupted
        print(f"\n{program}: interrupted{what_now}", file=sys.stderr)
        return 143 if isinstance(interruption, Terminated) else 130
    print(f"{program}: error: {told}{_notes(told)}", file=sys.stderr)
    return 2


def _notes(error: BaseException | None) -> str:
    """What was noted of an error, or of those that it came from."""
    notes = []
    while error is not None:
        notes += [f"; {note}" for note in getattr(error, "__notes__", ())]
        error = error.__cause__
    return "".join(notes)
