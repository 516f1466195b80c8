"""`make run`: a real Envoy asks Keystile about real requests, and each step says what to see in it.

Python's standard library only. TOUR=only ends after the tour; the exit code says whether every step came out right.
REDIS=1 starts a real Redis, a control plane and two sidecars in place of one `keystile dev`.
"""

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import echo
from fleet import Fleet
from programs import (
    ROOT,
    Ports,
    TourError,
    answers,
    keystile_binary,
    start_envoy,
    start_keystile,
    wait_for,
)

# Ctrl-C, a supervisor, a terminal that closes.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.reason = response.reason
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        text = response.read().decode(errors="replace")
        try:
            self.body = json.loads(text)
        except json.JSONDecodeError:
            self.body = {}

    @property
    def code(self):
        return self.body.get("code")

    def upstream(self, name):
        """All values of one header that the application received."""
        return [value for n, value in self.body.get("headers", []) if n.lower() == name]


class Tour:
    def __init__(self, ports, tenant, tokens, has_fleet):
        self.has_fleet = has_fleet
        self.ports = ports
        self.tenant = tenant
        self.tokens = tokens
        self.steps = 0
        self.failed = 0

    def title(self, text):
        self.steps += 1
        print(f"\n{paint(1, f'{self.steps}. {text}')}")

    def command(self, *words):
        print(f"   {paint(36, '$ ' + shlex.join(words))}")

    def see(self, holds, text):
        self.failed += not holds
        print(f"   {paint(32, '✓') if holds else paint(31, '✗')} {text}", flush=True)

    def get(self, path, headers=()):
        url = f"http://127.0.0.1:{self.ports.ENVOY_PORT}{path}"
        flags = [word for name, value in headers for word in ("-H", f"{name}: {value}")]
        self.command("curl", "-i", *flags, url)
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.ENVOY_PORT, timeout=10)
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = Answer(connection.getresponse())
        connection.close()
        self.show(answer)
        return answer

    def show(self, answer):
        print(f"     HTTP {answer.status} {answer.reason}")
        if answer.status == 200:
            print("     the application received:")
            for name, value in answer.body.get("headers", []):
                if name.lower().startswith(("x-tenant-", "x-api-key")):
                    print(f"       {name.lower()}: {value}")
            return
        for name in ("www-authenticate", "content-type"):
            if name in answer.headers:
                print(f"     {name}: {answer.headers[name]}")
        print(f"     {json.dumps(answer.body)}")

    def keystile(self, *args):
        """The client as an operator uses it."""
        self.command(str(shown(keystile_binary())), *args)
        done = subprocess.run(
            [str(keystile_binary()), *args],
            env={**os.environ, **self.client_environment()},
            capture_output=True,
            text=True,
            timeout=30,
        )
        if done.returncode != 0:
            raise TourError(f"keystile {args[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def client_environment(self):
        return {
            "KEYSTILE_ADDR": f"http://127.0.0.1:{self.ports.ADMIN_PORT}",
            "KEYSTILE_API_KEY": self.tokens["admin"],
        }

    def refused(self, answer, status, code):
        self.see(answer.status == status and answer.code == code, f"refused: {status} {code}")

    def walk(self):
        key = ("x-api-key", self.tokens["user"])
        self.title("A request without a key is refused by Envoy before the application sees it")
        answer = self.get("/orders")
        self.refused(answer, 401, "missing_api_key")
        self.see("www-authenticate" in answer.headers, "www-authenticate says what is missing")

        self.title("With a key it passes, and the application learns who asks")
        answer = self.get("/orders", [key])
        self.see(answer.status == 200, "allowed")
        self.see(answer.upstream("x-tenant-id") == [self.tenant], f"x-tenant-id is {self.tenant}")
        self.see(len(answer.upstream("x-api-key-id")) == 1, "x-api-key-id names the key")
        self.see(answer.upstream("x-api-key") == [], "the key itself went no further than Envoy")

        self.title("A forged x-tenant-id is overwritten")
        answer = self.get("/orders", [key, ("x-tenant-id", "forged"), ("x_tenant_id", "forged")])
        self.see(answer.upstream("x-tenant-id") == [self.tenant], f"x-tenant-id is {self.tenant}, once")
        self.see(answer.upstream("x_tenant_id") == [], "an alias with underscores is gone")

        self.title("/export asks for a feature that this tenant does not have")
        answer = self.get("/export", [key])
        self.refused(answer, 403, "feature_not_enabled")
        self.see("export" in str(answer.body.get("detail")), "the answer names the feature")

        self.title("A new key works at once")
        for name, value in self.client_environment().items():
            self.command("export", f"{name}={value}")
        self.walk_revocation()

    def walk_revocation(self):
        args = ("key", "create", self.tenant, "--name", "tour", "--owner", "visitor", "--role", "user", "-o", "json")
        made = json.loads(self.keystile(*args))
        key = ("x-api-key", made["plaintext"])
        answer = self.get("/orders", [key])
        self.see(answer.status == 200, "allowed")
        key_id = (answer.upstream("x-api-key-id") or ["?"])[0]

        if self.has_fleet:
            return self.walk_fleet(key, key_id)
        self.title("Revoked, it is refused at the very next request")
        self.keystile("key", "revoke", self.tenant, key_id)
        answer = self.get("/orders", [key])
        self.refused(answer, 401, "invalid_api_key")

    def walk_fleet(self, key, key_id):
        self.title("Two sidecars answer Envoy by turns, and the control plane knows them")
        table = self.keystile("fleet")
        print("".join(f"     {line}\n" for line in table.splitlines()), end="")
        sidecars = json.loads(self.keystile("fleet", "-o", "json"))["sidecars"]
        self.see(len(sidecars) == 2, "both are live")
        answers = [self.get("/orders", [key]).status for _ in range(2)]
        self.see(answers == [200, 200], "allowed by both")

        self.title("Revoked, it is refused by both: the command returns when each has confirmed it")
        self.keystile("key", "revoke", self.tenant, key_id, "--wait", "5s")
        for _ in range(2):
            self.refused(self.get("/orders", [key]), 401, "invalid_api_key")

    def farewell(self):
        url = f"http://127.0.0.1:{self.ports.ENVOY_PORT}"
        key = shlex.quote(f"x-api-key: {self.tokens['user']}")
        print(f"\n{paint(1, 'Everything is up. To try in another terminal:')}")
        for flags, path, says in (
            (f"-H {key}", "/orders", "allowed"),
            (f"-H {shlex.quote('authorization: Bearer ' + self.tokens['user'])}", "/orders", "allowed, as bearer"),
            ("", "/public", "allowed without a key"),
            ("-H 'x-api-key: nonsense'", "/public", "a bad key is never waved through"),
        ):
            print(f"   curl -i {flags + ' ' if flags else ''}{url}{path}   # {says}")
        for name, value in self.client_environment().items():
            print(f"   export {name}={value}")
        print(f"   {shown(keystile_binary())} key list {self.tenant}")
        print(f"   curl -s http://127.0.0.1:{self.ports.OPS_PORT}/metrics")
        print("Ctrl-C stops all of it.", flush=True)


def shown(path):
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def start_dev(ports, run_dir, programs):
    keystile = start_keystile(ports, run_dir)
    programs.append(keystile)
    made = keystile.first_json()

    def listening():
        keystile.assert_running()
        return all(answers(port) for port in (ports.AUTHZ_PORT, ports.ADMIN_PORT))

    wait_for("Keystile does not listen", listening)
    return made


def run(programs):
    has_fleet = os.environ.get("REDIS", "") not in ("", "0")
    ports = Ports(has_fleet)
    run_dir = Path(os.environ.get("TOUR_DIR") or ROOT / ".run")
    run_dir.mkdir(parents=True, exist_ok=True)
    server = echo.start(ports.ECHO_PORT)
    made = Fleet(ports, run_dir, programs).start() if has_fleet else start_dev(ports, run_dir, programs)
    programs.append(start_envoy(ports, run_dir))
    print(
        f"Envoy listens on port {ports.ENVOY_PORT}, asks Keystile on {ports.AUTHZ_PORT},"
        f" and sends what is allowed to an application on {ports.ECHO_PORT}."
    )
    tour = Tour(ports, made["tenant"], made["tokens"], has_fleet)
    tour.walk()
    if tour.failed:
        print(f"\n{tour.failed} things did not come out as they should; logs are in {shown(run_dir)}/")
    if os.environ.get("TOUR") == "only":
        server.shutdown()
        return 1 if tour.failed else 0
    tour.farewell()
    while True:
        for program in programs:
            program.assert_running()
        time.sleep(0.5)


def main():
    def stop(*_):
        raise KeyboardInterrupt

    for number in ENDS:
        signal.signal(number, stop)
    programs = []
    try:
        return run(programs)
    except TourError as err:
        print(f"{paint(31, 'cannot go on:')} {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopping")
        return 0
    finally:
        # Impatience must not leave a program behind.
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        for program in reversed(programs):
            program.stop()


if __name__ == "__main__":
    sys.exit(main())
