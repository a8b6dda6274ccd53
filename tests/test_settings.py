"""conf/algo: what the papers, their authors' code and the seed project set is what a run gets."""

from typing import Any

import pytest
from harness import cell

from offrl.cell import NEUTRAL

# beside the algorithm's own: what its config sets of a run
USUAL: dict[str, Any] = {
    "batch_size": 256,
    "gamma": 0.99,
    "n_step": 1,
    "norm_obs": False,
    "norm_reward": False,
}

ADAM_3E4: dict[str, Any] = {"actor_lr": 3e-4, "critic_lr": 3e-4}
SMOOTHED: dict[str, Any] = {"tau": 0.005, "policy_noise": 0.2, "noise_clip": 0.5, "period": 2}
BCQ: dict[str, Any] = {  # github.com/sfujim/BCQ, continuous_BCQ
    **{"phi": 0.05, "lmbda": 0.75, "n_candidates": 10, "n_eval_candidates": 100},
    **{"latent_per_action": 2, "latent_clip": 0.5, "kl_weight": 0.5, "tau": 0.005},
    **{"vae_lr": 1e-3, "actor_lr": 1e-3, "critic_lr": 1e-3},
}
CQL: dict[str, Any] = {  # github.com/aviralkumar2907/CQL, d4rl
    **{"lagrange_threshold": None, "min_q_weight": 5.0, "n_actions": 10, "backup_entropy": False},
    **{"calibrated": False, "bc_steps": 40_000, "max_grad_norm": None, "tau": 0.005},
    **{"actor_lr": 1e-4, "critic_lr": 3e-4, "hidden": [256, 256, 256]},
}
# *_seed: examples/offline/d4rl_*.py of thu-ml/tianshou at 522f7fb
SETTINGS: dict[str, dict[str, Any]] = {
    "bc_seed": {"lr": 1e-4, "hidden": [256, 256]},
    "bcq": BCQ | {"hidden": [400, 300], "vae_hidden": [750, 750], "batch_size": 100},
    "bcq_seed": BCQ | {"hidden": [256, 256], "vae_hidden": [512, 512]},
    "cql": CQL,
    "cql_seed": CQL
    | {"min_q_weight": 1.0, "lagrange_threshold": 10.0, "max_grad_norm": 1.0, "bc_steps": 0}
    | {"calibrated": True, "backup_entropy": True, "hidden": [256, 256]},
    "cal_ql": CQL | {"calibrated": True, "bc_steps": 0},
    "td3_bc": SMOOTHED | ADAM_3E4 | {"alpha": 2.5, "hidden": [256, 256], "norm_obs": True},
    "td3_bc_seed": SMOOTHED
    | ADAM_3E4
    | {"alpha": 2.5, "hidden": [256, 256], "norm_obs": True, "n_step": 3},
    "iql": ADAM_3E4  # arXiv 2110.06169, appendix B; github.com/ikostrikov/implicit_q_learning
    | {"value_lr": 3e-4, "actor_decay_steps": 1_000_000, "expectile": 0.7, "beta": 3.0}
    | {"tau": 0.005, "hidden": [256, 256], "norm_reward": True},
    "rebrac": SMOOTHED  # arXiv 2305.09836, table 10, and 11 for hopper's medium data
    | {"actor_lr": 1e-3, "critic_lr": 1e-3, "hidden": [256, 256, 256], "batch_size": 1024}
    | {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_gets_the_published_settings(name: str) -> None:
    config = cell(f"algo={name}", "env=hopper", "dataset=d4rl/medium", "n_updates=1000000").config
    algo = {k: v for k, v in config["algo"].items() if k not in ("_target_", "name")}
    run = {k: (NEUTRAL | config)[k] for k in USUAL}
    assert algo | run == USUAL | SETTINGS[name]
