"""Downloads from servers that misbehave as often as they can: the whole file, or one line."""

import hashlib
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common.scenes import download
from common.system.errors import InputError

FILE = random.Random(1).randbytes(200_000)
BLOB = hashlib.sha1(b"blob %d\0" % len(FILE) + FILE).hexdigest()


class Unreliable(BaseHTTPRequestHandler):
    """Cuts off, damages, refuses or redirects as the server's random numbers say."""

    def do_GET(self):
        chance, asked = self.server.chance, self.headers["Range"]
        start = int(asked[6:-1]) if asked and chance.random() < 0.9 else 0
        body = bytearray(FILE[start:])
        if chance.random() < 0.1 and body:
            body[chance.randrange(len(body))] ^= 1
        status = chance.choice([206 if start else 200] * 6 + [200, 206, 404, 416, 429, 500, 302])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", chance.choice(["http://x.invalid/", "//[", "file:///x"]))
        if chance.random() < 0.8:
            self.send_header("Content-Length", f"{len(body) + chance.choice([0, 0, 0, 9, -9])}")
        self.end_headers()
        self.wfile.write(body[: chance.choice([len(body), chance.randrange(len(body) + 1)])])

    def log_message(self, *arguments):
        pass


def test_servers_that_misbehave_at_random(tmp_path, monkeypatch, often, tried):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unreliable)
    server.chance, server.handle_error = random.Random(2), lambda *about: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    times, whole = often(100, 3000), 0
    path, address = tmp_path / "scene.mat", f"http://127.0.0.1:{server.server_port}/file"
    try:
        for _ in range(times):
            try:
                download.fetch(path, BLOB, [address, address], {}, wait=0)
            except InputError:  # no file, but what can be gone on with
                assert not path.exists()
                continue
            finally:
                assert {file.name for file in tmp_path.iterdir()} <= {
                    path.name,
                    f"{path.name}.part",
                }
            assert path.read_bytes() == FILE
            path.unlink()
            whole += 1
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert times / 2 < whole < times
    how = "a server that cuts off, damages, refuses and redirects at random"
    tried("broken downloads", how, times)
