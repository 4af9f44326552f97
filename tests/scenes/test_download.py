"""Downloads against servers on this machine that behave well, badly and not at all."""

import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from common.scenes import download
from common.scenes.scene_file import SCENES, USUAL
from common.system.errors import InputError
from common.system.files import REPOSITORY

GOOD = random.Random(0).randbytes(1_000_003)
BLOB = hashlib.sha1(b"blob %d\0" % len(GOOD) + GOOD).hexdigest()

# As `git hash-object` prints them for the original files.
ORIGINALS = {
    "Indian_pines_corrected.mat": "75b6d6e7df046fce91eda23e7559e274c92da711",
    "Indian_pines_gt.mat": "8e308e6d2ad7cbb81dc1cd7849a2b7b768f4be6d",
    "PaviaU.mat": "6eecc933bedec1130bb046483dd12e25cf091b24",
    "PaviaU_gt.mat": "85d57a7f2fec6fc2b05a810b31808b88f9357dc6",
    "KSC.mat": "6cbb7742851216118ddeff9011482fff5aca3698",
    "KSC_gt.mat": "8efeec7529b8789152aecf4d3a8197e94daeb363",
    "Salinas_corrected.mat": "2a745377a77369bd5a9d430c722f0bf5e0d0ffc1",
    "Salinas_gt.mat": "a0781d95c9fa20bb3c31751a0cf24b7dc09be65b",
    "SalinasA_corrected.mat": "90ca5fd2a4e06691605112d6c168d2e682c3e95f",
    "SalinasA_gt.mat": "68eb51f938e2305c5d7ca61a0ee5906516d70008",
    "Botswana.mat": "814248225b1210f46017a2420c3410d7fe2cf8e6",
    "Botswana_gt.mat": "f5267c777fdde2997b6c49d1e14f93e671524c45",
    "Pavia_gt.mat": "dfc83e45a917a530e8e2c1e3137c08c8bc3db23e",
}
# Of this one no git blob id is known.
SHA256 = {"Pavia.mat": "b60341da323fd271cd97dd6d7a69514d385ccd7fdfc5a60c4ff5994b047f152e"}


REDIRECTS = {
    "redirect": "http://example.invalid/file",
    "redirect-file": "file:///etc/passwd",
    "redirect-ftp": "ftp://127.0.0.1/file",
    "redirect-bracket": "https://[::1/file",
    "redirect-port": "http://127.0.0.1:99999/file",
    "redirect-label": f"https://{'x' * 70}.invalid/file",
    "redirect-empty": "https:///file",
}


class Handler(BaseHTTPRequestHandler):
    """The first part of the path says how to behave; see `do_GET`."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        asked = self.headers["Range"]
        earlier = sum(path == self.path for path, _, _ in self.server.log)
        content = bytes(len(GOOD)) if kind.startswith("wrong") else GOOD
        cut = kind in ("wrong-cut", "cut-always") or (kind.startswith("cut") and not earlier)
        start = 0
        if kind == "404":
            self.answer(404, b"")
        elif kind == "503" and not earlier:
            self.answer(503, b"")
        elif not self.misbehaved(kind, asked, earlier):
            if asked and kind != "cut-norange":
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.answer(416, b"")
                return
            body = content[start:]
            self.answer(206 if start else 200, body, len(body) // 2 if cut else len(body))

    def misbehaved(self, kind: str, asked: str | None, earlier: int) -> bool:
        """Answer as no server should, if that is what the path asks for."""
        if kind in REDIRECTS:
            self.answer(302, b"", Location=REDIRECTS[kind])
        elif kind == "circle":
            self.answer(302, b"", Location=self.path)
        elif kind == "large":
            self.answer(200, GOOD, len(GOOD) // 2, **{"Content-Length": f"{10**12}"})
        elif kind.startswith("endless"):
            self.endless(chunked=kind == "endless-chunked")
        elif kind == "206-unasked":
            self.answer(206, GOOD)
        elif kind == "206-of-another":
            self.answer(206 if asked else 200, GOOD, len(GOOD) // (1 if earlier else 2))
        elif kind == "no-http":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        else:
            return False
        return True

    def answer(self, status: int, body: bytes, upto: int | None = None, **headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.server.log.append((self.path, self.headers["Range"], len(body[:upto])))
        self.wfile.write(body[:upto])

    def endless(self, chunked: bool) -> None:
        """Send zeros until the other side hangs up."""
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        data = bytes(1 << 16)
        while True:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
            self.server.log.append((self.path, self.headers["Range"], len(data)))

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """Keeps `log`, a list of (path, Range header, bytes sent)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log: list[tuple[str, str | None, int]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that went away is part of some tests


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def closed():
    """An address on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scene.mat"


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def fetch(path: Path, *addresses: str, unreachable: dict | None = None) -> None:
    unreachable = {} if unreachable is None else unreachable
    download.fetch(path, BLOB, addresses, unreachable, wait=0)


def assert_only_the_good_file(path: Path) -> None:
    assert path.read_bytes() == GOOD
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_addresses_and_blob_ids_of_the_scenes():
    descriptions = (REPOSITORY / "common" / "scenes" / "benchmarks").glob("*.yaml")
    files = [f for path in descriptions for f in yaml.safe_load(path.read_text("utf-8"))["files"]]
    assert {file["name"]: file["git_blob"] for file in files if "git_blob" in file} == ORIGINALS
    assert {file["name"]: file["sha256"] for file in files if "sha256" in file} == SHA256
    for file in files:
        assert all(a.startswith("https://") and a.endswith(file["name"]) for a in file["addresses"])


def test_blob_id_is_gits(path):
    path.write_bytes(b"hello\n")
    assert download.git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_verified_download(server, path, capsys):
    fetch(path, f"{server.url}/good/file")
    assert_only_the_good_file(path)
    assert server.log == [("/good/file", None, len(GOOD))]
    assert f"1.00 MB from {server.url}/good/file, verified" in capsys.readouterr().out


@pytest.mark.parametrize("right", [True, False])
def test_a_file_of_which_only_the_sha256_is_known(server, path, right):
    checksum = hashlib.sha256(GOOD if right else b"other").hexdigest()
    if right:
        download.fetch(path, checksum, [f"{server.url}/good/file"], {}, wait=0)
        assert_only_the_good_file(path)
    else:
        with pytest.raises(download.DownloadError, match="wrong contents"):
            download.fetch(path, checksum, [f"{server.url}/good/file"], {}, wait=0)


def test_a_larger_scene_is_fetched_only_when_named():
    assert SCENES[:4] == USUAL == ("IN", "UP", "KSC", "SV")


def test_whole_file_is_not_asked_for(server, path):
    path.write_bytes(GOOD)
    fetch(path, f"{server.url}/good/file")
    assert server.log == []


def test_whole_part_only_gets_its_name(server, path):
    part_of(path).write_bytes(GOOD)
    fetch(path, f"{server.url}/good/file")
    assert_only_the_good_file(path)
    assert server.log == []


@pytest.mark.parametrize(
    "bad",
    ["wrong", "404", "wrong-cut", *REDIRECTS, "circle", "large", "no-http", "cut-always"],
)
def test_mirror_after_a_bad_address(server, path, bad):
    fetch(
        path, f"{server.url}/{bad}/file", server.url.replace("127.0.0.1", "localhost") + "/good/f"
    )
    assert_only_the_good_file(path)


@pytest.mark.parametrize("endless", ["endless", "endless-chunked"])
def test_server_that_sends_without_end_is_cut_off(server, path, monkeypatch, endless):
    monkeypatch.setattr(download, "LARGEST", 3 << 20)
    with pytest.raises(InputError, match="more than 3 MiB"):
        fetch(path, f"{server.url}/{endless}/file")
    assert list(path.parent.iterdir()) == []
    assert sum(sent for _, _, sent in server.log) < 16 << 20  # what sockets hold is sent as well


def test_part_nobody_asked_for(server, path):
    fetch(path, f"{server.url}/206-unasked/file")
    assert_only_the_good_file(path)


def test_part_that_is_another_one(server, path):
    fetch(path, f"{server.url}/206-of-another/file")
    assert_only_the_good_file(path)
    assert len(server.log) == 3


@pytest.mark.parametrize("target", ["http://127.0.0.1/f", "http://example.invalid/f", "data:,x"])
def test_no_redirect_leads_away_from_https(target):
    request = urllib.request.Request("https://example.invalid/f")
    with pytest.raises(download._AddressError, match="which is not https"):
        download._CheckedRedirects().redirect_request(request, None, 302, "Found", {}, target)


def test_wrong_contents_are_fetched_once(server, path):
    fetch(path, f"{server.url}/wrong/file", f"{server.url}/good/file")
    assert [kind for kind, _, _ in server.log] == ["/wrong/file", "/good/file"]


def test_cut_off_is_resumed(server, path):
    fetch(path, f"{server.url}/cut/file")
    assert_only_the_good_file(path)
    half = len(GOOD) // 2
    assert server.log == [
        ("/cut/file", None, half),
        ("/cut/file", f"bytes={half}-", len(GOOD) - half),
    ]


def test_mirror_resumes_what_another_began(server, path):
    fetch(path, f"{server.url}/cut-always/file", f"{server.url}/good/file")
    assert_only_the_good_file(path)
    assert sum(sent for _, _, sent in server.log) == len(GOOD)


def test_server_that_ignores_range(server, path):
    fetch(path, f"{server.url}/cut-norange/file")
    assert_only_the_good_file(path)
    assert [sent for _, _, sent in server.log] == [len(GOOD) // 2, len(GOOD)]


def test_busy_server_is_asked_again(server, path):
    fetch(path, f"{server.url}/503/file")
    assert_only_the_good_file(path)


@pytest.mark.parametrize("size", [10, len(GOOD), len(GOOD) + 10])
def test_garbage_part(server, path, size):
    part_of(path).write_bytes(bytes(size))
    fetch(path, f"{server.url}/good/file")
    assert_only_the_good_file(path)
    assert [asked for _, asked, _ in server.log] == [f"bytes={size}-", None]


def test_wrong_file_is_kept_beside_the_new_one(server, path, capsys):
    for n, name in enumerate(["scene.mat.bad", "scene.mat.bad1"]):
        path.write_bytes(b"mine %d" % n)
        fetch(path, f"{server.url}/good/file")
        assert path.read_bytes() == GOOD
        assert path.with_name(name).read_bytes() == b"mine %d" % n
        assert f"kept as {name}\n" in capsys.readouterr().out


def test_wrong_file_stays_when_nothing_better_comes(server, path):
    path.write_bytes(b"mine")
    with pytest.raises(InputError):
        fetch(path, f"{server.url}/404/file")
    assert path.read_bytes() == b"mine"


def test_every_address_fails(server, closed, path):
    kinds = ["404", "wrong", "redirect", "cut-always"]
    with pytest.raises(InputError) as error:
        fetch(path, *(f"{server.url}/{kind}/file" for kind in kinds), f"{closed}/file")
    message = str(error.value)
    assert message.startswith("scene.mat (") and "\n" not in message
    for reason in ["status 404", "wrong contents", "not https", "cut off", "refused"]:
        assert reason in message
    assert not path.exists()
    assert GOOD.startswith(part_of(path).read_bytes())  # for the next call to go on with


def test_unreachable_host_is_asked_once(closed, path, monkeypatch):
    asked = []
    connect = download._connect
    monkeypatch.setattr(download, "_connect", lambda *a: asked.append(a) or connect(*a))
    unreachable = {}
    for _ in range(2):
        with pytest.raises(InputError, match="refused"):
            fetch(path, f"{closed}/a", f"{closed}/b", unreachable=unreachable)
    assert len(asked) == 1


@pytest.mark.parametrize("address", ["http://example.invalid/f", "file:///etc/hosts", "f"])
def test_only_https(path, address):
    with pytest.raises(InputError, match="only https"):
        fetch(path, address)


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Run the command line on the scene IN, whose files lie at these addresses.

    Returns (exit status, what stderr says, folder with the files).
    """

    def run(**addresses: list[str]):
        files = [
            {"name": name, "git_blob": BLOB, "addresses": urls} for name, urls in addresses.items()
        ]
        monkeypatch.setattr(download, "built_in", lambda scene: {"files": files})
        folder = tmp_path / "data"
        status = download.main(["IN", "--data-dir", str(folder)])
        return status, capsys.readouterr().err, folder

    return run


def test_command_line(server, command):
    status, stderr, folder = command(a=[f"{server.url}/good/a"], b=[f"{server.url}/good/b"])
    assert (status, stderr) == (0, "")
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b"]


def test_released_weights(server, monkeypatch, tmp_path, capsys):
    names = ["a.hdf5", "b.pth"]
    addresses = [[f"{server.url}/404/a", f"{server.url}/cut/a"], [f"{server.url}/good/b"]]
    files = [
        {"name": name, "git_blob": BLOB, "addresses": urls}
        for name, urls in zip(names, addresses, strict=True)
    ]
    monkeypatch.setattr(download, "WEIGHTS_FILES", files)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "b.pth.part").write_bytes(GOOD[:1000])  # goes on from there
    assert download.main(["weights", "--data-dir", str(tmp_path)]) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "weights").iterdir()} == dict.fromkeys(
        names, GOOD
    )
    assert ("/good/b", "bytes=1000-") in [(path, asked) for path, asked, _ in server.log]
    assert download.main(["weights", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("already there and whole") == 2


def test_every_released_file_has_an_id_and_an_address():
    for file in download.WEIGHTS_FILES:
        assert re.fullmatch("[0-9a-f]{40}", file["git_blob"])
        assert all(address.startswith("https://github.com/") for address in file["addresses"])


def test_command_line_says_what_is_missing(server, closed, command):
    wrong, good = [f"{server.url}/404/f"], [f"{server.url}/good/f"]
    status, stderr, folder = command(a=wrong, b=good, c=[f"{closed}/f"])
    assert status == 2
    assert "error: not fetched: a (" in stderr and ", c (" in stderr and " b (" not in stderr
    assert stderr.count("\n") == 1
    assert [p.name for p in folder.iterdir()] == ["b"]


def test_command_line_without_network_but_with_some_files(server, closed, command):
    status, stderr, _ = command(a=[f"{server.url}/good/f"], b=[f"{closed}/f"])
    assert status == 2
    assert "error: no network: could not reach 127.0.0.1:" in stderr
    assert "Missing: b." in stderr


def test_interrupted(server, command, monkeypatch):
    class Bar(download.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "tqdm", Bar)
    status, stderr, folder = command(a=[f"{server.url}/good/f"])
    assert status == 130
    assert stderr.strip().count("\n") == 0
    assert [p.name for p in folder.iterdir()] == ["a.part"]
    assert GOOD.startswith((folder / "a.part").read_bytes())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_full_disk(server, command, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.part").symlink_to("/dev/full")
    status, stderr, _ = command(a=[f"{server.url}/good/f"], b=[f"{server.url}/good/f"])
    assert status == 2
    assert "data/a: No space left on device" in stderr
    assert stderr.count("\n") == 1
    assert len(server.log) == 1  # the other file is not tried


def test_data_directory_that_is_a_file(command, tmp_path):
    (tmp_path / "data").write_text("", "utf-8")
    status, stderr, _ = command(a=[])
    assert status == 2
    assert "error: cannot write" in stderr and stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["XX"], ["--data-folder", "x"], ["--data-dir"]])
def test_wrong_arguments(arguments, capsys):
    assert download.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_process_without_network(closed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}
    process = subprocess.run(
        [sys.executable, "-m", "common", "download", "--data-dir", str(tmp_path)],
        cwd=REPOSITORY,
        env=environment | {"https_proxy": closed, "HTTPS_PROXY": closed},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    name = "python -m common download: error"
    assert process.stderr.startswith(f"{name}: no network: could not reach www.ehu.eus (")
    assert "github.com (" in process.stderr
    assert process.stderr.endswith("`bash setup_script.sh demo` works without one.\n")
    assert process.stderr.count("\n") == 1
