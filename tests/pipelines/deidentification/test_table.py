"""What becomes a tag and what stays, kind by kind."""

from __future__ import annotations

import pytest

from pipelines.deidentification import DeidentificationConfig, Redactor
from pipelines.deidentification.config import SAFE_HARBOR

REDACTOR = Redactor(DeidentificationConfig(kinds=(*SAFE_HARBOR, "name")))

FOUND = {
    "date": """
        seen on {3/12/1992} in clinic
        seen on {03-12-92} in clinic
        fever {3/4/92}-{3/10/92} at home
        am {3.5.2001} aufgenommen
        drawn {2001-05-03}
        logged {2001-05-03T12:30:05Z}
        drawn {2001/5/3}, repeated
        given {12MAY92}-fever
        given {12-May-1992}
        given {12 May 92}
        given {7Jan95} and {3jul}
        from {23JUL}-{25JUL}
        exam in {JUL92} normal
        born {May 5, 2001}.
        born {May 5th, 2001}
        born {5 May 2001}
        born {5th of May, 2001}
        on {March 3}, he fell
        on {3 March}, he fell
        in {May 2001} she
        from {May to June 2001} she
        from {May 5-10, 2001} she
        ({Dec. 2011}-{Oct. 2012})
        since {Mar-92} she
        in {Aug '97} she
        J Med {2001 May 5};23:45
        moved in {03/2001} to
        on {7/17} pt had numerous lesions
        {11/14} pt saw MD
        DOB: {1/2/1930}
        12 mg on {May 5}
        on {June\u00a05, 2001} she
        on {SEPTEMBER 11, 2001} she
        the {september 11, 2001} attack
    """,
    "phone": """
        call {412-555-0123} now
        call {(412) 555-0123} now
        call {412.555.0123} now
        call {1-800-232-4636} now
        call {+1 412 555 0123}.
        call {412-555-0123 x12} now
        call {412\u2013555\u20130123} now
        Tel: {+44 20 7946 0958}
        ({+49 30 901820})
        Phone: {5554567}
        Phone number is {555-4567}
        telephone {020 7946 0958}, London
        call {555-4567} for help
        Tel. {4125550123}
        pager # {412 555 0123}
        home ({412 624 4141})
    """,
    "fax": "Fax: {412-555-0123}\n fax {(412) 555-0123}\n FAX number {4125550123}\n facsimile: {+44 20 7946 0958}",
    "email": """
        write to {john.doe@example.org}.
        <{a_b+c@mail.example.co.uk}>
        mailto:{x@y.edu}
        E-mail:{JOHN@EXAMPLE.COM};
        ({j-d@ex-ample.org})
        \u00e9crire \u00e0 {jean@exemple.fr}
    """,
    "url": """
        see {http://example.org/a?b=c#d}.
        see {https://example.org}, then
        ({www.example.org/a_(b)})
        ({https://example.org})
        at {HTTP://EXAMPLE.ORG/X}
        {ftp://example.org/pub}
        \u89c1{https://example.org/\u9875}
    """.replace("\u9875}", "}\u9875"),
    "ip": """
        from {192.168.1.20} at
        from {10.0.0.254}.
        IP: {10.0.0.1}
        IP address 8.8.8.8 is no label with a sign
        ipv6 {2001:db8::8a2e:370:7334}
        {2001:0db8:85a3:0000:0000:8a2e:0370:7334}
        host {203.0.113.7}:8080
    """.replace("        IP address 8.8.8.8 is no label with a sign\n", "        IP address {8.8.8.8} here\n"),
    "ssn": """
        id {123-45-6789}.
        SSN {123-45-6789}
        SSN: {123456789}
        social security number is {123 45 6789}
        Social Security No. {123-45-6789}
        SSN xxx
        SSN {xxx-xx-6789}
    """.replace("        SSN xxx\n", ""),
    "mrn": """
        MRN: {1234567}
        MRN {A123456}
        mrn #{12-34-567}
        Medical record number: {00123456}
        medical record no. {12345}
        MR# {123456}
        patient ID: {1234567}
        chart number {AB-123456}
        hospital no: {123456}
    """,
    "account": "account number {123456789}\n Acct #: {12-3456}\n account no. {4567A}\n ACCOUNT: {998877}",
    "health_plan": """
        Medicaid number {123456789A}
        member ID: {ABC123456}
        policy no. {SC1919X110VR/423}
        insurance #{1234567}
        subscriber id {W123456789}
        Medicare No: {1EG4-TE5-MK73}
    """,
    "license": """
        license number {D1234567}
        DEA# {AB1234563}
        licence no. {123456}
        certificate number {12-3456}
        NPI: {1234567893}
    """,
    "vehicle": "VIN {1HGCM82633A004352}\n license plate: {ABC 1234}\n VIN: {WAUZZZ8K9BA123456}\n plate number {7ABC123}",
    "device": "serial number {SN123456}\n S/N: {1904-022}\n serial no. {00363}\n device ID {12345-AB}\n Serial #: {52079}",
    "zip": """
        Pittsburgh, PA {15213}
        Boston MA {02115-1234}
        ZIP {15213}
        zip code: {15213-4567}.
        Stanford, California {94305}, USA
        Buffalo, New York {14203}
        BOSTON, MA  {02115}
    """,
    "age": """
        a {92}-year-old woman
        a {92} year old woman
        a {95} y/o male
        a {95}yo male
        {97} y.o. man
        aged {101}, she
        age: {90}
        Age {94} and well
        {93} years of age
        a {103}\u2013year\u2013old man
        a {ninety-two-year-old} man
        {ninety} years old
        my mother is {96} yrs old
    """.replace("{ninety-two-year-old}", "{ninety-two}-year-old"),
    "name": """
        seen by Dr. {Smith} today
        Mrs. {Mary Jones} was
        Mr {O'Brien} left
        Dr. {J. R. Smith-Jones} and
        Prof. {Miller} said
    """,
}

KEPT = """
    BP 120/80, pulse 72; BP 130/80-90
    took 5-10 mg daily, then 10-20-30 mg
    1.5 mg/kg every 8 h
    J Med 2001;23:45-50
    (2001;23(4):1234-1240)
    p = 0.0001, P<.05, 95% CI 1.10-2.95
    Na 140, K 3.5, WBC 12,500/mm3, Hgb 8.4
    ICD-10 E11.65 and A41.9; ICD-9 250.00
    Oct-4, OCT4, SOX2 and c-MYC; SEPT9 and SEPT12; DEC1; MARCH5
    c-Jun, JUN and FOS; IL-1 and IL-12; VO2max
    section 3.4.21.5 and 1.2.3.4; version 10.12.192.1
    EC 3.4.21.105, EC 2.7.11.1
    the patients may 5 times
    in May and in March, May 10 mg be given, may 12 patients
    the May 12-week study
    1/2 tablet, 3/4 of them, on 2/10 patients, 12/24 (50%), on 1/2 of
    grade 3/4 toxicity, visual acuity 20/20, 6/9
    2016-01-003-004 and 2013-54-0344
    12/31/14/6 responses, 5/24/5/2 of 99
    a 45-year-old woman, aged 89, 89 years old
    aged 90 days, aged 95 months, 99% of 100 years
    aged 18-95 years, 65-90 years of age, 95 years and older
    follow-up of 100 years; 92.5 years old
    23.90 years old
    (M = 58.95 years)
    page 1234-5678, ISSN 1234-5678, ISBN 978-3-16-148410-0
    CAS 50-78-2 and 7732-18-5
    NCT01234567, ISRCTN79186420, PMID 33784365
    doi:10.1186/1471-2458-5-12 and 10.1371/journal.pone.0249219
    0.820.3203 and 641.2915, 620 678 1351 856 752 4014
    contract #200-76-0671, grant no. 123-45-6789, 000-12-3456, 987-65-4321
    1:1:1:1 ratio at 12:30:45
    std::vector a::b dead::beef fe::de
    vital@work, AI@75, 5 mg @ 8 pm
    HTTP and WWW protocols
    patient 12, patient no. 3, patient number 104
    account for 6000 cases, taken into account 12345
    policy 2004, policy in 2005, license CC BY 4.0, certificate 1999
    member 3 of the family 12345; serial 10-fold dilutions; device 3
    in PA 12000 patients, the CT 64000 voxels, CK 26590, BP 11070, AL 10000 mg
    Dr. med., the doctor and the miss; Mr. and Mrs.
    platelets 70000, PLATE = 70000
    mobile phone 94 (63.0) 92 (54.1)
    cell 1000 000, cell 555 1234, called 555 patients
    fax machines 1234, phone calls 12345678 times
    1,412-555 and $412-555.01
    no identifiers at all
"""


def cases() -> list[tuple[str, str, str]]:
    """Kind, text, and the text expected."""
    found = []
    for kind, lines in FOUND.items():
        for line in lines.strip("\n").split("\n"):
            if line.strip():
                tagged = line.strip()
                while "{" in tagged:
                    head, _, rest = tagged.partition("{")
                    tagged = f"{head}[{kind.upper()}]{rest.partition('}')[2]}"
                found.append((kind, line.strip().replace("{", "").replace("}", ""), tagged))
    return found


@pytest.mark.parametrize(("kind", "text", "tagged"), cases())
def test_identifiers_become_tags(kind: str, text: str, tagged: str) -> None:
    redacted = REDACTOR.redact_one(text)
    assert redacted.text == tagged
    assert redacted.counts == {kind: tagged.count(f"[{kind.upper()}]")}
    assert REDACTOR.redact_one(redacted.text).text == redacted.text


@pytest.mark.parametrize("text", [line.strip() for line in KEPT.strip().split("\n")])
def test_what_medicine_is_full_of_stays(text: str) -> None:
    assert REDACTOR.redact_one(text).text == text
    assert REDACTOR.redact_one(text).counts == {}


@pytest.mark.parametrize(
    ("text", "tagged"),
    [
        ("Seen 3/12/1992, then May 2001", "Seen [DATE 1992], then [DATE 2001]"),
        ("Seen 12MAY92 and on 5/3.", "Seen [DATE] and on [DATE]."),
    ],
)
def test_the_year_can_stay(text: str, tagged: str) -> None:
    redactor = Redactor(DeidentificationConfig(keep_year=True))
    assert redactor.redact_one(text).text == tagged
    assert redactor.redact_one(tagged).text == tagged


def test_only_the_kinds_asked_for() -> None:
    text = "Dr. Smith, 412-555-0123, a@b.org, 3/12/1992"
    assert Redactor(DeidentificationConfig(kinds=("email",))).redact_one(text).text == text.replace(
        "a@b.org", "[EMAIL]"
    )
    assert Redactor(DeidentificationConfig()).redact_one(text).text == "Dr. Smith, [PHONE], [EMAIL], [DATE]"
