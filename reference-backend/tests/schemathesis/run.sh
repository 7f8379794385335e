#!/usr/bin/env bash
# Asks a real server everything that its OpenAPI document allows, and much that it does not: no answer may be a fault of the
# server (5xx), have a status or a shape that the document does not give, or accept what the schema forbids.
# Exits 0 when nothing was found.
#
#   tests/schemathesis/run.sh [options of `st run`, like --max-examples 200 or --include-tag rooms]
#
# Needs schemathesis 4 (`pip install schemathesis`; ST names the program), PostgreSQL's programs (PLIMSOLL_PG_BIN names their
# directory), python3, and a built backend (BACKEND; by default target/debug/reference-backend).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
backend=$(realpath "${BACKEND:-$here/../../../target/debug/reference-backend}")
st=${ST:-st}
bin=${PLIMSOLL_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)}
place=$(mktemp -d /tmp/rb-st-XXXXXX)
pids=()

stop() {
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$place"
}
trap stop EXIT

# From the line that a program prints when it listens.
url_of() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])["url"])' "$1"; }

# PostgreSQL refuses to run as root.
as_owner=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$place"
    as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd /
"${as_owner[@]}" "$bin/initdb" -D "$place/data" -U postgres --auth=trust --encoding=UTF8 --no-sync >/dev/null
"${as_owner[@]}" "$bin/postgres" -D "$place/data" -k "$place" -c listen_addresses= -c fsync=off \
    -c max_connections=150 2>"$place/postgres.log" &
# Stopped last, so that the backend can finish what is in flight.
postgres=$!
until "$bin/pg_isready" -q -h "$place"; do sleep 0.1; done

# In place of the outside channel manager.
mkfifo "$place/stub"
"$backend" ota-stub --listen 127.0.0.1:0 >"$place/stub" 2>/dev/null &
pids+=($!)
read -r line <"$place/stub"
manager=$(url_of "$line")

cat >"$place/backend.toml" <<TOML
[server]
listen = "127.0.0.1:0"
[database.primary]
host = "$place"
port = 5432
[ota]
channel_manager_url = "$manager"
[objects]
directory = "$place/objects"
${SETTINGS:-}
TOML
"$backend" migrate --config "$place/backend.toml" --history-months 2 2>"$place/migrate.log"
psql() { "$bin/psql" -q -v ON_ERROR_STOP=1 -h "$place" -U postgres "$@"; }
psql -d plimsoll_shared -c "INSERT INTO organisations (org_id, name, size_class, country, currency, version, created_at)
    SELECT n, 'Hotel ' || n, 'small', 'DE', 'EUR', 1, now() FROM generate_series(1, 3) n"
psql -d plimsoll_hospitality -c "INSERT INTO properties (org_id, property_id, name, city, rooms, created_at)
    SELECT o, ('00000000-0000-4000-8000-00000000000' || p)::uuid, 'House', 'Bremen', 12, now()
    FROM generate_series(1, 1) o, generate_series(1, 2) p"

export PLIMSOLL_BACKEND_TOKEN_SECRET="a secret of the tests, 32 bytes or more"
mkfifo "$place/out"
"$backend" serve --config "$place/backend.toml" >"$place/out" 2>"${BACKEND_LOG:-$place/backend.log}" &
pids=($! "${pids[@]}" "$postgres")
read -r line <"$place/out"
url=$(url_of "$line")
token=$(python3 "$here/token.py" 1)

found=0
export SCHEMATHESIS_HOOKS="$here/hooks.py"
"$st" --config-file "$here/schemathesis.toml" run "$url/openapi.json" \
    -H "Authorization: Bearer $token" "$@" || found=$?
echo "answers by status:"
curl -s "$url/metrics" | sed -n 's/^backend_http_requests_total.*status="\([0-9]*\)".* \([0-9]*\)$/\1 \2/p' |
    awk '{ sum[$1] += $2 } END { for (status in sum) print "  " status ": " sum[status] }' | sort
if grep -q "panicked" "${BACKEND_LOG:-$place/backend.log}"; then
    echo "the server panicked" >&2
    exit 1
fi
exit "$found"
