// fastify + pg + BullMQ: a row per request, then a job with the row's id.
import { Queue } from 'bullmq';
import pg from 'pg';
import { broker, serve } from './receive.js';

await serve(async () => {
  const pool = new pg.Pool({ connectionString: process.env.BENCH_DATABASE_URL, max: 20 });
  const queue = new Queue('webhooks', { connection: broker() });
  await queue.waitUntilReady();
  return async (event) => {
    const { rows } = await pool.query({
      name: 'accept',
      text: `insert into inbound_events (shop_id, provider, topic, delivery_key, headers, body)
             values (1, 'shopify', $1, $2, $3, $4) on conflict do nothing returning id`,
      values: [event.topic, event.deliveryKey, event.headers, event.body],
    });
    if (rows.length) await queue.add('order_ingest', { eventId: rows[0].id });
  };
});
