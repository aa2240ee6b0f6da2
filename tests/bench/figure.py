#!/usr/bin/env python3
"""Draws the figure of a GPU benchmark from its JSON.

    floatx bench --cuda --shape llama-2-7b --format e3m2,e2m1,e2m0 --m 1,2,4,8,16,32,64 --json h100.json
    python3 tests/bench/figure.py h100.json h100.svg [--act f16] [--group 0] [--settle 0] [--m 1]

Needs matplotlib 3.6 or newer (pip install matplotlib); nothing of the build does.

Left: how many times as fast as cuBLAS with 16-bit weights, over m, one line for each format, broken where scales
are those of groups: the geometric mean over the shapes, or that of one (--shape). Right: the fraction of the floor
that each shape reaches at one m (--m, by default the smallest), one bar for each format. Shapes are in the order of
their size. Rows of other types of x (--act, by default f16) and of --exact-weights are left out, and with --group
those of other group sizes, with --settle those of other turns. The same JSON gives the same SVG to the byte, with the
same matplotlib.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import json
import math
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402


def series_name(row):
    return row["format"] if row["group"] == 0 else f"{row['format']}, groups of {row['group']}"


def in_order(items):
    return list(dict.fromkeys(items))


def speedup_over_m(axes, rows, names):
    for name in names:
        found = {}
        for row in rows:
            if series_name(row) == name and row["cublas_us"]:
                found.setdefault(row["m"], []).append(math.log(row["cublas_us"] / row["us"]))
        if found:
            m = sorted(found)
            style = "--" if "groups" in name else "-"
            axes.plot(m, [math.exp(sum(found[i]) / len(found[i])) for i in m], style, marker=".", label=name)
    # The powers of two alone: others would stand in each other's way.
    m = sorted({2 ** round(math.log2(row["m"])) for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(m, [str(i) for i in m])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("m, tokens")
    axes.set_ylabel("speed-up over cuBLAS, 16-bit weights")


def floor_by_shape(axes, rows, names, m):
    rows = [row for row in rows if row["m"] == m]
    shapes = sorted({(row["n"], row["k"]) for row in rows}, key=lambda s: (s[0] * s[1], s))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        reached = {(r["n"], r["k"]): r["floor_us"] / r["us"] for r in rows if series_name(r) == name}
        drawn = [s for s in shapes if s in reached]
        places = [shapes.index(s) + (i - (len(names) - 1) / 2) * width for s in drawn]
        axes.bar(places, [reached[s] for s in drawn], width, label=name)
    axes.set_xticks(range(len(shapes)), [f"{n} x {k}" for n, k in shapes], rotation=30, ha="right")
    axes.set_ylim(0, 1.05)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylabel(f"fraction of the floor, m = {m}")
    axes.grid(axis="x", visible=False)


def main():
    parser = argparse.ArgumentParser(description="Draws the figure of a GPU benchmark from its JSON.")
    parser.add_argument("json")
    parser.add_argument("svg")
    parser.add_argument("--act", default="f16")
    parser.add_argument("--group", type=int, help="rows of this group size only; 0 is a scale for each row")
    parser.add_argument("--settle", type=float, help="rows of turns that settled so long only; 0 is short turns")
    parser.add_argument("--shape", help="of the left half, as NxK; by default the mean over all")
    parser.add_argument("--m", type=int, help="of the right half")
    options = parser.parse_args()
    with open(options.json, encoding="utf-8") as file:
        content = json.load(file)
    rows = [
        row
        for row in content["rows"]
        if row["act"] == options.act
        and options.group in (None, row["group"])
        and options.settle in (None, row.get("settle_s", 0))
        and not row.get("exact_weights")
    ]
    if not rows:
        sys.exit(f"{options.json}: no rows for --act {options.act} and this --group")
    m = options.m if options.m is not None else min(row["m"] for row in rows)
    if all(row["m"] != m for row in rows):
        sys.exit(f"{options.json}: no rows for m = {m}")

    # Text stays text, and nothing depends on the time or on chance.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "floatx", "axes.grid": True})
    plt.rcParams.update({"grid.alpha": 0.3, "axes.axisbelow": True, "font.size": 9})
    names = in_order(series_name(row) for row in rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    of_left = [row for row in rows if options.shape in (None, f"{row['n']}x{row['k']}")]
    speedup_over_m(left, of_left, names)
    if options.shape:
        left.set_title(options.shape.replace("x", " x "))
    floor_by_shape(right, rows, names, m)
    left.legend(ncols=2)
    machine = content["machine"]
    bandwidth = f"reads at {machine['read_GBps']:.0f} GB/s"
    figure.suptitle(f"floatx on {machine['gpu']}: x and y {options.act}, {bandwidth}, {machine['date']}")
    figure.savefig(options.svg, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
