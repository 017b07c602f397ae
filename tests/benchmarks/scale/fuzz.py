"""Malformed requests against a server: `python -m tests.benchmarks.scale.fuzz` (after `make demo`)."""

import argparse
import asyncio
import json
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import polars as pl

from pipelines.release import open_release
from tests.benchmarks.harness import ROOT, RUNS, Figure
from tests.benchmarks.scale import rpcs
from tests.benchmarks.scale.malformed import INFER, PLANTED, Seeds, Sent, requests
from tests.pipelines.serve import questions
from tests.pipelines.serve.hooks import call, response
from tests.pipelines.serve.servers import serving, stop

COMMAND = "python -m tests.benchmarks.scale.fuzz"
DEMO = ROOT / "runs" / "demo" / "release"
TOOL = ROOT / "runs" / "fuzz" / "bin" / "schemathesis"
NUMBER, CALLS, SEED, CLIENTS, SECONDS = 12_800, 4_000, 9, 24, 20.0
# So many that 10,000 are refused: some of what is changed is still a right request, and is answered.
LIMITS = ("--body-seconds", "1", "--header-seconds", "1", "--idle-seconds", "1", "--body-bytes", str(2**20))
SHOWN = 5


class Answer(NamedTuple):
    """What came back: status (0 where the connection was closed without one) and all bytes."""

    status: int
    data: bytes


class Outcome(NamedTuple):
    """What a run of malformed requests did.

    Attributes:
        statuses: answers by kind of request and status.
        errors: answers of 5xx other than 503, and whole requests without an answer.
        leaks: answers that say a planted word.
    """

    statuses: Counter[tuple[str, int]]
    errors: list[Sent]
    leaks: list[Sent]


def seeds(release: Path, url: str) -> Seeds:
    """Return valid requests about an artificial patient of a release."""
    events = pl.read_parquet(release / "golden.parquet")
    one = events.filter(pl.col("subject_id") == events["subject_id"][0] + 3)
    rows = one.with_columns(pl.col("time").dt.to_string("iso:strict")).to_dicts()
    patient = {"resourceType": "Patient", "id": "a", "gender": "female", "birthDate": "1950-02-03"}
    held = [
        {
            "resourceType": "Condition",
            "id": f"c{at}",
            "subject": {"reference": "Patient/a"},
            "code": {"coding": [dict(zip(("system", "code"), row["code"].partition("//")[::2], strict=True))]},
            "onsetDateTime": row["time"] + "Z",
        }
        for at, row in enumerate(rows)
        if row["time"] and "//" in row["code"]
    ]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in (patient, *held)]}
    tensors = questions.arrays(open_release(release, trusted=True), 2, 16)
    card = "01234567-89ab-cdef-0123-456789abcdef"
    bodies = {
        "/score": bundle,
        "/score?at=2030-01-01": {"events": rows},
        "/cds-services/patient-view": call(bundle),
        "/cds-services/patient-view/feedback": response(card),
        INFER: questions.as_json(tensors),
    }
    body, headers = questions.as_bytes(tensors)
    described = httpx.get(f"{url}/openapi.json", timeout=SECONDS).json()
    return Seeds(bodies, (body, int(headers[questions.HEADER])), described)


async def exchange(port: int, sent: Sent) -> Answer:
    """Send one request on a connection of its own and return what comes back."""
    found = b""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(sent.data)
                await writer.drain()
                while part := await reader.read(1 << 16):
                    found += part
            finally:
                writer.close()
    except (OSError, TimeoutError):
        pass
    # Leave to send the body is no answer yet.
    word = found.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")[9:12]
    return Answer(int(word) if found.startswith(b"HTTP/1.") and word.isdigit() else 0, found)


def leaks(answer: Answer) -> bool:
    """Tell whether an answer says a planted word, where the protocol does not ask for it.

    A right answer names its patient (and the Open Inference Protocol gives back a request's id): these are left out.
    """
    if PLANTED.encode() not in answer.data:
        return False
    if answer.status != 200:
        return True
    try:
        held = json.loads(answer.data.partition(b"\r\n\r\n")[2])
    except ValueError:
        return True
    return PLANTED in json.dumps({key: held[key] for key in held if key not in {"patient", "id", "subject"}})


async def run(port: int, sending: Iterator[Sent]) -> Outcome:
    """Send requests, a few at a time, and look at every answer."""
    found = Outcome(Counter(), [], [])

    async def client() -> None:
        for sent in sending:
            answer = await exchange(port, sent)
            found.statuses[sent.kind, answer.status] += 1
            if (answer.status >= 500 and answer.status != 503) or (answer.status == 0 and sent.framed):
                found.errors.append(sent)
            if leaks(answer):
                found.leaks.append(sent)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return found


def generated(url: str, number: int) -> str:
    """Run schemathesis over the description, where `make test-fuzz` installed it; return what it said, in a line."""
    if not TOOL.is_file():
        return "schemathesis is not installed; run make test-fuzz"
    words = (TOOL, "run", f"{url}/openapi.json", "--checks", "not_a_server_error", "--max-examples", str(number))
    more = ("--phases", "examples,coverage,fuzzing", "--seed", str(SEED), "--workers", "2", "--no-color")
    more = (*more, "--generation-database", "none", "--request-timeout", "30", "--warnings", "off")
    told = subprocess.run([*map(str, words), *more], capture_output=True, text=True, check=False, cwd=RUNS, timeout=540)
    lines = [line.strip() for line in told.stdout.splitlines() if "generated" in line or "seed" in line.lower()]
    return f"schemathesis exit code {told.returncode}; {'; '.join(lines[-2:])}"


def main() -> int:
    """Send, count, look into what is left, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=NUMBER)
    parser.add_argument("--calls", type=int, default=CALLS, help="over gRPC")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--release", type=Path, default=DEMO)
    parser.add_argument("--examples", type=int, default=25, help="of schemathesis, an operation")
    parser.add_argument("--dry", action="store_true", help="write no figure")
    given = parser.parse_args()
    if not given.release.is_dir():
        parser.error("no release; run `make demo` first")
    folder = RUNS / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "key").write_bytes(secrets.token_bytes(32))
    audit = folder / "audit.jsonl"
    kept = ("--audit", audit, "--audit-key", folder / "key")
    with serving(given.release, folder, "--grpc-port", 0, *kept, *LIMITS) as server:
        valid = seeds(given.release, server.url)
        before = {path: httpx.post(server.url + path, json=valid.bodies[path]).json() for path in ("/score", INFER)}
        found = asyncio.run(run(server.port, requests(valid, given.number, given.seed)))
        right = rpcs.valid(open_release(given.release, trusted=True))
        called = asyncio.run(rpcs.run(server.grpc_port, right, given.calls, given.seed))
        told = generated(server.url, given.examples)
        after = {path: httpx.post(server.url + path, json=valid.bodies[path]).json() for path in ("/score", INFER)}
        alive = server.process.poll() is None
        ended = stop(server.process)
        log = server.log.read_text(encoding="utf-8", errors="replace")
    left = [name for name, text in (("log", log), ("audit", audit.read_text(encoding="utf-8"))) if PLANTED in text]
    return report(found, called, given, told, wrong=[*left, *crashes(alive, ended, log, before == after)])


def crashes(alive: bool, ended: int, log: str, same: bool) -> list[str]:
    """Return what went wrong beside the answers."""
    facts = {"the server died": not alive, f"it ended with {ended}": ended != 0, "other answers after": not same}
    told = log.count("error in request")
    return [name for name, wrong in {**facts, f"{told} errors in the log": told > 0}.items() if wrong]


def report(found: Outcome, called: rpcs.Outcome, given: Any, told: str, wrong: list[str]) -> int:
    """Print what happened, write the figure, and return 1 where something went wrong."""
    for (kind, status), count in (*sorted(found.statuses.items()), *sorted(called.codes.items())):
        print(f"{kind:<20} {status or 'closed':>20} {count:>6}")
    errors, leaked = [*found.errors, *called.errors], [*found.leaks, *called.leaks]
    for name, held in (("error", errors), ("leak", leaked)):
        for sent in held[:SHOWN]:
            print(f"{name}: {sent.kind}: {sent.data[:300]!r} ... {sent.data[-200:]!r}", file=sys.stderr)
    total: Counter[str] = Counter()
    for (_, status), count in found.statuses.items():
        total["closed" if not status else "503" if status == 503 else f"{status // 100}xx"] += count
    codes: Counter[str] = Counter()
    for (_, code), count in called.codes.items():
        codes[code] += count
    spread, over = (", ".join(f"{n:,} of {name}" for name, n in sorted(held.items())) for held in (total, codes))
    faults = f"{len(leaked)} answers with a planted word, {len(wrong)} other faults"
    note = f"{given.number:,} requests, answers: {spread}; {given.calls:,} over gRPC: {over}; {faults}; {told}"
    print(note, *wrong, sep="\n")
    number = len(errors) + len(wrong) + ("exit code 0" not in told and TOOL.is_file())
    if not given.dry:
        Figure(
            name="serve.fuzz.server_errors", value=number, unit="answers", command=COMMAND,
            count=given.number - total["2xx"] + given.calls - codes["OK"], seeds=(given.seed,), note=note,
        ).write()  # fmt: skip
    return int(bool(number or leaked))


if __name__ == "__main__":
    raise SystemExit(main())
