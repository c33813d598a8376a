"""How Kafka is spoken to: in the open or by TLS, with a user or without."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workers.bus.oauth import COMMAND, FILE, OAuthToken
from workers.errors import SettingsError
from workers.secret import Secret
from workers.tls import client_context

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """Encryption and identity towards the brokers; the files are PEM.

    ``ca`` is the authority that signed the brokers' certificates (None: those the system trusts), ``cert``
    and ``key`` our own, where brokers ask for one. ``oauth`` takes the place of user and password with the
    mechanism OAUTHBEARER.

    Raises:
        SettingsError: a combination that cannot work, or a file that cannot be read; the text names the
            variable.
    """

    protocol: Protocol = "plaintext"
    mechanism: Mechanism = "SCRAM-SHA-512"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    oauth: OAuthToken | None = None

    def __post_init__(self) -> None:
        bearer = self.sasl and self.mechanism == "OAUTHBEARER"
        if self.oauth is not None and not bearer:
            raise SettingsError(
                f"{FILE} and _COMMAND are used by OAUTHBEARER only: set CROSSCHECK_KAFKA_SASL=OAUTHBEARER and"
                f" CROSSCHECK_KAFKA_SECURITY={'sasl_ssl' if self.tls else 'sasl_plaintext'}, or unset them"
            )
        if bearer:
            if self.user or self.password:
                raise SettingsError(
                    "CROSSCHECK_KAFKA_USER and _PASSWORD are not used by OAUTHBEARER: the token says who we"
                    " are; take them away"
                )
            if self.oauth is None:
                raise SettingsError(f"Kafka by OAUTHBEARER needs a token: set {FILE} or {COMMAND}")
        elif self.sasl:
            for name, value in (("USER", self.user), ("PASSWORD", self.password)):
                if not value:
                    raise SettingsError(
                        f"Kafka by {self.protocol} needs a user: set CROSSCHECK_KAFKA_{name}, or"
                        " CROSSCHECK_KAFKA_SECURITY=" + ("ssl" if self.tls else "plaintext")
                    )
        elif self.user or self.password:
            # A user who is never asked for would be a setting that looks safe and is not.
            raise SettingsError(
                f"CROSSCHECK_KAFKA_USER and _PASSWORD are not used by {self.protocol}: set"
                f" CROSSCHECK_KAFKA_SECURITY={'sasl_ssl' if self.tls else 'sasl_plaintext'},"
                " or take them away"
            )
        if not self.tls and (self.ca or self.cert or self.key):
            raise SettingsError(
                f"CROSSCHECK_KAFKA_CA, _CERT and _KEY are not used by {self.protocol}: set"
                f" CROSSCHECK_KAFKA_SECURITY={'sasl_ssl' if self.sasl else 'ssl'}, or take them away"
            )
        self.context()

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in ("ssl", "sasl_ssl")

    @property
    def sasl(self) -> bool:
        """Whether a user is named."""
        return self.protocol in ("sasl_plaintext", "sasl_ssl")

    def context(self) -> ssl.SSLContext | None:
        """The TLS context of a client; None without TLS.

        Raises:
            SettingsError: a file cannot be read or is not what it should be.
        """
        return client_context("KAFKA", self.ca, self.cert, self.key) if self.tls else None

    def common(self) -> dict[str, Any]:
        """The settings of every client, in kafka-python's words."""
        words: dict[str, Any] = {"security_protocol": self.protocol.upper()}
        if self.tls:
            words["ssl_context"] = self.context()
        if self.sasl:
            words |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": Secret(self.password or ""),
                "sasl_oauth_token_provider": self.oauth,
            }
        return words
