"""Results of runs → `table.md`, `results.json`, `plot.png` and `captions.md`."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

COUNTS = ("ESC-10", "one source", "two at once", "one after the other", "in order")
EXAMPLES = 10  # sounds whose captions are shown

Result = dict[str, Any]


def write(results: list[Result], out: Path) -> None:
    """Write all files; print the table."""
    out.mkdir(parents=True, exist_ok=True)
    by_system: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda one: (one["seed"], one["fold"])):
        by_system[result["system"]].append(result)
    text = table(by_system)
    (out / "table.md").write_text(text, encoding="utf-8")
    (out / "captions.md").write_text(captions(by_system), encoding="utf-8")
    slim = [{name: value for name, value in one.items() if name not in ("captions", "truths")} for one in results]
    (out / "results.json").write_text(json.dumps(slim, indent=2) + "\n", encoding="utf-8")
    plot(by_system, out / "plot.png")
    print(text)


def share(name: str) -> Callable[[Result], float]:
    """Of a run, how many captions are right."""
    return lambda run: run["counts"][name][0] / max(run["counts"][name][1], 1)


def figure_of(*keys: str) -> Callable[[Result], float]:
    """Of a run, what stands under those keys, one within another."""

    def value(run: Result) -> float:
        for key in keys:
            run = run[key]
        return run  # type: ignore[return-value]

    return value


def over_runs(runs: list[Result], value: Callable[[Result], float]) -> tuple[float, float | None]:
    """Mean and standard deviation; None for a single run's."""
    values = [value(run) for run in runs]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def table(by_system: dict[str, list[Result]]) -> str:
    """In Markdown: a row a system, the best at ESC-10 first."""
    columns: list[tuple[str, Callable[[Result], float], float, str]] = [
        *((f"{name}, right %", share(name), 100, ".1f") for name in COUNTS),
        *((f"BERTScore {data}", figure_of("scores", data, "bertscore_f1"), 1, ".3f") for data in ("ESC-10", "made")),
        *((f"CIDEr-D {data}", figure_of("scores", data, "cider_d"), 1, ".2f") for data in ("ESC-10", "made")),
        ("weights, M", figure_of("cost", "parameters"), 1e-6, ".2f"),
        ("GFLOPs a clip", figure_of("cost", "flops"), 1e-9, ".2f"),
        ("processor s an epoch of writing", figure_of("cost", "epoch_seconds"), 1, ".1f"),
    ]
    lines = [f"| system | runs | {' | '.join(name for name, *_ in columns)} |", "|---" * (len(columns) + 2) + "|"]
    ranked = sorted(by_system.items(), key=lambda item: -over_runs(item[1], share("ESC-10"))[0])
    for system, runs in ranked:
        cells = []
        for _, value, scale, form in columns:
            middle, spread = over_runs(runs, value)
            known = spread is not None and spread > 0
            cells.append(f"{middle * scale:{form}}" + (f" ± {spread * scale:{form}}" if known else ""))  # type: ignore[operator]
        lines.append(f"| {system} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def captions(by_system: dict[str, list[Result]]) -> str:
    """What the first seed of each system says of the same sounds."""
    firsts = {
        system: _captions(run for run in runs if run["seed"] == runs[0]["seed"]) for system, runs in by_system.items()
    }
    truths = {name: truth for runs in by_system.values() for run in runs for name, truth in run["truths"].items()}
    common = sorted(set.intersection(*(set(said) for said in firsts.values())))
    lines = []
    for name in common[:: max(1, len(common) // EXAMPLES)][:EXAMPLES]:
        lines += [
            f"**{truths[name]}** ({name})",
            "",
            *(f"- {system}: {said[name]}" for system, said in firsts.items()),
            "",
        ]
    return "\n".join(lines)


def _captions(runs: Iterable[Result]) -> dict[str, str]:
    return {name: caption for run in runs for name, caption in run["captions"].items()}


def plot(by_system: dict[str, list[Result]], path: Path) -> None:
    """Score against cost: what is right on ESC-10 over FLOPs, each with its weights."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for system, runs in sorted(by_system.items()):
        middle, spread = over_runs(runs, share("ESC-10"))
        flops, _ = over_runs(runs, figure_of("cost", "flops"))
        weights, _ = over_runs(runs, figure_of("cost", "parameters"))
        label = f"{system}, {weights / 1e6:.1f} M weights"
        axes.errorbar(flops / 1e9, 100 * middle, yerr=100 * (spread or 0), marker="o", capsize=3, label=label)
    figure.legend(loc="outside right upper", fontsize=8)
    axes.set(xscale="log", xlabel="GFLOPs of a clip of 5 s and its caption", ylabel="ESC-10, held out: right source, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
