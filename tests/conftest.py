"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inspection images, or a skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real inspection images (../shared/data) are not here")
    return folder


@pytest.fixture
def quick_records(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Records that neither wait for the disk nor for Argon2, for tests that are about something else."""
    from argon2 import PasswordHasher

    from andon.records import accounts, database

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "_hasher", lambda: cheap)
    accounts._nobodys_hash.cache_clear()
    yield
    accounts._nobodys_hash.cache_clear()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray cluster of two processors that ``--ray local`` uses; the folder that its workers know as ANDON_TEST_ONCE."""
    ray = pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("once")
    own = {"ANDON_TEST_ONCE": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ.update(own)
    ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield folder
    ray.shutdown()
    for name in own:
        del os.environ[name]


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit's AppTest puts its script in the place of ``__main__``, from which spawned processes would start."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """No test leaves another handler of Ctrl-C or SIGTERM behind: later tests interrupt themselves."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert after == before
