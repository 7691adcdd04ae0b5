#!/usr/bin/env bash
# A system installation from nothing to a served request, what holds its daemons, and what systemctl does to them.
. "$(dirname "$0")/installed.sh"
install_strongroom
echo "users: $(id -un strongroom-keyd) $(id -un strongroom-gateway)"
echo "directories: $(stat -c '%n %U %a' /run/strongroom /etc/strongroom | tr '\n' ' ')"

# Started before there is a vault, as a package does it.
systemctl -q enable --now strongroom-keyd.service strongroom-gatewayd.service
echo "before init: $(state), $(property keyd.service StatusText)"
strongroom init 2>&1 | grep -o "Next: .*"
echo "vault: $(stat -c '%U %a' /var/lib/strongroom /var/lib/strongroom/vault | tr '\n' ' ')"
provide
printf '[resolve]\n"api.box.test" = "127.0.0.1:8443"\n' >/etc/strongroom/gatewayd.toml
systemctl restart strongroom-keyd strongroom-gatewayd
echo "types: $(property keyd.service Type) $(property gatewayd.service Type)"
echo "locked: $(property keyd.service StatusText)"
strongroom unlock
echo "unlocked: $(property keyd.service StatusText)"
printf %s "$key" | strongroom credential add box --host api.box.test --bearer --ca /run/provider/ca.pem
strongroom agent add coder >/dev/null
placeholder=$(strongroom grant add box --agent coder)
until_it_is "the gateway serves" serves
echo "a request: $(ask /v1/x)"
echo "over agent.sock: $(curl -s --unix-socket /run/strongroom/agent.sock -H "Authorization: Bearer $placeholder" http://localhost/box/v1/x)"
echo "serving: $(property gatewayd.service StatusText)"
echo "gatewayd binds nothing itself: $(property tcp.socket Listen), $(ss -Hltnp 'sport = :7777' | grep -o '"[a-z-]*"' | sort | uniq -c | tr -s ' \n' ' ')"
strongroom status | grep -E '^ *logs' | tr -s ' '
strongroom doctor >/run/doctor && echo "doctor: nothing failed" || { echo "doctor: failed"; grep failed /run/doctor; }

# The cage, from outside.
for daemon in keyd gatewayd; do
    pid=$(pid $daemon)
    echo "$daemon: $(grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' "/proc/$pid/status" | tr -d '\t' | tr '\n' ' ')"
    echo "a shell beside $daemon: $(nsenter -t "$pid" -m -- /bin/sh -c 'echo runs' 2>&1 | grep -oE 'runs|Permission denied')"
    echo "$daemon writes: $(/usr/bin/python3 "$repository/tests/box/inside.py" "$pid")"
done
echo "keyd's network: $(nsenter -t "$(pid keyd)" -n -- ip -brief link | awk '{ print $1 }' | tr '\n' ' ')"
[ "$(readlink "/proc/$(pid keyd)/ns/net")" != "$(readlink /proc/1/ns/net)" ] && echo "keyd's network is its own"
[ "$(readlink "/proc/$(pid gatewayd)/ns/net")" = "$(readlink /proc/1/ns/net)" ] && echo "gatewayd's is the machine's"

# The journal has weights and our values as fields, and neither our time nor colours.
journal() { journalctl --sync; journalctl -q -b -o cat "_SYSTEMD_UNIT=strongroom-$1.service" "${@:2}"; }
echo "keyd's ready lines at info: $(journal keyd PRIORITY=6 | grep -c 'keyd is ready')"
echo "a wrong passphrase, at warning: $(echo wrong >/run/wrong; strongroom agent allow coder x.example --passphrase-file /run/wrong >/dev/null 2>&1 || true; journal keyd PRIORITY=4 SYSLOG_IDENTIFIER=strongroom-keyd STRONGROOM_UID=0 | grep -c 'wrong passphrase')"
echo "times or colours: $({ journal keyd; journal gatewayd; } | grep -cE '^[0-9]{4}-|'$'\e' || true)"

# Reload: a good file, a bad one, and the good one once more.
before=$(pid gatewayd)
printf '[resolve]\n"api.box.test" = "127.0.0.1:1"\n' >/etc/strongroom/gatewayd.toml
systemctl reload strongroom-gatewayd && echo "reload: done"
until_it_is "the new file counts" answers upstream_unreachable
echo "after it: $(ask /v1/x), the same process: $([ "$before" = "$(pid gatewayd)" ] && echo yes)"
printf 'lisen = []\n' >/etc/strongroom/gatewayd.toml
systemctl reload strongroom-gatewayd 2>/dev/null || echo "a bad file: refused"
echo "its line is in the journal: $(journal gatewayd PRIORITY=3 | grep -c 'lisen')"
echo "and the gateway runs: $(property gatewayd.service ActiveState), $(ask /v1/x)"
printf '[resolve]\n"api.box.test" = "127.0.0.1:8443"\n' >/etc/strongroom/gatewayd.toml
systemctl reload strongroom-gatewayd
until_it_is "it serves again" serves
systemctl reload strongroom-keyd 2>/dev/null || echo "keyd has no reload"

# Restart: gatewayd serves again by itself; keyd is locked.
systemctl restart strongroom-gatewayd
until_it_is "gatewayd serves after a restart" serves
echo "gatewayd restarted: $(ask /v1/x)"
systemctl restart strongroom-keyd
until_it_is "keyd is locked after a restart" answers vault_locked
echo "keyd restarted: $(state)"
strongroom unlock
until_it_is "it serves once unlocked" serves

# Stopped, the gateway is started by the connection that wants it, and that one is served.
systemctl stop strongroom-gatewayd 2>/dev/null
echo "gatewayd stopped: $(property gatewayd.service ActiveState)"
until_it_is "a connection starts it" serves
echo "and then: $(property gatewayd.service ActiveState)"
# While it cannot start, a connection waits and is not refused.
mv /usr/lib/strongroom/strongroom-gatewayd /run/away
systemctl stop strongroom-gatewayd 2>/dev/null
ask /v1/x >/run/answer &
waiting=$!
until_it_is "the start fails" sh -c '[ "$(systemctl show -P NRestarts strongroom-gatewayd)" -ge 2 ]'
kill -0 $waiting && echo "it waits"
cp /run/away /usr/lib/strongroom/strongroom-gatewayd
wait $waiting
echo "and is served: $(cat /run/answer)"

# 'down' leaves to systemd what systemd would start again, and says what does it.
old="$(pid keyd) $(pid gatewayd)" code=0
words=$(strongroom down 2>&1) || code=$?
echo "down: $code, $([ "$old" = "$(pid keyd) $(pid gatewayd)" ] && echo 'the same processes')"

# Stopped with their sockets, as it said, nobody answers and nothing is left behind.
$(grep -o 'systemctl stop [a-z. -]*' <<<"$words")
echo "stopped: $(property keyd.service Result) $(property gatewayd.service Result), sockets left: $(ls /run/strongroom | grep -c sock || true)"
curl -s --max-time 5 http://127.0.0.1:7777/ || echo "connections are refused: $?"
