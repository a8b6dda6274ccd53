"""From a command line to cells: the expansion of a sweep, without launching anything."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from offrl.cell import Cell, make_cell
from offrl.errors import UserError, missing_extra
from offrl.search import Search

CONF = Path(__file__).resolve().parents[1] / "conf"
CONFIG = "train"
# what Hydra looks for below hydra/ -> the extra that brings it
EXTRAS = {"launcher/submitit_slurm": "slurm", "launcher/ray": "ray", "sweeper/optuna": "optuna"}


@dataclass(frozen=True)
class Plan:
    """What a command line asks for."""

    cells: list[Cell]  # of a search: the one around which it searches
    sweep: bool
    search: Search | None = None
    overrides: tuple[str, ...] = ()  # of a sweep: those to launch Hydra with, for the given ones


def plan(overrides: Sequence[str], multirun: bool = False) -> Plan:
    """Every cell of a command line's overrides, composed and type-checked; each cell once.

    Raises UserError, naming the key and the allowed values, for whatever is wrong with any of them.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"), _explained(overrides):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        parsed = [_parse(parser, o) for o in overrides]
        swept = [o.input_line for o in parsed if o.is_sweep_override()]
        fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
        launched = list(overrides)
        try:
            cfg = _compose(fixed, with_hydra=True)
        except UserError:
            cfg = _compose([o for o in fixed if not _of_a_choice(o)], with_hydra=True)
            sweeps = multirun or cfg.hydra.mode == RunMode.MULTIRUN
            if not sweeps or cfg.hydra.runtime.choices["hydra/sweeper"] != "basic":
                raise
            launched = _late(parsed)
        if not multirun and cfg.hydra.mode != RunMode.MULTIRUN:
            if swept:
                raise UserError(f"{swept[0]}: several values make a sweep; add -m")
            return Plan([make_cell(_plain(cfg), overrides)], False)
        if cfg.hydra.runtime.choices["hydra/sweeper"] != "basic":
            return Plan([make_cell(_plain(cfg), fixed)], True, _search(cfg, parsed))
        for o in parsed:
            if o.is_sweep_override() and not o.is_discrete_sweep():
                raise UserError(f"{o.input_line}: list the values, as in {o.key_or_group}=1,2")
        params = [f"{k}={v}" for k, v in (cfg.hydra.sweeper.params or {}).items()]
        (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
        cells: dict[str, Cell] = {}
        for cell in map(make_cell, _compose_all(jobs), jobs):
            _require_same_file(cells.setdefault(cell.run_id, cell), cell)
    return Plan(list(cells.values()), True, overrides=tuple(launched))


def _late(overrides: Sequence[Override]) -> list[str]:
    """The same sweep for a Hydra that composes the fixed overrides without the swept ones, too.

    It would look for `algo.min_q_weight` in the default algorithm; `++` adds what is not there.
    That it is there in every cell has been checked before.
    """
    lines = [o.input_line or "" for o in overrides]
    return [
        f"++{line}" if _of_a_choice(line) and not o.is_sweep_override() else line
        for line, o in zip(lines, overrides, strict=True)
    ]


def _of_a_choice(override: str) -> bool:
    """Whether it sets a key that a choice brings: `algo.alpha=1` needs an algorithm that has it."""
    group, dot, _ = override.partition("=")[0].partition(".")
    return bool(dot) and (CONF / group).is_dir()


def _is_choice(override: str) -> bool:
    """Whether it chooses a file of a config group: `algo=bc`."""
    return (CONF / override.partition("=")[0]).is_dir()


def _require_same_file(a: Cell, b: Cell) -> None:
    """UserError for two files of one name: the path of a file is no part of a run's identity."""
    paths = [getattr(c.source, "path", None) for c in (a, b)]
    if paths[0] != paths[1]:
        raise UserError(
            f"dataset.path={paths[0]},{paths[1]}: both make the run {a.dirname}, for a run's data "
            "is known by its name; give the files different names"
        )


def _search(cfg: DictConfig, overrides: Sequence[Override]) -> Search:
    given = {o.key_or_group: o.input_line or "" for o in overrides if o.is_sweep_override()}
    space = {str(k): str(v) for k, v in (cfg.hydra.sweeper.params or {}).items()} | given
    if not space:
        raise UserError("hydra/sweeper: nothing to search; add +search=NAME (conf/search)")
    return Search(cfg.hydra.runtime.choices.get("search", "search"), space)


def launched_cell(cfg: DictConfig) -> Cell:
    """The cell of a configuration that Hydra has composed and launched."""
    overrides = HydraConfig.get().overrides
    path = [o for o in overrides.hydra if o.startswith("hydra.searchpath=")]
    return make_cell(_plain(cfg), [*path, *(o.removeprefix("++") for o in overrides.task)])  # _late


def _parse(parser: OverridesParser, override: str) -> Override:
    try:
        return parser.parse_override(override)
    except HydraException as e:
        reason = " ".join(str(e.__cause__ or e).split())
        raise UserError(f"{override}: cannot be read: {reason}; are quotes missing?") from e


def _compose(overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    with _explained(overrides):
        try:
            return compose(CONFIG, list(overrides), return_hydra_config=with_hydra)
        except ValueError as e:  # Hydra's, for a choice that is null or a number
            raise UserError(f"{' '.join(filter(_is_choice, overrides))}: {e}") from e


def _compose_all(jobs: Sequence[Sequence[str]]) -> Iterator[DictConfig]:
    """The configuration of each job.  Composing is slow, so seeds are put in afterwards."""
    composed: dict[tuple[str, ...], DictConfig] = {}
    for job in jobs:
        seeds = [o for o in job if o.startswith("seeds=")]
        rest = tuple(o for o in job if o not in seeds)
        if rest not in composed:
            composed[rest] = _compose(rest)
        with _explained(job):
            cfg = OmegaConf.merge(composed[rest], OmegaConf.from_dotlist(seeds))
        assert isinstance(cfg, DictConfig)
        yield cfg


def _plain(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"])


@contextmanager
def _explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turns the errors of Hydra and OmegaConf into a UserError of one sentence."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as e:
        raise UserError(_reason(e, overrides)) from e


def _reason(e: Exception, overrides: Sequence[str]) -> str:
    """The key, what is wrong, and the choices that there are."""
    text = str(e) or str(e.__cause__)
    if found := re.search(r"Could not find '(\w+)/(.+)'", text):
        group, choice = found.groups()
        if extra := EXTRAS.get(choice):
            return f"{choice.replace('/', '=')}: {missing_extra(extra)}"
        return f"{group}={choice}: unknown choice; there are {', '.join(choices(group))}"
    if found := re.search(r"Could not override '([\w.]+)'", text):
        key = found[1]
        parent = key.rpartition(".")[0]
        if (CONF / key).is_dir():  # what others choose: Hydra says what there is to say
            return " ".join(text.split())
        known = compose(CONFIG, [o for o in overrides if _is_choice(o)])
        node = OmegaConf.select(known, parent) if parent else known
        where = f"{parent} has" if parent else "there are"
        names = ", ".join(map(str, node)) if isinstance(node, DictConfig) else "no keys"
        return f"{key}: unknown key; {where} {names}"
    return " ".join(text.split())


def choices(group: str) -> list[str]:
    """The options of a config group."""
    files = (CONF / group).rglob("*.yaml")
    names = sorted(str(f.relative_to(CONF / group).with_suffix("")) for f in files)
    return [n for n in names if not n.endswith("common")]
