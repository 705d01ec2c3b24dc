#!/usr/bin/python3
"""A content filter for the engine "exec", in Python with the standard library only. See doc/filter.md.

The message is on standard input, the envelope in the environment. Answers go to descriptor 3, changed content to standard
output; without either the message passes unchanged.

  - text that is a known test of virus scanners, also inside attachments: refused
  - a subject that begins with [archive]: a copy goes to the archive
  - headers that begin with X-Internal- : removed, when the message comes from outside
"""

import email
import email.policy
import os
import sys

EX_TEMPFAIL = 75
EICAR = b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
ARCHIVE = "archive@example.com"


def answer(line):
    os.write(3, line.encode("utf-8", "replace") + b"\n")


def has_virus(message):
    """Parts are looked at decoded: base64 hides nothing from us."""
    for part in message.walk():
        if not part.is_multipart() and EICAR in (part.get_payload(decode=True) or b""):
            return True
    return False


def without_internal_headers(raw):
    """The header lines alone are edited, so that the rest stays byte for byte what it was."""
    header, separator, body = raw.partition(b"\n\n")
    kept, drops = [], False
    for line in header.split(b"\n"):
        if not line[:1].isspace():
            drops = line.lower().startswith(b"x-internal-")
        if not drops:
            kept.append(line)
    return b"\n".join(kept) + separator + body


def main():
    raw = sys.stdin.buffer.read()
    message = email.message_from_bytes(raw, policy=email.policy.compat32)

    if has_virus(message):
        answer("INFO test virus for " + os.environ["RECIPIENT_1"])
        answer("REJECT 554 5.7.1 virus found")
        return 0
    if str(message.get("Subject", "")).startswith("[archive]"):
        answer("BCC " + ARCHIVE)
    if not os.environ["CLIENT_ADDRESS"].startswith("127."):
        changed = without_internal_headers(raw)
        if changed != raw:
            sys.stdout.buffer.write(changed)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, MemoryError, ValueError) as fault:
        print(fault, file=sys.stderr)  # goes to the mail log
        sys.exit(EX_TEMPFAIL)
