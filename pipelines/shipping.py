"""What a release carries beside the model for those who install it: Triton's folder and the bill of materials."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from compress.onnx import triton
from pipelines import artefacts, sbom

TRITON = "triton"


def ship(folder: Path, model: Path, shape: tuple[int, int], origin: Mapping[str, str], *, device: str = "cpu") -> None:
    """Write triton/ and sbom.json; both follow from the model's file and what is installed.

    Args:
        folder: the release being made.
        model: its ONNX file.
        shape: outcomes and horizons, K and H.
        origin: digests of what the model was made from, by name.
        device: where Triton is to run it, cpu or cuda.
    """
    triton.write(folder / TRITON, model, triton.config(*shape, triton.Settings(device=device)))
    content = sbom.bill(triton.NAME, version("anamnesis"), artefacts.digest(model), origin)
    artefacts.write_json(folder / sbom.FILE, content)
