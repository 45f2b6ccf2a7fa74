// Queue work rows 1..N in pg-boss with its bulk insert: node pgboss_fill.js N
import PgBoss from 'pg-boss';

const boss = new PgBoss(process.env.BENCH_DATABASE_URL);
await boss.start();
await boss.createQueue('order_ingest');
const count = Number(process.argv[2]);
for (let first = 1; first <= count; first += 5000) {
  const jobs = [];
  for (let id = first; id < first + 5000 && id <= count; id += 1) jobs.push({ name: 'order_ingest', data: { id } });
  await boss.insert(jobs);
}
await boss.stop({ graceful: false });
