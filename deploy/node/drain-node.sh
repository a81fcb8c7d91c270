#!/usr/bin/env bash
# Tell Ray that this node goes away, and wait until its work has moved or the time is up.
#
#   drain-node.sh [SECONDS] [NODE_ID]
#
# Steady's workers see the notice at their next record and write a checkpoint of that step. KubeRay runs this before it ends a
# pod (preStop), watch-preemption.sh when the cloud takes a spot machine away. SECONDS is how long the machine still lives
# (default 100). NODE_ID is found from the raylet on this machine. The cluster is RAY_ADDRESS, its token RAY_AUTH_TOKEN or
# ~/.ray/auth_token. A node without Ray is drained already: exit 0. If Ray refuses: its error and its exit code. PROC replaces
# /proc (for tests).
set -euo pipefail

seconds=${1:-100}
node=${2:-}
cluster=${RAY_ADDRESS:-127.0.0.1:6379}

running() { # the processes of the raylet with this id, or of any raylet
    grep -alE -- "--node_id=${1:-[0-9a-f]{56}}" "${PROC:-/proc}"/[0-9]*/cmdline 2>/dev/null || true
}

# `ray drain-node` without an id starts a Ray of its own to ask which node it is on.
if [[ -z $node ]]; then
    process=$(running | head -n 1)
    [[ -n $process ]] || { echo "drain-node: no Ray on this machine"; exit 0; }
    node=$(tr '\0' '\n' <"$process" | sed -n 's/^--node_id=//p')
fi

ray drain-node --address "$cluster" --node-id "$node" --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message "the machine goes away" --deadline-remaining-seconds "$seconds"
echo "drain-node: $node has $seconds s left"

end=$((SECONDS + seconds))
while ((SECONDS < end)) && [[ -n $(running "$node") ]]; do
    sleep 1
done
