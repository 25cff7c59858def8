#!/bin/sh
# Makes the databases of one cell and brings their tables to the version of this image. Does nothing where all
# is there, so it runs at each start. Needs POSTGRES_HOST, POSTGRES_USER and SQL_PASSWORD.
set -eu

for database in temporal temporal_visibility; do
  tool="temporal-sql-tool --plugin postgres12 --ep $POSTGRES_HOST -p 5432 -u $POSTGRES_USER --db $database"
  versions=/etc/temporal/schema/postgresql/v12/${database#temporal_}/versioned
  $tool create
  $tool setup-schema -v 0.0
  $tool update-schema -d "$versions"
done
