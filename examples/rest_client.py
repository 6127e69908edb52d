"""Ask a server (andon serve) about photographs. Needs Python's standard library alone.

python rest_client.py http://127.0.0.1:8000 photo.png ...     # the API key, if there is one, in ANDON_KEY
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request


def inspect(server: str, photo: bytes, key: str = "", query: str = "", attempts: int = 5) -> dict:
    """The verdict on one image file's bytes; tried again while the server is busy or being started."""
    headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{server}/v1/inspect{query}", photo, headers)
    for _ in range(attempts):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise SystemExit(error.read().decode()) from error
            time.sleep(int(error.headers["Retry-After"]))
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    raise SystemExit(f"{server} has not answered {attempts} times")


if __name__ == "__main__":
    for path in sys.argv[2:]:
        with open(path, "rb") as file:
            verdict = inspect(sys.argv[1], file.read(), os.environ.get("ANDON_KEY", ""))
        print(f"{verdict['decision']:6} {verdict['score']:.3f}  {path}  {verdict['sentence']}")
