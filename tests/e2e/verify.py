"""Verifies tokens with the code that docs/SIGNED_CONTEXT.md shows, and nothing of Keystile's.

verify.py JWKS_URL ISSUER AUDIENCE, then a line of JSON a question on stdin: {token, method, authority, path}, and
`later`: seconds that have passed meanwhile. Each is answered by a line: {claims} or {refused: name of the exception}.
"""

import datetime
import json
import re
import sys
from pathlib import Path
from unittest import mock

import jwt


def documented():
    """What the documentation's Python defines."""
    text = (Path(__file__).resolve().parents[2] / "docs/SIGNED_CONTEXT.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names = {}
    exec(compile(code, "docs/SIGNED_CONTEXT.md", "exec"), names)
    return names


def clock(later):
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=later)

    return mock.patch("jwt.api_jwt.datetime", Later)


def answer(context, token, method, authority, path, later=0):
    try:
        with clock(later):
            return {"claims": context.of(token, method, authority, path)}
    except jwt.PyJWTError as refusal:
        return {"refused": type(refusal).__name__}


def main():
    context = documented()["TenantContext"](*sys.argv[1:])
    for line in sys.stdin:
        print(json.dumps(answer(context, **json.loads(line))), flush=True)


main()
