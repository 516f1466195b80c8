"""`make run REDIS=1`: one control plane and two sidecars on a real Redis, in place of `keystile dev`."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from programs import ROOT, Program, TourError, answers, keystile_binary, wait_for

TENANT = "demo"

COMMON = """\
ops: {{listen: ["127.0.0.1:{ops}"]}}
store: {{kind: redis, redis: {{url: "redis://127.0.0.1:{redis}"}}}}
api_keys: {{min_expiry_days: 0}}
"""
CONTROL = COMMON + """\
admin: {{listen: ["127.0.0.1:{admin}"]}}
keyring: {{data: {{file: {keys}/data.keyring}}, vault: {{file: {keys}/vault.keyring}}}}
"""
# It has no vault: what it holds reveals no token.
SIDECAR = COMMON + """\
authz: {{listen: ["127.0.0.1:{authz}"]}}
keyring: {{data: {{file: {keys}/data.keyring}}}}
"""


def redis_binary():
    path = Path(os.environ.get("KEYSTILE_REDIS") or ROOT / ".venv/bin/redis-server")
    if not path.is_file():
        raise TourError(f"there is no Redis at {path}: `make setup` installs it")
    return path


def start_redis(port, run_dir):
    command = [redis_binary(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", run_dir]
    redis = Program("redis", command, run_dir)

    def listening():
        redis.assert_running()
        return answers(port)

    wait_for("Redis does not listen", listening)
    return redis


def is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Fleet:
    """Starts everything; `programs` learns of each as it starts, so that it is stopped whatever happens."""

    def __init__(self, ports, run_dir, programs, sidecars=2):
        self.ports = ports
        self.sidecars = sidecars
        self.dir = run_dir / "fleet"
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir()
        self.programs = programs

    def start(self):
        ports = self.ports
        self.programs.append(start_redis(ports.REDIS_PORT, self.dir))
        self.keystile("keyring", "init", "--dir", str(self.dir / "keys"))
        control = self.configure("control-plane", CONTROL, admin=ports.ADMIN_PORT, ops=ports.OPS_PORT)
        admin = json.loads(self.keystile("bootstrap", "-c", str(control), "-o", "json"))["plaintext"]
        self.serve("control-plane", control, ports.OPS_PORT)
        for number in range(1, self.sidecars + 1):
            authz, ops = (getattr(ports, f"{name}{number}_PORT") for name in ("AUTHZ", "OPS"))
            name = f"sidecar-{number}"
            self.serve(name, self.configure(name, SIDECAR, authz=authz, ops=ops), ops)
        client = {"KEYSTILE_ADDR": f"http://127.0.0.1:{ports.ADMIN_PORT}", "KEYSTILE_API_KEY": admin}
        self.keystile("tenant", "create", TENANT, "--display-name", "Demo Inc.", **client)
        made = self.keystile(
            *("key", "create", TENANT, "--name", "tour-user", "--owner", "alice", "--role", "user", "-o", "json"),
            **client,
        )
        return {"tenant": TENANT, "tokens": {"admin": admin, "user": json.loads(made)["plaintext"]}}

    def configure(self, name, text, **ports):
        path = self.dir / f"{name}.yaml"
        path.write_text(text.format(redis=self.ports.REDIS_PORT, keys=self.dir / "keys", **ports))
        return path

    def serve(self, name, config, ops):
        program = Program(name, [keystile_binary(), "serve", "-c", config], self.dir)
        self.programs.append(program)

        def ready():
            program.assert_running()
            return is_ready(ops)

        wait_for(f"the {name} is not ready", ready)

    def keystile(self, *args, **environment):
        done = subprocess.run(
            [str(keystile_binary()), *args],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        if done.returncode != 0:
            raise TourError(f"keystile {' '.join(args[:2])} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout
