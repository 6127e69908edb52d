"""Fail where an evaluation's figures are below what they must reach: tools/expect.py figures.json --image-auroc 0.8."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

FIGURES = {"image_auroc": "image_auroc", "aupro": "aupro_30"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    for name in FIGURES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0)
    options = parser.parse_args()
    found = json.loads(options.figures.read_text())["groups"]["all"]
    failed = False
    for name, key in FIGURES.items():
        value, least = found[key]["value"], getattr(options, name)
        failed |= not value >= least
        print(f"{key}: {value:.4f} (must be at least {least})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
