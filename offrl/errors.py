"""The one exception for what a user can mend."""


class UserError(Exception):
    """Bad input.  The message names the file, key or value, and what to do.

    Entrypoints print it without a traceback and exit with 1.
    """


def require_whole(key: str, value: object, least: int) -> None:
    """Raises UserError unless `value` is an int, and no bool, of at least `least`."""
    if type(value) is not int or value < least:
        raise UserError(f"{key}={value}: must be a whole number, at least {least}")


def missing_extra(name: str) -> str:
    """What to do where an optional extra is not installed."""
    return f"not installed; pip install -c constraints.txt -e '.[{name}]'"
