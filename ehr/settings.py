"""Settings in YAML: a file read whole, with each key once."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ehr.events import first_line


class Unique(yaml.SafeLoader):
    """Loads YAML, refusing a key that stands twice, of which the plain loader takes the last without a word."""


def unique_mapping(loader: Unique, node: yaml.MappingNode) -> dict[Hashable, object]:
    """Return a mapping whose keys differ."""
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise yaml.MarkedYAMLError(
                problem=f"key {key} stands there twice", problem_mark=node.value[i][0].start_mark
            )
    return loader.construct_mapping(node, deep=True)


Unique.add_constructor("tag:yaml.org,2002:map", unique_mapping)


def read(path: Path, expected: str) -> Any:  # noqa: ANN401  whatever stands there
    """Return what a YAML file holds.

    Args:
        path: the file, UTF-8.
        expected: what it should be, for messages.

    Raises:
        ValueError: it cannot be read, or is no YAML, or a key stands there twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Unique)
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or "cannot be read"
        raise ValueError(f"{path}: {why}; expected {expected}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; expected {expected}; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}: not YAML{line} ({error.problem}); expected {expected}") from None
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a day that no month has.
        raise ValueError(f"{path}: not YAML ({first_line(error)}); expected {expected}") from None
