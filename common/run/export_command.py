"""``python -m common export WEIGHTS FILE.onnx``: a trained network as a checked ONNX file."""

import sys
from collections.abc import Sequence
from pathlib import Path

from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import check_is_file
from common.system.flags import file_name


def check_names(weights_file: Path, onnx_file: Path) -> None:
    """Raise InputError where there are no weights, or an ONNX file cannot have that name."""
    if onnx_file.suffix != ".onnx":  # so that no swapped arguments overwrite the weights
        raise InputError(f"{onnx_file}: the name of an ONNX file must end in .onnx")
    if not onnx_file.parent.is_dir():
        raise InputError(f"{onnx_file}: no such folder to write to")
    check_is_file(weights_file)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 written, 1 failed the check, 2 wrong input."""
    description = "A trained network as an ONNX file, checked against PyTorch"
    parser = OneLineParser(prog="python -m common export", description=description)
    parser.add_argument("weights", type=file_name, help="run_<n>/weights.pt of a training run")
    parser.add_argument("onnx", type=file_name, help="file to write, .onnx")
    own_help = "Python file with the network's class, where it is not one of this repository"
    parser.add_argument("--network", type=file_name, metavar="FILE", help=own_help)

    def work() -> int:
        flags = parser.parse_args(arguments)
        check_names(Path(flags.weights), Path(flags.onnx))
        from common.run.export import ExportError, export  # PyTorch takes seconds to load

        try:
            own = flags.network and Path(flags.network)
            print(export(Path(flags.weights), Path(flags.onnx), own))
        except ExportError as error:
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            return 1
        print(f"Written: {flags.onnx}")
        return 0

    return run_program(parser.prog, work, interrupted="")
