"""The one exception for what a user can mend."""


class UserError(Exception):
    """Bad input.  The message names the file, key or value, and what to do.

    Entrypoints print it without a traceback and exit with 1.
    """
