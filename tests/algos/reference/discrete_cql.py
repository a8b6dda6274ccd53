"""Discrete CQL as a plain loop: QR-DQN's, with the term of Kumar et al. 2020, eq. 4, in its loss,
w mean [log sum_a exp Q(s, a) - Q(s, a_data)].
"""

from .qrdqn import QRDQN as DiscreteCQL

__all__ = ["DiscreteCQL"]
