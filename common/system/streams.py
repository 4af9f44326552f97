"""Standard streams that never stop a run: closed, of another encoding, or with nobody reading."""

import errno
import io
import os
import sys
from typing import TextIO

GONE = (errno.EPIPE, errno.EIO)  # a reader that has ended, a terminal that was closed


class _Unbroken(io.FileIO):
    """A stream's bytes; what a reader that has gone away does not take is dropped."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return len(data)


def make_streams_tolerant() -> None:
    """Let a program print to whatever its standard output and standard error are.

    Characters that the encoding of the terminal lacks are replaced, what nobody reads is dropped.
    Streams that were closed when the program started lead nowhere; their numbers are taken, lest
    the next file that is opened gets what is printed.  Streams that something has put in place of
    the process's own stay as they are.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _keep_taken(number)
        stream, own = getattr(sys, name), getattr(sys, f"__{name}__")
        if number and stream is None and own is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for good
        elif number and stream is own and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _tolerant(stream))


def _keep_taken(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:  # not open
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)


def _tolerant(stream: io.TextIOWrapper) -> TextIO:
    stream.flush()
    if type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:  # Windows' console
        stream.reconfigure(errors="replace")
        return stream
    raw = _Unbroken(stream.fileno(), "w", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # PYTHONUNBUFFERED
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
