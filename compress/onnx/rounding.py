"""Weights rounded to fewer bits: dense matrices to whole numbers, rows of tables to 8 bits, 4 bits or trits."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from compress import packing
from compress.hyperspherical.ternary import best_ternary
from compress.onnx.formats import Rows
from compress.sizes import Recovered, recovered

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
INT8_LEVELS = 63
"""Of dense weights. Twice 255 x 63 fits 16 bits, in which processors without VNNI add products of bytes: with 127 they
would saturate, and give other answers than newer processors."""
ROW_LEVELS = {"int8": 127, "int4": packing.MAX_NIBBLE}
SHRINKS = np.linspace(1, 0.6, 9, dtype=np.float32)
"""Of a row's largest entry: the scale of 4-bit rows is the best of these."""


def rounded(columns: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Round a matrix [R, C] to whole numbers with a scale a row; codes come back as [C, R]."""
    scale = np.abs(columns).max(axis=1, initial=0) / np.float32(INT8_LEVELS)
    codes = np.rint(columns / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    return np.ascontiguousarray(codes.T), scale.astype(np.float32)


def halved(name: str, value: Floats) -> npt.NDArray[np.float16]:
    """Return a matrix in f16, or refuse one that does not fit."""
    if float(np.abs(value).max(initial=0)) > float(np.finfo(np.float16).max):
        raise ValueError(f"{name}: holds values beyond those of fp16; keep it, or choose another target")
    return value.astype(np.float16)


def packed_rows(name: str, table: Floats, form: str) -> tuple[Rows, Floats, int]:
    """Return what is stored of a table, the table that it decodes to, and bits an entry."""
    if form == "fp16":
        half = halved(name, table)
        return Rows(form, half, None, table.shape[1]), half.astype(np.float32), 16
    if form == "trits":
        three = recovered(table)
        if three is None:
            codes, scale = best_ternary(torch.tensor(table), fit="least_squares")
            three = Recovered(codes.numpy(), scale.numpy())
        made = three.codes * three.scale[:, None]
        return Rows(form, packing.trits(three.codes), three.scale, table.shape[1]), made, 2
    codes, scale = quantised_rows(table, ROW_LEVELS[form], SHRINKS if form == "int4" else SHRINKS[:1])
    stored: Array = packing.nibbles(codes) if form == "int4" else codes
    return Rows(form, stored, scale, table.shape[1]), codes * scale[:, None], 4 if form == "int4" else 8


def quantised_rows(table: Floats, levels: int, shrinks: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return codes [V, D] and the scale of each row that loses least, of a few shares of its largest entry."""
    most = np.abs(table).max(axis=1, initial=0)
    best_codes, best_scale = np.zeros(table.shape, np.int8), np.zeros(len(table), np.float32)
    least = np.full(len(table), np.inf)
    for share in shrinks:
        scale = (share * most / levels).astype(np.float32)
        codes = np.clip(np.rint(table / np.where(scale > 0, scale, 1)[:, None]), -levels, levels).astype(np.int8)
        error = ((table - codes * scale[:, None]) ** 2).sum(1)
        better = error < least
        best_codes[better], best_scale[better], least[better] = codes[better], scale[better], error[better]
    return best_codes, best_scale
