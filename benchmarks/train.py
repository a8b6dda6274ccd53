"""The one training entrypoint: one run, or a sweep of them.  See --help."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works uninstalled


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def launch(cfg: DictConfig) -> float | None:
    """One cell, in whatever process the launcher has put it; gives what a search maximises."""
    from offrl import preempt
    from offrl.plan import launched_cell
    from offrl.run import run
    from offrl.search import note
    from offrl.sweep import skipped

    cell = launched_cell(cfg)
    if skipped(cell) or preempt.asked():
        return None
    with preempt.listening():
        outcome = run(cell)
    if outcome.message:
        print(f"{outcome.run_dir.name}: {outcome.status}: {outcome.message}", file=sys.stderr)
    print(outcome.run_dir, flush=True)
    if outcome.status == "interrupted":
        preempt.leave()
    return None if outcome.status in ("interrupted", "claimed") else note(cell)


if __name__ == "__main__":
    from offrl.sweep import main

    sys.exit(main(launch, sys.argv[1:]))
