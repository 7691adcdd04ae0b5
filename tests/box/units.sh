#!/usr/bin/env bash
# Agents that are systemd units, under a real systemd: who is in the unit is the agent, and nobody else is.
# Prints a line for each case, which tests/tests/box.rs compares.
. "$(dirname "$0")/common.sh"
start 127.0.0.1:7799
"$s" agent add coder --unit coder.service
"$s" agent add instance --unit strongroom-agent@x.service
coder=$(grant coder) instance=$(grant instance)
sock=$STRONGROOM_HOME/run/agent.sock
request=(curl -s http://localhost/openai/v1 -H)
inside() { systemd-run -q --unit="$1" --pipe --wait "${request[@]}" "Authorization: Bearer $2" --unix-socket "$sock" | code; }

echo "in its unit: $(inside coder "$coder")"
echo "an instance of a template: $(inside strongroom-agent@x "$instance")"
echo "in another agent's unit: $(inside coder "$instance")"
echo "in a unit of nobody's: $(inside other "$coder")"
echo "in no unit: $("${request[@]}" "Authorization: Bearer $coder" --unix-socket "$sock" | code)"
echo "over TCP: $(systemd-run -q --unit=coder --pipe --wait curl -s http://127.0.0.1:7799/openai/v1 -H "Authorization: Bearer $coder" | code)"
"$s" audit --json | grep -o '"agent":"coder","evidence":"[a-z]*"' | sort | uniq -c | sed 's/^ *//'
