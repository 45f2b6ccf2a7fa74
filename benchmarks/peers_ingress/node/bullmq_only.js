// fastify + BullMQ: the job in Redis is the only copy, so Redis must sync its log before it answers.
import { Queue } from 'bullmq';
import { broker, serve } from './receive.js';

await serve(async () => {
  const queue = new Queue('webhooks', { connection: broker() });
  await queue.waitUntilReady();
  return (event) =>
    queue.add(
      'order_ingest',
      { topic: event.topic, headers: event.headers, body: event.body.toString('utf8') },
      { jobId: `shopify-${event.topic}-${event.deliveryKey}` },
    );
});
