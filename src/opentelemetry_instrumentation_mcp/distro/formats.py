"""The format and the encoding of a page, chosen by the headers of a scraper.

prometheus_client makes the page. Its own reading of the headers ignores ``q`` and fails on a version that is none, so
they are read here, and it gets one format in words that it knows. Whatever cannot be read means plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.exposition import choose_encoder

_OPENMETRICS: Final = "application/openmetrics-text"
_PLAIN: Final = "text/plain"
_ANY: Final = ("*/*", "text/*")
_VERSION: Final = re.compile(r"([0-9]{1,4})(?:\.[0-9]{1,4}){0,2}", re.ASCII)
_ESCAPING: Final = ("allow-utf-8", "underscores", "dots", "values")


@dataclass(frozen=True)
class Format:
    """A format of the page.

    Attributes:
        accept: The ``Accept`` header that asks for this format and no other.
        content_type: Its media type.
        encode: Makes the page of something that prometheus_client can collect.
    """

    accept: str
    content_type: str
    encode: Callable[[Any], bytes]


def chosen(accept: str) -> Format:
    """The format that a scraper likes best of those there are; plain text if it likes none."""
    offers = [
        (-quality, offer == "", offer)
        for media, parameters, quality in _elements(accept)
        if quality > 0 and (offer := _offer(media, parameters)) is not None
    ]
    # Of equals the one that is named, and of those the first.
    offer = min(offers, key=lambda each: each[:2])[2] if offers else ""
    encode, content_type = choose_encoder(offer)
    return Format(offer, content_type, encode)


def takes_gzip(encoding: str) -> bool:
    """Whether a scraper takes a compressed answer."""
    return any(coding in ("gzip", "x-gzip") and quality > 0 for coding, _, quality in _elements(encoding))


def _offer(media: str, parameters: dict[str, str]) -> str | None:
    """The format for an element of the header; empty for the oldest, which everybody reads, and None for no format."""
    version = parameters.get("version")
    match = _VERSION.fullmatch(version) if version is not None else None
    major = int(match[1]) if match is not None else 0
    escaping = parameters.get("escaping", "")
    details = f"; version=1.0.0; escaping={escaping if escaping in _ESCAPING else 'underscores'}"
    if media == _OPENMETRICS:
        return _OPENMETRICS if version is None else _OPENMETRICS + details if major == 1 else None
    if media == _PLAIN:
        return _PLAIN + details if major >= 1 else ""
    return "" if media in _ANY else None


def _elements(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """The elements of a header: each with its parameters, and how much it is wanted."""
    for element in header.split(","):
        name, *rest = element.split(";")
        pairs = (parameter.partition("=") for parameter in rest)
        parameters = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        yield name.strip().lower(), parameters, quality
