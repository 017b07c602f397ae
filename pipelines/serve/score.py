"""POST /score: one patient's records in, probabilities out, as JSON or as a FHIR RiskAssessment."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.moments import Moments
from pipelines.serve import fhir, intake, question, records
from pipelines.serve.question import Question
from pipelines.serve.readers import Readers
from pipelines.serve.refusals import Refusal
from pipelines.serve.service import Reply, Service, scoring


class Scored(NamedTuple):
    """One patient, answered: what was asked, PREDICTIONS, and probabilities f32 [K, H]."""

    question: Question
    table: pl.DataFrame
    probability: npt.NDArray[np.float32]


def routes(service: Service, readers: Readers) -> list[Route]:
    """Return the route of raw records."""

    async def plain(request: Request, service: Service) -> Reply:
        found = await one(request, service, readers)
        told = question.shown(found.question, found.table, service.release)
        return Reply(JSONResponse(told), found.question.patient, found.probability[None])

    async def assessed(request: Request, service: Service) -> Reply:
        found = await one(request, service, readers)
        told = fhir.risk_assessment(found.question, found.table, service.release)
        return Reply(fhir.resource(told), found.question.patient, found.probability[None])

    as_json = scoring(service, "records", plain)
    as_fhir = scoring(service, "records", assessed, show=fhir.outcome)

    async def endpoint(request: Request) -> Response:
        wanted = fhir.MEDIA in request.headers.get("accept", "").lower()
        return await (as_fhir(request) if wanted else as_json(request))

    return [Route("/score", endpoint, methods=["POST"])]


async def one(request: Request, service: Service, readers: Readers) -> Scored:
    """Answer the records of a request's body.

    Raises:
        Refusal: what cannot be read, scored or waited for.
    """
    when = question.moment_of(request.query_params.get("at"))
    body = await intake.read(request, service.limits)
    asked = await readers.run(of_body, body, when, service)
    if asked.sample is None:
        raise Refusal(422, f"not scored: {asked.reason}")
    return await answer(asked, service, readers)


def of_body(body: bytes, when: Moments, service: Service) -> Question:
    """Return what the model is asked about the records in a body (see `question.ask`)."""
    return of_content(records.content_of(body), when, service)


def of_content(content: object, when: Moments, service: Service) -> Question:
    """Return what the model is asked about records (see `question.ask`).

    Raises:
        Refusal: they cannot be read, or a gate does not hold.
    """
    asked = question.ask(records.read(content), when, service.release)
    # Counted before the gates: a share that rises is told by those that are refused for it.
    service.metrics.add_codes(asked.codes - asked.unknown, asked.unknown)
    question.hold_gates(asked.found, service.release)
    return asked


async def answer(asked: Question, service: Service, readers: Readers) -> Scored:
    """Ask the model about one patient.

    Raises:
        Refusal: 503, it has no room; 422, a gate on predictions does not hold.
    """
    sample = asked.sample
    assert sample is not None
    found = await service.engine.score(sample.token, sample.visit, sample.age_days, sample.query_age_days)
    table = await readers.run(question.scored, asked, found.probability, service.release)
    return Scored(asked, table, found.probability)
