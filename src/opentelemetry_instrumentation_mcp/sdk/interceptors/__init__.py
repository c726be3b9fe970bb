"""Interceptors: code that stands between a message and its handler, the application's, the SDK's and fastmcp's.

``chain`` is for those that are given the rest of the chain to call, ``guards`` for those that look at an HTTP request,
``fastmcp`` finds fastmcp's, where that is installed. Which method or tool a message was for is not recorded here, and
no exception, context or result is changed or kept.
"""

from __future__ import annotations

from typing import Final

from . import chain, fastmcp, guards

PATCHES: Final = (*chain.PATCHES, *guards.PATCHES, *fastmcp.PATCHES)
