"""What a result was made with."""

import hashlib
import sys
from importlib import metadata

import pytest

from common.system.device import peak_memory_mb
from common.system.memory import peak_of_process
from common.system.provenance import (
    loaded_packages,
    sha256_of_files,
    typed_command,
    with_output,
)


def test_the_command_is_quoted_for_a_shell(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "SSRN/SSRN.py", "-d", "my field's.yaml"])
    assert typed_command() == """python SSRN/SSRN.py -d 'my field'"'"'s.yaml'"""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("python SSRN.py -d IN", "python SSRN.py -d IN --out 'b c' --resume"),
        ("python SSRN.py --out a -d IN --resume", "python SSRN.py -d IN --out 'b c' --resume"),
        ("python SSRN.py --overwrite --out=a", "python SSRN.py --out 'b c' --resume"),
    ],
)
def test_results_of_a_repeated_command_go_elsewhere(typed, expected):
    assert with_output(typed, "b c", "--resume") == expected


def test_without_a_place_they_go_where_they_went():
    assert with_output("python SSRN.py --out a --overwrite", None) == "python SSRN.py --out a"


def test_packages_are_those_loaded():
    packages = loaded_packages()
    assert packages["torch"] == metadata.version("torch")
    assert packages["scikit-learn" if "sklearn" in sys.modules else "numpy"]
    assert not packages.keys() - {dist.name for dist in metadata.distributions()}


def test_files_are_read_anew_when_they_change(tmp_path):
    path = tmp_path / "cube.mat"
    path.write_bytes(b"one")
    assert sha256_of_files([path]) == {str(path): hashlib.sha256(b"one").hexdigest()}
    path.write_bytes(b"three")
    found = sha256_of_files([path, tmp_path / "gone.mat"])
    assert found == {str(path): hashlib.sha256(b"three").hexdigest()}


def test_peak_memory_grows_with_what_is_taken():
    before = peak_memory_mb("cpu")
    block = bytearray(int((before + 100) * 1e6))  # more than the process ever had
    for at in range(0, len(block), 4096):
        block[at] = 1
    assert peak_of_process() > before + 90
