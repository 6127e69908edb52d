"""Record what a server answers, for the examples in its /openapi.json.

    python tools/rest_examples.py clip.andon DEFECTIVE_IMAGE [--out src/andon/runtime/server/examples.json]

Run it when the answers' fields change; a test holds that they are those of the record.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fastapi.testclient import TestClient

from andon.files import atomic_write
from andon.runtime.server import Shelf
from andon.runtime.server.app import make_app, watched

OUT = Path(__file__).resolve().parents[1] / "src" / "andon" / "runtime" / "server" / "examples.json"


def main() -> None:
    """Write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artefact", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    name, data = options.image.name, options.image.read_bytes()
    with TestClient(watched(make_app(Shelf(options.artefact), check_every=0))) as client:
        batch = [("files", (name, data)), ("files", (f"half-{name}", data[: len(data) // 2]))]
        answers = {
            "verdict": client.post("/v1/inspect", files={"file": (name, data)}),
            "batch": client.post("/v1/batch", files=batch),
            "artefacts": client.get("/v1/artefacts"),
            "artefact": client.get(f"/v1/artefacts/{options.artefact.stem}"),
            "reload": client.post("/v1/reload"),
            "health": client.get("/health"),
            "ready": client.get("/ready"),
        }
        found = {key: answer.raise_for_status().json() for key, answer in answers.items()}
    with atomic_write(options.out, "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
