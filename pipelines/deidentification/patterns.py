"""Where an identifier may stand: one RE2 pattern for each way of writing it.

RE2 (``google-re2``) decides in time linear in the text, whatever the text, and scans for all these patterns at once at
500 MB/s, where ``re`` and ``regex`` manage 0.5. It has no look-around, so that what stands beside a match is left to
``checks``. Patterns are bytes over UTF-8: letters and digits are ASCII's; the dashes and the no-break space of typesetting
are spelled out.

Every pattern has one group, what the tag replaces: of ``MRN: 12345`` the number goes and the label stays. All but the
addresses bound the length of a match: a check may refuse it, and going on from the next byte then keeps the whole linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.deidentification import checks
from pipelines.deidentification.config import Kind

Check = Callable[[bytes, bytes, bytes], bool]
"""Given what stands before the match, the match, and what stands after it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way of writing a kind of identifier."""

    kind: Kind
    pattern: bytes
    accept: Check
    """Whether what the group matched is an identifier."""


_MONTHS = "January|February|April|June|July|August|September|October|November|December"
_SHORT = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec"
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|PR|"
    "RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
)
_STATE_NAMES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|"
    "Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|"
    "New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|"
    "South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming"
)

_PIECES = {
    "s": r"(?:[ \t\n]|\xc2\xa0)",
    "dash": r"(?:-|\xe2\x80[\x90-\x95])",
    # "may" and "march" are words, so they count in capitals only; so do the abbreviations.
    "month": rf"(?:(?i:{_MONTHS})|March|MARCH|May|MAY|(?:{_SHORT}|{_SHORT.upper()})\.?)",
    "mon": r"(?i:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)",
    "short": rf"(?:{_SHORT}|{_SHORT.upper()}|May|MAY)",
    "attached": r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)",
    "m": r"(?:0?[1-9]|1[0-2])",
    "d": r"(?:0?[1-9]|[12]\d|3[01])",
    "day": r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?",
    "year": r"(?:1[6-9]|20)\d\d",
    "to": r"(?:<s>(?:and|to|through|until|or|&)<s>|<s>?(?:<dash>|/)<s>?)",
    "phone": r"\+?\(?\d[\d ().-]{5,18}\d|\d{3}(?:-|\xe2\x80[\x90-\x95])\d{4}",
    "gap_in_phone": r"(?:[-. ]|\xe2\x80[\x90-\x95])",
    "number": r"(?:numbers?|num|no|nr|id|code|#)",
    # What stands between a label and its number: either may be left out after an unmistakable label.
    "gap": r"[ \t]?<number>?\.?[ \t]?(?:is\b|was\b|[:=#])?\s?",
    # A word or sign that says a number follows, after a label that has other uses.
    "mark": r"[ \t]?(?:<number>\.?[ \t]?(?:is\b|was\b|[:=#])?|[:=#])\s?",
    "value": r"((?:[A-Za-z]{1,6}-?)?\d[\dA-Za-z]{0,20}(?:[-/][\dA-Za-z]{1,12}){0,4})\b",
    "states": _STATES,
    "state_names": _STATE_NAMES,
    "ninety": r"(?:9\d|1[01]\d)",
}

_TABLE: tuple[tuple[Kind, Check, str], ...] = (
    ("url", checks.anything, r"(?i)\b((?:https?|s?ftp)://[!#-;=?-Z_a-z~]+|www\.[a-z0-9-]+\.[!#-;=?-Z_a-z~]+)"),
    ("email", checks.anything, r"\b([A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,24})\b"),
    ("fax", checks.labelled_phone, r"(?i)\b(?:(?:tele)?fax|facsimile)<gap>(<phone>)\b"),
    ("phone", checks.labelled_phone, r"(?i)\b(?:tel|telephone|phone|mobile|pager|beeper)(?:/fax)?<gap>(<phone>)\b"),
    (
        "phone",
        checks.labelled_phone,
        r"(?i)\b(?:call|cell|dial|contact|ext|phone)(?:ed|ing)?:?\s(?:at\s)?(\d{3}<dash>\d{4})\b",
    ),
    (
        "ssn",
        checks.social_security,
        r"(?i)\b(?:ssn|ss#|social security)<gap>((?:\d{3}|xxx|\*{3})[- ]?(?:\d\d|xx|\*\*)[- ]?\d{4})\b",
    ),
    ("ssn", checks.social_security, r"\b(\d{3}-\d\d-\d{4})\b"),
    ("mrn", checks.identifier, r"(?i)\b(?:mrn|mr ?#|med(?:ical)?\.? rec(?:ord)?s?)<gap><value>"),
    ("mrn", checks.long_identifier, r"(?i)\b(?:patient|pt|chart|hospital|unit record)<mark><value>"),
    ("account", checks.identifier, r"(?i)\b(?:account|acct)<mark><value>"),
    (
        "health_plan",
        checks.identifier,
        r"(?i)\b(?:health plan|insurance|member|subscriber|beneficiary|policy|medicaid|medicare|group policy)<mark><value>",
    ),
    ("license", checks.identifier, r"(?i)\b(?:licen[cs]e|certificate|certification|dea|npi|passport)<mark><value>"),
    ("vehicle", checks.identifier, r"(?i)\b(?:vin|vehicle identification)<gap><value>"),
    (
        "vehicle",
        checks.plate,
        r"(?i)\b(?:licen[cs]e plate|number plate|plate <number>)<gap>((?:[A-Z]{1,4}[ -]?)?\d[\dA-Z]{0,7}(?:-[\dA-Z]{1,4})?)\b",
    ),
    ("device", checks.identifier, r"(?i)\b(?:serial|s/n|udi|device|implant)<mark><value>"),
    # 2001-05-03, 2001/5/3, 2001-05-03T12:30Z
    (
        "date",
        checks.numeric_date,
        r"\b((?:1[89]|20)\d\d(?:-<m>-<d>|/<m>/<d>|\.<m>\.<d>)(?:T\d\d:?\d\d[\d:.]{0,12}(?:Z|[+-]\d\d:?\d\d)?)?)\b",
    ),
    # 5/3/2001, 05-03-92, 3.5.2001
    ("date", checks.numeric_date, r"\b(\d{1,2}(?:/\d{1,2}/|-\d{1,2}-|\.\d{1,2}\.)(?:<year>|\d\d))\b"),
    # 12MAY92, 12-May-1992, 12 May 92
    ("date", checks.written_date, r"\b(<d>[- /.]?<mon>\.?[- /.,']?(?:<year>|\d\d))\b"),
    # 12MAY, MAY92, may92; not SEPT10 to SEPT14, which are genes
    ("date", checks.written_date, r"\b(<d>(?:<short>|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec))\b"),
    ("date", checks.written_date, r"\b(<mon>(?:[4-9]\d|0\d)|<attached>[1-3]\d)\b"),
    # 5 May 2001, 5th of May, 2001, 5-6 May 2001, 5 May
    (
        "date",
        checks.written_date,
        r"\b(<day>(?:<to><day>)?(?:<s>(?:of<s>)?|<dash>)<month>(?:,?<s>{1,2}<year>|<dash><year>))\b",
    ),
    ("date", checks.written_date, r"\b(<day>(?:<s>of)?<s><month>)\b"),
    # May 5, 2001, May 5-10, 2001, May 5 and 6, 2001, May 5 '01, May 5
    ("date", checks.written_date, r"\b(<month><s>{1,2}<day>(?:<to>(?:<month><s>)?<day>)?,?<s>{0,2}(?:<year>|'\d\d))\b"),
    ("date", checks.written_date, r"\b(<month><s>{1,2}<day>(?:<dash><day>)?)\b"),
    # May 2001, May to June 2001, May-92
    ("date", checks.written_date, r"\b(<month>(?:<to><month>)?,?(?:<s>of)?<s>{1,2}<year>)\b"),
    ("date", checks.written_date, r"\b(<short>(?:<dash>(?:<year>|\d\d)|<s>?'\d\d))\b"),
    # 2001 May 5, 2001 May
    ("date", checks.written_date, r"\b(<year>[ -]<month>[ -]<d>|<year>[ -]<short>)\b"),
    # 03/2001
    ("date", checks.month_and_year, r"\b((?:0[1-9]|1[0-2])/(?:19|20)\d\d)\b"),
    # on 5/3
    (
        "date",
        checks.month_and_day,
        r"(?i)\b(?:on|since|dated?|until|dob|d\.o\.b\.?|seen|admitted|vaccinated|from|through|thru|born):?\s(<m>/<d>)\b",
    ),
    # 5/3 pt
    (
        "date",
        checks.month_and_day,
        r"(?i)\b(<m>/<d>)\s(?:pt|patient|saw|seen|am|pm|md|called|admitted|discharged|returned)\b",
    ),
    ("ip", checks.ip_address, r"\b(\d{1,3}(?:\.\d{1,3}){3})\b"),
    ("ip", checks.ip_address, r"\b([0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7})"),
    # (412) 555-0123, 1-412-555-0123 x12
    (
        "phone",
        checks.american_phone,
        r"((?:\+?\b1[-. ]?)?(?:\(\d{3}\)[ -]?|\b\d{3}<gap_in_phone>)\d{3}<gap_in_phone>\d{4}(?:,? ?(?:x|ext\.?) ?\d{1,6})?)\b",
    ),
    ("phone", checks.world_phone, r"(\+[1-9]\d{0,2}(?:[ .()-]{0,2}\d){6,13})\b"),
    ("zip", checks.zip_after_label, r"(?i)\bzip(?: ?code)?s?:?\s(\d{5}(?:-\d{4})?)\b"),
    ("zip", checks.zip_after_state, r"\b(?:<states>|<state_names>),?<s>{1,2}(\d{5}(?:-\d{4})?)\b"),
    # 92-year-old, 92 y/o, 92yo, aged 92
    (
        "age",
        checks.age,
        r"(?i)\b(<ninety>)(?:<s>|<dash>)?(?:years?|yrs?|y)\.?(?:(?:<s>|<dash>)(?:olds?|of<s>age)|/o|\.? ?o)\b",
    ),
    ("age", checks.age_alone, r"(?i)\b(?:aged?|age of|ages)(?:<s>|[:=]){1,2}(<ninety>)\b"),
    (
        "age",
        checks.age,
        r"(?i)\b(ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?)[- ]years?[- ]olds?\b",
    ),
    (
        "name",
        checks.anything,
        r"\b(?:Drs?|Mrs?|Ms|Miss|Prof|Professor|Doctor)\.?<s>{1,2}((?:[A-Z]\.<s>?){0,3}[A-Z][A-Za-z'-]{1,30}(?:<s>[A-Z][a-z'-]{1,30}){0,2})\b",
    ),
)


def _spelled(pattern: str) -> bytes:
    """The pattern with its ``<pieces>`` in full."""
    while (spelled := re.sub(r"<([a-z_]+)>", lambda piece: _PIECES[piece[1]], pattern)) != pattern:
        pattern = spelled
    return pattern.encode("ascii")


RULES = tuple(Rule(kind, _spelled(pattern), accept) for kind, accept, pattern in _TABLE)
"""In the order in which they are tried where several match at the same place."""
