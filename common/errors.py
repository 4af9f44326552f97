"""What the user's wrong input becomes: one line."""

import argparse
from typing import NoReturn


class InputError(Exception):
    """Bad input, told in one line: what is wrong (file, flag or value) and what to do.

    The command line prints it on stderr and exits with status 2.
    """


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that raises `InputError` instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Raise the message with a hint where to look."""
        raise InputError(f"{message} (see --help)")
