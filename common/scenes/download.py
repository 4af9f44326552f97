"""Fetch the benchmark scenes: verified, resumable, from a mirror where the first address fails.

Run as `python -m common download [SCENE … | weights] [--data-dir DIR]`; where each file lies and
which checksum it must have stands in `common/scenes/benchmarks/*.yaml`.  `weights` are those of
SSRN that its authors released, for `SSRN/released.py`, in the folder `weights/`.  A download grows
in `<name>.part` and gets its name only once its bytes are the right ones.
"""

import hashlib
import itertools
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from common.scenes.scene import data_directory
from common.scenes.scene_file import SCENES, USUAL, built_in, scene_name
from common.system.errors import InputError, OneLineParser, run_program
from common.system.flags import file_name

TIMEOUT = 20.0  # seconds without a byte
TRIES = 3  # connections to one address for one file
CHUNK = 1 << 18  # bytes
LARGEST = 1 << 28  # bytes; no scene's file has half of that
GO_ON = "The same command goes on where this one stopped."
WEIGHTS = "weights"  # what is fetched by this name, and the folder that it goes to
SSRN, SSTN = (f"https://github.com/zilongzhong/{name}/raw/HEAD" for name in ("SSRN", "SSTN"))
WEIGHTS_FILES = [
    {
        "name": "Indian_best_RES_3D_SS4_10_1.hdf5",
        "git_blob": "fe7c6a96c807569bd706b06d643ac90732795a5f",
        "addresses": [f"{SSRN}/models/Indian_best_RES_3D_SS4_10_1.hdf5"],
    },
    {
        "name": "UP_best_RES_3D_SS4_5_1.hdf5",
        "git_blob": "31f0ac4bb9c6a0a5331f303e2c245f70e705d0cd",
        "addresses": [f"{SSRN}/models/UP_best_RES_3D_SS4_5_1.hdf5"],
    },
    {
        "name": "SSTN_IN_SSRN_sample200.pth",
        "git_blob": "d08a1cc804946a298912ef5a4e66f4e7052058b6",
        "addresses": [f"{SSTN}/pretrained_models/IN-SSRN/SSRN_sample200.pth"],
    },
]


class DownloadError(InputError):
    """No address gave this one file; the other files can still be fetched."""


class _AddressError(Exception):
    """An address did not give the file; the message says why."""


class _CutOffError(_AddressError):
    """It may give the rest of the file when asked again."""


class _UnreachableError(_AddressError):
    """Its host does not answer at all."""


def git_blob_id(path: Path) -> str:
    """What `git hash-object` prints: SHA-1 of `blob <size>\\0` followed by the bytes."""
    start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: start).hexdigest()


def _holds(path: Path, checksum: str) -> bool:
    """Whether there is a file of this git blob id, or SHA-256, which has more digits."""
    if not path.is_file():
        return False
    if len(checksum) == 40:
        return git_blob_id(path) == checksum
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == checksum


def _is_allowed(address: str) -> bool:
    """Only https, but for servers on this machine."""
    url = urlsplit(address)
    return url.scheme == "https" or (
        url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost")
    )


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        away_from_https = req.type == "https" and urlsplit(newurl).scheme != "https"
        if away_from_https or not _is_allowed(newurl):
            raise _AddressError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _connect(address: str, part: Path) -> HTTPResponse:
    """Ask for the bytes that `part` lacks; a server may answer with all of them (status 200)."""
    request = urllib.request.Request(address, headers={"User-Agent": "hsi-a2s2k-ssrn"})
    if part.exists() and (start := part.stat().st_size):
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.build_opener(_CheckedRedirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # `part` is as long as the file or longer, with other bytes
            part.unlink(missing_ok=True)
        again = error.code in (416, 429) or error.code >= 500
        raise (_CutOffError if again else _AddressError)(f"HTTP status {error.code}") from error
    except (HTTPException, OSError) as error:  # name resolution, connection, certificate, proxy
        reason = getattr(error, "reason", error)
        raise _UnreachableError(getattr(reason, "strerror", None) or reason) from error
    except (ValueError, OverflowError) as error:  # a host or port that there cannot be
        raise _AddressError(f"redirected to no address ({error})") from error


def _transfer(address: str, part: Path) -> None:
    """Append what `part` lacks, over one connection.

    Raises an _AddressError where the network is at fault, OSError only where the disk is.
    """
    response = _connect(address, part)
    resumed = response.status == 206 and part.exists()  # some answer so unasked
    received = part.stat().st_size if resumed else 0
    total = None if response.length is None else received + response.length
    if total is not None and total > LARGEST:
        response.close()
        raise _AddressError(f"says that it has {total} bytes, more than any scene")
    size = {"total": total, "initial": received, "unit": "B", "unit_scale": True}
    bar = tqdm(desc=part.stem, disable=None, **size)  # None: only on a terminal
    with response, bar, part.open("ab" if resumed else "wb") as file:
        while True:
            try:
                chunk = response.read(CHUNK)
            except (HTTPException, OSError) as error:
                raise _CutOffError(f"cut off after {received} bytes") from error
            if not chunk:
                break
            file.write(chunk)
            received += len(chunk)
            if received > LARGEST:
                part.unlink()
                raise _AddressError(f"more than {LARGEST >> 20} MiB")
            bar.update(len(chunk))
    if total is not None and received < total:  # http.client ends such a body without an error
        raise _CutOffError(f"cut off after {received} of {total} bytes")


def _fetch_from(address: str, part: Path, checksum: str, wait: float) -> None:
    """Leave the whole, verified file in `part`, or raise an _AddressError."""
    failure = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        inherited = part.exists()
        try:
            _transfer(address, part)
        except _UnreachableError as error:
            if attempt == 0:
                raise
            failure = _CutOffError(*error.args)  # it did answer a moment ago
        except _CutOffError as error:
            failure = error
        else:
            if _holds(part, checksum):
                return
            part.unlink()
            failure = _AddressError("wrong contents")
            if not inherited:  # else the wrong bytes may be those that were there already
                break
    raise failure


def _publish(part: Path, path: Path) -> None:
    """Give the verified file its name; a wrong one of that name is kept beside it."""
    if path.exists():
        names = (path.with_name(f"{path.name}.bad{n or ''}") for n in itertools.count())
        kept = next(name for name in names if not name.exists())
        os.replace(path, kept)
        print(f"{path.name}: the one already there was not the original; kept as {kept.name}")
    os.replace(part, path)


def fetch(
    path: Path,
    checksum: str,
    addresses: Sequence[str],
    unreachable: dict[str, str],
    wait: float = 1.0,
) -> None:
    """Make sure that `path` is the file with this git blob id or SHA-256; addresses tried in order.

    `unreachable` (host → why) is read and added to: hosts not worth another try.  `wait` is
    the first pause in seconds before asking again.  Raises DownloadError when no address gave
    the file (`path` is then as before), OSError when it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    if _holds(path, checksum):
        print(f"{path.name}: already there and whole", flush=True)
        return
    if _holds(part, checksum):  # stopped just before it got its name
        _publish(part, path)
        print(f"{path.name}: was already fetched, verified", flush=True)
        return
    reasons = []
    for address in addresses:
        if not _is_allowed(address):
            raise InputError(f"{address}: only https addresses are fetched.")
        host = urlsplit(address).netloc
        try:
            if host in unreachable:
                raise _UnreachableError(unreachable[host])
            _fetch_from(address, part, checksum, wait)
        except _AddressError as error:
            reasons.append(f"{host}: {error}")
            if isinstance(error, _UnreachableError):
                unreachable[host] = str(error)
            else:
                print(f"{path.name}: {address}: {error}", flush=True)
        else:
            _publish(part, path)
            size = path.stat().st_size / 1e6
            print(f"{path.name}: {size:.2f} MB from {address}, verified", flush=True)
            return
    raise DownloadError(f"{path.name} ({'; '.join(reasons)})")


def download(scenes: Sequence[str], folder: Path, wait: float = 1.0) -> None:
    """Fetch every file of `scenes` into `folder`; InputError says what is missing and why.

    `WEIGHTS` may stand among them.
    """
    unreachable: dict[str, str] = {}
    missing, offline = {}, True  # file name → the whole story
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            inside = folder / WEIGHTS if scene == WEIGHTS else folder
            inside.mkdir(exist_ok=True)
            for file in WEIGHTS_FILES if scene == WEIGHTS else built_in(scene)["files"]:
                path = inside / file["name"]
                try:
                    checksum = file.get("git_blob") or file["sha256"]
                    fetch(path, checksum, file["addresses"], unreachable, wait)
                except DownloadError as error:
                    missing[path.name] = str(error)
                    hosts = {urlsplit(address).netloc for address in file["addresses"]}
                    offline = offline and hosts <= unreachable.keys()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}. {GO_ON}") from error
    if missing and offline:
        hosts = ", ".join(f"{host} ({why})" for host, why in unreachable.items())
        raise InputError(
            f"no network: could not reach {hosts}. Missing: {', '.join(missing)}. "
            "`bash setup_script.sh demo` works without one."
        )
    if missing:
        raise InputError(f"not fetched: {', '.join(missing.values())}. {GO_ON}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 all there, 2 told in a line, 130 stopped."""
    parser = OneLineParser(prog="python -m common download", description=__doc__.split("\n")[0])
    parser.add_argument(
        "scene",
        nargs="*",
        type=scene_name,
        help=f"{', '.join(SCENES)} (default: {', '.join(USUAL)}), or weights: SSRN's released ones",
    )
    parser.add_argument("--data-dir", type=file_name, help="default: $HSI_DATA_DIR, else dataset/")

    def work() -> None:
        flags = parser.parse_args(arguments)
        names = (*SCENES, WEIGHTS)
        if unknown := [key for key in flags.scene if key not in names]:
            raise InputError(f"unknown scene {unknown[0]!r}: there are {', '.join(names)}")
        download(flags.scene or USUAL, data_directory(flags.data_dir))

    return run_program(parser.prog, work, interrupted=f". {GO_ON}")
