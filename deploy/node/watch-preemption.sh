#!/usr/bin/env bash
# Wait until the cloud says that it takes this spot machine away, then drain its Ray node.
#
#   watch-preemption.sh aws|gcp
#
# EC2 says so two minutes ahead, Compute Engine 30 seconds. On other machines it waits for ever, so every node may run it.
# METADATA_URL replaces the address of the metadata service (for tests), POLL_SECONDS the pause between two questions (5).
set -euo pipefail

cloud=${1:?aws or gcp}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ask() { curl --silent --fail --max-time 4 "$@"; }

doomed_aws() { # version 2 of the service: a token first
    local url=${METADATA_URL:-http://169.254.169.254} token
    token=$(ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$url/latest/api/token") || return 1
    ask --output /dev/null --header "X-aws-ec2-metadata-token: $token" "$url/latest/meta-data/spot/instance-action"
}

doomed_gcp() {
    local url=${METADATA_URL:-http://metadata.google.internal}
    [[ $(ask --header "Metadata-Flavor: Google" "$url/computeMetadata/v1/instance/preempted") == TRUE ]]
}

case $cloud in
    aws) left=100 ;;
    gcp) left=20 ;;
    *) echo "watch-preemption: '$cloud' is neither aws nor gcp" >&2; exit 2 ;;
esac
until "doomed_$cloud"; do
    sleep "${POLL_SECONDS:-5}"
done
echo "watch-preemption: $cloud takes this machine away"
exec "$here/drain-node.sh" "$left"
