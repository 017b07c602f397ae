"""What a release runs with: a bill of materials in CycloneDX 1.6, read from the installed packages' own metadata.

`python -m pipelines.sbom release/` compares it with what is installed here.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.progress import say

FILE = "sbom.json"
ROOT = "anamnesis"
RUNTIMES = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu"}
SPDX = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")


def installed() -> dict[str, metadata.Distribution]:
    """Return the packages that scoring and serving need, as they are installed, by canonical name.

    Requirements are followed from anamnesis itself with the extra of the onnxruntime that is here, and `serve`; what
    is optional and not installed is left out.
    """
    wanted = [(ROOT, own_extras())]
    held: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, extras = wanted.pop()
        package = found(name)
        if package is None or (name, extras) in seen:
            continue
        seen.add((name, extras))
        held[name] = package
        wanted += needed(package, extras)
    return dict(sorted(held.items()))


def own_extras() -> frozenset[str]:
    """Return the extras of anamnesis that score and serve here."""
    return frozenset({"serve", *(extra for name, extra in RUNTIMES.items() if found(name))})


def found(name: str) -> metadata.Distribution | None:
    """Return a package, None where it is not installed."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def needed(package: metadata.Distribution, extras: frozenset[str] = frozenset()) -> list[tuple[str, frozenset[str]]]:
    """Return name and extras of what a package asks for on this machine."""
    asked = [Requirement(line) for line in package.requires or ()]
    return [
        (canonicalize_name(line.name), frozenset(line.extras))
        for line in asked
        if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def bill(name: str, version: str, sha256: str, origin: Mapping[str, str]) -> dict[str, Any]:
    """Return the bill of materials; equal environments and models give equal content: it holds no date.

    Args:
        name: of the model.
        version: of the model.
        sha256: of its file.
        origin: digests of what it was made from, by name.
    """
    packages = installed()
    links = [link(name, package, packages) for name, package in packages.items()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
                "properties": [{"name": f"anamnesis:{key}", "value": text} for key, text in sorted(origin.items())],
            }
        },
        "components": [component(name, package) for name, package in packages.items()],
        "dependencies": [
            {"ref": "model", "dependsOn": [link["ref"] for link in links if f"/{ROOT}@" in link["ref"]]},
            *links,
        ],
    }


def own(reference: str) -> bool:
    """Tell whether a package URL is that of anamnesis."""
    return reference.startswith(f"pkg:pypi/{ROOT}@")


def link(name: str, package: metadata.Distribution, packages: Mapping[str, metadata.Distribution]) -> dict[str, Any]:
    """Return which packages of the bill a package asks for."""
    asked = {other for other, _ in needed(package, own_extras() if name == ROOT else frozenset())}
    return {"ref": reference(package), "dependsOn": [reference(held) for key, held in packages.items() if key in asked]}


def reference(package: metadata.Distribution) -> str:
    """Return the package URL, which is its name throughout the bill."""
    return f"pkg:pypi/{canonicalize_name(package.metadata['Name'])}@{package.version}"


def component(name: str, package: metadata.Distribution) -> dict[str, Any]:
    """Return one package as a component."""
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": package.version,
        "purl": reference(package),
    }
    stated = licence(package)
    return {**made, "licenses": stated} if stated else made


def licence(package: metadata.Distribution) -> list[dict[str, Any]]:
    """Return the licence as the package states it: an SPDX expression, else a short name, else nothing."""
    told = package.metadata
    expressions = told.get_all("License-Expression") or []
    if expressions and SPDX.fullmatch(expressions[0]):
        return [{"expression": expressions[0]}]
    classified = [line.rsplit(" :: ", 1)[-1] for line in told.get_all("Classifier") or () if line.startswith("License")]
    names = classified or [line for line in told.get_all("License") or () if line and "\n" not in line]
    return [{"license": {"name": name}} for name in sorted(set(names)) if len(name) < 100]


def differences(content: Mapping[str, Any]) -> list[str]:
    """Return in what the installed packages differ from a bill: one line a package; empty where they are the same.

    Raises:
        ValueError: it is no bill of materials of a release.
    """
    try:
        stated = {str(held["name"]): str(held["version"]) for held in content["components"]}
    except (KeyError, TypeError):
        raise ValueError(f"not a bill of materials of anamnesis; expected {FILE} of a release") from None
    here = {name: package.version for name, package in installed().items()}
    return [
        f"{name}: {stated.get(name, 'not listed')} in the bill, {here.get(name, 'not installed')} here"
        for name in sorted(stated.keys() | here.keys())
        if stated.get(name) != here.get(name)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare a release's bill with this environment; 3 where they differ."""
    parser = argparse.ArgumentParser("python -m pipelines.sbom", description=__doc__)
    parser.add_argument("release", type=Path, help="made by anamnesis export")
    path = parser.parse_args(argv).release / FILE
    if not path.is_file():
        parser.error(f"{path}: no such file; expected a release with a bill of materials")
    try:
        lines = differences(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        parser.error(f"{path}: {error}")
    for line in lines:
        say(line)
    say(f"{path}: {len(lines)} packages differ" if lines else f"{path}: the installed packages are those listed")
    return 3 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
