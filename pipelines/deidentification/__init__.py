"""De-identification of clinical text: identifiers that patterns can find become tags such as ``[DATE]``.

The kinds are those of the HIPAA Safe Harbor rule (45 CFR 164.514(b)(2)(i)) that have a shape: dates but for the year,
telephone and fax numbers, e-mail addresses, URLs, IP addresses, social security, medical record, account, health plan,
licence, vehicle and device numbers, ZIP codes, and ages over 89.

This is an aid, not a guarantee. What has no shape is not found: names (titles before them at most), street addresses, towns
and other places, months and weekdays alone, days without a month, dates in other languages or in words, numbers without
their label, photographs, and what gives a person away by its meaning. A text is not de-identified in the sense of the law
because it went through here.
"""

from __future__ import annotations

from pipelines.deidentification.config import DeidentificationConfig, Kind
from pipelines.deidentification.redact import Redacted, Redactor

__all__ = ["DeidentificationConfig", "Kind", "Redacted", "Redactor"]
