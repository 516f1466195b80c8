"""`make bench-revocation`, second half: how long a revoked key still passes, through real Envoys.

One control plane, three sidecars, an Envoy before each, one Redis, and requests at all of them meanwhile. For each of 200
keys: from the start of RevokeKey (gRPC, with wait) until each Envoy refuses the key, and until the call is answered.
"""

import http.client
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import grpc

import echo
from fleet import TENANT, Fleet
from programs import ROOT, TourError, free_port_near, start_envoy

sys.path.insert(0, str(ROOT / "proto"))
key_pb, key_rpc = grpc.protos_and_services("keystile/admin/v1/key.proto")
duration_pb = grpc.protos("google/protobuf/duration.proto")

KEYS = 200
SIDECARS = 3
# A second, at each Envoy.
LOAD = 300
PATIENCE = 10
GOAL_MS = 20


class Ports(SimpleNamespace):
    """A free port for each name, when it is first asked for."""

    next = 20000

    def __getattr__(self, name):
        if not name.isupper():
            raise AttributeError(name)
        port = free_port_near(Ports.next)
        Ports.next = port - 99
        setattr(self, name, port)
        return port


def status(connection, token):
    connection.request("GET", "/orders", headers={"x-api-key": token})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def load(port, token, stop, counts):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    due = time.monotonic()
    while not stop.is_set():
        if status(connection, token) != 200:
            counts["refused"] = counts.get("refused", 0) + 1
        due += 1 / LOAD
        time.sleep(max(0, due - time.monotonic()))


def refused_after(port, token, begun, times):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    while time.monotonic() < begun + PATIENCE:
        asked = time.monotonic()
        if status(connection, token) == 401:
            times.append(max(0, asked - begun))
            return
        time.sleep(0.001)
    raise TourError(f"the Envoy on {port} still lets the key through")


def revoke_all(channel, admin, envoys):
    keys = key_rpc.KeyServiceStub(channel)
    metadata = [("authorization", f"Bearer {admin}")]
    refused, answered = [], []
    for number in range(KEYS):
        new = key_pb.Key(display_name=f"key {number}", owner=f"user-{number}")
        made = keys.CreateKey(
            key_pb.CreateKeyRequest(parent=f"tenants/{TENANT}", key=new), metadata=metadata, timeout=PATIENCE
        )
        for port in envoys:
            if status(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE), made.plaintext) != 200:
                raise TourError("a new key does not work")
        times = []
        begun = time.monotonic()
        polls = [threading.Thread(target=refused_after, args=(port, made.plaintext, begun, times)) for port in envoys]
        for poll in polls:
            poll.start()
        wait = duration_pb.Duration(seconds=PATIENCE)
        done = keys.RevokeKey(
            key_pb.RevokeKeyRequest(name=made.key.name, wait=wait), metadata=metadata, timeout=2 * PATIENCE
        )
        answered.append(time.monotonic() - begun)
        if done.unconfirmed_sidecars:
            raise TourError(f"not confirmed by {list(done.unconfirmed_sidecars)}")
        for poll in polls:
            poll.join()
        if len(times) != len(envoys):
            raise TourError("an Envoy did not refuse the key")
        refused.append(max(times))
    return refused, answered


def show(what, times):
    times = sorted(1000 * t for t in times)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100 - 1]
    print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {times[-1]:.1f} ms", flush=True)
    return p99


def measure(run_dir, programs, loads, stop):
    ports = Ports()
    server = echo.start(ports.ECHO_PORT)
    made = Fleet(ports, run_dir, programs, SIDECARS).start()
    envoys = []
    with multiprocessing.Manager() as manager:
        counts = manager.dict()
        for number in range(1, SIDECARS + 1):
            own = SimpleNamespace(
                ENVOY_PORT=getattr(ports, f"ENVOY{number}_PORT"),
                ECHO_PORT=ports.ECHO_PORT,
                AUTHZ_PORT=getattr(ports, f"AUTHZ{number}_PORT"),
            )
            of_envoy = run_dir / f"envoy-{number}"
            of_envoy.mkdir()
            programs.append(start_envoy(own, of_envoy))
            envoys.append(own.ENVOY_PORT)
            args = (own.ENVOY_PORT, made["tokens"]["user"], stop, counts)
            loads.append(multiprocessing.Process(target=load, args=args))
            loads[-1].start()
        with grpc.insecure_channel(f"127.0.0.1:{ports.ADMIN_PORT}") as channel:
            refused, answered = revoke_all(channel, made["tokens"]["admin"], envoys)
        stop.set()
        for one in loads:
            one.join()
        print(f"{KEYS} keys, {SIDECARS} sidecars behind an Envoy each, {LOAD} requests a second at each meanwhile")
        p99 = show("until every Envoy refuses the key (asked every millisecond)", refused)
        show("until RevokeKey with wait is answered", answered)
        print(f"requests of the load that were refused: {counts.get('refused', 0)}")
        server.shutdown()
        return 0 if p99 < GOAL_MS and not counts.get("refused") else 1


def main():
    programs, loads, stop = [], [], multiprocessing.Event()
    with tempfile.TemporaryDirectory() as run_dir:
        try:
            return measure(Path(run_dir), programs, loads, stop)
        except TourError as err:
            print(f"cannot go on: {err}", file=sys.stderr)
            return 1
        finally:
            stop.set()
            for one in loads:
                one.join()
            for program in reversed(programs):
                program.stop()


if __name__ == "__main__":
    sys.exit(main())
