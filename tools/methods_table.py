"""Write the table of methods in docs/methods/README.md from DETECTORS; with --check, fail where it has gone stale."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from pathlib import Path

from andon.models import DETECTORS, Detector, defaults

PAGES = Path(__file__).resolve().parents[1] / "docs" / "methods"
README = PAGES / "README.md"
START, END = "<!-- methods: written by tools/methods_table.py -->", "<!-- end of methods -->"
HEAD = "| method | paper | learns by | backbone | reconstruction |\n|---|---|---|---|---|\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where something is stale"
    )
    options = parser.parse_args()
    if not options.check:
        README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    problems = stale()
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def stale() -> list[str]:
    """What is not as the program has it: methods without a page, pages without a method, an old table."""
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    problems = [f"docs/methods/{name}.md is missing: write it" for name in DETECTORS if name not in pages]
    problems += [
        f"docs/methods/{name}.md: there is no such method" for name in sorted(pages - set(DETECTORS))
    ]
    text = README.read_text(encoding="utf-8")
    if with_table(text) != text:
        problems.append("docs/methods/README.md is stale: run python tools/methods_table.py")
    return problems


def with_table(text: str) -> str:
    """``text`` with the table between its markers as it should be."""
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{table()}{END}{after}"


def table() -> str:
    """The rows, in the order of DETECTORS."""
    return HEAD + "".join(f"| {' | '.join(row(name))} |\n" for name in DETECTORS)


def row(name: str) -> list[str]:
    """Method, paper, how it learns, whether it has a backbone, whether it gives a reconstruction."""
    detector, settings = DETECTORS[name], defaults(name)
    return [
        f"[{name}]({name}.md)",
        detector.paper,
        "training" if settings.get("steps") else "one pass, closed form",
        "yes" if "backbone" in settings else "",
        "yes" if reconstructs(detector) else "",
    ]


def reconstructs(detector: type[Detector]) -> bool:
    """Whether its ``forward`` answers with a third thing, or by name: a reconstruction."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(detector.forward)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(
        isinstance(call.func, ast.Name)
        and call.func.id == "Scores"
        and len(call.args) + len(call.keywords) > 2
        for call in calls
    )


if __name__ == "__main__":
    sys.exit(main())
