# What the scripts share: how they speak, and which Python they use. Sourced, never run.
# shellcheck shell=bash

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Say what is missing and what to do, then end: die WHAT WHAT_TO_DO
die() {
    printf '%s: %s\n  %s\n' "${0##*/}" "$1" "$2" >&2
    exit 1
}

# Print the path of a Python >= 3.11. The system's comes first: its libraries and its users can be relied
# on, where a version manager's lives in somebody's home.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.{13,12,11} "$(command -v python3 || true)"; do
        if [ -x "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer was found" "Install python3 from Debian 12, Ubuntu 24.04 or newer."
}

# Build an image unless the store has it: ensure_image NAME [RECIPE OPTIONS...]; the recipe is NAME's by default.
ensure_image() {
    local name=$1
    shift
    if ! .venv/bin/banger image show "$name" >/dev/null 2>&1; then
        say "building the image $name from Debian packages (once)"
        .venv/bin/banger image build "${@:-$name}" --name "$name"
    fi
}
