"""Files of Python packages, for the pages of the service."""

from __future__ import annotations

import os
from collections.abc import Mapping

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class PackageFiles(StaticFiles):
    """Serves files of Python packages, each with the same headers.

    Args:
        packages: Name of each package, and its folder.
        headers: Headers of the replies.
    """

    def __init__(self, *packages: tuple[str, str], headers: Mapping[str, str]) -> None:
        super().__init__(packages=list(packages))
        self._headers = headers

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 if the client has it already."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(self._headers)
        return response
