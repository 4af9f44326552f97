"""The programs beside the training scripts: ``python -m common COMMAND``."""

import pytest

from common.__main__ import PROGRAMS, main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments, capsys):
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in PROGRAMS)


@pytest.mark.parametrize("command", PROGRAMS)
def test_every_command_has_its_own_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert not ended.value.code
    assert f"python -m common {command}" in capsys.readouterr().out


def test_an_unknown_command_is_one_line(capsys):
    assert main(["tables"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m common: error: 'tables': the commands are download, page")
