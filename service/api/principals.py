"""The caller of a request, and the role that each route needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request

from service.api.http.methods import SAFE_METHODS
from service.errors import ForbiddenError
from service.schema.people import ANYONE, Principal, Role

# Member of the ASGI scope; missing if the service has no keys.
PRINCIPAL = "focal_loss.principal"
LEAST_ROLE = "least_role"
E = TypeVar("E", bound=Callable[..., Any])


def principal_of(request: HTTPConnection) -> Principal:
    """The caller of a request."""
    principal: Principal = request.scope.get(PRINCIPAL, ANYONE)
    return principal


def caller(request: HTTPConnection, reviewer: str | None = None) -> Principal:
    """The caller of a request about reviews.

    Args:
        request: The request.
        reviewer: Name of the reviewer; the name of the key, if it has one, overrides it.
    """
    principal = principal_of(request)
    return principal._replace(name=principal.name or reviewer)


def least_role(role: Role) -> Callable[[E], E]:
    """Decorator of an endpoint with an unsafe method that callers with a lower role than owner may use, too."""

    def mark(endpoint: E) -> E:
        setattr(endpoint, LEAST_ROLE, role)
        return endpoint

    return mark


def require_role(request: HTTPConnection, least: Role) -> None:
    """Raise unless the caller has a role, or one with more rights.

    Raises:
        ForbiddenError: The caller has a lower role.
    """
    principal = principal_of(request)
    if not principal.has(least):
        raise ForbiddenError(f"this needs a key of the role {least}; the role of this key is {principal.role}")


def check_role(request: Request) -> None:
    """Dependency of all routes: a change needs the role owner, unless its endpoint has a `least_role`.

    Raises:
        ForbiddenError: The caller has a lower role.
    """
    if request.method not in SAFE_METHODS:
        require_role(request, getattr(request.scope["endpoint"], LEAST_ROLE, "owner"))
