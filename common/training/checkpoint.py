"""How far training has come, kept on disk so that a killed run can go on to the same bits."""

import hashlib
import io
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from common.system.files import write_file

TRAINING_FILES = ("checkpoint.pt", "checkpoint_before.pt")
PRETRAINING_FILES = ("pretraining.pt", "pretraining_before.pt")
FILES = TRAINING_FILES + PRETRAINING_FILES
LARGEST_COST = 0.01  # share of the training time that writing checkpoints may take


class Checkpoint:
    """The checkpoints of one iteration: ``checkpoint.pt`` and the one before it.

    A file is the SHA-256 of what follows, in hexadecimal, and a PyTorch file of tensors and plain
    values only.  Checkpoints are written so seldom that they cost at most `LARGEST_COST`.

    Parameters
    ----------
    directory : Path
        The iteration's directory.
    identity : str
        What a checkpoint must carry to be this training's: same settings, seed and pixels.
    files : tuple of str
        `TRAINING_FILES`, or `PRETRAINING_FILES`.
    """

    def __init__(
        self, directory: Path, identity: str, files: tuple[str, str] = TRAINING_FILES
    ) -> None:
        self.latest, self.previous = (directory / name for name in files)
        self.identity = identity
        self.next_time = -float("inf")
        self.failed = False

    def read(self) -> dict | None:
        """Return the last good checkpoint, None if there is none.

        A damaged or foreign file is told in a line on stderr and passed over.
        """
        for path in (self.latest, self.previous):
            if not path.is_file():
                continue
            content = _opened(path)
            if content is not None and content.pop("identity", None) == self.identity:
                return content
            reason = "damaged" if content is None else "of another training"
            print(f"{path}: {reason}, not used", file=sys.stderr, flush=True)
        return None

    def write(self, content: Callable[[], dict]) -> None:
        """Write what `content` returns, unless the last checkpoint is too recent.

        One that cannot be written, as on a full disk, loses nothing yet: it is told in a line on
        stderr, and the next one is tried.

        Raises
        ------
        FileNotFoundError
            The directory is gone.
        """
        import torch  # large, and to remove checkpoints takes none

        start = time.monotonic()
        if start < self.next_time:
            return
        buffer = io.BytesIO()
        torch.save(content() | {"identity": self.identity}, buffer)
        data = buffer.getvalue()
        try:
            if self.latest.is_file():
                self.latest.replace(self.previous)
            write_file(self.latest, hashlib.sha256(data).hexdigest().encode() + data)
            self.failed = False
        except FileNotFoundError:
            raise
        except OSError as error:
            self._tell(error)
        end = time.monotonic()
        self.next_time = end + (end - start) / LARGEST_COST

    def _tell(self, error: OSError) -> None:
        """Say that a checkpoint could not be written, once until one is."""
        if not self.failed:
            print(
                f"{self.latest}: cannot be written ({error.strerror or error}); training goes on, "
                f"and tries again",
                file=sys.stderr,
                flush=True,
            )
        self.failed = True


def remove_checkpoints(directory: Path) -> None:
    """Remove an iteration's checkpoints, for it is done."""
    for name in FILES:
        (directory / name).unlink(missing_ok=True)


def _opened(path: Path) -> dict | None:
    """Return a checkpoint's content, or None where the checksum says that it is damaged."""
    import torch

    data = path.read_bytes()
    checksum, data = data[:64], data[64:]
    if hashlib.sha256(data).hexdigest().encode() != checksum:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # which would be further lines
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # whole, but never written by this class
        return None
    return content if isinstance(content, dict) else None
