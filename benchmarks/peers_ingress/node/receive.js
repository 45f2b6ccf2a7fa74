// What both Node ways share: verify a Shopify webhook, say who is ready, run one process per core.
import cluster from 'node:cluster';
import { createHmac, timingSafeEqual } from 'node:crypto';
import Fastify from 'fastify';
import Redis from 'ioredis';

const KEPT = ['x-shopify-topic', 'x-shopify-shop-domain', 'x-shopify-webhook-id', 'x-shopify-api-version'];
const secret = process.env.BENCH_SECRET;

export const broker = () => new Redis(process.env.BENCH_BROKER_URL, { maxRetriesPerRequest: null });

const isGenuine = (body, header) => {
  const expected = createHmac('sha256', secret).update(body).digest();
  const given = Buffer.from(header ?? '', 'base64');
  return given.length === expected.length && timingSafeEqual(given, expected);
};

/** Serve with `accept(event)`, which must resolve only when the event is safe. */
export async function serve(makeAccept) {
  if (cluster.isPrimary) {
    for (let i = 0; i < Number(process.env.BENCH_PROCESSES); i += 1) cluster.fork();
    cluster.on('exit', (worker, code) => process.exit(code || 1));
    process.on('SIGTERM', () => process.exit(0));
    return;
  }
  const accept = await makeAccept();
  const app = Fastify({ logger: false, bodyLimit: 5 * 1024 * 1024 });
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => done(null, body));
  app.get('/health', async () => 'ok');
  app.post('/webhooks/shopify/:shop', async (request, reply) => {
    const { headers, body } = request;
    if (!isGenuine(body, headers['x-shopify-hmac-sha256'])) return reply.code(401).send();
    await accept({
      topic: headers['x-shopify-topic'],
      deliveryKey: headers['x-shopify-webhook-id'],
      headers: Object.fromEntries(KEPT.map((name) => [name, headers[name]])),
      body,
    });
    return reply.code(200).send();
  });
  await app.listen({ host: '127.0.0.1', port: Number(process.env.BENCH_PORT) });
}
