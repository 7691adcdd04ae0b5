#!/usr/bin/env bash
# A person who logs in: the user's manager starts, and with it the unit that unlocks from the keychain, which is still
# locked then. The keyring is the system's own, as its units and its bus start it.
. "$(dirname "$0")/installed.sh"
install_strongroom
rm -rf /etc/strongroom
useradd --create-home --shell /bin/bash person
uid=$(id -u person)
chmod 644 /run/passphrase
systemctl start dbus.socket systemd-logind

# A login as PAM and logind make it; it lasts as long as its command.
login() { su --login person -c "export STRONGROOM_PASSPHRASE_FILE=/run/passphrase; $1" </dev/null; }
# The password of the login unlocks the keyring, in place of the one that D-Bus has started; at the first time it makes it.
unlock_keyring='printf "a password" | gnome-keyring-daemon --replace --unlock --components=secrets >/dev/null'
logged_out() { [ "$(systemctl is-active "user@$uid.service")" = inactive ]; }

login "set -e
    strongroom init 2>/dev/null
    systemctl --user -q enable --now strongroom-keyd.service strongroom-unlock.service 2>/dev/null
    $unlock_keyring
    strongroom unlock
    strongroom slot add keychain 2>&1 | grep -o 'the Secret Service'"
# A keyring that was started in a login keeps it.
loginctl terminate-user person
until_it_is "the first login is over" logged_out
echo "logged out: keyd runs $(pgrep -c -u person strongroom-keyd || true) times"

cat >/run/second <<'SECOND'
state() { strongroom status --json | grep -o '"state": *"[a-z]*"' | cut -d'"' -f4; }
unit() { systemctl --user show -P "$1" strongroom-unlock.service; }
until_it_is() { for _ in $(seq 400); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done; echo "never: $*"; }
waits() { journalctl --user -q -b -o cat -u strongroom-unlock | grep -x 'waiting for the keychain to be unlocked.'; }
opened() { [ "$(state)" = unlocked ]; }
ended() { [ "$(unit ActiveState)" = inactive ]; }
SECOND
login ". /run/second
    until_it_is waits
    echo \"logged in: \$(unit ActiveState), \$(state), default.target \$(systemctl --user is-active default.target)\"
    $unlock_keyring
    until_it_is opened
    until_it_is ended
    echo \"the keyring is unlocked: \$(state), the unit \$(unit Result)\"
    strongroom agent add nobody --passphrase-file /dev/null 2>/dev/null || echo \"and that gives no access: \$?\""
