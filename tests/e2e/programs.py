"""Starts the tour's programs and stops every one of them again."""

import errno
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30


class TourError(Exception):
    """What a newcomer is told, without a traceback."""


class Ports:
    """The defaults are those of the documentation; each can be set on make's command line."""

    NAMES = {
        "ENVOY_PORT": (10000, "Envoy"),
        "ECHO_PORT": (10001, "the application behind it"),
        "AUTHZ_PORT": (9001, "Keystile's answers to Envoy"),
        "ADMIN_PORT": (9002, "Keystile's admin API"),
        "OPS_PORT": (9003, "Keystile's health and metrics"),
    }

    # With REDIS=1 alone.
    OF_FLEET = {
        "REDIS_PORT": (10002, "Redis"),
        "AUTHZ2_PORT": (9011, "the second sidecar's answers to Envoy"),
        "OPS1_PORT": (9013, "the first sidecar's health and metrics"),
        "OPS2_PORT": (9023, "the second sidecar's health and metrics"),
    }

    def __init__(self, with_fleet=False):
        self.names = {**self.NAMES, **(self.OF_FLEET if with_fleet else {})}
        for name, (default, _) in self.names.items():
            text = os.environ.get(name) or str(default)
            if not text.isdigit() or not 0 < int(text) < 65536:
                raise TourError(f"{name}={text} is not a port: choose a number from 1 to 65535")
            setattr(self, name, int(text))
        self.check_free()
        # Which the first of the fleet's sidecars has too.
        self.AUTHZ1_PORT = self.AUTHZ_PORT

    def check_free(self):
        seen = {}
        for name, (_, who) in self.names.items():
            port = getattr(self, name)
            if port in seen:
                raise TourError(f"{name} and {seen[port]} are both {port}: each needs a port of its own")
            seen[port] = name
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                    probe.listen()
                except OSError as err:
                    why = "taken" if err.errno == errno.EADDRINUSE else f"not ours to use ({err.strerror})"
                    raise TourError(
                        f"port {port} is {why}; {who} needs one.\n"
                        f"Stop what listens there, or choose another: make run {name}={free_port_near(port)}"
                    ) from None


def free_port_near(port):
    for candidate in range(port + 100 if port < 60000 else 20000, 65536):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    return 20000


def wait_for(what, poll):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := poll():
            return answer
        time.sleep(0.02)
    raise TourError(f"{what} within {PATIENCE} s")


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """One child. In a session of its own: Ctrl-C reaches the tour alone, which then stops its programs in order."""

    def __init__(self, name, command, run_dir):
        self.name = name
        self.log = run_dir / f"{name}.log"
        self.lines = queue.Queue()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        for line in self.process.stdout:
            self.lines.put(line.decode(errors="replace"))

    def assert_running(self):
        if self.process.poll() is not None:
            raise TourError(f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}")

    def last_words(self):
        said = list(self.lines.queue) + self.log.read_text(errors="replace").splitlines(keepends=True)
        return "".join(said[-20:])

    def first_json(self):
        """The JSON object that the program prints first."""
        text = ""

        def poll():
            nonlocal text
            self.assert_running()
            while not self.lines.empty():
                text += self.lines.get()
            try:
                return json.JSONDecoder().raw_decode(text.lstrip())[0]
            except json.JSONDecodeError:
                return None

        return wait_for(f"{self.name} does not print its JSON", poll)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def keystile_binary():
    path = Path(os.environ.get("KEYSTILE_BIN") or ROOT / "target/debug/keystile")
    if not path.is_file():
        raise TourError(f"there is no {path}: `make run` builds it")
    return path


def envoy_binary():
    path = Path(os.environ.get("KEYSTILE_ENVOY") or ROOT / ".venv/bin/envoy")
    if not path.is_file():
        raise TourError(f"there is no Envoy at {path}: `make setup` installs it")
    return path


def start_keystile(ports, run_dir):
    data = run_dir / "dev"
    shutil.rmtree(data, ignore_errors=True)
    command = [keystile_binary(), "dev", "--dir", data, "-o", "json"]
    for listener, port in (
        ("authz", ports.AUTHZ_PORT),
        ("admin", ports.ADMIN_PORT),
        ("ops", ports.OPS_PORT),
    ):
        command += [f"--{listener}-listen", f"127.0.0.1:{port}"]
    return Program("keystile", command, run_dir)


def start_envoy(ports, run_dir):
    """The sample configuration as it is, but for the ports."""
    binary = envoy_binary()
    sample = (ROOT / "docker/envoy.yaml").read_text()
    moved = {10000: ports.ENVOY_PORT, 10001: ports.ECHO_PORT, 9001: ports.AUTHZ_PORT}

    def move(match):
        return f"port_value: {moved[int(match[1])]}"

    moved_config = re.sub(r"port_value: (\d+)", move, sample)
    if hasattr(ports, "AUTHZ2_PORT"):
        # Both sidecars, by turns.
        endpoint = re.search(rf"\n *- endpoint: .*port_value: {ports.AUTHZ_PORT}}}.*", moved_config)[0]
        other = endpoint.replace(str(ports.AUTHZ_PORT), str(ports.AUTHZ2_PORT))
        moved_config = moved_config.replace(endpoint, endpoint + other)
    config = run_dir / "envoy.yaml"
    config.write_text(moved_config)
    command = [binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    envoy = Program("envoy", command, run_dir)

    def listening():
        envoy.assert_running()
        return answers(ports.ENVOY_PORT)

    try:
        wait_for("Envoy does not listen", listening)
    except BaseException:
        envoy.stop()
        raise
    return envoy
