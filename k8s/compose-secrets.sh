#!/usr/bin/env bash
# Makes the secrets of compose.yaml: random passwords, the runtime configuration and
# the secret variables that carry them, and with `--tls` an authority and a
# certificate. Passwords that are there stay; the rest is written anew.
#
#   k8s/compose-secrets.sh [--tls] [FOLDER]      default: k8s/secrets
set -euo pipefail
umask 077

tls=false
if [ "${1:-}" = --tls ]; then
    tls=true
    shift
fi
case ${1:-} in -*)
    echo "usage: $0 [--tls] [FOLDER]" >&2
    exit 2
    ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/secrets}
mkdir -p "$folder"
# Compose mounts each file by itself, and containers read them as users of their
# own: the folder keeps other users of this machine out.
chmod 0700 "$folder"
cd "$folder"
printf '*\n' >.gitignore

# Of letters and digits, so that it stands in a URL as it is.
password() {
    [ -s "$1" ] || openssl rand -hex 32 | tr -d '\n' >"$1"
}
password redis_password
password postgres_password

if $tls; then
    scheme=rediss sslmode=require
    if [ ! -s ca.key ]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -days 3650 -subj '/CN=gristmill compose' -keyout ca.key -out ca.pem \
            -addext 'keyUsage=critical,keyCertSign,cRLSign'
    fi
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -days 365 -subj '/CN=localhost' -CA ca.pem -CAkey ca.key \
        -keyout server.key -out server.pem \
        -addext 'subjectAltName=DNS:localhost,DNS:redis,DNS:postgres' \
        -addext 'basicConstraints=critical,CA:FALSE' \
        -addext 'extendedKeyUsage=serverAuth'
else
    scheme=redis sslmode=disable
fi

{
    echo '# Written by compose-secrets.sh: a database of Redis for each store.'
    database=0
    for label in messages counters sessions images; do
        printf '[key_value_store.%s]\ntype = "redis"\n' "$label"
        printf 'url = "%s://:%s@redis:6379/%d"\n' "$scheme" "$(<redis_password)" "$database"
        database=$((database + 1))
    done
    # Granted, and unused while `database_url` is set.
    for label in accounts catalog; do
        printf '[sqlite_database.%s]\ntype = "spin"\npath = "/state/%s.db"\n' "$label" "$label"
    done
} >runtime-config.toml

printf 'database_url = "postgres://gristmill:%s@postgres:5432/gristmill?sslmode=%s"\n' \
    "$(<postgres_password)" "$sslmode" >variables.toml

chmod 0644 redis_password postgres_password runtime-config.toml variables.toml
if $tls; then
    chmod 0644 ca.pem server.pem server.key
fi
echo "secrets are in $folder"
