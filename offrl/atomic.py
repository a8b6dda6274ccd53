"""Files that are either whole or absent, whatever kills the process that writes them."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

from offrl.errors import UserError


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step, durably.

    The bytes go to a temporary file in the same folder, which is fsynced and renamed; the folder
    is fsynced then.  Raises UserError, naming the file and the reason, where that fails (disk full,
    not writable): the old file is then as it was and the temporary one is gone.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        create_durably(temporary, data)
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {e.strerror or e}") from e


def create_durably(path: Path, data: bytes) -> None:
    """Writes a file that must not exist yet, and fsyncs it.  Raises OSError, and leaves nothing."""
    # not tempfile.mkstemp: its mode 0600 would survive the rename, the umask should decide
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, name: str) -> None:
    """Removes what killed processes left of `name` (a glob) in a folder.

    Only for a folder that one process owns: the temporary file of a live writer would go too.
    """
    for path in folder.glob(f".{name}.*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no such call
            raise
    finally:
        os.close(fd)
