"""Where the repository lies, and files written whole or not at all."""

import os
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def write_file(path: Path, content: bytes | str) -> None:
    """Write `content` under `path` in one step: a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
