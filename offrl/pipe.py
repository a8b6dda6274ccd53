"""A reader that has seen enough, `| head`, is no error."""

import contextlib
import os
import sys
from collections.abc import Iterator

CLOSED = 141  # what a shell gives for a program that SIGPIPE has ended


@contextlib.contextmanager
def until_closed() -> Iterator[None]:
    """Inside, exits with CLOSED and without a word once nobody reads stdout any more."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
        sys.exit(CLOSED)
