"""Algorithms that only tests and ablations use; a config names them by `_target_`."""
