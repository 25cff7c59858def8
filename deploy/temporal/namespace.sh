#!/bin/sh
# Makes the namespace of one cell, if it is not there. Needs TEMPORAL_ADDRESS, NAMESPACE and RETENTION, which is
# how long the history of a closed run is kept.
set -eu

if temporal operator namespace describe --namespace "$NAMESPACE" >/dev/null 2>&1; then
  echo "namespace $NAMESPACE is there"
else
  temporal operator namespace create --namespace "$NAMESPACE" --retention "$RETENTION"
fi
