"""The command that repeats a run: ``python -m common rerun REPORT.json``.

What differs here from what the run was made with is told in notes on stderr: packages, commit, and
the scene's files by their checksums.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from pathlib import Path

from common.system.errors import InputError, OneLineParser, damage_in_one_line, run_program
from common.system.files import REPOSITORY, check_is_file
from common.system.flags import file_name
from common.system.provenance import current_commit, sha256_of_files, with_output

LARGEST_REPORT = 1 << 28  # bytes
OTHER_FOLDERS = ("common", "tests", "figs", "benchmarks")  # which hold no training scripts


@dataclass(frozen=True)
class Command:
    """How to repeat a run.

    Attributes
    ----------
    directory : Path
        Where it is to be typed.
    script : str
        The training script, as it was typed.
    flags : tuple of str
    """

    directory: Path
    script: str
    flags: tuple[str, ...]

    def line(self) -> str:
        """What to type in the present folder."""
        command = shlex.join(["python", self.script, *self.flags])
        here = self.directory.resolve() == Path.cwd()
        return command if here else f"cd {shlex.quote(str(self.directory))} && {command}"

    def file(self) -> Path:
        """This repository's script of that name.

        Raises
        ------
        InputError
            There is none: a report may come from anywhere, and name anything.
        """
        *_, folder, name = (self.directory / self.script).resolve().parts
        path = REPOSITORY / folder / name
        if folder in OTHER_FOLDERS or path.suffix != ".py" or not path.is_file():
            raise InputError(
                f"--run: {self.script} is no training script of this repository; leave --run out, "
                f"and type the command yourself"
            )
        return path


def repeating_command(report: dict, path: Path, out: str | None) -> Command:
    """Return the command that repeats the run of a report, with results going elsewhere.

    Without `out` they go beside the first ones, or, where the run had no ``--out``, to a new folder
    as usual.

    Raises
    ------
    InputError
        The report does not say how it was made.
    """
    if not isinstance(report.get("command"), str):
        raise InputError(
            f"{path}: does not hold the command, for it is of an earlier version; its 'settings' "
            f"are the flags"
        )
    if not report["command"].isprintable():
        raise InputError(f"{path}: its command holds characters that cannot be shown")
    typed_in = Path(str(report.get("directory") or "."))
    directory = typed_in if typed_in.is_dir() else REPOSITORY
    if out is not None:
        out = os.path.abspath(out)
    elif (first := report["settings"]["out"]) is not None:
        names = (f"{first}_rerun{'' if n == 1 else n}" for n in count(1))
        out = next(name for name in names if not (directory / name).exists())
    words = shlex.split(with_output(report["command"], out))
    at = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
    if at is None:
        raise InputError(f"{path}: was not made by a script, but by: {report['command']}")
    script = words[at]
    if directory != typed_in:  # of another machine: this repository's, from its root
        script = str(Path(*(typed_in / script).parts[-2:]))
    return Command(directory, script, tuple(words[at + 1 :]))


def differences(report: dict, directory: Path) -> Iterator[str]:
    """Say in what this machine differs from what a run was made with, a line each."""
    then = (report["environment"].get("commit") or "unknown")[:12]
    now = (current_commit() or "unknown")[:12]
    if then != now or then == "unknown":
        yield f"commit: {then} then, {now} now"
    for name, version in report.get("packages", {}).items():
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = "not installed"
        if here != version:
            yield f"{name}: {version} then, {here} now"
    files = {name: directory / name for name in report.get("files_sha256", {})}
    found = sha256_of_files(files.values())
    for name, path in files.items():
        if str(path) not in found:
            yield f"{path}: not there"
        elif found[str(path)] != report["files_sha256"][name]:
            yield f"{path}: its content has changed"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status, with ``--run`` that of the run."""
    parser = OneLineParser(
        prog="python -m common rerun", description="Print the command that repeats a run."
    )
    parser.add_argument(
        "report", type=file_name, metavar="REPORT.json", help="or the folder that holds it"
    )
    parser.add_argument("--out", type=file_name, help="where its results go; default: beside")
    parser.add_argument("--run", action="store_true", help="run it, too")

    def work() -> int:
        flags = parser.parse_args(arguments)
        path = Path(flags.report)
        path = path / "report.json" if path.is_dir() else path
        check_is_file(path, largest=LARGEST_REPORT)
        with damage_in_one_line(path, "report"):
            report = json.loads(path.read_text("utf-8"))
            command = repeating_command(report, path, flags.out)
            notes = list(differences(report, command.directory))
        script = command.file() if flags.run else None
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        print(command.line(), flush=True)
        if script is None:
            return 0
        words = [sys.executable, str(script), *command.flags]
        return subprocess.run(words, cwd=command.directory).returncode

    return run_program(parser.prog, work, interrupted="")
