#!/usr/bin/env bash
# One user's Strongroom under 'systemctl --user'.
. "$(dirname "$0")/installed.sh"
install_strongroom
# The system's are not used here.
rm -rf /etc/strongroom
provide
useradd --create-home --shell /bin/bash person
uid=$(id -u person)
systemctl start "user@$uid.service"
as() { setpriv --reuid person --regid person --init-groups env -i PATH=/usr/sbin:/usr/bin HOME=/home/person \
    XDG_RUNTIME_DIR="/run/user/$uid" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" \
    STRONGROOM_PASSPHRASE_FILE=/run/passphrase "$@"; }
chmod 644 /run/passphrase
until_it_is "the user's manager is there" as systemctl --user is-active default.target
echo "manager: $(as systemctl --user is-active default.target)"
as strongroom init 2>/dev/null
printf '[resolve]\n"api.box.test" = "127.0.0.1:8443"\n' | as tee /home/person/.config/strongroom/gatewayd.toml >/dev/null
as systemctl --user -q enable --now strongroom-keyd.service strongroom-gatewayd.service 2>/dev/null
as strongroom unlock
printf %s "$key" | as strongroom credential add box --host api.box.test --bearer --ca /run/provider/ca.pem
as strongroom agent add coder >/dev/null
placeholder=$(as strongroom grant add box --agent coder)
until_it_is "the gateway serves" serves
echo "a request: $(ask /v1/x)"
of() { as systemctl --user show -P "$2" "strongroom-$1"; }
echo "keyd: $(of keyd.service Type) $(of keyd.service ActiveState), $(of keyd.service StatusText)"
for daemon in keyd gatewayd; do
    echo "$daemon: $(stat -c %U /proc/$(of $daemon.service MainPID)) $(grep -E '^(NoNewPrivs|Seccomp|CapEff):' "/proc/$(of $daemon.service MainPID)/status" | tr -d '\t' | tr '\n' ' ')"
done
as strongroom status | grep -E '^ *logs' | tr -s ' '
as strongroom doctor >/run/doctor && echo "doctor: nothing failed" || { echo "doctor: failed"; grep '^ *failed' /run/doctor; }
as systemctl --user reload strongroom-gatewayd && echo "reload: done"
old=$(of keyd.service MainPID)
kill -9 "$old"
until_it_is "keyd is there again" sh -c "! kill -0 $old"
until_it_is "locked" answers vault_locked
echo "keyd killed: $(ask /v1/x)"
