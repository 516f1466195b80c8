"""manifests.py VERSION,VERSION FOLDER: holds every manifest in FOLDER/*.yaml against the schemas of these Kubernetes versions.

Strictly: a field that the version does not know is an error, and so is a kind that has no schema here, unless it is one
of KINDS_OF_OTHERS. Prints {file: [document]} as JSON, and the mistakes on stderr.
"""

import json
import pathlib
import sys
import warnings

import kubernetes_validate
import yaml

# Their schemas are no part of Kubernetes: crds/check.mjs holds them.
KINDS_OF_OTHERS = {
    "cert-manager.io/v1 Certificate",
    "cert-manager.io/v1 Issuer",
    "monitoring.coreos.com/v1 ServiceMonitor",
    "monitoring.coreos.com/v1 PrometheusRule",
}


def mistakes(document, version):
    kind = f"{document.get('apiVersion')} {document.get('kind')}"
    if kind in KINDS_OF_OTHERS:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kubernetes_validate.validate(document, version, strict=True)
    except (kubernetes_validate.ValidationError, UserWarning, kubernetes_validate.SchemaNotFoundError) as error:
        where = "/".join(str(part) for part in getattr(error, "path", ()))
        return [f"{kind}: {where}: {getattr(error, 'message', error)}"]
    return []


def main(versions, folder):
    found, seen, files = [], set(), {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        documents = [d for d in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if d]
        files[path.stem] = documents
        for document in documents:
            text = json.dumps(document, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            for version in versions:
                found += [f"{path.stem} on {version}: {what}" for what in mistakes(document, version)]
    json.dump(files, sys.stdout)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].split(","), sys.argv[2]))
