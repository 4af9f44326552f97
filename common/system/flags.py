"""Readers of the values of flags: each returns what a text means, or says what it is not."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from common.system.errors import InputError

LONGEST_NAME = 255  # bytes, in all file systems of today


def count(minimum: int, maximum: int = 10**6) -> Callable[[str], int]:
    """Return a reader of whole numbers from `minimum` to `maximum`."""

    def read(text: str) -> int:
        plain = text.isascii() and text.isdigit() and len(text) < 20
        value = int(text) if plain else None
        if value is None or not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a whole number from {minimum} to {maximum}"
            )
        return value

    return read


def share(text: str) -> float:
    """Read a number strictly between 0 and 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 0 and 1")
    return value


def count_or_share(text: str) -> int | float:
    """Read a whole number from 1 on, or a number strictly between 0 and 1."""
    try:
        return count(1)(text) if text.isdigit() else share(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a whole number from 1 on nor a share between 0 and 1"
        ) from None


def positive(text: str) -> float:
    """Read a finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number")
    return value


def decay(text: str) -> float:
    """Read a number above 0 and at most 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0 and at most 1")
    return value


def workers_or_address(text: str) -> str:
    """Read how many processes of this machine are to work, or where a scheduler is."""
    if re.fullmatch(r"(tcp|tls)://[^\s/:]+:[0-9]{1,5}|(tcp|tls)://\[[0-9a-f:]+\]:[0-9]{1,5}", text):
        return text
    try:
        return str(count(1, 1000)(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a number of processes, 1 to 1000, nor an address such as "
            f"tcp://host:8786 or tls://host:8786"
        ) from None


def _number(text: str) -> float:
    try:
        if not text.isascii() or "_" in text:  # which Python's own numbers may have
            raise ValueError
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def file_name(text: str) -> str:
    """Check what names a file or a folder: not empty, not too long, text that a report can hold."""
    if not text:
        raise argparse.ArgumentTypeError("the name of a file or folder is missing")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise argparse.ArgumentTypeError(f"'{text}' holds characters that no name may have")
    if any(len(part.encode()) > LONGEST_NAME for part in Path(text).parts):
        raise argparse.ArgumentTypeError(f"'{text}' is too long for a name")
    return text


def check_device(name: str, here: bool = False) -> None:
    """Raise InputError unless ``--device`` may name a device so; `here`: there is such a one."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise InputError(f"--device {name}: unknown device; use auto, cpu, cuda or cuda:N")
    if here and name.startswith("cuda"):
        from common.system.device import choose_device  # PyTorch, which is large, knows of GPUs

        choose_device(name)
