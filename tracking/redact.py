"""Secrets never reach a log, an error, MLflow or a report: what a URL holds of them is replaced by stars."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

_USER_INFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_SECRET_FIELD = re.compile(
    r"([?&;](?:[a-z0-9_-]*(?:password|passwd|token|secret|signature|credential|access_?key)[a-z0-9_-]*|sig)=)[^&;\s'\"]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` with the user part of every URL, and secret-looking query fields (signed URLs), replaced by ``***``."""
    return _SECRET_FIELD.sub(r"\1***", _USER_INFO.sub("***@", text))


def redact_known(text: str, uri: str) -> str:
    """Like :func:`redact`, and also hides the password of ``uri`` standing alone (drivers quote it in errors)."""
    try:
        password = urlsplit(uri).password
    except ValueError:  # a malformed port or host; the general pattern still applies
        password = None
    if password:
        for form in {password, unquote(password), quote(unquote(password), safe="")}:
            text = text.replace(form, "***")
    return redact(text)
