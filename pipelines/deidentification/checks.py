"""Whether what a pattern matched is an identifier: the value itself, and what stands beside it.

Each check is given what the group of the pattern matched and at most 40 bytes on either side, so that its cost is bounded.
Medicine is full of numbers of the same shapes: doses (``5-10 mg``), pressures (``120/80``), scores, fractions, enzyme and
section numbers, intervals of citations. Where the shape alone is not enough, these decide for leaving the number in.
"""

from __future__ import annotations

import ipaddress
import re

import phonenumbers

# What makes a number a quantity instead of a date or the first of one.
_QUANTITY = re.compile(
    rb"\s?-?(?:%|(?:mg|mcg|ug|\xc2\xb5g|\xce\xbcg|g|kg|lbs?|ml|mL|cc|dl|dL|l|L|cm|mm|mmol|mol|nmol|IU|iu|units?|U|Hz|kDa|bp|"
    rb"weeks?|wks?|months?|mos?|hours?|hrs?|h|minutes?|mins?|seconds?|fold|tabs?|tablets?|doses?|patients|subjects|participants|"
    rb"cases|controls|women|men|children|times|occasions|cycles|of)(?![\w/]))"
)
_ATTACHED = re.compile(rb"\d{0,2}[A-Za-z]+\d{0,4}")  # 12MAY92, as charts write it: plain even beside a dash
_JOINED = re.compile(rb"-(?!Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[A-Za-z]")
_NUMBER_BEFORE = re.compile(rb"(?i)(?:\bno|\bnr|\bref|n\xc2\xb0|#)[.:]{0,2}\s?$")
_YEAR_OR_DATE = re.compile(
    rb"(?:1[6-9]|20)\d\d(?:[-/](?:1[6-9]|20)?\d\d)?|\d{1,2}[-/]\d{1,2}[-/](?:\d{4}|\d\d)|(?:19|20)\d\d[-/]\d\d?[-/]\d\d?"
)
_MORE_DIGITS = re.compile(rb"[.,:]\d|\d|%")
_EC_OR_VERSION = re.compile(rb"(?i)\b(?:ec|v|ver|version|section|sec|table|figure|fig|chapter)[ :.]{0,2}$")
_IP_LABEL = re.compile(rb"(?i)\bip(?:v[46])?(?: ?addr(?:ess)?)?[ :=]{1,3}$")
_CONTRACT = re.compile(rb"(?i)(?:\b(?:contract|grant|award|rfp)(?: (?:no|number)s?)?[ :.#]{0,3}|#)\s?$")
_RANGE = re.compile(rb"\d\s?(?:-|\xe2\x80[\x90-\x95]|\s(?:to|and|through)\s)\s?$")
_CITY = re.compile(rb"(?:,\s?|\b[A-Z][A-Za-z.]+\s)$")


def anything(_before: bytes, _value: bytes, _after: bytes) -> bool:
    """The pattern is enough."""
    return True


def numeric_date(before: bytes, value: bytes, after: bytes) -> bool:
    """A day that exists, in either order, that is not part of a longer number and not a quantity."""
    numbers = [int(number) for number in re.findall(rb"\d+", value.split(b"T")[0])]
    separator = re.search(rb"[/.-]", value)
    assert separator is not None
    sign = separator[0]
    if before[-1:] in (b"/", b"$", b"+", b"\\") or re.search(rb"\d\.$", before):
        return False
    if sign == b"-" and (before[-1:] == b"-" or after[:1] == b"-"):
        return False
    if re.match(rb"/|\.\d|%", after) or (sign != b"/" and re.match(rb"-\d", after)):
        return False
    if numbers[0] >= 1000:
        return True
    first, second, year = numbers
    low, high = sorted((first, second))
    if low < 1 or low > 12 or high > 31:
        return False
    if year >= 1000:
        return True
    # Two digits of a year: section numbers have points, ranges have dashes and are not padded, doses have units.
    padded = b"0" in (value[:1], value[-2:-1]) or sign + b"0" in value
    if sign == b"." or (sign == b"-" and year < 32 and not padded):
        return False
    return _QUANTITY.match(after) is None


def written_date(before: bytes, value: bytes, after: bytes) -> bool:
    """A date with the name of its month: no gene (``Oct-4``), no quantity after a month's end (``May 10 mg``)."""
    if re.search(rb"\d[.,]$", before):  # 2.5 May
        return False
    if _ATTACHED.fullmatch(value):
        return before[-1:] not in (b"/", b"_") and not re.match(rb"[.:]\d|%", after)
    if re.search(rb"\D[-/_]$", before):
        return False
    if not value[-1:].isdigit():
        return re.match(rb"-?\d", after) is None
    has_year = value[-3:-2].isdigit()
    if _JOINED.match(after) or _MORE_DIGITS.match(after):
        return has_year and re.match(rb":\d", after) is not None  # a citation: 2001 May 5:23
    return has_year or _QUANTITY.match(after) is None


def month_and_year(before: bytes, _value: bytes, after: bytes) -> bool:
    """``03/2001``, and not ``03/2001 patients``, ``No. 03/2001`` or a part of a longer number."""
    if before[-1:] in (b"/", b".", b"-", b",") or _NUMBER_BEFORE.search(before):
        return False
    return re.match(rb"[/%]|[.,-]\d|\s?\(", after) is None and _QUANTITY.match(after) is None


def month_and_day(_before: bytes, value: bytes, after: bytes) -> bool:
    """``5/3`` beside a word that a date stands by, and not a fraction, a score or a count."""
    month, day = map(int, value.split(b"/"))
    if len(value) == 3 and month < day and day in (2, 3, 4, 5, 8):
        return re.match(rb"\s?(?:[,;.]\s|\)|\n|patient\b|at\b)", after) is not None
    return re.match(rb"[/%]|[.,-]\d|-[a-z]|\s?\(", after) is None and _QUANTITY.match(after) is None


def identifier(_before: bytes, value: bytes, after: bytes) -> bool:
    """A value with four digits or more that is neither a year nor a date nor a decimal."""
    return _digits(value) >= 4 and re.match(rb"[.,]\d", after) is None and _YEAR_OR_DATE.fullmatch(value) is None


def long_identifier(before: bytes, value: bytes, after: bytes) -> bool:
    """An identifier of five digits or more: ``patient 12`` is a place in a table."""
    return _digits(value) >= 5 and identifier(before, value, after)


def plate(_before: bytes, value: bytes, after: bytes) -> bool:
    """A number plate: three digits or more."""
    return _digits(value) >= 3 and re.match(rb"[./]\d", after) is None


def social_security(before: bytes, value: bytes, after: bytes) -> bool:
    """Nine digits that the administration may have given out (no 000, 666 or 9xx, no 00, no 0000), or their last four."""
    digits = re.sub(rb"[ -]", b"", value)
    if before[-1:] in (b"-", b".", b"/") or re.match(rb"[-./]\d", after) or _CONTRACT.search(before):
        return False
    if not digits.isdigit():
        return True
    return digits[:3] not in (b"000", b"666") and digits[:1] != b"9" and digits[3:5] != b"00" and digits[5:] != b"0000"


def labelled_phone(_before: bytes, value: bytes, _after: bytes) -> bool:
    """Seven to fifteen digits (ITU-T E.164) behind a label, and no row of a table (``mobile phone 94 (63.0) 92``)."""
    return 7 <= _digits(value) <= 15 and value.count(b"(") == value.count(b")") and not re.search(rb"\(\d+\.", value)


def american_phone(before: bytes, value: bytes, after: bytes) -> bool:
    """A number of the North American plan (area code and exchange begin with 2 to 9) that stands alone.

    Written with spaces only it could be three numbers of a table, so it must also be one that is given out.
    """
    if before[-1:] in (b"-", b".", b"/", b",") or re.match(rb"[-./,%]\d", after):
        return False
    digits = re.sub(rb"\D", b"", re.split(rb"(?i)[x,e]", value)[0])[-10:]
    if digits[0] in b"01" or digits[3] in b"01":
        return False
    if re.search(rb"[^\d ]", value):
        return True
    if re.search(rb"\d\s$", before) or re.match(rb"\s\d", after):
        return False
    return phonenumbers.is_valid_number(phonenumbers.parse(digits.decode(), "US"))


def world_phone(before: bytes, value: bytes, after: bytes) -> bool:
    """A number with its country code that is given out there."""
    if not re.match(rb"[\s(\[\]:;,/>\"'=]?$", before[-1:]) or re.match(rb"[.,]\d|[#%]", after):
        return False
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(value.decode(), None))
    except phonenumbers.NumberParseException:
        return False


def ip_address(before: bytes, value: bytes, after: bytes) -> bool:
    """An address that ``ipaddress`` takes, and no version, section or enzyme number, time or ratio."""
    if re.search(rb"[\w.:-]$", before) or re.match(rb"[.:]?\w" if b":" in value else rb"\.?\w", after):
        return False
    try:
        ipaddress.ip_address(value.decode())
    except ValueError:
        return False
    if _IP_LABEL.search(before):
        return True
    if _EC_OR_VERSION.search(before):
        return False
    if b":" in value:
        groups = [group for group in value.split(b":") if group]
        return len(groups) >= 3 and any(len(group) >= 3 for group in groups) and _digits(value) > 0
    numbers = [int(number) for number in value.split(b".")]
    return numbers[0] > 7 and max(numbers) >= 100  # enzyme classes are 1 to 7, sections have small numbers


def zip_after_label(_before: bytes, _value: bytes, after: bytes) -> bool:
    """A ZIP code behind its label, not the start of a longer number."""
    return re.match(rb"[.,]\d", after) is None


def zip_after_state(before: bytes, _value: bytes, after: bytes) -> bool:
    """A ZIP code behind a state that stands behind a town or a comma: ``in PA 12000 patients`` is none."""
    head = before.rstrip(b" \t\n\xc2\xa0,")
    short = re.search(rb"[A-Z]{2}$", head) is not None
    town = re.sub(rb"(?:[A-Z]{2}|(?:(?:New|North|South|West|Rhode) )?[A-Z][a-z]+)$", b"", head)
    if re.match(rb"[.,-]\d|%", after) or _QUANTITY.match(after):
        return False
    return re.search(rb",\s?$", town) is not None or (short and _CITY.search(town) is not None)


def age(before: bytes, _value: bytes, _after: bytes) -> bool:
    """An age, not the end of a decimal, an amount or a range: ``65-90 years of age`` is no one's age."""
    return before[-1:] not in (b".", b",", b"$", b"/") and _RANGE.search(before) is None


def age_alone(before: bytes, value: bytes, after: bytes) -> bool:
    """An age behind ``aged``: not in months or days, not a decimal, not the first of several numbers."""
    unit = re.match(rb"(?:\s|-)?(?:days?|d|weeks?|wks?|months?|mos?|hours?|hrs?|min)\b", after)
    return unit is None and re.match(rb"[.,]\d|%|/\d|\s\d", after) is None and age(before, value, after)


def trimmed_url(value: bytes) -> bytes:
    """A URL without the points, commas and closing signs of the sentence around it."""
    end = len(value)
    surplus = value.count(b")") - value.count(b"(")
    while value[end - 1] in b".,;:!?'*_" or (value[end - 1 : end] == b")" and surplus > 0):
        surplus -= value[end - 1 : end] == b")"
        end -= 1
    return value[:end]


def _digits(value: bytes) -> int:
    return sum(48 <= byte <= 57 for byte in value)
