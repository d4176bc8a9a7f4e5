"""Figures as Markdown tables."""

from __future__ import annotations

from typing import Any


def contenders(result: dict[str, Any], unit: str, job: str | None) -> str:
    """The figures of one shape: medians, quartiles of the ratios in brackets.

    Args:
        result: of one shape, from the driver.
        unit: what is timed.
        job: the name of a job whose seconds are extrapolated, or None.

    Returns:
        A heading, the ceilings and the table.
    """
    baseline = result["baseline"]
    limits = result["ceilings"]
    title = (
        f"{_title(result)}, threads: {result['threads']}; us: microseconds for one {unit}; ratio "
        "> 1: quicker"
    )
    ceilings = [f"copy {limits['copy_bytes_per_second'] / 1e9:.1f} GB/s (read and written)"]
    if "gemm_flops_per_second" in limits:
        ceilings.append(f"float32 GEMM {limits['gemm_flops_per_second'] / 1e9:.0f} GF/s")
    rows = {name: _row(figures, baseline, job) for name, figures in result["contenders"].items()}
    if any("times_quicker_than_its_rival" in figures for figures in result["contenders"].values()):
        for name, figures in result["contenders"].items():
            rows[name]["ratio to its rival"] = _rival(figures.get("times_quicker_than_its_rival"))
    columns = ["contender", *next(iter(rows.values()))]
    lines = [
        f"\n{title}\nceilings: {', '.join(ceilings)}\n",
        _line(columns),
        _line(["---"] * len(columns)),
    ]
    lines += [_line([name, *row.values()]) for name, row in rows.items()]
    empty = [""] * (len(columns) - 2)
    return "\n".join(
        lines
        + [_line([name, f"missing: {why}", *empty]) for name, why in result["missing"].items()]
    )


def _row(figures: dict[str, Any], baseline: str, job: str | None) -> dict[str, str]:
    ratio = figures[f"times_quicker_than_{baseline}"]
    row = {
        "us": f"{figures['seconds']['median'] * 1e6:.1f}",
        f"ratio to {baseline} (quartiles)": "{median:.2f} ({lower:.2f}-{upper:.2f})".format_map(
            ratio
        ),
        "connection updates/s": f"{figures['connection_updates_per_second']:.3g}",
        "chain steps/s": f"{figures['chain_steps_per_second']:.3g}",
    }
    if "fraction_of_gemm_ceiling" in figures:
        row["of GEMM"] = f"{figures['fraction_of_gemm_ceiling']['median']:.0%}"
    if "fraction_of_copy_ceiling" in figures:
        row["of copy"] = f"{figures['fraction_of_copy_ceiling']:.0%}"
    if job:
        row[f"{job}, s"] = f"{figures[f'seconds_for_{job}']:.3g}"
    return row


def _rival(ratio: dict[str, Any] | None) -> str:
    if ratio:
        return f"{ratio['median']:.3g} ({ratio['lower']:.3g}-{ratio['upper']:.3g})"
    return ""


def scaling(results: list[dict[str, Any]]) -> str:
    """How much quicker more threads are, by medians that were not measured side by side.

    Args:
        results: the first number of threads, shape by shape, then the others.

    Returns:
        The table.
    """
    first = results[0]["threads"]
    lines = [f"\n| shape | contender | threads | ratio to threads: {first} |", "|---|---|---|---|"]
    single = {
        _title(result): result["contenders"] for result in results if result["threads"] == first
    }
    for result in (result for result in results if result["threads"] != first):
        shape = _title(result)
        threads = result["threads"]
        for name, figures in result["contenders"].items():
            ratio = single[shape][name]["seconds"]["median"] / figures["seconds"]["median"]
            lines.append(_line([shape, name, str(threads), f"{ratio:.2f}"]))
    return "\n".join(lines)


def _title(result: dict[str, Any]) -> str:
    return "x".join(map(str, result["shape"]))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
