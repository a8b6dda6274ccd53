"""Randomness is data: every draw comes from a generator that is seeded by an address.

There is no generator state to save: the same address gives the same numbers, in any process.
"""

import hashlib

import torch

Address = str | int


def address_seed(*address: Address) -> int:
    """A 32-bit seed (all that torch's CPU generator uses) from an address such as (0, "batch", 7).

    The address is hashed, so that neighbouring seeds and blocks give unrelated streams.
    """
    text = "/".join(f"{type(a).__name__}:{a}" for a in address)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def generator(*address: Address, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, at the start of the stream that `address` names."""
    g = torch.Generator(device=device)
    g.manual_seed(address_seed(*address))
    return g
