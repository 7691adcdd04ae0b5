#!/usr/bin/env bash
# Daemons that are killed, again and again, or that hang: they come back, their sockets stay, and keyd comes back locked.
. "$(dirname "$0")/installed.sh"
begin
inodes() { stat -c %i /run/strongroom/*.sock | tr '\n' ' '; }
before=$(inodes)

# requests FILE: eight requests that take three seconds, in the background; their ends go into the file.
requests() {
    for _ in 1 2 3 4 5 6 7 8; do
        curl -s --max-time 30 -o /dev/null -w '%{http_code} %{exitcode}\n' -H "Authorization: Bearer $placeholder" \
            http://127.0.0.1:7777/box/v1/slow >>"$1" &
    done
    until_it_is "requests run" sh -c 'strongroom status --json | grep -q "\"exchanges\": *8"'
}
restarted() { [ "$(pid "$1")" != "$2" ] && [ "$(pid "$1")" != 0 ] && [ "$(property "$1.service" ActiveState)" = active ]; }

# gatewayd, in the middle of requests: it serves again without help.
requests /run/ends-of-gatewayd
old=$(pid gatewayd)
kill -9 "$old"
until_it_is "gatewayd serves again" serves
until_it_is "gatewayd is another process" restarted gatewayd "$old"
echo "gatewayd killed: $(ask /v1/x), the vault is $(state)"
wait $(jobs -p) || true
echo "its requests ended: $(wc -l </run/ends-of-gatewayd)"

# keyd, in the middle of requests: it comes back locked, and the gateway finds it without help.
requests /run/ends-of-keyd
old=$(pid keyd) gateway=$(pid gatewayd)
kill -9 "$old"
until_it_is "keyd is there again" restarted keyd "$old"
until_it_is "the gateway knows that it is locked" answers vault_locked
echo "keyd killed: $(ask /v1/x), the vault is $(state)"
wait $(jobs -p) || true
echo "its requests ended: $(wc -l </run/ends-of-keyd)"
echo "gatewayd lived on: $([ "$gateway" = "$(pid gatewayd)" ] && echo yes)"
strongroom unlock
until_it_is "it serves once unlocked" serves
echo "unlocked again: $(patiently /v1/x)"

# Ten times in a row, as soon as each is there: no limit is hit, and the sockets stay.
for daemon in gatewayd keyd; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        old=$(pid $daemon)
        kill -9 "$old"
        until_it_is "$daemon starts once more" restarted $daemon "$old"
    done
    echo "$daemon killed ten times: $(property $daemon.service Result), $(property $daemon.service ActiveState)"
done
echo "the sockets: $(sockets)"
echo "they are the same: $([ "$before" = "$(inodes)" ] && echo yes)"
strongroom unlock
until_it_is "it serves after the loop" serves
echo "and then: $(patiently /v1/x)"

# Crashed at every start, with callers at the door: nothing gives up, and it runs once it can.
for daemon in gatewayd keyd; do
    program=/usr/lib/strongroom/strongroom-$daemon
    mv "$program" /run/good
    printf '#!/bin/sh\nkill -9 $$\n' >"$program"
    chmod 755 "$program"
    kill -9 "$(pid $daemon)"
    [ $daemon = gatewayd ] && ask /v1/x >/run/answer & door=$!
    before_loop=$(property $daemon.service NRestarts)
    loops() { [ $(($(property $daemon.service NRestarts) - before_loop)) -ge 8 ]; }
    until_it_is "$daemon crashes eight times" loops
    mv /run/good "$program"
    until_it_is "$daemon runs" sh -c "[ \$(systemctl show -P ActiveState strongroom-$daemon) = active ]"
    wait $door || true
    echo "$daemon after a loop at start: $(property $daemon.service ActiveState)"
done
echo "who waited was served: $(cat /run/answer)"
echo "the sockets: $(sockets)"

# A daemon that hangs is killed by its watchdog, and a new one is there; one that only idles is left alone.
for daemon in keyd gatewayd; do
    mkdir -p "/run/systemd/system/strongroom-$daemon.service.d"
    printf '[Service]\nWatchdogSec=2\n' >"/run/systemd/system/strongroom-$daemon.service.d/watchdog.conf"
done
systemctl daemon-reload
systemctl restart strongroom-keyd strongroom-gatewayd
strongroom unlock
until_it_is "it serves under a short watchdog" serves
for daemon in keyd gatewayd; do
    old=$(pid $daemon)
    kill -STOP "$old"
    until_it_is "$daemon is killed by its watchdog" restarted $daemon "$old"
    echo "$daemon hung: $(journalctl -q -b -o cat -u strongroom-$daemon | grep -c 'Watchdog timeout'), it is $(property $daemon.service ActiveState)"
done
until_it_is "locked" answers vault_locked
strongroom unlock
until_it_is "it serves after the watchdog" serves
old="$(pid keyd) $(pid gatewayd)"
# Idle for more than the watchdog's time, by the watchdog's own clock.
for daemon in keyd gatewayd; do
    fed=$(property $daemon.service WatchdogTimestampMonotonic)
    later() { [ $(($(property $daemon.service WatchdogTimestampMonotonic) - fed)) -gt 3000000 ]; }
    until_it_is "$daemon feeds its watchdog" later
done
echo "idle under the watchdog: $([ "$old" = "$(pid keyd) $(pid gatewayd)" ] && echo 'the same processes')"
