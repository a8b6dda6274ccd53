"""Converts shards of RL Unplugged's Atari data to the suite's format, without TensorFlow.

python benchmarks/convert_rl_unplugged.py game=Breakout run=1 'shards=[0,1]'
python benchmarks/convert_rl_unplugged.py game=Breakout run=1 'shards=[0,1]' source=DIR out=DIR

Without source=DIR they are downloaded.  The same command again goes on after an interruption and
skips what is there.  Then: train.py env=breakout dataset=rlu dataset.run=1 'dataset.shards=[0,1]'.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone works uninstalled


@hydra.main(version_base="1.3", config_path="../conf", config_name="convert_rl_unplugged")
def main(cfg: DictConfig) -> None:
    from offrl.config import typed
    from offrl.envs.atari import AtariSettings
    from offrl.errors import UserError
    from offrl.rl_unplugged import Shards, convert_all

    try:
        keys = [str(k) for k in cfg if k != "played"]
        job = Shards(**typed(OmegaConf.masked_copy(cfg, keys), Shards, ""))
        settings = OmegaConf.create({**cfg.played, "game": job.game})
        played = AtariSettings(**typed(settings, AtariSettings, "played"))
        found = convert_all(job, played, say)
    except UserError as e:
        sys.exit(f"offrl: {e}")
    failed = [x for x in found.values() if isinstance(x, UserError)]
    for path in found.values():
        if isinstance(path, Path):
            print(path)
    if failed:
        sys.exit("\n".join(f"offrl: {e}" for e in failed))


def say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
