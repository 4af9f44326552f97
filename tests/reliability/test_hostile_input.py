"""Files from strangers: each is read, or refused in one line, within bounds, and nothing is run."""

import json
import select
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.system.files import REPOSITORY
from tests.reliability.strangers import HOSTILE, MARKER, SAMPLES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells in /proc")
SECONDS, MEBIBYTES = 10, 256  # as docs/own-scenes.md says
FAULT = "a damaged or hostile file"
EDGES = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]

position = st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.1))
change = st.one_of(
    st.tuples(st.just("cut off"), position, st.none()),
    st.tuples(st.just("flip"), position, st.integers(1, 255)),
    st.tuples(st.just("remove"), position, st.integers(1, 64)),
    st.tuples(st.just("repeat"), position, st.integers(1, 64)),
    st.tuples(st.just("write"), position, st.binary(min_size=1, max_size=8)),
    st.tuples(
        st.just("write"),
        position,
        st.builds(
            lambda value, size, order: (value % 256**size).to_bytes(size, order),
            st.sampled_from(EDGES),
            st.sampled_from([1, 2, 4, 8]),
            st.sampled_from(["little", "big"]),
        ),
    ),
)


def changed(content: bytes, changes: list[tuple]) -> bytes:
    """Content after changes, each (kind, position as a share of the length, what)."""
    data = bytearray(content)
    for kind, share, what in changes:
        at = int(share * len(data))
        if kind == "cut off":
            del data[at:]
        elif kind == "flip" and data:
            data[at] ^= what
        elif kind == "remove":
            del data[at : at + what]
        elif kind == "repeat":
            data[at:at] = data[at : at + what]
        elif kind == "write":
            data[at : at + len(what)] = what
    return bytes(data)


class Reader:
    """A process that reads files; see reader.py."""

    def __init__(self, folder: Path) -> None:
        self.stderr, self.seen = folder / "stderr", 0
        command = [sys.executable, "-m", "tests.reliability.reader", str(folder)]
        with self.stderr.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def read(self, path: Path) -> dict:
        """Read a file and check that it was read or refused within the bounds, and quietly."""
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 6 * SECONDS)[0], "it hangs"
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait()}"
        answer = json.loads(line)
        assert answer["outcome"] in ("read", "refused"), answer
        assert "\n" not in answer["said"] and answer["said"].isprintable(), answer
        assert answer["seconds"] < SECONDS and answer["mebibytes"] < MEBIBYTES, answer
        printed = self.stderr.read_text("utf-8")[self.seen :]
        self.seen += len(printed)
        assert printed == ""
        return answer


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    reader = Reader(folder)
    yield reader
    assert not (folder / MARKER).exists()
    reader.process.stdin.close()
    assert reader.process.wait(timeout=30) == 0


@pytest.mark.parametrize("name", SAMPLES)
def test_files_changed_at_random(name, reader, tmp_path, often, tried):
    make, target = SAMPLES[name]
    path = make(tmp_path)
    assert reader.read(path)["outcome"] == "read"
    content = (tmp_path / target).read_bytes()
    outcomes = []

    @settings(
        max_examples=often(30, 2000),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(change, min_size=1, max_size=5))
    def read_changed(changes):
        (tmp_path / target).write_bytes(changed(content, changes))
        outcomes.append(reader.read(path)["outcome"])

    read_changed()
    assert "refused" in outcomes
    tried(FAULT, HOW, len(outcomes))


HOW = (
    "valid .mat (5, 7.3), .npy, GeoTIFF, ENVI, HDF5, NetCDF, vector, scene and weights files "
    "changed at random, and files made to run code, hang, crash or fill memory"
)


@pytest.mark.parametrize("name", HOSTILE)
def test_files_made_to_do_harm(name, reader, tmp_path, tried):
    answer = reader.read(HOSTILE[name](tmp_path))
    assert answer["outcome"] == "refused"
    assert str(tmp_path) in answer["said"] or len(answer["said"]) > 1000
    tried(FAULT, HOW, 1)
