"""The tables of behaviour policies, from their provenance records."""

import json
from pathlib import Path

from offrl.report.markdown import markdown

QUALITIES = ("random", "medium", "expert")


def policies(folder: Path) -> str:
    """One row per robot: the returns of its policies over fresh episodes, and their training."""
    header = [
        ("env", False),
        *((q, True) for q in QUALITIES),
        ("trained", True),
        ("made with", False),
    ]
    rows, episodes = [], set()
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        made = record["policies"]
        episodes |= {p["fresh_episodes"] for p in made.values()}
        rows.append(
            [
                record["env_id"],
                *(f"{made[q]['return_mean']:.0f} ± {made[q]['return_std']:.0f}" for q in QUALITIES),
                f"{record['trained_steps']:,} steps",
                f"{record['algo']['name']}, seed {record['training']['seed']}, "
                f"mujoco {record['numerics']['mujoco']}",
            ]
        )
    caption = (
        f"Return, mean ± standard deviation over {'/'.join(map(str, sorted(episodes)))} episodes "
        "of the exploring policy, from start states that no evaluation of its training has used."
    )
    return f"\n{markdown(header, rows)}\n{caption}\n\n{games(folder / 'atari')}"


def games(folder: Path) -> str:
    """One row per game: the return of its policy over fresh games; empty if there is none."""
    header = [("game", False), ("return", True), ("trained", True), ("made with", False)]
    rows, episodes = [], set()
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        made = record["policy"]
        episodes.add(made["fresh_episodes"])
        rows.append(
            [
                path.stem,
                f"{made['return_mean']:.1f} ± {made['return_std']:.1f}",
                f"{record['trained_steps']:,} steps",
                f"{record['algo']['name']}, seed {record['training']['seed']}, "
                f"ale-py {record['numerics']['ale-py']}",
            ]
        )
    if not rows:
        return ""
    caption = (
        "Return, mean ± standard deviation over "
        f"{'/'.join(map(str, sorted(episodes)))} whole games of the policy, from starts that no "
        "evaluation of its training has used; data is gathered with 20% random actions."
    )
    return f"{markdown(header, rows)}\n{caption}\n\n"
