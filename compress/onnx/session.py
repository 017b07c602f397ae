"""Opening a model file in onnxruntime, with a plain answer where it cannot be done."""

from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
INPUTS = {
    "token": ("tensor(int64)", ("batch", "seq")),
    "visit": ("tensor(int32)", ("batch", "seq")),
    "age_days": ("tensor(float)", ("batch", "seq")),
    "query_age_days": ("tensor(float)", ("batch",)),
}
OUTPUTS = ("logit", "probability")
Floats = npt.NDArray[np.float32]


class Session(NamedTuple):
    """A model file, opened.

    Attributes:
        runtime: onnxruntime's own session.
        outcomes: K.
        horizons: H.
        provider: where it runs.
    """

    runtime: Any
    outcomes: int
    horizons: int
    provider: str

    def run(
        self, token: npt.NDArray[np.int64], visit: npt.NDArray[np.int32], age_days: Floats, query_age_days: Floats
    ) -> tuple[Floats, Floats]:
        """Return raw logits and calibrated probabilities, f32 [rows, K, H].

        Args:
            token: i64 [rows, length], 0 = padding.
            visit: i32 [rows, length].
            age_days: f32 [rows, length].
            query_age_days: f32 [rows].
        """
        given = dict(zip(INPUTS, (token, visit, age_days, query_age_days), strict=True))
        logit, probability = self.runtime.run(list(OUTPUTS), given)
        return logit, probability


def open_session(path: Path, *, device: str = "cpu", threads: int = 1, least: str | None = None) -> Session:
    """Open a model file.

    Args:
        path: an ONNX file with the inputs and outputs of a release.
        device: cpu or cuda; onnxruntime falls back to the CPU in silence, this does not.
        threads: threads of one call.
        least: the oldest onnxruntime that the file was made for.

    Raises:
        ValueError: two onnxruntime packages are installed or it is too old, the file cannot be opened, has other
            inputs or outputs, or the device asked for is not there.
    """
    one_runtime()
    new_enough(path, least)
    if device not in PROVIDERS:
        raise ValueError(f"device {device}: expected {' or '.join(PROVIDERS)}")
    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise ValueError(
            f"device {device}: this onnxruntime has no {PROVIDERS[device]}; install anamnesis[gpu], or use cpu"
        )
    runtime = opened(path, options_of(threads=threads), PROVIDERS[device])
    if runtime.get_providers()[0] != PROVIDERS[device]:
        raise ValueError(f"device {device}: onnxruntime fell back to the CPU; mend the driver, or use cpu")
    outcomes, horizons = checked(runtime, path)
    return Session(runtime, outcomes, horizons, PROVIDERS[device])


def options_of(*, threads: int) -> Any:  # noqa: ANN401  onnxruntime's options
    """Return options of a session: so many threads a call, and no messages."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Errors are told by exceptions; warnings of the runtime would name folders of this machine.
    options.log_severity_level = 4
    return options


def opened(path: Path, options: Any, provider: str) -> Any:  # noqa: ANN401  onnxruntime's session
    """Return onnxruntime's session of a file.

    Raises:
        ValueError: it cannot be opened: damaged, no model, or made for a newer runtime.
    """
    try:
        return onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # onnxruntime's own errors share no public base
        version = onnxruntime.__version__
        raise ValueError(f"{path}: onnxruntime {version} cannot open it ({reason(error)}); export it again") from None


def reason(error: Exception) -> str:
    """Return what onnxruntime says of a file, without the places in its own sources."""
    line = " ".join(str(error).split()).rpartition("failed:")[2]
    return (line.rpartition(") ")[2] if ".cc:" in line else line).strip()[:200] or type(error).__name__


def new_enough(path: Path, least: str | None) -> None:
    """Refuse a runtime that is older than a file asks for: it would not open it, or take a slow way in silence."""
    if least is not None and release_of(onnxruntime.__version__) < release_of(least):
        raise ValueError(
            f"{path}: asks for onnxruntime {least} or later, this is {onnxruntime.__version__}: update it, or export "
            "with --target cpu"
        )


def release_of(version: str) -> tuple[int, ...]:
    """Return major and minor of a version."""
    return tuple(int(part) for part in version.split(".")[:2])


def one_runtime() -> None:
    """Refuse two onnxruntime packages in one environment: they share a folder, and the last one installed wins."""
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if installed(name)]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} are both installed; expected one: uninstall both, then install one")


def installed(name: str) -> bool:
    """Tell whether a distribution is installed."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def checked(runtime: Any, path: Path) -> tuple[int, int]:  # noqa: ANN401  onnxruntime's session
    """Return K and H of a model with the inputs and outputs of a release."""
    found = {item.name: (item.type, tuple(item.shape)) for item in runtime.get_inputs()}
    if found != INPUTS:
        raise ValueError(f"{path}: inputs {', '.join(found)}; expected {', '.join(INPUTS)} with the axes batch and seq")
    shapes = {item.name: item.shape for item in runtime.get_outputs()}
    if tuple(shapes) != OUTPUTS or shapes["logit"] != shapes["probability"]:
        raise ValueError(f"{path}: outputs {', '.join(shapes)}; expected {' and '.join(OUTPUTS)} of one shape")
    return int(shapes["logit"][1]), int(shapes["logit"][2])
