#!/usr/bin/env bash
# Agents in another network namespace, as in a container: over a bridge's address with a token, and over agent.sock.
# Prints a line for each case, which tests/tests/box.rs compares.
. "$(dirname "$0")/common.sh"
ip link set lo up
ip netns add container
ip link add bridge-end type veth peer name container-end netns container
ip addr add 10.77.0.1/24 dev bridge-end && ip link set bridge-end up
ip -n container addr add 10.77.0.2/24 dev container-end && ip -n container link set container-end up
start 127.0.0.1:7799 10.77.0.1:7799
token=$("$s" agent add contained --token)
"$s" agent add root --uid 0
"$s" agent add free
contained=$(grant contained) root=$(grant root) free=$(grant free)
sock=$STRONGROOM_HOME/run/agent.sock
in_container() { ip netns exec container curl -s --max-time 20 "$@" | code; }

echo "with its token: $(in_container "http://10.77.0.1:7799/@$token/openai/v1" -H "Authorization: Bearer $contained")"
echo "without it: $(in_container http://10.77.0.1:7799/openai/v1 -H "Authorization: Bearer $contained")"
# The same user number, but no socket of this namespace: the kernel says nothing of it.
echo "root there is nobody here: $(in_container http://10.77.0.1:7799/openai/v1 -H "Authorization: Bearer $root")"
echo "root here is root: $(curl -s http://127.0.0.1:7799/openai/v1 -H "Authorization: Bearer $root" | code)"
echo "a placeholder that needs no proof: $(in_container http://10.77.0.1:7799/openai/v1 -H "Authorization: Bearer $free" )"
echo "another name for the gateway: $(in_container http://10.77.0.1:7799/openai/v1 -H "Host: gateway.internal:7799" -H "Authorization: Bearer $free")"
echo "agent.sock, bind-mounted: $(in_container --unix-socket "$sock" http://localhost/openai/v1 -H "Authorization: Bearer $root")"
echo "CONNECT with credentials: $(ip netns exec container curl -s -o /dev/null -w '%{http_connect}' --max-time 20 -x "http://contained:$token@10.77.0.1:7799" https://api.openai.com/v1 || true)"
echo "CONNECT without: $(ip netns exec container curl -s -o /dev/null -w '%{http_connect}' --max-time 20 -x http://10.77.0.1:7799 https://pypi.org/ || true)"
