"""Names of what is compared: an algorithm, with its settings where these differ."""

from collections.abc import Sequence

from offrl.report.groups import Group

SETTINGS = ("norm_obs", "buffer_size", "n_updates")


def methods(groups: Sequence[Group]) -> dict[str, tuple[str, str]]:
    """(algorithm, setting) of every group, by its key; the setting is "" where there is but one.

    A setting counts if an algorithm has two of it on the same data: `norm_obs=true`.
    """
    return {g.about.group: (g.about.algo, _setting(g, groups)) for g in groups}


def name(method: tuple[str, str]) -> str:
    algo, setting = method
    return f"{algo}, {setting}" if setting else algo


def _setting(group: Group, groups: Sequence[Group]) -> str:
    """What tells a group from the others of its algorithm and data, in the config's words."""
    peers = [g for g in groups if g.about.algo == group.about.algo]
    varying = [n for n in SETTINGS if _varies(n, peers)]
    parts = [f"{n}={getattr(group.about, n)}".lower() for n in varying]
    same = [
        g
        for g in peers
        if _data(g) == _data(group)
        and all(getattr(g.about, n) == getattr(group.about, n) for n in SETTINGS)
    ]
    if len(same) > 1:  # they differ by something else: say what the command line says
        words = _words(group)
        own = words - frozenset.intersection(*map(_words, same))
        parts += sorted(own) or ["default"]
        alike = [g.about for g in same if _words(g) == words]
        if len(alike) > 1:  # a default or a file of conf has changed since, or the evaluations
            differ = len({a.setting for a in alike}) == len(alike)
            parts.append((group.about.setting if differ else group.about.group)[:4])
    return ", ".join(parts)


def _words(group: Group) -> frozenset[str]:
    """The overrides without those that say the task, the seeds, or what SETTINGS say."""
    other = ("env", "dataset", "seeds", *SETTINGS)
    return frozenset(o for o in group.overrides if o.partition("=")[0] not in other)


def _varies(setting: str, peers: Sequence[Group]) -> bool:
    """Whether two groups on the same data differ by it."""
    values: dict[tuple[str, str], set[object]] = {}
    for g in peers:
        values.setdefault(_data(g), set()).add(getattr(g.about, setting))
    return any(len(v) > 1 for v in values.values())


def _data(group: Group) -> tuple[str, str]:
    return group.about.env, group.about.dataset
