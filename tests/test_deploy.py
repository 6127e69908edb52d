"""What is deployed is what there is: extras, options and units; a pack that was damaged on its way is refused."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest

from andon.cli.serve import command as serve
from andon.cli.watch import command as watch

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()


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
    ("unit", "command"), [("andon-watch@.service", watch), ("andon-serve.service", serve)]
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
