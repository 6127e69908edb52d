"""What is deployed is what there is: extras, options and units; a pack that was damaged on its way is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from andon.cli import COMMANDS
from andon.cli import andon as program
from andon.cli.app import command as app
from andon.cli.serve import command as serve
from andon.cli.watch import command as watch

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"].keys()
IN_WHEEL = ("pyproject.toml", "src", PROJECT["readme"], "LICENSE")


@pytest.fixture(scope="module")
def offline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("offline", ROOT / "tools" / "offline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize(
    "name",
    ["deploy/Dockerfile", "deploy/Dockerfile.full", "docs/deploy.md", "tools/offline.py", "docs/line.md"],
)
def test_the_extras_named_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    found = re.findall(
        r"EXTRAS=([\w,]+)|andon\[([\w,]+)\]|--extras ([\w,]+)|such as ([\w]+(?:,[\w]+)+)", text
    )
    named = {extra for groups in found for group in groups for extra in group.split(",") if extra}
    assert named
    assert named <= EXTRAS


@pytest.mark.parametrize(
    ("unit", "command"),
    [("andon-watch@.service", watch), ("andon-serve.service", serve), ("andon-app.service", app)],
)
def test_the_units_options_are_there(unit: str, command: click.Command) -> None:
    text = (ROOT / "deploy" / unit).read_text()
    if command is watch:
        text += (ROOT / "deploy" / "andon.env.example").read_text()
    lines = [line for line in text.splitlines() if "ANDON_" in line and "=" in line]
    used = {
        word for line in lines for word in shlex.split(line.lstrip("# ")) if re.fullmatch(r"--[a-z-]+", word)
    }
    assert used
    assert used <= options(command)


def test_the_units_run_the_commands_that_are_there() -> None:
    for unit in sorted((ROOT / "deploy").glob("*.service")):
        (start,) = re.findall(r"^ExecStart=/opt/andon/bin/andon (\w+) ", unit.read_text(), re.M)
        assert start in COMMANDS
        assert re.search(rf"deploy/{re.escape(unit.name)}", (ROOT / "docs/deploy.md").read_text())


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.full"])
def test_what_the_images_copy_and_run_is_there(name: str) -> None:
    """They are not built by these tests; what can be known without that is held."""
    lines = (ROOT / "deploy" / name).read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}  # fmt: skip
    copied = [
        place
        for word, rest in steps
        if word == "COPY" and "--from" not in rest
        for place in rest.split()[:-1]
    ]
    assert copied
    assert all((ROOT / place).exists() for place in copied)
    assert set(IN_WHEEL) <= set(copied), "without these there is no wheel"
    arguments = {rest.partition("=")[0] for word, rest in steps if word == "ARG"}
    used = set(re.findall(r"\$\{(\w+)", "\n".join(rest for _, rest in steps)))
    assert used == arguments
    (entry,) = (json.loads(rest) for word, rest in steps if word == "ENTRYPOINT")
    assert entry == [next(iter(PROJECT["scripts"]))]
    (default,) = (json.loads(rest) for word, rest in steps if word == "CMD")
    assert CliRunner().invoke(program, default).exit_code == 0


def test_a_pack_that_was_damaged_is_refused(offline: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "andon-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"whole")
    with pytest.raises(SystemExit, match="holds no SHA256SUMS: it is not what `offline.py pack` makes"):
        offline.check(tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{offline.digest_of(wheel)}  {wheel.name}\n")
    offline.check(tmp_path)
    assert offline.wheel_of(tmp_path, "line") == f"{wheel}[line]"
    (tmp_path / "strange-1-py3-none-any.whl").write_bytes(b"x")
    with pytest.raises(SystemExit, match=r"not of it \['strange-1-py3-none-any.whl'\]"):
        offline.check(tmp_path)
    (tmp_path / "strange-1-py3-none-any.whl").unlink()
    wheel.write_bytes(b"half")
    with pytest.raises(SystemExit, match=r"damaged or missing \['andon-0.1.0-py3-none-any.whl'\]"):
        offline.check(tmp_path)


def test_a_pack_is_not_mixed_with_what_lies_there(offline: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "old.whl").write_bytes(b"")
    with pytest.raises(SystemExit, match="is not empty. Give a new folder"):
        offline.pack(tmp_path, "")
