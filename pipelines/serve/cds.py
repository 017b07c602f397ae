"""CDS Hooks 2.0: what is offered, cards above the site's thresholds, and what became of them."""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.moments import Moments
from pipelines.serve import cards, intake, prefetch, records
from pipelines.serve.question import Question
from pipelines.serve.readers import Readers
from pipelines.serve.refusals import Refusal
from pipelines.serve.score import answer, of_content
from pipelines.serve.service import Reply, Service, scoring
from pipelines.serve.shown import Shown

HOOKS: Mapping[str, tuple[str, ...]] = {
    "patient-view": ("userId", "patientId"),
    "encounter-discharge": ("userId", "patientId", "encounterId"),
}
"""Hooks that are answered, and what their context must give; a service has the name of its hook."""
RESPONSES = ("accepted", "overridden")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
MOST_FEEDBACK = 100


class Called(NamedTuple):
    """A hook's call: whom it is about, and what came along, not yet read."""

    patient: str
    prefetch: object


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def routes(service: Service, readers: Readers) -> list[Route]:
    """Return the protocol's routes.

    Args:
        service: the server's parts.
        readers: threads that read records.
    """
    registry, kept = service.metrics.registry, Shown()
    given = Counter("anamnesis_cards", "Cards shown.", ["about"], registry=registry)
    feedbacks = Counter("anamnesis_card_feedback", "What became of cards.", ["outcome", "about"], registry=registry)
    offered = {"services": [description(hook, service) for hook in HOOKS]}

    async def discover(_: Request) -> Response:
        return JSONResponse(offered)

    async def call(request: Request, service: Service) -> Reply:
        hook = known(request)
        body = await intake.read(request, service.limits)
        now = utc_now()
        moment = Moments(now.isoformat(), time=round(now.timestamp() * 1_000_000))
        asked = await readers.run(asked_of, body, hook, moment, service)
        if asked.sample is None:
            # Nobody to be estimated: dead, without a record yet, or with no code that the model knows.
            return Reply(JSONResponse({"cards": []}), asked.patient)
        found = await answer(asked, service, readers)
        shown = cards.cards(found.question, found.table, service.release, service.alerts)
        for outcome, card in shown:
            kept.add(card["uuid"], outcome)
            given.labels(outcome).inc()
        return Reply(JSONResponse({"cards": [card for _, card in shown]}), asked.patient, found.probability[None])

    async def feedback(request: Request, service: Service) -> Reply:
        known(request)
        content = records.content_of(await intake.read(request, service.limits))
        for card, word in responses(content):
            feedbacks.labels(word, kept.about(card)).inc()
        return Reply(Response(status_code=200))

    return [
        Route("/cds-services", discover),
        Route("/cds-services/{id}", scoring(service, "cds", call), methods=["POST"]),
        Route("/cds-services/{id}/feedback", scoring(service, "cds-feedback", feedback), methods=["POST"]),
    ]


def description(hook: str, service: Service) -> dict[str, Any]:
    """Return a service as discovery shows it."""
    outcomes = ", ".join(cards.words(name) for name in service.release.registry.names)
    return {
        "hook": hook,
        "id": hook,
        "title": "Anamnesis: estimated risks",
        "description": f"Calibrated probabilities from coded records, above the site's thresholds: {outcomes}",
        "prefetch": dict(prefetch.SEARCHES),
        "usageRequirements": "All keys of prefetch; nothing is fetched from the record's server.",
    }


def known(request: Request) -> str:
    """Return the hook of a service.

    Raises:
        Refusal: 404, there is no such service.
    """
    name = str(request.path_params["id"])
    if name not in HOOKS:
        raise Refusal(404, f"no such service; expected {' or '.join(HOOKS)}")
    return name


def asked_of(body: bytes, hook: str, moment: Moments, service: Service) -> Question:
    """Return what the model is asked for a hook's call.

    Raises:
        Refusal: the call is none (400), data are missing (412), or a gate does not hold (422).
    """
    made = called(records.content_of(body), hook)
    return of_content(prefetch.bundle_of(made.prefetch, made.patient), moment, service)


def called(content: object, hook: str) -> Called:
    """Return a hook's call.

    Raises:
        Refusal: 400, something that the specification asks for is missing.
    """
    held: Mapping[str, Any] = content if isinstance(content, dict) else {}
    if held.get("hook") != hook:
        raise Refusal(400, f"hook is not {hook}, which this service is for")
    if not is_uuid(held.get("hookInstance")):
        raise Refusal(400, "hookInstance is no UUID")
    context = held.get("context")
    given: Mapping[str, Any] = context if isinstance(context, dict) else {}
    for name in HOOKS[hook]:
        if not isinstance(given.get(name), str) or not given[name]:
            raise Refusal(400, f"context.{name} is no text")
    return Called(given["patientId"], held.get("prefetch"))


def responses(content: object) -> list[tuple[str, str]]:
    """Return cards, and `accepted` or `overridden` of each; reasons and comments are not kept.

    Raises:
        Refusal: 400, something that the specification asks for is missing.
    """
    given = content.get("feedback") if isinstance(content, dict) else None
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_FEEDBACK:
        raise Refusal(400, f"feedback is no list of 1 to {MOST_FEEDBACK} entries")
    return [response_of(entry, number) for number, entry in enumerate(given, start=1)]


def response_of(entry: object, number: int) -> tuple[str, str]:
    """Return one card and what became of it."""
    held: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    word, moment = held.get("outcome"), held.get("outcomeTimestamp")
    if not is_uuid(held.get("card")):
        raise Refusal(400, f"feedback, entry {number}: card is no UUID")
    if word not in RESPONSES:
        raise Refusal(400, f"feedback, entry {number}: outcome is none of {', '.join(RESPONSES)}")
    if not isinstance(moment, str) or not INSTANT.fullmatch(moment):
        raise Refusal(400, f"feedback, entry {number}: outcomeTimestamp is no time with a zone")
    return str(held["card"]), str(word)


def is_uuid(value: object) -> bool:
    """Tell whether a value is the text of a UUID."""
    try:
        return isinstance(value, str) and len(value) == 36 and bool(uuid.UUID(value))
    except ValueError:
        return False
