// pg-boss rewritten to work in sets: 4000 jobs a fetch, one transaction for their effect, and no pause while
// fetches come back full. Ids beyond 2**53 are read from the gid strings, since JSON numbers would be rounded.
import pg from 'pg';
import PgBoss from 'pg-boss';

const BATCH = Number(process.env.BENCH_BATCH ?? 4000);
const movesStock = process.env.BENCH_EFFECT === 'stock';
const boss = new PgBoss({ connectionString: process.env.BENCH_DATABASE_URL, supervise: false, schedule: false });
const pool = new pg.Pool({ connectionString: process.env.BENCH_DATABASE_URL, max: 2 });

const cents = (amount) => Math.round(Number(amount) * 100);
const idOf = (gid) => gid.slice(gid.lastIndexOf('/') + 1);
const columns = (rows) => (rows.length ? rows[0].map((_, at) => rows.map((row) => row[at])) : []);

const WRITE_ORDERS = `
  insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, placed_at, updated_at, event_id)
  select * from unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                       $7::timestamptz[], $8::timestamptz[], $9::bigint[])
  on conflict (shop_id, order_gid) do update
  set name = excluded.name, total_cents = excluded.total_cents, currency = excluded.currency,
      financial_status = excluded.financial_status, updated_at = excluded.updated_at, event_id = excluded.event_id
  where orders.updated_at < excluded.updated_at`;
const WRITE_LINES = `
  insert into order_lines (shop_id, line_id, order_gid, sku, title, quantity, price_cents)
  select * from unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[])
  on conflict (shop_id, order_gid, line_id) do update
  set sku = excluded.sku, title = excluded.title, quantity = excluded.quantity, price_cents = excluded.price_cents`;
const WRITE_MOVEMENTS = `
  insert into stock_movements (shop_id, sku, source, delta, at)
  select * from unnest($1::int[], $2::text[], $3::text[], $4::int[], $5::timestamptz[])
  on conflict (shop_id, source) do nothing`;

const WRITE_CUSTOMERS = `
  insert into customers (shop_id, customer_id, name, email, updated_at)
  select * from unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
  on conflict (shop_id, customer_id) do update
  set name = excluded.name, email = excluded.email, updated_at = excluded.updated_at
  where customers.updated_at < excluded.updated_at`;

async function ingestSet(ids) {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const { rows } = await client.query(
      `select w.id, w.shop_id, w.event_id, e.body from work_queue w join inbound_events e on e.id = w.event_id
       where w.id = any($1) and w.status = 'pending'`,
      [ids],
    );
    const orders = [];
    const lines = [];
    const moves = [];
    const people = new Map();
    for (const row of rows) {
      const order = JSON.parse(row.body.toString('utf8'));
      const gid = order.admin_graphql_api_id;
      orders.push([
        row.shop_id, gid, order.name, cents(order.total_price), order.currency, order.financial_status,
        order.created_at, order.updated_at, row.event_id,
      ]);
      if (order.customer) {
        const person = order.customer;
        const name = `${person.first_name ?? ''} ${person.last_name ?? ''}`.trim();
        const key = `${row.shop_id}:${person.id}`;
        people.set(key, [row.shop_id, person.id, name, person.email ?? '', order.updated_at]);
      }
      for (const line of order.line_items) {
        const lineId = idOf(line.admin_graphql_api_id);
        lines.push([row.shop_id, lineId, gid, line.sku, line.title, line.quantity, cents(line.price)]);
        moves.push([row.shop_id, line.sku, `order:${lineId}`, -line.quantity, order.created_at]);
      }
    }
    if (orders.length) {
      await client.query(WRITE_ORDERS, columns(orders));
      await client.query(WRITE_LINES, columns(lines));
      if (movesStock) {
        if (people.size) {
          const sorted = [...people.keys()].sort().map((key) => people.get(key));
          await client.query(WRITE_CUSTOMERS, columns(sorted));
        }
        await client.query(WRITE_MOVEMENTS, columns(moves));
      }
      await client.query(
        `update work_queue set status = 'done', finished_at = statement_timestamp()
         where id = any($1) and status = 'pending'`,
        [rows.map((row) => row.id)],
      );
    }
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

await boss.start();
const worker = await boss.work(
  'order_ingest',
  { batchSize: BATCH, pollingIntervalSeconds: 0.5 },
  async (jobs) => {
    await ingestSet(jobs.map((job) => job.data.id));
    if (jobs.length === BATCH) boss.notifyWorker(worker);
  },
);
process.on('SIGTERM', () => process.exit(0));
