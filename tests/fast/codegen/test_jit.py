"""When what Numba has compiled is kept, and when it is thrown away."""

import os
import shutil
import subprocess
import sys
import time

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


def flags(**held) -> list[str]:
    """AVX512 and BFLOAT16 where the environment holds Numba to a processor."""
    code = "from common.fast.codegen import processor as p; print(p.AVX512, p.BFLOAT16)"
    command, environment = [sys.executable, "-c", code], os.environ | held
    run = subprocess.run(
        command, env=environment, cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    return run.stdout.split()


def test_what_the_processor_can_follows_what_numba_is_held_to():
    assert flags(NUMBA_CPU_NAME="generic") == ["False", "False"]
    assert flags(NUMBA_CPU_FEATURES="+avx2,+avx512f,-avx512bf16") == ["True", "False"]
    assert flags(NUMBA_CPU_FEATURES="+avx512f,+avx512bf16") == ["True", "True"]
    assert flags(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2,+fma") == ["False", "False"]
