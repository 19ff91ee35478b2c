#!/usr/bin/env bash
# An MLflow server for a team: runs in PostgreSQL, artifacts on S3, and nobody gets in without a name and a password.
#
#   MLFLOW_DATABASE=postgresql://mlflow@db.example:5432/mlflow MLFLOW_DATABASE_PASSWORD_FILE=/run/secrets/database \
#   MLFLOW_ARTIFACTS=s3://team-mlflow/artifacts MLFLOW_AUTH_ADMIN_PASSWORD_FILE=/run/secrets/admin \
#   MLFLOW_FLASK_SERVER_SECRET_KEY_FILE=/run/secrets/key ./serve.sh
#
# Everything comes by the environment, or for what is secret (NAME) from the file that NAME_FILE names: nothing secret
# is an argument, which everybody on the machine sees. It becomes the server, so signals reach it. Needs
# pip install 'hyperloom[server]'. docs/tracking.md says more.
set -euo pipefail

fail() { echo "serve.sh: $1. Next: $2" >&2; exit 2; }

# The value of NAME, from the file NAME_FILE where that is set.
secret() {
    local name=$1 file_name=$1_FILE
    if [ -n "${!file_name:-}" ]; then
        [ -r "${!file_name}" ] || fail "$file_name names ${!file_name}, which cannot be read" "make that file readable for this user alone"
        export "$name=$(<"${!file_name}")"
    fi
}

for name in MLFLOW_DATABASE_PASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    secret "$name"
done
for name in MLFLOW_DATABASE MLFLOW_ARTIFACTS MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    [ -n "${!name:-}" ] || fail "$name is not set" "set it, or ${name}_FILE for a secret (see the head of this file)"
done
case $MLFLOW_DATABASE in
    postgresql://*:*@*) fail "MLFLOW_DATABASE holds a password" "write postgresql://USER@HOST:PORT/NAME and set MLFLOW_DATABASE_PASSWORD_FILE" ;;
    postgresql://*) ;;
    *) fail "MLFLOW_DATABASE is no PostgreSQL" "write postgresql://USER@HOST:PORT/NAME" ;;
esac
MLFLOW_DATABASE=postgresql+psycopg2://${MLFLOW_DATABASE#postgresql://}   # SQLAlchemy's default driver changes
[ -z "${MLFLOW_DATABASE_PASSWORD:-}" ] || export PGPASSWORD=$MLFLOW_DATABASE_PASSWORD

umask 077
settings=$(mktemp -d)/auth.ini   # holds no password: the administrator's comes by the environment
cat > "$settings" <<INI
[mlflow]
default_permission = ${MLFLOW_DEFAULT_PERMISSION:-EDIT}
database_uri = ${MLFLOW_DATABASE//%/%%}
admin_username = ${MLFLOW_AUTH_ADMIN_USERNAME:-admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = ${MLFLOW_AUTH_CACHE_SECONDS:-60}
INI

export MLFLOW_AUTH_CONFIG_PATH=$settings
export MLFLOW_BACKEND_STORE_URI=$MLFLOW_DATABASE MLFLOW_ARTIFACTS_DESTINATION=$MLFLOW_ARTIFACTS
export MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true}
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}
unset MLFLOW_DATABASE_PASSWORD MLFLOW_TRACKING_URI MLFLOW_RUN_ID
exec "${PYTHON:-python3}" -P -m mlflow server --app-name basic-auth --serve-artifacts \
    --host "${MLFLOW_HOST:-0.0.0.0}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}"
