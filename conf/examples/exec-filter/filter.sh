#!/bin/sh
# A content filter for the engine "exec", in POSIX shell. The message is on standard input, the envelope in the environment,
# answers go to descriptor 3; what is not said otherwise passes unchanged. See doc/filter.md.
#
#   - attachments with the name of a Windows program: refused
#   - mail to more than 20 recipients: into the hold queue, for a human to look at
#   - everything else: marked with a header
#
# Trouble of its own ends with status 75: the client is asked to come again.
set -u

answer() {
    printf '%s\n' "$*" >&3
}

# A pipe cannot be read twice.
message=$(mktemp) || exit 75
trap 'rm -f "$message"' EXIT
cat >"$message" || exit 75

if grep -Eiq 'name="?[^";]*\.(exe|scr|com|bat|js|vbs)("|;|$)' "$message"; then
    answer "REJECT 554 5.7.1 attachments that are programs are not accepted here"
    exit 0
fi

if [ "$RECIPIENT_COUNT" -gt 20 ]; then
    answer "HOLD $RECIPIENT_COUNT recipients"
fi

answer "PREPEND X-Filtered: $QUEUE_ID ($MESSAGE_SIZE bytes)"
exit 0
