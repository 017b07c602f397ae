"""Code systems: patterns over codes, and the ancestors that a code falls back to."""

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

# Chapters of ICD-10-CM by the first three characters, and of ICD-9-CM by number (CMS tabular lists).
ICD10_CHAPTERS = (
    ("A00", "B99"), ("C00", "D49"), ("D50", "D89"), ("E00", "E89"), ("F01", "F99"), ("G00", "G99"), ("H00", "H59"),
    ("H60", "H95"), ("I00", "I99"), ("J00", "J99"), ("K00", "K95"), ("L00", "L99"), ("M00", "M99"), ("N00", "N99"),
    ("O00", "O9A"), ("P00", "P96"), ("Q00", "Q99"), ("R00", "R99"), ("S00", "T88"), ("U00", "U85"), ("V00", "Y99"),
    ("Z00", "Z99"),
)  # fmt: skip
ICD9_CHAPTERS = (
    (1, 139), (140, 239), (240, 279), (280, 289), (290, 319), (320, 389), (390, 459), (460, 519), (520, 579),
    (580, 629), (630, 679), (680, 709), (710, 739), (740, 759), (760, 779), (780, 799), (800, 999),
)  # fmt: skip
ATC_LEVELS = (5, 4, 3, 1)
# ICD-10-PCS falls back to section, body system and operation; ICD-9 procedures to their category.
PROCEDURE_LEVELS: Mapping[str, int] = {"ICD10PCS": 3, "ICD9PCS": 2, "ICD9PROC": 2}
FUSED = re.compile(r"(.+)#q\d+", re.DOTALL)
HIERARCHICAL = re.compile(r"(ICD\d*[A-Z]*|ATC)//")
WILD = re.compile(r"[*?]")


def distinct(codes: pl.Series) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Split a column into its distinct codes and, for every row, a position in them.

    Args:
        codes: str or categorical [N], without nulls. Categorical is the cheaper one to ask twice.

    Returns:
        The distinct codes, in no order that means anything, and positions i32 [N].
    """
    held = codes if codes.dtype == pl.Categorical else codes.cast(pl.Categorical)
    unique = held.unique(maintain_order=True)
    physical = unique.to_physical().to_numpy()
    place = np.zeros(int(physical.max(initial=0)) + 1, dtype=np.int32)
    place[physical] = np.arange(len(physical), dtype=np.int32)
    return unique.cast(pl.String).to_list(), place[held.to_physical().to_numpy()]


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a code pattern.

    `*` stands for any characters and `?` for one. A dot of an ICD code may be left out on either side. An ICD or
    ATC code without either stands for itself and its children, which are the codes that begin with it.
    """
    escaped = re.escape(plain(pattern)).replace(r"\*", ".*").replace(r"\?", ".")
    tree = HIERARCHICAL.match(pattern) and not WILD.search(pattern)
    return re.compile(f"{escaped}.*" if tree else escaped, re.DOTALL)


@lru_cache(maxsize=1 << 17)
def plain(code: str) -> str:
    """Return a code as patterns see it: ICD codes without their dot."""
    system, separator, body = code.partition("//")
    return f"{system}//{body.replace('.', '')}" if separator and system.startswith("ICD") else code


def match(
    codes: Iterable[str], patterns: Iterable[str], parents: Mapping[str, tuple[str, ...]] | None = None
) -> list[bool]:
    """Tell of each code whether any pattern matches it whole, or matches one of its given parents.

    Args:
        codes: distinct codes, such as ICD10CM//E11.9.
        patterns: such as ICD10CM//E11 (with its children), ICD10CM//E11*, VISIT//IP//START, LOINC//*.
        parents: parent codes by code, from the source's metadata; a pattern also takes their descendants.
    """
    wanted = list(patterns)
    # Most patterns name one code: a set answers them, and only the others are tried one by one.
    exact = {pattern for pattern in wanted if not (WILD.search(pattern) or HIERARCHICAL.match(pattern))}
    expressions = [compiled(pattern) for pattern in wanted if pattern not in exact]

    def hit(code: str) -> bool:
        return code in exact or any(expression.fullmatch(plain(code)) for expression in expressions)

    if not parents:
        return [hit(code) for code in codes]
    return [hit(code) or any(hit(above) for above in given_ancestors(code, parents)) for code in codes]


def given_ancestors(code: str, parents: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the given parents of a code, their parents and so on, nearest first; a cycle ends where it began."""
    found: dict[str, None] = {}
    frontier = [code]
    while frontier:
        frontier = [above for below in frontier for above in parents.get(below, ()) if above not in found]
        found.update(dict.fromkeys(frontier))
    found.pop(code, None)
    return tuple(found)


def ancestors_of(code: str, parents: Mapping[str, tuple[str, ...]] | None = None) -> tuple[str, ...]:
    """Return a code's ancestors, nearest first, itself left out.

    A value token falls back to its bare code; ICD codes to their three-character category and its chapter;
    ATC codes to their shorter levels; any code to the parents that the source's metadata give.

    Args:
        code: a code or a value token such as LOINC//718-7#q3.
        parents: parent codes by code, from metadata.
    """
    fused = FUSED.fullmatch(code)
    if fused:
        return (fused[1], *ancestors_of(fused[1], parents))
    derived = derived_ancestors(code)
    given = given_ancestors(code, parents or {})
    inherited = (above for parent in given for above in ancestors_of(parent))
    seen = dict.fromkeys((*derived, *given, *inherited))
    seen.pop(code, None)
    return tuple(seen)


def derived_ancestors(code: str) -> tuple[str, ...]:
    """Return the ancestors that a code's own spelling tells; a chapter, written as a range, has none."""
    system, _, body = code.partition("//")
    if "-" in body:
        return ()
    if system in {"ICD10CM", "ICD10"}:
        return icd10_ancestors(system, body)
    if system in {"ICD9CM", "ICD9"}:
        return icd9_ancestors(system, body)
    if system in PROCEDURE_LEVELS:
        bare, length = body.replace(".", ""), PROCEDURE_LEVELS[system]
        return (f"{system}//{bare[:length]}",) if len(bare) > length else ()
    if system == "ATC":
        return tuple(f"ATC//{body[:length]}" for length in ATC_LEVELS if length < len(body))
    return ()


def icd10_ancestors(system: str, body: str) -> tuple[str, ...]:
    """Return the category and the chapter of an ICD-10-CM code."""
    category = body.replace(".", "")[:3].upper()
    found = [f"{system}//{category}"] if len(body.replace(".", "")) > 3 else []
    chapter = next((f"{low}-{high}" for low, high in ICD10_CHAPTERS if low <= category <= high), None)
    return (*found, *([f"{system}//{chapter}"] if chapter else []))


def icd9_ancestors(system: str, body: str) -> tuple[str, ...]:
    """Return the category and the chapter of an ICD-9-CM code; E codes have a category of four characters."""
    plain_body = body.replace(".", "").upper()
    length = 4 if plain_body.startswith("E") else 3
    category = plain_body[:length]
    found = [f"{system}//{category}"] if len(plain_body) > length else []
    if category[:1] in {"E", "V"}:
        return (*found, f"{system}//{category[0]}")
    number = int(category) if category.isdigit() else 0
    chapter = next((f"{low:03d}-{high:03d}" for low, high in ICD9_CHAPTERS if low <= number <= high), None)
    return (*found, *([f"{system}//{chapter}"] if chapter else []))
