"""What pytest does not collect where an extra that is not part of ``dev`` is absent."""

from importlib.util import find_spec

collect_ignore = (
    []
    if find_spec("flwr")
    else ["src/andon/federated/flower_client.py", "src/andon/federated/flower_server.py"]
)
