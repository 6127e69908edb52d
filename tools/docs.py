"""Write docs/cli.md from the program's own help; with --check, fail where the docs have gone stale.

Also checks that every relative link in the Markdown files leads somewhere.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import click

from andon.cli import andon

ROOT = Path(__file__).resolve().parents[1]
CLI = ROOT / "docs" / "cli.md"
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where something is stale"
    )
    options = parser.parse_args()
    text = "# The command line\n\nWritten by `python tools/docs.py` from the program itself.\n" + "".join(
        f"\n## `{name}`\n\n```text\n{help_text}\n```\n" for name, help_text in pages(andon, "andon")
    )
    if not options.check:
        CLI.write_text(text)
        return 0
    problems = broken_links()
    if not CLI.exists() or CLI.read_text() != text:
        problems.append("docs/cli.md is stale: run python tools/docs.py")
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def pages(command: click.Command, name: str) -> list[tuple[str, str]]:
    """(name, help) of a command and of all below it."""
    context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
    found = [(name, command.get_help(context))]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            below = command.get_command(context, child)
            if below is not None:
                found += pages(below, f"{name} {child}")
    return found


def broken_links() -> list[str]:
    """Relative links in the Markdown files that lead nowhere."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    return [
        f"{file.relative_to(ROOT)}: link to {target} leads nowhere"
        for file in files
        for target in LINK.findall(file.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (file.parent / target).exists()
    ]


if __name__ == "__main__":
    sys.exit(main())
