"""CDS Hooks 2.0 as JSON Schemas, written from the published specification, and what a client of it sends."""

import uuid

UUID = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
TEXT = {"type": "string", "minLength": 1}
CODING = {
    "type": "object",
    "required": ["code"],
    "properties": {"code": TEXT, "system": TEXT, "display": TEXT},
    "additionalProperties": False,
}
DISCOVERY = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "properties": {
        "services": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["hook", "description", "id"],
                "additionalProperties": False,
                "properties": {
                    "hook": {"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"},
                    "title": TEXT,
                    "description": TEXT,
                    "id": TEXT,
                    "prefetch": {"type": "object", "additionalProperties": TEXT},
                    "usageRequirements": TEXT,
                },
            },
        }
    },
}
REQUEST = {
    "type": "object",
    "required": ["hook", "hookInstance", "context"],
    "properties": {
        "hook": TEXT,
        "hookInstance": UUID,
        "fhirServer": {"type": "string", "pattern": "^https?://"},
        "fhirAuthorization": {
            "type": "object",
            "required": ["access_token", "token_type", "expires_in", "scope", "subject"],
            "properties": {"token_type": {"const": "Bearer"}, "expires_in": {"type": "integer"}},
        },
        "context": {"type": "object", "required": ["userId", "patientId"]},
        "prefetch": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
}
LINK = {
    "type": "object",
    "required": ["label", "url", "type"],
    "properties": {"type": {"enum": ["absolute", "smart"]}},
}
CARD = {
    "type": "object",
    "required": ["summary", "indicator", "source"],
    "additionalProperties": False,
    "properties": {
        "uuid": UUID,
        "summary": {"type": "string", "minLength": 1, "maxLength": 139},
        "detail": {"type": "string"},
        "indicator": {"enum": ["info", "warning", "critical"]},
        "source": {
            "type": "object",
            "required": ["label"],
            "additionalProperties": False,
            "properties": {"label": TEXT, "url": TEXT, "icon": TEXT, "topic": CODING},
        },
        "suggestions": {"type": "array"},
        "selectionBehavior": {"enum": ["at-most-one", "any"]},
        "overrideReasons": {"type": "array", "items": CODING},
        "links": {"type": "array", "items": LINK},
    },
}
RESPONSE = {
    "type": "object",
    "required": ["cards"],
    "additionalProperties": False,
    "properties": {"cards": {"type": "array", "items": CARD}, "systemActions": {"type": "array"}},
}
FEEDBACK = {
    "type": "object",
    "required": ["feedback"],
    "properties": {
        "feedback": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["card", "outcome", "outcomeTimestamp"],
                "properties": {
                    "card": UUID,
                    "outcome": {"enum": ["accepted", "overridden"]},
                    "acceptedSuggestions": {"type": "array", "items": {"type": "object", "required": ["id"]}},
                    "overrideReason": {"type": "object"},
                    "outcomeTimestamp": {"type": "string", "pattern": "^[0-9T:.-]+(Z|[+-][0-9]{2}:[0-9]{2})$"},
                },
            },
        }
    },
}
TYPES = {
    "encounters": "Encounter",
    "conditions": "Condition",
    "observations": "Observation",
    "procedures": "Procedure",
    "medications": "MedicationRequest",
    "administrations": "MedicationAdministration",
    "immunizations": "Immunization",
    "allergies": "AllergyIntolerance",
    "reports": "DiagnosticReport",
    "plans": "CarePlan",
}


def prefetched(bundle):
    """Return a patient's bundle as a client prefetches it: a search a type, null where the record has none."""
    held = [entry["resource"] for entry in bundle["entry"]]
    found = {"patient": next(resource for resource in held if resource["resourceType"] == "Patient")}
    for key, kind in TYPES.items():
        entries = [{"resource": resource} for resource in held if resource["resourceType"] == kind]
        found[key] = {"resourceType": "Bundle", "type": "searchset", "entry": entries} if entries else None
    return found


def call(bundle, hook="patient-view", **context):
    """Return a request of a client about a patient's bundle."""
    prefetch = prefetched(bundle)
    return {
        "hook": hook,
        "hookInstance": str(uuid.uuid4()),
        "fhirServer": "https://records.example.org/fhir",
        "context": {"userId": "Practitioner/example", "patientId": prefetch["patient"]["id"], **context},
        "prefetch": prefetch,
    }


def response(card, outcome="accepted"):
    """Return the feedback of a client on a card."""
    entry = {"card": card, "outcome": outcome, "outcomeTimestamp": "2026-03-01T10:00:00Z"}
    return {"feedback": [entry]}
