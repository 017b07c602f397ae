"""The server beside bare onnxruntime and MLServer: `python -m tests.benchmarks.scale.serving` (after `make demo`).

MLServer is measured where runs/mlserver holds it: `make rival`.
"""

import argparse
import asyncio
import json
import os
import threading
import time
from collections.abc import Sequence
from functools import partial

import grpc
import httpx
import numpy as np

from compress.onnx.session import open_session
from pipelines.release import MODEL, Release, open_release
from pipelines.serve.messages import methods
from pipelines.serve.oip import HEADER
from tests.benchmarks.harness import ROOT, RUNS, Figure, in_turn, ratio_of
from tests.benchmarks.scale import rival
from tests.benchmarks.scale.load import Exchange, closed, exchanges, flood, http, read
from tests.pipelines.serve import questions
from tests.pipelines.serve.servers import serving

COMMAND = "python -m tests.benchmarks.scale.serving"
DEMO = ROOT / "runs" / "demo" / "release"
ROWS, LENGTH, REQUESTS, LINES, SECONDS = 32, 64, 4, 6, 5.0
FLOOD_LINES, FLOOD_SECONDS, FACTOR, ROOM = 600, 60.0, 10, 1.6
INFERENCE = methods()["ModelInfer"]
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def bare(release: Release, *, calls: int, threads: int, seconds: float) -> float:
    """Return requests a second of onnxruntime alone: so many calls at a time, each of so many threads."""
    session = open_session(release.path / MODEL, threads=threads)
    work = [tuple(questions.arrays(release, ROWS, LENGTH, seed=seed).values()) for seed in range(REQUESTS)]
    session.run(*work[0])
    counts = [0] * calls
    end = time.perf_counter() + seconds

    def one(at: int) -> None:
        while time.perf_counter() < end:
            session.run(*work[(at + counts[at]) % len(work)])
            counts[at] += 1

    started = time.perf_counter()
    hands = [threading.Thread(target=one, args=(at,)) for at in range(calls)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    return sum(counts) / (time.perf_counter() - started)


def messages(release: Release) -> list[tuple[bytes, np.ndarray]]:
    """Return gRPC requests with raw tensors, and the probabilities of onnxruntime."""
    made: list[tuple[bytes, np.ndarray]] = []
    for seed in range(REQUESTS):
        given = questions.arrays(release, ROWS, LENGTH, seed=seed)
        request = INFERENCE.request(model_name="anamnesis")
        for name, array in given.items():
            request.inputs.add(name=name, datatype=questions.KINDS[name], shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        made.append((request.SerializeToString(), questions.expected(release, given)["probability"]))
    return made


def probability_of(raw: bytes) -> np.ndarray:
    """Return the probabilities of a gRPC answer, raw or typed."""
    answer = INFERENCE.response.FromString(raw)
    at = [output.name for output in answer.outputs].index("probability")
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[at], "<f4")
    contents = answer.outputs[at].contents
    return np.array(contents.fp32_contents or contents.fp64_contents, dtype=np.float32)


async def closed_grpc(port: int, work: Sequence[tuple[bytes, np.ndarray]], *, lines: int, seconds: float) -> float:
    """Return right answers a second over gRPC, as `closed` does."""
    count, started = 0, time.perf_counter()
    end = started + seconds

    async def one(at: int) -> None:
        nonlocal count
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(METHOD)
            while time.perf_counter() < end:
                request, reference = work[at % len(work)]
                found = probability_of(await call(request))
                if np.abs(found - reference.ravel()).max() > 1e-6:
                    raise RuntimeError("a wrong answer over gRPC")
                count, at = count + 1, at + 1

    await asyncio.gather(*(one(at) for at in range(lines)))
    return count / (time.perf_counter() - started)


def json_exchanges(release: Release) -> list[Exchange]:
    """Return requests in JSON, judged by their status."""

    def judge(status: int, _head: bytes, _body: bytes) -> bool:
        return status == 200

    made: list[Exchange] = []
    for seed in range(REQUESTS):
        body = json.dumps(questions.as_json(questions.arrays(release, ROWS, LENGTH, seed=seed))).encode()
        made.append(Exchange(http(questions.INFER, body, {"Content-Type": "application/json"}), judge))
    return made


async def refused_binary(port: int, exchange: Exchange) -> int:
    """Return the status of a server to a request with binary tensors."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(exchange.request)
    status = (await read(reader))[0]
    writer.close()
    return status


def parity(server, release: Release) -> float:
    """Return the largest difference of any output from onnxruntime's own, over JSON, binary tensors and gRPC."""
    worst = 0.0
    with httpx.Client(base_url=server.url) as client, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(METHOD)
        for rows, length in (
            (1, 1),
            (1, 64),
            (2, 40),
            (7, 100),
            (16, 128),
            (32, 64),
            (64, 64),
            (9, release.max_tokens),
        ):
            given = questions.arrays(release, rows, length, seed=rows)
            reference = questions.expected(release, given)
            plain = client.post(questions.INFER, json=questions.as_json(given))
            body, headers = questions.as_bytes(given)
            raw = client.post(questions.INFER, content=body, headers=headers)
            request = INFERENCE.request(model_name="anamnesis")
            for name, array in given.items():
                request.inputs.add(name=name, datatype=questions.KINDS[name], shape=array.shape)
                request.raw_input_contents.append(array.tobytes())
            answer = INFERENCE.response.FromString(call(request.SerializeToString()))
            over_grpc = {
                output.name: np.frombuffer(part, "<f4").reshape(tuple(output.shape))
                for output, part in zip(answer.outputs, answer.raw_output_contents, strict=True)
            }
            for found in (
                questions.from_json(plain.json()),
                questions.from_bytes(raw.content, raw.headers[HEADER]),
                over_grpc,
            ):
                assert set(found) == set(reference)
                worst = max(worst, questions.worst(found, reference))
    return worst


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("speed", "overload", "parity"))
    given = parser.parse_args()
    if not DEMO.is_dir():
        parser.error("no release of the demo; run `make demo` first")
    RUNS.mkdir(parents=True, exist_ok=True)
    release, cores = open_release(DEMO), len(os.sched_getaffinity(0))
    size = (DEMO / MODEL).stat().st_size / 1e6
    what = f"demo model of {size:.1f} MB, requests of {ROWS} samples of up to {LENGTH} tokens"
    said = {"command": COMMAND, "note": f"{what}; client and server on the same {cores} cores, loopback"}
    with serving(DEMO, RUNS, "--grpc-port", "0", "--workers", cores) as server:
        if given.only in (None, "parity"):
            note = "JSON, binary tensors, gRPC; logits and probabilities; eight shapes of request"
            Figure(
                name="serve.parity_max_abs", value=parity(server, release), unit="max abs",
                rival="bare onnxruntime", command=COMMAND, note=note,
            ).write()  # fmt: skip
        if given.only in (None, "speed"):
            speed(server, release, cores, given.rounds, said)
        if given.only in (None, "overload"):
            overload(server, release, said)
    return 0


def speed(server, release: Release, cores: int, rounds: int, said: dict) -> None:
    """Measure throughput in turn, and write its figures."""
    work, raw, plain = exchanges(release, REQUESTS, ROWS, LENGTH), messages(release), json_exchanges(release)

    def asked(port: int, some: Sequence[Exchange]) -> float:
        return asyncio.run(closed(port, some, lines=LINES, seconds=SECONDS))

    def asked_grpc(port: int) -> float:
        return asyncio.run(closed_grpc(port, raw, lines=LINES, seconds=SECONDS))

    apart, together = f"bare onnxruntime, {cores} calls of one thread", f"bare onnxruntime, one call of {cores} threads"
    arms = {
        "binary": lambda _: asked(server.port, work),
        "gRPC": lambda _: asked_grpc(server.grpc_port),
        "JSON": lambda _: asked(server.port, plain),
        apart: lambda _: bare(release, calls=cores, threads=1, seconds=SECONDS),
        together: lambda _: bare(release, calls=1, threads=cores, seconds=SECONDS),
    }
    if not rival.PYTHON.is_file():
        print("no MLServer in runs/mlserver; run `make rival` to measure it too", flush=True)
        report(in_turn(arms, rounds), (apart, together), said)
        return
    # The rival in its own better form: processes of one thread, or one process of all.
    with (
        rival.serving(DEMO / MODEL, workers=cores, threads=1) as many,
        rival.serving(DEMO / MODEL, workers=0, threads=cores) as one,
    ):
        for name, found in (("processes", many), ("one process", one)):
            arms[f"MLServer gRPC, {name}"] = partial(lambda port, _: asked_grpc(port), found.grpc_port)
            arms[f"MLServer JSON, {name}"] = partial(lambda port, _: asked(port, plain), found.port)
        status = asyncio.run(refused_binary(one.port, work[0]))
        found = in_turn(arms, rounds)
    note = f"{said['note']}; {rival.version()}, which answers {status} to binary tensors over HTTP"
    report(found, (apart, together), {**said, "note": note})


def report(found: dict[str, list[float]], bares: Sequence[str], said: dict) -> None:
    """Write the figures of throughput: ours against the faster form of each rival."""
    means = {name: float(np.mean(values)) for name, values in found.items()}
    note = "; ".join([said["note"], *(f"{name}: {value:.1f} requests/s" for name, value in means.items())])
    servers = [name for name in means if name.startswith("MLServer")]
    for figure, rivals in (("serve.throughput_ratio", bares), ("serve.mlserver_ratio", servers)):
        if rivals:
            strongest = max(rivals, key=means.__getitem__)
            ratio = ratio_of(found["binary"], found[strongest])
            Figure(
                name=figure, value=ratio.value, unit="ratio", rival=strongest, rival_value=means[strongest],
                ratio=ratio.value, lower=ratio.lower, upper=ratio.upper, count=len(found["binary"]),
                **{**said, "note": note},
            ).write()  # fmt: skip


def overload(server, release: Release, said: dict) -> None:
    """Flood the server with more than ten times what it bears, and write what was answered.

    What it bears moves with what else the machine does, so that it is measured on both sides of the flood. There is
    room above ten times what it bore before, and no figure where the flood was not ten times the better of the two.
    """
    work = exchanges(release, REQUESTS, ROWS, LENGTH)

    def bears() -> float:
        return asyncio.run(closed(server.port, work, lines=LINES, seconds=2 * SECONDS))

    before = bears()
    found = asyncio.run(
        flood(server.port, work, rate=ROOM * FACTOR * before, lines=FLOOD_LINES, seconds=FLOOD_SECONDS)
    )  # fmt: skip
    after = bears()
    factor = found.offered / max(before, after)
    right, busy, wrong = (found.answers[kind] for kind in ("right", "busy", "wrong"))
    note = (
        f"{said['note']}; sustained {before:.1f} requests/s before and {after:.1f} after; {found.offered:.0f} a second "
        f"sent for {FLOOD_SECONDS:.0f} s, {factor:.1f} times the better of these: {right:,} right answers, {busy:,} "
        f"times 503, {wrong:,} others; longest wait {found.longest:.1f} s; {found.late:,} more were due while all "
        f"{FLOOD_LINES} connections waited"
    )
    if factor < FACTOR:
        raise RuntimeError(f"no figure: {note}")
    Figure(name="serve.overload.wrong_answers", value=wrong, unit="answers", count=right + busy + wrong,
           **{**said, "note": note}).write()  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
