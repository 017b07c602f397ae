"""What stands beside the tensors: raw records, CDS Hooks and the page."""

from starlette.routing import Route

from pipelines.serve import cds, page, score
from pipelines.serve.readers import Readers
from pipelines.serve.service import Service


def routes(service: Service) -> list[Route]:
    """Return the routes."""
    readers = Readers()
    return [*score.routes(service, readers), *cds.routes(service, readers), *page.routes(service)]
