"""Puts the configuration's own JSON Schema into values.schema.json: `keystile config schema | python3 schema.py`.

With --check it changes nothing, and ends with 1 when the two differ.
"""

import json
import pathlib
import re
import sys

PATH = pathlib.Path(__file__).with_name("values.schema.json")


def for_helm(node):
    """Helm reads patterns as Go does, which has \\x00 and not \\u0000."""
    if isinstance(node, list):
        return [for_helm(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: for_helm(value) for key, value in node.items()}
    if isinstance(node.get("pattern"), str):
        node["pattern"] = re.sub(r"\\u00([0-9a-fA-F]{2})", r"\\x\1", node["pattern"])
    return node


values = json.loads(PATH.read_text())
config = json.load(sys.stdin)
for of_a_document in ("$schema", "title"):
    config.pop(of_a_document, None)
values["properties"]["config"] = for_helm(config)
text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
if sys.argv[1:] == ["--check"]:
    if text != PATH.read_text():
        sys.exit("values.schema.json is not current: run `make chart-schema`")
else:
    PATH.write_text(text)
