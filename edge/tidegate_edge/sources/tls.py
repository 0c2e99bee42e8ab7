"""TLS towards a broker, from the configuration's file names."""

from __future__ import annotations

import ssl
from pathlib import Path

from tidegate_protocols.errors import BadInput

from ..config import TlsSettings


def context_of(settings: TlsSettings, where: str) -> ssl.SSLContext:
    """A client's context that verifies the broker's certificate and host name. Raises BadInput that names the file."""
    for key, name in (("ca", settings.ca), ("cert", settings.cert), ("key", settings.key)):
        if name is not None:
            try:
                Path(name).read_bytes()
            except OSError as error:
                raise BadInput(f"{name}: cannot be read: {error.strerror}", where=f"{where}.tls.{key}") from None
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except (ssl.SSLError, ValueError) as error:
        raise BadInput(f"{settings.ca}: holds no certificates: {error}", where=f"{where}.tls.ca") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert is not None:
        try:
            context.load_cert_chain(settings.cert, settings.key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise BadInput(
                f"{settings.cert}: no pair of a certificate and its key: {error}", where=f"{where}.tls"
            ) from None
    return context
