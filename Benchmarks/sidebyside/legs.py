"""What is spoken where: the legs between caller, proxies and origin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Security(Enum):
    NONE = "plaintext"
    TLS = "TLS"
    #: The caller shows a certificate, too.
    MTLS = "mTLS"


@dataclass(frozen=True)
class Leg:
    http2: bool = False
    security: Security = Security.NONE

    @property
    def secure(self) -> bool:
        return self.security is not Security.NONE

    @property
    def mutual(self) -> bool:
        return self.security is Security.MTLS


H1 = Leg()
H2C = Leg(http2=True)
TLS_H1 = Leg(security=Security.TLS)
TLS_H2 = Leg(http2=True, security=Security.TLS)
MTLS_H1 = Leg(security=Security.MTLS)
MTLS_H2 = Leg(http2=True, security=Security.MTLS)


class Role(Enum):
    """Which proxy of a path this is."""

    ALONE = "alone"
    #: Beside the service that calls; its upstream is the other sidecar.
    CALLER = "caller"
    #: Beside the service that is called.
    CALLEE = "callee"
