# A Strongroom inside the box, and what its scripts say. Sourced by the other files; PROGRAMS is where the programs are.
set -euo pipefail
export STRONGROOM_HOME=/run/sr STRONGROOM_PASSPHRASE_FILE=/run/passphrase
printf 'correct horse battery staple' >/run/passphrase
s=$PROGRAMS/strongroom

# start LISTEN...: both daemons, unlocked, with a credential called openai whose host nobody can reach here.
start() {
    "$s" init >/dev/null 2>&1
    local list
    list=$(printf ', "%s"' "$@")
    printf 'listen = [%s]\n' "${list:2}" >"$STRONGROOM_HOME/config/gatewayd.toml"
    "$s" up >/dev/null 2>&1
    "$s" unlock
    echo -n sk-test-0123456789abcdefghijklmnop | "$s" credential add openai --provider openai
    trap '"$s" down >/dev/null 2>&1' EXIT
}

# grant AGENT: its placeholder. Every request is judged to the end and then not allowed: that is how a good one is known.
grant() { "$s" grant add openai --agent "$1" --allow 'GET /nothing'; }

# The code in an answer.
code() { grep -o '"code":"[a-z_]*"' | cut -d'"' -f4; }
