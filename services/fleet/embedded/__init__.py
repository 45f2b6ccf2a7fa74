"""PostgreSQL 18 and Valkey 9 from wheels: no container, no root, no account, no permission changed."""
