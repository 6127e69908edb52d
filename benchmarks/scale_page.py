"""The page and the curves of benchmarks/scale.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Row = dict[str, Any]
BANK = 2000  # rows of PatchCore's bank, by default

COLUMNS = {"images": "{:,}", "ms": "{:.1f}", "peak_mb": "{:.0f}", "kept_mb": "{:.1f}", "keeping": "{:.1%}",
           "auroc": "{:.4f}", "radius": "{:.3f}", "most": "{:.3f}"}  # fmt: skip
HEADER = ["set", "method", "images", "ms", "peak", "kept", "keeping", "AUROC", "radius", "99.9 %"]


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---|---" + "|---:" * len(COLUMNS) + "|"]
    for row in rows:
        values = [shape.format(row[key]) if key in row else "" for key, shape in COLUMNS.items()]
        lines.append("| " + " | ".join([set_of(row), fit_of(row), *values]) + " |")
    return "\n".join(lines)


def set_of(row: Row) -> str:
    """The images of a row, in words."""
    return f"{Path(row['data']).name if row['data'] else 'line'}, {row['size']}x{row['size']}"


def fit_of(row: Row) -> str:
    """The method of a row, and what is not as usual about it."""
    bank = row["settings"].get("bank_limit", BANK)
    return row["method"] + (" full" if row["full"] else "") + (f", {bank:,} rows" if bank != BANK else "")


def page(content: Row, about: str) -> str:
    """The page: what was run, where, and the tables."""
    paragraphs = about.split("\n\n")
    lines = [
        "# Scale: one pass over ever more good images",
        "",
        content["made"],
        "",
        *[line for text in paragraphs[2:] for line in (text, "")],
        table(content["rows"]), "",
             "![Curves](scale.svg)", ""]  # fmt: skip
    for row in content["resumed"]:
        same = "the same bits" if row["same"] else "DIFFERENT BITS"
        lines += [
            f"{row['method']}, {row['images']:,} images, stopped at {row['resumed_at']:,} and resumed: {same}.",
            "",
        ]
    for row in content["files"]:
        lines += [f"Around the fit of {row['files']:,} files (CPU seconds, peak memory of the process afterwards); the list of "
                  f"digests in the manifest takes {row['digests_mb']:.1f} MB:", "", "| step | s | MB |", "|---|---:|---:|"]  # fmt: skip
        lines += [
            f"| {name} | {seconds:.1f} | {peak:.0f} |" for name, (seconds, peak) in row["steps"].items()
        ] + [""]
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Curves over the number of images: time, memory, accuracy, coverage."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "andon"
    from matplotlib import pyplot as plt

    shown = {
        "ms": "CPU ms an image",
        "peak_mb": "peak memory, MB",
        "auroc": "image AUROC",
        "radius": "coverage radius",
    }
    figure, grid = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    names = sorted({(set_of(row), fit_of(row), row["full"]) for row in rows})
    for axes, (key, title) in zip(grid.flat, shown.items(), strict=True):
        for number, name in enumerate(names):
            found = sorted((row["images"], row[key]) for row in rows
                           if (set_of(row), fit_of(row), row["full"]) == name and key in row)  # fmt: skip
            label = f"{name[1]} ({name[0]})"
            if found:
                axes.plot(
                    *zip(*found, strict=True),
                    "s--" if name[2] else "o-",
                    color=f"C{number}",
                    markersize=4,
                    label=label,
                )
        axes.set_xscale("log")
        axes.set_ylim(bottom=0 if key in ("ms", "peak_mb") else None)
        axes.set_title(title, fontsize=10)
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})
