"""offrl: a reproducible benchmark suite for offline reinforcement learning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offrl.policy import Policy, load_policy

__all__ = ["Policy", "load_policy"]


def __getattr__(name: str) -> Any:
    """Imports on first use, so that the command line answers without loading torch."""
    if name in __all__:
        from offrl import policy

        return getattr(policy, name)
    raise AttributeError(f"module 'offrl' has no attribute {name!r}")
