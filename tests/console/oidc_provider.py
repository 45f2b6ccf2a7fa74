"""A small OpenID Connect provider on this machine: real HTTP, real signatures, and each fault on demand."""

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

from services.core.clock import utc_now

CLIENT_ID, CLIENT_SECRET = "console", "the-secret-of-the-client"


class Provider:
    """Answers the next sign-in with ``claims``, merged over right ones; None leaves a claim out."""

    def __init__(self) -> None:
        self.issuer = ""
        self.claims: dict[str, Any] = {}
        self.algorithm = "RS256"
        self.key = RSAKey.generate_key(2048, {"kid": "1"}, private=True)
        self.signing_key: Any = self.key
        self.metadata: dict[str, Any] = {}
        self._codes: dict[str, dict[str, str]] = {}

    def authorize(self, location: str) -> str:
        """Return the path to which a browser at the authorization address ``location`` is sent back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT_ID
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        back = urlsplit(asked["redirect_uri"]).path
        return f"{back}?{urlencode({'code': code, 'state': asked['state']})}"

    def make_app(self) -> Flask:
        app = Flask("oidc-provider")

        @app.get("/.well-known/openid-configuration")
        def metadata() -> Any:
            return jsonify(
                {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
                    **self.metadata,
                }
            )

        @app.get("/jwks")
        def jwks() -> Any:
            return jsonify(KeySet([self.key]).as_dict(private=False))

        @app.post("/token")
        def token() -> Any:
            asked = self._codes.pop(request.form["code"], None)
            digest = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
            is_right = (
                asked is not None
                and _encode(digest) == asked["code_challenge"]
                and request.form["redirect_uri"] == asked["redirect_uri"]
                and request.authorization is not None
                and request.authorization.password == CLIENT_SECRET
            )
            if not is_right or asked is None:
                return jsonify(error="invalid_grant"), 400
            return jsonify(access_token="a", token_type="Bearer", id_token=self._sign(asked["nonce"]))

        return app

    def _sign(self, nonce: str) -> str:
        now = int(utc_now().timestamp())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "4711",
            "nonce": nonce,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "email": "ada@example.com",
            "email_verified": True,
        } | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": "1"}
        if self.algorithm == "RS256":
            return jwt.encode(header, claims, self.signing_key)
        # The library refuses to make these: no signature, or HMAC with the public key, which everybody has.
        text = ".".join(_encode(orjson.dumps(part)) for part in (header, claims))
        is_signed = self.algorithm == "HS256"
        digest = hmac.digest(self.key.as_pem(private=False), text.encode(), "sha256") if is_signed else b""
        return f"{text}.{_encode(digest)}"


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@contextmanager
def run_provider() -> Iterator[Provider]:
    provider = Provider()
    server = make_server("127.0.0.1", 0, provider.make_app(), threaded=True)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
