#!/usr/bin/env bash
# The template unit for agents: the program runs as its own user, reaches its provider through the gateway, and nothing else.
. "$(dirname "$0")/installed.sh"
begin
printf '[resolve]\n"api.openai.com" = "127.0.0.1:8443"\n' >/etc/strongroom/gatewayd.toml
systemctl reload strongroom-gatewayd
printf %s "$key" | strongroom credential add openai --provider openai --ca /run/provider/ca.pem
# Another machine's address, as far as the kernel's filter can tell.
ip link add outside type veth peer name beyond && ip link set beyond up && ip addr add 10.77.0.1/24 dev outside && ip link set outside up
systemd-run -q --unit=elsewhere /usr/bin/python3 -m http.server 8000 --bind 10.77.0.1 --directory /run/provider
until_it_is "elsewhere answers" curl -s http://10.77.0.1:8000/ca.pem
reach() { curl -s -o /dev/null --max-time 3 --noproxy '*' -w '%{http_code}' http://10.77.0.1:8000/ca.pem || true; }
echo "elsewhere, from no unit: $(reach)"

useradd --system scribe
strongroom agent add scribe --uid scribe >/dev/null
strongroom grant add openai --agent scribe >/dev/null
mkdir -p /etc/strongroom/agents
cat >/etc/strongroom/agents/scribe <<'PROGRAM'
#!/bin/bash
echo "user: $(id -un) in $PWD, home $HOME"
case $OPENAI_API_KEY in sk-strongroom-*) echo "a placeholder in its environment";; *) echo "no placeholder";; esac
echo "through the proxy: $(curl -s --max-time 20 https://api.openai.com/v1/x -H "Authorization: Bearer $OPENAI_API_KEY")"
echo "elsewhere: $(curl -s -o /dev/null --max-time 3 --noproxy '*' -w '%{http_code}' http://10.77.0.1:8000/ca.pem)"
for place in /etc /run/strongroom /var/lib/strongroom /usr /home "$PWD"; do
    touch "$place/.written" 2>/dev/null && echo "may write to $place"
done
grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status | tr -d '\t' | tr '\n' ' '
echo
echo "end"
PROGRAM
chmod 755 /etc/strongroom/agents/scribe
said() { journalctl -q -b -o cat _SYSTEMD_UNIT=strongroom-agent@scribe.service; }

# Locked, as after a boot: it is tried until somebody unlocks, and then it runs.
strongroom lock
systemctl start strongroom-agent@scribe
until_it_is "the agent is tried" sh -c '[ "$(systemctl show -P NRestarts strongroom-agent@scribe)" -ge 1 ] || [ "$(systemctl show -P SubState strongroom-agent@scribe)" = auto-restart ]'
echo "locked: $(property agent@scribe.service SubState)"
strongroom unlock
until_it_is "the agent has run" sh -c 'journalctl -q -b -o cat _SYSTEMD_UNIT=strongroom-agent@scribe.service | grep -qx end'
said | sed -n '/^user:/,/^end/p'

# Who has no agent of that name, and who has no program.
useradd --system stranger
install -m 0755 /etc/strongroom/agents/scribe /etc/strongroom/agents/stranger
systemctl start strongroom-agent@stranger 2>/dev/null || true
until_it_is "the stranger is refused" sh -c '[ "$(systemctl show -P SubState strongroom-agent@stranger)" = auto-restart ]'
echo "a user that is no agent: $(journalctl -q -b -o cat _SYSTEMD_UNIT=strongroom-agent@stranger.service | grep -c '^user:' || true) runs"
useradd --system idler
systemctl start strongroom-agent@idler 2>/dev/null || echo "no program: not started"
