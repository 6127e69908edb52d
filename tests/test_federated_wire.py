"""States as bytes: what arrives is what was sent, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from andon.errors import DataError
from andon.federated.wire import Inbox, carry, pack
from andon.models.base import State

DTYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]
STATE: State = {"bank": torch.arange(12.0).reshape(4, 3), "seen": torch.tensor(7), "none": torch.empty(0, 5)}


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)),
        max_size=5,
    ),
    st.integers(1, 64),
)
def test_any_state_arrives_as_it_was(shapes: dict[str, Any], chunk_bytes: int) -> None:
    state = {name: torch.ones(shape).cumsum(0).to(dtype) if shape else torch.tensor(3).to(dtype)
             for name, (dtype, shape) in shapes.items()}  # fmt: skip
    parcel = pack(state, chunk_bytes)
    inbox = Inbox(parcel.header(), "oslo")
    for number, chunk in reversed(list(enumerate(parcel.chunks()))):  # in any order
        inbox.add(number, chunk)
    arrived = inbox.state()
    assert arrived.keys() == state.keys()
    for name, tensor in state.items():
        assert arrived[name].dtype == tensor.dtype
        assert arrived[name].shape == tensor.shape
        assert torch.equal(arrived[name], tensor)


def test_what_arrives_may_wait_in_a_file(tmp_path: Path) -> None:
    state, size = carry(STATE, "oslo", tmp_path / "state")
    assert torch.equal(state["bank"], STATE["bank"])
    assert (tmp_path / "state").stat().st_size == size


def sent(chunk_bytes: int = 16) -> tuple[dict[str, Any], list[Any]]:
    parcel = pack(STATE, chunk_bytes)
    return parcel.header(), list(parcel.chunks())


def test_damaged_bytes_are_refused() -> None:
    header, chunks = sent()
    inbox = Inbox(header, "oslo")
    chunks[1] = chunks[1] ^ 1
    for number, chunk in enumerate(chunks):
        inbox.add(number, chunk)
    with pytest.raises(DataError, match="oslo: 'bank' was damaged on its way"):
        inbox.state()


def test_missing_and_wrong_chunks_are_refused() -> None:
    header, chunks = sent()
    inbox = Inbox(header, "oslo")
    inbox.add(0, chunks[0])
    with pytest.raises(DataError, match="oslo: 3 chunks of the parcel are missing"):
        inbox.state()
    for number, chunk in ((0, chunks[0]), (9, chunks[0]), (1, chunks[1][:3])):
        with pytest.raises(DataError, match=f"chunk {number} of"):
            inbox.add(number, chunk)


@pytest.mark.parametrize("change", [
    {"size": 10**15}, {"size": -1}, {"size": 3}, {"chunk": 0}, {"entries": 5}, {"entries": [{"name": "x"}]},
    {"entries": [{"name": "x", "dtype": "object", "shape": [1], "start": 0, "size": 8, "sha256": ""}]},
    {"entries": [{"name": "x", "dtype": "float32", "shape": [9], "start": 0, "size": 8, "sha256": ""}]},
    {"entries": [{"name": "x", "dtype": "float32", "shape": [-2], "start": 0, "size": -8, "sha256": ""}]},
])  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    header, _ = sent()
    with pytest.raises(DataError, match="oslo: the parcel's header makes no sense"):
        Inbox({**header, **change}, "oslo")


def test_what_numpy_does_not_have_is_not_sent() -> None:
    with pytest.raises(DataError, match="'w' is torch.bfloat16, which cannot be sent"):
        pack({"w": torch.zeros(2, dtype=torch.bfloat16)})


def test_a_parcel_is_made_chunk_by_chunk() -> None:
    parcel = pack({"bank": torch.zeros(1000, 16)}, chunk_bytes=1 << 12)
    assert parcel.size == 64_000
    assert max(len(chunk) for chunk in parcel.chunks()) == 1 << 12
    assert np.concatenate(list(parcel.chunks())).nbytes == 64_000
