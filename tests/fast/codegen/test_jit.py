"""When what Numba has compiled is kept, and when it is thrown away."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest
from numba import TypingError

from common.fast.codegen import jit
from common.fast.cpu import conv_direct, passes
from common.system.files import REPOSITORY


def test_compiled_code_is_thrown_away_when_any_of_its_files_changes(tmp_path):
    """Numba looks at the file of a function only, not at those of the functions it calls."""
    files = [f._cache._cache_file for f in (conv_direct.convolve, passes.weigh)]
    assert {file._source_stamp for file in files} == {jit.content_hash(jit.SOURCES)}
    assert all(file._source_stamp in file._version for file in files)  # which Numba reads first
    (tmp_path / "vectors.py").write_text("", "utf-8")
    before = jit.content_hash([tmp_path])
    (tmp_path / "vectors.py").write_text("changed", "utf-8")
    assert jit.content_hash([tmp_path]) != before


def test_a_copy_of_the_same_files_is_the_same(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for path in jit.SOURCES[0].glob("*.py"):
            shutil.copyfile(path, tmp_path / folder / path.name)
            os.utime(tmp_path / folder / path.name, (time.time() - 1e6,) * 2)
    hashes = [jit.content_hash([tmp_path / folder]) for folder in ("one", "other")]
    assert {*hashes} == {jit.content_hash([jit.SOURCES[0]])}


def test_every_file_with_compiled_code_counts():
    marks = "jit import", "import intrinsic", "llvmlite import"
    files = (REPOSITORY / "common").rglob("*.py")
    using = {p.parent for p in files if any(mark in p.read_text("utf-8") for mark in marks)}
    assert using == set(jit.SOURCES)


def test_what_cannot_be_compiled_keeps_nobody_waiting():
    @jit.compiled
    def wrong(x):
        return x.nothing_of_the_kind

    for _ in range(2):  # nor itself
        with pytest.raises(TypingError):
            wrong(1)
        assert not jit._HELD


def test_old_code_never_stands_for_new(tmp_path, monkeypatch):
    """Numba's index is written before the code, and a process may be killed in between."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    @jit.compiled
    def more(x):
        return x + 1

    file = more._cache._cache_file
    Path(file._cache_path).mkdir(parents=True, exist_ok=True)
    old = Path(file._cache_path, file._data_name(1))
    old.write_bytes(b"of another version")
    monkeypatch.setattr(file, "_save_data", lambda name, data: None)
    assert more(1) == 2
    assert not old.exists()


HELD = """
import importlib, json, os, sys
from numba import config
from common.fast.codegen import processor
for held in json.loads(sys.argv[1]):
    os.environ.update(held)
    config.reload_config()
    importlib.reload(processor)
    print(processor.AVX512, processor.BFLOAT16)
    for name in held:
        del os.environ[name]
"""


def test_what_the_processor_can_follows_what_numba_is_held_to():
    held = {
        "generic": {"NUMBA_CPU_NAME": "generic"},
        "AVX-512": {"NUMBA_CPU_FEATURES": "+avx2,+avx512f,-avx512bf16"},
        "both": {"NUMBA_CPU_FEATURES": "+avx512f,+avx512bf16"},
        "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    }
    command = [sys.executable, "-c", HELD, json.dumps([*held.values()])]
    run = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert dict(zip(held, run.stdout.splitlines(), strict=True)) == {
        "generic": "False False",
        "AVX-512": "True False",
        "both": "True True",
        "AVX2": "False False",
    }
