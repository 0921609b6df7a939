"""check.py FOLDER SCAN...: whether what testssl.sh found in FOLDER/SCAN.json is good. One line a scan and a finding."""

import json
import re
import sys
from pathlib import Path

# Good findings; INFO tells a fact. Whatever else there is fails, also WARN (something could not be tested) and
# severities of a later testssl.sh.
GOOD = {"OK", "INFO", "DEBUG"}

# Findings about the certificate or the machine of this test, not about the hub: id, what it says, why it does not count.
ALLOWED = [
    ("cert_revocation", "Neither CRL nor OCSP URI provided", "the authority was made for this run and revokes nothing"),
    ("engine_problem", "No engine or GOST support", "Debian's openssl cannot offer GOST; the hub does not have it"),
    (
        "sessionresumption_ticket",
        "^check failed because of connect problem$",
        "testssl.sh 3.0 hangs up before the ticket of TLS 1.3 has come, and has none to show then; the tests of the hub "
        "resume sessions",
    ),
]

# Tests that must have run; without them a scan that broke off would look good.
NEEDED = {
    "SSLv2",
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "ALPN",
    "cipherlist_NULL",
    "cipherlist_aNULL",
    "cipherlist_EXPORT",
    "cipherlist_LOW",
    "cipherlist_3DES_IDEA",
    "PFS",
    "cert_keySize",
    "cert_signatureAlgorithm",
    "cert_chain_of_trust",
    "cert_trust",
    "heartbleed",
    "CCS",
    "ticketbleed",
    "ROBOT",
    "secure_renego",
    "secure_client_renego",
    "CRIME_TLS",
    "BREACH",
    "POODLE_SSL",
    "fallback_SCSV",
    "FREAK",
    "DROWN",
    "LOGJAM",
    "BEAST",
    "LUCKY13",
    "RC4",
    "HSTS_time",
    "X-Content-Type-Options",
}

# Not run where only TLS 1.3 is offered.
NEEDED_1_2 = {"SWEET32", "TLS_session_ticket"}

# What a scan must have found, so that it is known to have met the hub as it was configured.
FOUND = {
    "ec": [("TLS1_2", "offered"), ("TLS1_3", "offered"), ("TLS1_1", "not offered"), ("cert_keySize", "EC 256")],
    "rsa": [("TLS1_2", "offered"), ("TLS1_3", "offered"), ("TLS1_1", "not offered"), ("cert_keySize", "RSA 3072")],
    "strict": [("TLS1_2", "not offered"), ("TLS1_3", "offered"), ("TLS1_1", "not offered")],
}


def allowed(finding):
    return any(i == finding["id"] and re.search(what, finding["finding"]) for i, what, _ in ALLOWED)


folder = Path(sys.argv[1])
passed = failed = 0


def tell(scan, name, problems):
    global passed, failed
    if problems:
        failed += 1
        print(f"FAILED testssl {scan}: {name}: " + "; ".join(problems))
    else:
        passed += 1
        print(f"ok testssl {scan}: {name}")


for scan in sys.argv[2:]:
    broken = folder / f"{scan}.broken"
    try:
        findings = json.loads((folder / f"{scan}.json").read_text())
    except (OSError, ValueError) as error:
        tell(scan, "it was finished", [str(error)])
        continue
    ids = {finding["id"] for finding in findings}
    needed = NEEDED if scan == "strict" else NEEDED | NEEDED_1_2
    missing = needed - ids
    problems = [f"no {name}" for name in sorted(missing)]
    tell(scan, "it was finished", problems + ([broken.read_text().strip()] if broken.exists() else []))
    seen = {finding["id"]: finding["finding"] for finding in findings}
    wrong = [f"{i}: {seen.get(i)}" for i, start in FOUND[scan] if not seen.get(i, "").startswith(start)]
    tell(scan, "it met the hub as configured", wrong)
    weak = [f for f in findings if f["severity"] not in GOOD and not allowed(f)]
    tell(scan, f"no weakness in {len(findings)} findings", [f"{f['severity']} {f['id']}: {f['finding']}" for f in weak])

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
