#!/bin/sh
# Run once by the PostgreSQL image on an empty volume: the owner of the tables, a role that may not change them, and
# the archive role, which may only delete archived audit events. A volume from before has none: see docs/audit.md.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$OWNER_PASSWORD" -v app="$APP_PASSWORD" -v archive="$ARCHIVE_PASSWORD" -U "$POSTGRES_USER" -d postgres <<'SQL'
create role shopfleet_owner login password :'owner';
create role shopfleet_app login password :'app';
create role shopfleet_archive login password :'archive';
create role shopfleet_floor nologin;
grant shopfleet_floor to shopfleet_owner;
create database shopfleet owner shopfleet_owner;
SQL
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d shopfleet -c 'alter schema public owner to shopfleet_owner'
