"""Code systems: patterns over codes, and the ancestors that a code falls back to."""

import re
from collections.abc import Iterable, Mapping
from functools import cache

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


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a code pattern.

    `*` stands for any characters and `?` for one; a dot of an ICD code may be left out on either side.
    """
    system, separator, body = pattern.partition("//")
    if separator and system.startswith("ICD"):
        pattern = f"{system}//{body.replace('.', '')}"
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(escaped, re.DOTALL)


def plain(code: str) -> str:
    """Return a code as patterns see it: ICD codes without their dot."""
    system, separator, body = code.partition("//")
    return f"{system}//{body.replace('.', '')}" if separator and system.startswith("ICD") else code


def match(codes: Iterable[str], patterns: Iterable[str]) -> list[bool]:
    """Tell of each code whether any pattern matches it whole.

    Args:
        codes: distinct codes, such as ICD10CM//E11.9.
        patterns: such as ICD10CM//E11* (a dot may be left out), VISIT//IP//START, LOINC//*.
    """
    expressions = [compiled(pattern) for pattern in patterns]
    return [any(expression.fullmatch(plain(code)) for expression in expressions) for code in codes]


def ancestors_of(code: str, parents: Mapping[str, tuple[str, ...]] | None = None) -> tuple[str, ...]:
    """Return a code's ancestors, nearest first, itself left out.

    A value token falls back to its bare code; ICD codes to their three-character category and its chapter;
    ATC codes to their shorter levels; any code to the parents that the source's metadata give.

    Args:
        code: a code or a value token such as LOINC//718-7#q3.
        parents: parent codes by code, from metadata.
    """
    bare, mark, _ = code.rpartition("#q")
    if mark:
        return (bare, *ancestors_of(bare, parents))
    given = list((parents or {}).get(code, ()))
    system, _, body = code.partition("//")
    derived: tuple[str, ...] = ()
    if system in {"ICD10CM", "ICD10"}:
        derived = icd10_ancestors(system, body)
    elif system in {"ICD9CM", "ICD9"}:
        derived = icd9_ancestors(system, body)
    elif system == "ATC":
        derived = tuple(f"ATC//{body[:length]}" for length in ATC_LEVELS if length < len(body))
    seen = dict.fromkeys((*derived, *given))
    for parent in given:
        seen.update(dict.fromkeys(ancestors_of(parent, {k: v for k, v in (parents or {}).items() if k != code})))
    seen.pop(code, None)
    return tuple(seen)


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
