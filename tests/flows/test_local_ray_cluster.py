"""The Ray cluster that tunebook starts for itself lets nobody else in."""

from __future__ import annotations

import subprocess
import sys

import pytest

OWN = """
import os, subprocess, sys
from tunebook.data.workers import connect, import_ray
ray = import_ray("local")
connect(ray, "local", num_cpus=1)
place = ray.get_runtime_context().gcs_address
join = f"import ray; ray.init(address={place!r}, log_to_driver=False)"
guess = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
for stranger in ({"RAY_AUTH_MODE": "disabled"}, guess):
    bare = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", join], env=bare | stranger, capture_output=True)
    print("stranger", done.returncode)
done = subprocess.run([sys.executable, "-c", join], capture_output=True)
print("own", done.returncode)
ray.shutdown()
"""


@pytest.mark.slow
def test_nobody_joins_a_local_cluster_without_its_secret() -> None:
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("stranger", "own"))]
    assert said == ["stranger 1", "stranger 1", "own 0"]
