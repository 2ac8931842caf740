"""Who may do what: bearer tokens, known by their SHA-256 alone, and their scopes."""

from collections.abc import Mapping
from hashlib import sha256

from service.problems import ScopeMissing, UnknownKey

NOBODY: frozenset[str] = frozenset()
_KEY_NAME_LENGTH = 8


class Access:
    """
    Scopes of the callers.

    Tokens are looked up by their hash, so no comparison depends on how much of a token was guessed.
    """

    def __init__(self, api: Mapping[str, list[str]]) -> None:
        self._scopes = {digest: frozenset(scopes) for digest, scopes in api.items()}

    def scopes(self, authorization: str | None) -> frozenset[str]:
        """
        Return the scopes of an `Authorization` header; none without one.

        Raises:
            UnknownKey: it is no bearer token of ours.
        """
        if not authorization:
            return NOBODY
        scheme, _, token = authorization.partition(" ")
        scopes = self._scopes.get(sha256(token.strip().encode()).hexdigest())
        if scheme.lower() != "bearer" or scopes is None:
            raise UnknownKey("send `Authorization: Bearer TOKEN` with a token of this cell")
        return scopes

    def key_of(self, authorization: str | None, length: int = _KEY_NAME_LENGTH) -> str:
        """Return a name for the key of an `Authorization` header that tells keys apart in a log and opens nothing."""
        token = (authorization or "").partition(" ")[2].strip()
        return sha256(token.encode()).hexdigest()[:length]

    def require(self, authorization: str | None, scope: str) -> None:
        """Raise `ScopeMissing` unless the caller has *scope*."""
        if scope not in self.scopes(authorization):
            raise ScopeMissing(f"this needs the scope {scope}")
