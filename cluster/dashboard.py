"""Whether a Ray dashboard answers, and with which token. The token goes into request headers and nowhere else."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from ground.errors import UserError
from tracking.redact import redact

_ANSWER_SECONDS = 10


def accepted_headers(url: str) -> dict[str, str]:
    """Headers with which the dashboard answers; the token is sent only to one that asks for it.

    Raises:
        UserError: nobody answers, or the token is missing or refused.
    """
    headers: dict[str, str] = json.loads(os.environ.get("RAY_JOB_HEADERS") or "{}")
    code, reason = ask(url, headers)
    if code in (401, 403):
        origin, token = _token()
        if not token:
            mend = "set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or keep it in ~/.ray/auth_token (the head's own is there)"
            raise UserError("RAY_AUTH_TOKEN", f"the cluster at {redact(url)} asks for a token and there is none", mend)
        headers["Authorization"] = f"Bearer {token}"
        code, reason = ask(url, headers)
        if code in (401, 403):
            mend = "take the token of the cluster's head (`ray get-auth-token` there)"
            raise UserError("RAY_AUTH_TOKEN", f"the cluster at {redact(url)} refuses the token of {origin}", mend)
    if code == 200:
        return headers
    found = f"answers with {code}" if code else f"does not answer ({reason})"
    mend = "give the URL of the dashboard, as --address http://HEAD:8265; a port may have to be forwarded first"
    raise UserError("--address", f"the dashboard at {redact(url)} {found}", mend)


def asks_for_credentials(url: str) -> bool:
    """Whether the dashboard refuses who brings nothing."""
    return ask(url, {})[0] in (401, 403)


def _token() -> tuple[str, str]:
    """Where the token was found, and the token; as Ray looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return "RAY_AUTH_TOKEN", token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with suppress(OSError):
        return str(path), path.read_text().strip()
    return "", ""


def ask(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """HTTP status of the dashboard's version page, or 0 and why nobody answers."""
    request = urllib.request.Request(f"{url}/api/version", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            return int(answer.status), ""
    except urllib.error.HTTPError as error:
        return error.code, ""
    except HTTPException:
        return 0, "what listens there speaks no HTTP"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return 0, str(getattr(reason, "strerror", None) or reason)
