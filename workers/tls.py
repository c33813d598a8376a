"""TLS of our clients: which authority is trusted, who we are, and what a failed handshake means."""

from __future__ import annotations

import ssl
from pathlib import Path

from schemas.regular import open_regular
from workers.errors import SettingsError


def client_context(server: str, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """A context that checks the server's name and signature; TLS 1.2 or later.

    Args:
        server: KAFKA or REDIS, for the names of the variables in messages.
        ca: PEM file of the authority that signed the server; None trusts what the system trusts.
        cert, key: PEM files of our own certificate; the key may be in the same file.

    Raises:
        SettingsError: a file cannot be read or is not what it should be.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
        if path is not None:
            _readable(f"CROSSCHECK_{server}_{name}", path)
    if ca is not None:
        # Only this authority: not every one that the system trusts may sign for the line's broker.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=ca)
        except ssl.SSLError:
            raise SettingsError(
                f"CROSSCHECK_{server}_CA={ca}: holds no certificate; give the authority's PEM file"
            ) from None
    if key is not None and cert is None:
        raise SettingsError(
            f"CROSSCHECK_{server}_KEY without CROSSCHECK_{server}_CERT: name the certificate it belongs to"
        )
    if cert is not None:
        try:
            # An encrypted key would ask at the terminal, which a service has not got.
            context.load_cert_chain(cert, key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError(
                f"CROSSCHECK_{server}_CERT={cert} and _KEY={key or cert}: not a certificate and its private"
                f" key without a passphrase ({_reason(error)}); give both as PEM files"
            ) from None
    return context


def tls_problem(error: ssl.SSLError | OSError, server: str) -> str:
    """What a failed handshake means and what to do, for the end of a message. ``server`` as above."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        if "expired" in said or "not yet valid" in said:
            return f"its certificate is not valid today ({said}): renew it, or check this machine's clock"
        if "mismatch" in said or "not valid for" in said:
            return f"{said}: use a name that its certificate carries, or have one issued for this name"
        return f"we trust no authority that signed its certificate ({said}): check CROSSCHECK_{server}_CA"
    text = str(error).upper()
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text or "HTTP_REQUEST" in text:
        return "it does not speak TLS on this port: use its TLS port, or ask for no TLS"
    if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text or "BAD_CERTIFICATE" in text:
        return f"it wants a certificate of ours: set CROSSCHECK_{server}_CERT and _KEY"
    if "UNKNOWN_CA" in text or "CERTIFICATE_UNKNOWN" in text:
        return f"it does not trust our certificate: check CROSSCHECK_{server}_CERT"
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError) or "EOF" in text:
        return (
            "it ended the TLS handshake: most likely this port does not speak TLS;"
            " use its TLS port, or ask for no TLS"
        )
    return f"the TLS handshake failed ({_reason(error)})"


def _readable(variable: str, path: Path) -> None:
    try:
        with open_regular(path):
            pass
    except OSError as error:
        raise SettingsError(f"{variable}={path}: cannot read it ({error.strerror})") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)
