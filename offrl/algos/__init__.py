"""One file per algorithm; each reads like its paper."""
