"""What pytest does not collect: a script, and what needs an extra that is not part of ``dev`` where that is absent."""

from importlib.util import find_spec

collect_ignore = ["src/andon/app/main.py"]
if not find_spec("flwr"):
    collect_ignore += ["src/andon/federated/flower_client.py", "src/andon/federated/flower_server.py"]
