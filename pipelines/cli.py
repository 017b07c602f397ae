"""The command line: `anamnesis VERB`, each verb loaded only when it is called."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

VERBS = {
    "demo": "the main job on a simulated cohort, start to end",
    "simulate": "records with known true risk, as MEDS",
    "prepare": "raw records to a cohort: checked, tokenised, labelled",
    "pretrain": "train the denoising encoder-decoder on a cohort",
    "finetune": "train the pretrained network for all outcomes at once",
    "evaluate": "tables and a report of a run or a release on a cohort",
    "robustness": "what corrupted and attacked records cost a model",
    "compress": "a smaller run, refused where it lost more than its budget",
    "export": "one ONNX file with its vocabulary, manifest and golden pair",
    "score": "calibrated probabilities for raw records, without torch",
    "serve": "a release behind HTTP and gRPC, without torch",
    "documents": "many structured questions over long documents",
    "rethink": "answers weighed by retrieved evidence, which they show",
    "monitor": "who is scored and how right the answers are, against what was learnt from",
    "doctor": "what is missing or broken in this environment",
}
DONE, BUG, BAD_INPUT, REJECTED, STOPPED = 0, 1, 2, 3, 75


def usage() -> str:
    """Return the overview of verbs."""
    verbs = "\n".join(f"  {verb:<10} {line}" for verb, line in VERBS.items())
    return (
        f"usage: anamnesis VERB [ARGUMENTS]\n\n{verbs}\n\n"
        "`anamnesis VERB --help` explains one, with examples.\n"
        "Exit codes: 0 done, 2 bad input or setting, 3 done with rows rejected and listed,\n"
        "75 stopped early (run again to go on), 1 a bug."
    )


def module_of(verb: str) -> Any:  # noqa: ANN401  a module with a `main`
    """Return what runs a verb: pipelines.VERB, or pipelines.VERB.cli where the verb is a package."""
    module = importlib.import_module(f"pipelines.{verb}")
    return importlib.import_module(f"pipelines.{verb}.cli") if hasattr(module, "__path__") else module


def describe(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code.

    ValueError and OSError are answers to a user (one line, exit 2); anything else is a bug and shows its
    trace. ANAMNESIS_TRACE=1 shows the trace of both.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())
        return DONE
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"anamnesis {version('anamnesis')}")
        return DONE
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(f"anamnesis: no verb '{verb}'; expected one of {', '.join(VERBS)}", file=sys.stderr)
        return BAD_INPUT
    try:
        return int(module_of(verb).main(rest))
    except KeyboardInterrupt:
        print(f"anamnesis {verb}: stopped by the user", file=sys.stderr)
        return STOPPED
    except (ValueError, OSError) as error:
        if os.environ.get("ANAMNESIS_TRACE"):
            traceback.print_exc()
        print(f"anamnesis {verb}: {describe(error)}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
