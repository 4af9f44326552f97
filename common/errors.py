"""The one exception that means "the user's input was wrong"."""


class InputError(Exception):
    """Bad input, told in one line: what is wrong (file, flag or value) and what to do.

    The command line prints it on stderr and exits with status 2.
    """
