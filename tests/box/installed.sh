# A Strongroom that systemd runs inside the box, with a provider beside it, and what the scripts ask of both. Sourced by
# the other files. The scripts print a line for each case, which tests/tests/box.rs compares.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/install.sh"
export STRONGROOM_PASSPHRASE_FILE=/run/passphrase
printf 'correct horse battery staple' >/run/passphrase
key=sk-test-0123456789abcdefghijklmnop
ip link set lo up

# until WHAT COMMAND...: waits until the command succeeds; what never comes is a line of its own.
until_it_is() {
    local what=$1 deadline=$((SECONDS + 40))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "never: $what"; return 0; }
        sleep 0.05
    done
}

# provide: a provider called api.box.test at 127.0.0.1:8443, with a certificate authority of its own.
provide() {
    mkdir -p /run/provider
    (
        cd /run/provider
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -days 2 -subj '/CN=box' -addext keyUsage=keyCertSign -out ca.pem
        openssl ecparam -name prime256v1 -genkey -noout -out leaf.key
        openssl req -new -key leaf.key -subj '/CN=api.box.test' -out leaf.csr
        printf 'subjectAltName=DNS:api.box.test,DNS:api.openai.com\nextendedKeyUsage=serverAuth\n' >extensions
        openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out leaf.pem
        printf %s "$key" >expected
    ) 2>/dev/null
    systemd-run -q --unit=provider /usr/bin/python3 "$repository/tests/box/upstream.py" \
        8443 /run/provider/leaf.pem /run/provider/leaf.key /run/provider/expected
}

# begin: installed, with a vault, running and unlocked; an agent called coder and its placeholder in $placeholder.
begin() {
    install_strongroom
    provide
    strongroom init 2>/dev/null
    printf '[resolve]\n"api.box.test" = "127.0.0.1:8443"\n' >/etc/strongroom/gatewayd.toml
    systemctl -q enable strongroom-keyd.service strongroom-gatewayd.service
    # 'init' has started both, and the gateway before it had this file.
    systemctl reload strongroom-gatewayd
    strongroom unlock
    printf %s "$key" | strongroom credential add box --host api.box.test --bearer --ca /run/provider/ca.pem
    strongroom agent add coder >/dev/null
    placeholder=$(strongroom grant add box --agent coder)
    until_it_is "the gateway serves" serves
}

# ask PATH [CURL ARGUMENT...]: what a request of coder's brings, in a line.
ask() {
    local path=$1
    shift
    curl -s --max-time 60 "$@" -H "Authorization: Bearer $placeholder" "http://127.0.0.1:7777/box$path" | tail -n 1 |
        sed -E 's/.*"code":"([a-z_]*)".*/\1/'
}
# The same behind a crash, after which limits begin empty: what is left of the first second is waited for.
patiently() {
    until_it_is "a request is within its limit" within_its_limit
    ask "$@"
}
within_its_limit() { sleep 1; [ "$(ask /v1/x)" != rate_limited ] && sleep 1; }
serves() { [ "$(ask /v1/x)" = 'the key came' ]; }
answers() { [ "$(ask /v1/x)" = "$1" ]; }

# Of a unit: its process, a property, how often it was started again.
pid() { systemctl show -P MainPID "strongroom-$1.service"; }
property() { systemctl show -P "$2" "strongroom-$1"; }
sockets() { for one in keyd admin gateway tcp; do property "$one.socket" SubState; done | sort | uniq -c | sed 's/^ *//'; }
state() { strongroom status --json | grep -o '"state": *"[a-z]*"' | cut -d'"' -f4; }

# in_journal TEXT: whether anything wrote it there. Over a file: a pipe into grep -q fails where it finds early.
in_journal() {
    journalctl -q -b -o cat >/run/journal
    grep -qaF -- "$1" /run/journal
}
