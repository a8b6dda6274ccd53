"""results/speed.json and conversion.json -> Markdown: the README's sections, and what speed.py
prints.
"""

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from offrl.report.markdown import NOTHING, markdown

OURS = ("compiled", "eager")
RIVALS = {"plain": "plain loop", "d3rlpy": "d3rlpy", "tianshou": "tianshou"}
FEWEST_CLEAN = 3  # windows; with fewer all are used, and the table says so
CLEAN_OTHERS, CLEAN_STEAL = 0.12, 0.08  # cores
WAYS = {"1": "one shard", "2": "two at once", "naive": "every picture decoded and kept"}

Row = Mapping[str, Any]


def render(record: Row) -> str:
    """The record as Markdown: the machine, a table for each number of threads, the costs."""
    parts = [machine(record)]
    for threads in sorted({r["threads"] for r in record["rows"]}):
        rows = [r for r in record["rows"] if r["threads"] == threads]
        parts.append(speeds(rows, record["versions"]))
    if record["costs"]:
        parts.append(costs(record["costs"]))
    return "\n" + "\n".join(parts) + "\n"


def conversion(record: Row) -> str:
    """The record of `speed.py --convert` as Markdown."""
    c = record["convert"]
    naive, peak = c["ways"]["naive"]["cpu_us"], c["peak_bytes"]
    header = [("RL Unplugged", False), ("transitions/s", True), ("CPU time each, us", True)]
    header += [("CPU, naive ÷ it", True), ("cores busy otherwise", True)]
    rows = []
    for way, name in WAYS.items():
        x = c["ways"][way]
        busy = NOTHING if x["others"] is None else f"{x['others']:.1f}"
        cpu = f"{x['cpu_us']:.0f}", f"{naive / x['cpu_us']:.1f}"
        rows.append([name, f"{x['per_second']:,.0f}", *cpu, busy])
    memory = "" if peak is None else f", {peak / 1e6:.0f} MB of memory"
    return (
        f"\n{machine(record)}\n{markdown(header, rows)}\n"
        f"A shard of {c['transitions']:,} transitions of {c['game']}, made of random play: "
        f"{c['shard_bytes'] / 1e6:.1f} MB, {c['file_bytes'] / 1e6:.1f} MB converted{memory}.\n"
    )


def machine(record: Row) -> str:
    m, v = record["machine"], record["versions"]
    return (
        f"{m['cpu']}, {m['cores']} cores ({m['capability']}), {m['memory_gb']} GB; "
        f"torch {v['torch']}, Python {v['python']}; {record['date']}.\n"
    )


def speeds(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """The table of one number of threads."""
    rivals = [name for name in RIVALS if any(name in r["windows"] for r in rows)]
    titles = {n: f"{RIVALS[n]} {versions.get(n, '')}".strip() for n in rivals}
    header = [("algorithm", False), ("batch", True), ("MFLOP", True), *((n, True) for n in OURS)]
    for name in rivals:
        header += [(titles[name], True), ("ours ÷ it", True)]
    header.append(("of the floor", True))
    table = []
    for r in rows:
        cells = [r["algorithm"], f"{r['batch_size']:,}", f"{r['mflop']:,.0f}"]
        cells += [speed(r, name) for name in OURS]
        for name in rivals:
            cells += [speed(r, name), pair(r, name, "{:.2f}")]
        table.append([*cells, pair(r, "floor", "{:.0%}")])
    return f"{markdown(header, table)}\n{caption(rows)}\n"


def caption(rows: Sequence[Row]) -> str:
    threads = rows[0]["threads"]
    windows = [w for r in rows for ws in r["windows"].values() for w in ws]
    others = [w["others"] for w in windows if w["others"] is not None]
    what = "second of own CPU time, 1 thread" if threads == 1 else f"second, {threads} threads"
    turns = len(rows[0]["windows"]["eager"])
    text = (
        f"Gradient steps per {what}: median of {turns} turns, ± half their range. Ratios are "
        "medians over turns, of the compiled update and, in brackets, of the eager one. The floor: "
        "the same update's matrix products and convolutions, bare"
    )
    if any("floor_onednn" in r["windows"] for r in rows):
        text += "; the compiled update multiplies by oneDNN, the eager one by MKL: two floors"
    text += "."
    if others:
        text += f" Other programs kept {mean(others):.1f} cores busy meanwhile."
    if threads > 1 and not all(trusted(r) for r in rows):
        text += " *: too few windows without them; not to be relied on."
    return text


def speed(r: Row, name: str) -> str:
    """`270 ±2%`, or a dash for what was not measured."""
    if name not in r["windows"]:
        return NOTHING
    values = [rate(r, w) for w in chosen(r, name)]
    middle, star = median(values), "" if trusted(r) else "*"
    digits = 0 if middle >= 100 else 1
    return f"{middle:,.{digits}f} ±{(max(values) - min(values)) / 2 / middle:.0%}{star}"


def pair(r: Row, name: str, form: str) -> str:
    """`2.56 (1.17)`: the compiled update's ratio to a rival, and the eager one's."""
    if name not in r["windows"]:
        return NOTHING
    compiled, eager = (form.format(ratio(r, ours, name)) for ours in OURS)
    return f"{compiled} ({eager})"


def ratio(r: Row, ours: str, name: str) -> float:
    """The median over turns of ours / its; the floor is the one with our library's products."""
    if name == "floor" and ours == "compiled" and "floor_onednn" in r["windows"]:
        name = "floor_onednn"
    pairs = zip(r["windows"][ours], r["windows"][name], strict=True)
    return median(rate(r, a) / rate(r, b) for a, b in pairs)


def rate(r: Row, window: Row) -> float:
    """Steps per second: of own CPU time for one thread, else of the wall clock."""
    seconds: float = window["cpu_s"] if r["threads"] == 1 else window["wall_s"]
    return float(window["steps"] / seconds)


def chosen(r: Row, name: str) -> list[Row]:
    windows: list[Row] = r["windows"][name]
    clean = [w for w in windows if is_clean(w)]
    return clean if r["threads"] > 1 and len(clean) >= FEWEST_CLEAN else windows


def trusted(r: Row) -> bool:
    """Own CPU time stands by itself; wall-clock time wants cores that nobody else used."""
    return r["threads"] == 1 or all(
        sum(map(is_clean, ws)) >= FEWEST_CLEAN for ws in r["windows"].values()
    )


def is_clean(w: Row) -> bool:
    return (w["others"] or 0) < CLEAN_OTHERS and (w["steal"] or 0) < CLEAN_STEAL


def costs(c: Row) -> str:
    """What a run costs beside its steps, as a list."""
    lines = [
        f"{c['n_rows']:,} transitions load in {c['load_first_s']:.1f} s the first time, "
        f"in {c['load_again_s']:.1f} s from the cache; from the command to the first gradient "
        f"step it takes {c['first_step_s']:.1f} s then.",
        f"Compiling takes {c['compile_cold_s']:.0f} s once, and {c['compile_again_s']:.1f} s at "
        "the next start of the same shapes.",
        f"10 episodes every 5,000 steps are {c['evaluation_share']:.0%} of `td3_bc`'s time.",
        f"Two processes side by side do {c['two_processes']:.2f} times what one does alone, "
        "by CPU time.",
    ]
    if c["others"] is not None:
        lines.append(f"Wall-clock times, while other programs kept {c['others']:.1f} cores busy.")
    return "".join(f"- {line}\n" for line in lines)
