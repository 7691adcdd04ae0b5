#!/usr/bin/env bash
# A server that comes up unlocked: the slot's key as systemd's credential, sealed to this host or to its TPM (the first
# argument), and every way in which it does not open; and a machine that is about to sleep.
. "$(dirname "$0")/installed.sh"
seal=$1 file=/etc/credstore.encrypted/vault-key

# tpm STATE: a TPM in software, switched on anew. There is no resource manager before it, as a kernel has one, so what
# systemd leaves in it would fill it up after a few uses.
tpm() {
    [ "$seal" = tpm2 ] || return 0
    mkdir -p "/run/tpm-$1"
    systemctl -q stop tpm 2>/dev/null || true
    rm -f /run/swtpm /run/swtpm.ctrl
    systemd-run -q --unit=tpm --collect /usr/bin/swtpm socket --tpm2 --tpmstate "dir=/run/tpm-$1" \
        --server type=unixio,path=/run/swtpm --ctrl type=unixio,path=/run/swtpm.ctrl --flags not-need-init,startup-clear
    until_it_is "the TPM is there" test -S /run/swtpm
}
restart_keyd() { tpm ours; systemctl restart strongroom-keyd; }

if [ "$seal" = tpm2 ]; then
    # Where systemd was told to look for one (SYSTEMD_TPM2_DEVICE of the box).
    tpm ours
    export SYSTEMD_TPM2_DEVICE=swtpm:path=/run/swtpm
else
    systemd-creds setup >/dev/null 2>&1
fi
begin
strongroom slot add credential --with-key="$seal" 2>/dev/null && echo "added: $(stat -c '%U %a' "$file"), $(strongroom slot list | cut -f 2 | tr '\n' ' ')"
! grep -q "$key" "$file" && echo "the file is no key"
{ strongroom slot add credential --with-key="$seal" 2>&1 || true; } | grep -o "it is there already"
strongroom lock
echo "locked by an admin: $(state), $(ask /v1/x)"

restart_keyd
until_it_is "keyd serves again" serves
echo "started again: $(state), $(ask /v1/x)"
kill -KILL "$(pid keyd)"
until_it_is "keyd serves after a crash" serves
echo "after a crash: $(state)"
echo "on record: $(strongroom audit --json | grep -c '"event":"vault.unlock"' | sed 's/^[3-9]$/each time/')"
strongroom agent add nobody --passphrase-file /dev/null 2>/dev/null || echo "and gives no access: $?"
systemd-cat echo "a canary for the journal"
until_it_is "the journal has a canary" in_journal "a canary for the journal"
in_journal "$key" || echo "the journal has a canary and no key"

if [ "$seal" = tpm2 ]; then
    # Another machine: the file is there, the TPM is another.
    tpm ours
    systemd-creds decrypt --name=vault-key "$file" - >/run/opened 2>/dev/null && echo "with its TPM: $(stat -c %s /run/opened) bytes"
    tpm another
    systemd-creds decrypt --name=vault-key "$file" - >/run/opened 2>/dev/null || echo "with another TPM: does not open"
    exit
fi

# The slot is gone: its credential opens nothing, and keyd starts all the same.
strongroom slot remove "$(strongroom slot list | grep credential | cut -f 1)" --yes 2>/dev/null
restart_keyd
echo "removed: $(state), $(journalctl -q -b -o cat -u strongroom-keyd | grep -o 'opens no slot of this vault' | tail -n 1)"
strongroom unlock
rm "$file"

# A credential that is none of ours, and none at all.
printf 'not a key' | systemd-creds encrypt --with-key="$seal" --name=vault-key - "$file" 2>/dev/null
restart_keyd
echo "another credential: $(state), $(journalctl -q -b -o cat -u strongroom-keyd | grep -o 'is not one of ours' | tail -n 1)"
rm "$file"
restart_keyd
echo "none: $(state)"

# Sleep: the target that systemd reaches before it, without the sleep itself.
before_sleep() { systemd-run -q --wait --collect -p Wants=sleep.target -p After=sleep.target true; systemctl -q stop sleep.target 2>/dev/null || true; }
strongroom unlock
systemctl -q enable strongroom-suspend.service
echo "awake: $(state), $(ask /v1/x)"
before_sleep
echo "before it sleeps: $(state)"
# The gateway first: it would ask for keyd, and have it started.
systemctl -q stop strongroom-gatewayd strongroom-keyd
before_sleep
echo "a keyd that was stopped stays so: $(property keyd.service ActiveState)"
