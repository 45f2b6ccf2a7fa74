-- Tables and indexes, by room. Columns are in the order of the room's tables.py.

-- services/shops
create table shops (
  id integer generated always as identity constraint pk_shops primary key,
  slug text not null,
  name text not null,
  timezone text not null,
  currency text not null,
  created_at timestamptz default now() not null,
  constraint uq_shops_slug unique (slug)
);

create table shop_config (
  shop_id integer constraint pk_shop_config primary key,
  owner_email text default '' not null,
  accountant_email text default '' not null,
  shopify_domain text default '' not null,
  stock_location_id text default '' not null,
  stock_owner text default 'shopify' not null,
  last_daily_run jsonb,
  settings jsonb default '{}' not null,
  former_shopify_domains text[] default '{}' not null,
  constraint fk_shop_config_shop_id_shops foreign key (shop_id) references shops (id)
);

create table connections (
  id integer generated always as identity constraint pk_connections primary key,
  shop_id integer,
  provider text not null,
  status text not null,
  code text default '' not null,
  detail text default '' not null,
  resource text default '' not null,
  since timestamptz not null,
  updated_at timestamptz not null,
  token_expires_at timestamptz,
  refresh_expires_at timestamptz,
  constraint ck_connections_status check (status in ('ok','broken')),
  constraint fk_connections_shop_id_shops foreign key (shop_id) references shops (id),
  constraint uq_connections_scope unique nulls not distinct (shop_id, provider)
);

create table shop_secrets (
  id integer generated always as identity constraint pk_shop_secrets primary key,
  shop_id integer not null,
  name text not null,
  sealed bytea not null,
  created_at timestamptz default now() not null,
  expires_at timestamptz,
  constraint fk_shop_secrets_shop_id_shops foreign key (shop_id) references shops (id)
);
create index ix_shop_secrets_shop_id_name on shop_secrets (shop_id, name);

-- services/ledger
create table inbound_events (
  id bigint generated always as identity constraint pk_inbound_events primary key,
  shop_id integer not null,
  provider text not null,
  topic text not null,
  delivery_key text not null,
  headers jsonb default '{}' not null,
  body bytea not null,
  received_at timestamptz default now() not null,
  occurred_at timestamptz,
  duplicate_count integer default 0 not null,
  origin text default 'webhook' not null,
  request_id text default '' not null,
  replay_of bigint,
  constraint uq_inbound_events_delivery unique (shop_id, provider, topic, delivery_key)
);
create index ix_inbound_events_received_at on inbound_events (received_at);

create table work_queue (
  id bigint generated always as identity constraint pk_work_queue primary key,
  shop_id integer not null,
  queue text not null,
  topic text not null,
  key text default '' not null,
  payload jsonb default '{}' not null,
  status text default 'pending' not null,
  retry_count integer default 0 not null,
  next_retry_at timestamptz,
  locked_at timestamptz,
  locked_by text,
  lease_until timestamptz,
  last_error text,
  error_code text,
  result text,
  event_id bigint,
  origin text default 'webhook' not null,
  request_id text default '' not null,
  created_at timestamptz default now() not null,
  dispatched_at timestamptz,
  dispatch_count integer default 0 not null,
  finished_at timestamptz,
  died_at timestamptz,
  constraint ck_work_queue_status check (status in ('pending','done','error','dead','discarded'))
);
create index ix_work_queue_dead on work_queue (topic, shop_id) where status in ('dead','discarded');
create index ix_work_queue_event_id on work_queue (event_id) where event_id is not null;
create index ix_work_queue_locked on work_queue (topic, key)
  where status in ('pending','error') and locked_at is not null;
create index ix_work_queue_ready on work_queue (topic, shop_id, coalesce(next_retry_at, created_at), id)
  where status in ('pending','error') and locked_at is null;
create index ix_work_queue_requeued on work_queue (topic, shop_id)
  where died_at is not null and status in ('pending','error');

-- Bodies are stored as received: compressing 4 KB of JSON costs more than the insert around it.
alter table inbound_events alter column body set storage external;
alter table inbound_events set (toast_tuple_target = 8160);
-- Rows of the queue are updated several times and finish soon: vacuum has to keep up.
alter table work_queue set (
  fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.05
);

create table pauses (
  id integer generated always as identity constraint pk_pauses primary key,
  queue text,
  topic text,
  shop_id integer,
  mode text not null,
  rate_per_second double precision,
  drain_tokens double precision default 0 not null,
  drained_at timestamptz,
  created_at timestamptz default now() not null,
  created_by text not null,
  reason text default '' not null,
  ends_at timestamptz,
  constraint ck_pauses_mode check (mode in ('hold','refuse','drain')),
  constraint uq_pauses_scope unique nulls not distinct (queue, topic, shop_id)
);

create table rate_limits (
  owner_id integer,
  bucket text,
  available double precision not null,
  maximum double precision not null,
  restore_per_second double precision not null,
  updated_at timestamptz default now() not null,
  call_points double precision,
  constraint pk_rate_limits primary key (owner_id, bucket)
);

create table heartbeats (
  name text constraint pk_heartbeats primary key,
  at timestamptz not null,
  detail jsonb default '{}' not null
);

create table work_stats (
  minute timestamptz,
  topic text,
  worker text,
  done integer default 0 not null,
  retried integer default 0 not null,
  dead integer default 0 not null,
  last_at timestamptz not null,
  constraint pk_work_stats primary key (minute, topic, worker)
);

create table request_counts (
  minute timestamptz,
  shop text,
  provider text,
  outcome text,
  count bigint not null,
  constraint pk_request_counts primary key (minute, shop, provider, outcome)
);

create table webhook_refusals (
  shop_id integer,
  outcome text,
  first_at timestamptz not null,
  last_at timestamptz not null,
  constraint pk_webhook_refusals primary key (shop_id, outcome)
);

create table sync_cursors (
  shop_id integer,
  provider text,
  stream text,
  synced_until timestamptz not null,
  synced_at timestamptz not null,
  constraint pk_sync_cursors primary key (shop_id, provider, stream)
);

-- services/jobs
create table jobs (
  name text constraint pk_jobs primary key,
  topic text not null,
  title text not null,
  schedule text not null,
  zone text not null,
  per_shop boolean not null,
  covers text not null,
  grace_seconds double precision not null,
  catch_up text not null,
  min_run_seconds double precision not null,
  volume text not null,
  evidence text not null,
  first_seen_at timestamptz not null,
  retired_at timestamptz
);

create table job_overrides (
  id integer generated always as identity constraint pk_job_overrides primary key,
  job text not null,
  shop_id integer,
  schedule text,
  enabled boolean,
  reason text default '' not null,
  changed_at timestamptz default now() not null,
  changed_by text not null,
  constraint fk_job_overrides_shop_id_shops foreign key (shop_id) references shops (id),
  constraint uq_job_overrides_scope unique nulls not distinct (job, shop_id)
);

create table job_schedule_state (
  id bigint generated always as identity constraint pk_job_schedule_state primary key,
  job text not null,
  shop_id integer,
  scheduled_until timestamptz not null,
  next_due_at timestamptz,
  schedule text not null,
  zone text not null,
  enabled boolean not null,
  constraint uq_job_schedule_state_scope unique nulls not distinct (job, shop_id)
);

create table monitor_checkins (
  id bigint generated always as identity constraint pk_monitor_checkins primary key,
  job text not null,
  monitor text not null,
  period text not null,
  config jsonb default '{}' not null,
  opened_at timestamptz not null,
  closed_at timestamptz
);
create unique index ix_monitor_checkins_open on monitor_checkins (monitor, period) where closed_at is null;

create table job_runs (
  id bigint generated always as identity constraint pk_job_runs primary key,
  job text not null,
  shop_id integer,
  period text not null,
  due_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz,
  status text not null,
  stats jsonb default '{}' not null,
  error text,
  origin text not null,
  started_by text default '' not null,
  request_id text default '' not null,
  work_id bigint,
  checkin_id bigint,
  constraint uq_job_runs_period unique nulls not distinct (job, shop_id, period)
);
create index ix_job_runs_checkin on job_runs (checkin_id) where checkin_id is not null;
create index ix_job_runs_failed on job_runs (ended_at) where status = 'failed';
create index ix_job_runs_history on job_runs (job, shop_id, due_at);
create index ix_job_runs_open on job_runs (due_at) where ended_at is null;

-- services/alerts
create table incidents (
  id bigint generated always as identity constraint pk_incidents primary key,
  shop_id integer,
  rule text not null,
  period text not null,
  severity text not null,
  status text default 'open' not null,
  summary text not null,
  detail jsonb default '{}' not null,
  opened_at timestamptz not null,
  updated_at timestamptz not null,
  resolved_at timestamptz,
  resolved_by text,
  resolved_reason text,
  mailed_at timestamptz,
  constraint uq_incidents_identity unique nulls not distinct (shop_id, rule, period)
);
create index ix_incidents_closed on incidents (rule, shop_id) where resolved_by is not null;
create index ix_incidents_mailed on incidents (rule, period) where mailed_at is not null;
create index ix_incidents_open on incidents (severity, id) where status = 'open';

-- services/mail
create table mail_outbox (
  id bigint generated always as identity constraint pk_mail_outbox primary key,
  shop_id integer,
  dedupe_key text not null,
  kind text not null,
  period text not null,
  recipient text not null,
  subject text not null,
  text text not null,
  html text not null,
  headers jsonb default '{}' not null,
  has_parts boolean default false not null,
  status text default 'queued' not null,
  attempt integer default 0 not null,
  token text default gen_random_uuid()::text not null,
  transport text default '' not null,
  account text default '' not null,
  message_id text default '' not null,
  provider_id text default '' not null,
  error_code text,
  last_error text,
  work_id bigint,
  request_id text default '' not null,
  created_at timestamptz default now() not null,
  handed_over_at timestamptz,
  sent_at timestamptz,
  constraint ck_mail_outbox_status check (status in ('queued','sending','sent','unknown','refused')),
  constraint uq_mail_outbox_key unique nulls not distinct (shop_id, dedupe_key)
);
create index ix_mail_outbox_created_at on mail_outbox (created_at);
create index ix_mail_outbox_open on mail_outbox (status, id) where status <> 'sent';

create table mail_parts (
  mail_id bigint,
  place integer,
  name text not null,
  content_type text not null,
  content_id text default '' not null,
  is_inline boolean default false not null,
  content bytea not null,
  constraint pk_mail_parts primary key (mail_id, place),
  constraint fk_mail_parts_mail_id_mail_outbox foreign key (mail_id) references mail_outbox (id) on delete cascade
);

-- services/shopify
create table fulfillments (
  shop_id integer,
  fulfillment_id bigint,
  order_gid text not null,
  status text not null,
  shipment_status text default '' not null,
  location_id bigint,
  quantity integer default 0 not null,
  fulfilled_at timestamptz not null,
  updated_at timestamptz not null,
  event_id bigint,
  constraint pk_fulfillments primary key (shop_id, fulfillment_id)
);
create index ix_fulfillments_order on fulfillments (shop_id, order_gid);

create table customers (
  shop_id integer,
  customer_id bigint,
  name text default '' not null,
  email text default '' not null,
  phone text default '' not null,
  updated_at timestamptz not null,
  deleted_at timestamptz,
  redacted_at timestamptz,
  constraint pk_customers primary key (shop_id, customer_id)
);

create table products (
  shop_id integer,
  product_id bigint,
  title text default '' not null,
  status text default '' not null,
  updated_at timestamptz not null,
  deleted_at timestamptz,
  product_type text default '' not null,
  tags text default '' not null,
  constraint pk_products primary key (shop_id, product_id)
);

create table variants (
  shop_id integer,
  inventory_item_id bigint,
  variant_id bigint not null,
  sku text not null,
  title text not null,
  updated_at timestamptz not null,
  product_id bigint,
  deleted_at timestamptz,
  constraint pk_variants primary key (shop_id, inventory_item_id)
);
create index ix_variants_product on variants (shop_id, product_id);
create index ix_variants_sku on variants (shop_id, sku);
create index ix_variants_variant on variants (shop_id, variant_id);

create table inventory_items (
  shop_id integer,
  inventory_item_id bigint,
  sku text default '' not null,
  is_tracked boolean default true not null,
  cost_cents bigint,
  updated_at timestamptz not null,
  deleted_at timestamptz,
  constraint pk_inventory_items primary key (shop_id, inventory_item_id)
);

create table locations (
  shop_id integer,
  location_id bigint,
  name text default '' not null,
  province text default '' not null,
  is_active boolean default true not null,
  updated_at timestamptz not null,
  deleted_at timestamptz,
  constraint pk_locations primary key (shop_id, location_id)
);

create table storefronts (
  shop_id integer constraint pk_storefronts primary key,
  shopify_id bigint,
  name text default '' not null,
  currency text default '' not null,
  timezone text default '' not null,
  province text default '' not null,
  plan_name text default '' not null,
  updated_at timestamptz not null,
  uninstalled_at timestamptz
);

create table privacy_requests (
  id bigint generated always as identity constraint pk_privacy_requests primary key,
  shop_id integer not null,
  kind text not null,
  customer_id bigint,
  event_id bigint not null,
  status text default 'open' not null,
  received_at timestamptz not null,
  due_at timestamptz not null,
  done_at timestamptz,
  result jsonb default '{}' not null,
  confirmed_at timestamptz,
  confirmed_by text default '' not null,
  constraint uq_privacy_requests_event unique (shop_id, event_id)
);

create table webhook_subscriptions (
  shop_id integer,
  topic text,
  subscription_gid text not null,
  uri text not null,
  seen_at timestamptz not null,
  lost_at timestamptz,
  imported_at timestamptz,
  constraint pk_webhook_subscriptions primary key (shop_id, topic)
);

create table inventory_levels (
  shop_id integer,
  inventory_item_id bigint,
  location_id bigint,
  sku text default '' not null,
  available integer not null,
  reorder_point integer,
  observed_available integer not null,
  observed_at timestamptz not null,
  shopify_available integer,
  changed_at timestamptz not null,
  disconnected_at timestamptz,
  counted_available integer,
  counted_at timestamptz,
  pool text,
  pool_sku text,
  known_at timestamptz,
  doubts integer default 0 not null,
  constraint pk_inventory_levels primary key (shop_id, inventory_item_id, location_id)
);
create index ix_inventory_levels_pool on inventory_levels (pool, pool_sku) where pool is not null;
create index ix_inventory_levels_sku on inventory_levels (shop_id, sku);

create table stock_pools (
  name text constraint pk_stock_pools primary key,
  safety_buffer integer default 0 not null
);

create table stock_pool_items (
  pool text,
  sku text,
  available integer not null,
  changed_at timestamptz not null,
  constraint pk_stock_pool_items primary key (pool, sku),
  constraint fk_stock_pool_items_pool_stock_pools foreign key (pool) references stock_pools (name)
);

create table stock_movements (
  shop_id integer,
  source text,
  sku text not null,
  delta integer not null,
  at timestamptz not null,
  variant_id bigint,
  location_id bigint,
  order_id bigint,
  constraint pk_stock_movements primary key (shop_id, source)
);
create index ix_stock_movements_sku_at on stock_movements (shop_id, sku, at);
create index ix_stock_movements_variant_at on stock_movements (shop_id, variant_id, at)
  where variant_id is not null;

-- services/shopify/orders
create table orders (
  shop_id integer,
  order_gid text,
  name text not null,
  stage text default 'Filling' not null,
  total_cents bigint not null,
  refunded_cents bigint default 0 not null,
  currency text not null,
  financial_status text not null,
  cancelled_at timestamptz,
  placed_at timestamptz not null,
  updated_at timestamptz not null,
  event_id bigint,
  subtotal_cents bigint,
  tax_cents bigint,
  shipping_cents bigint,
  discount_cents bigint,
  taxes_included boolean default false not null,
  shipping_taxes jsonb,
  customer_id bigint,
  staff_label text default '' not null,
  province text default '' not null,
  fulfillment_status text default '' not null,
  deleted_at timestamptz,
  content_digest text default '' not null,
  location_id bigint,
  is_test boolean default false not null,
  is_tax_exempt boolean default false not null,
  tip_cents bigint default 0 not null,
  duties_cents bigint default 0 not null,
  rounding_cents bigint default 0 not null,
  refund_rounding_cents bigint default 0 not null,
  duties_included boolean default false not null,
  current_duties_cents bigint,
  additional_fees_cents bigint default 0 not null,
  current_additional_fees_cents bigint,
  conversion_cents bigint default 0 not null,
  constraint pk_orders primary key (shop_id, order_gid)
);
create index ix_orders_customer on orders (shop_id, customer_id) where customer_id is not null;
create index ix_orders_placed_at on orders (shop_id, placed_at);

create table order_lines (
  shop_id integer,
  order_gid text,
  line_id bigint,
  sku text not null,
  title text not null,
  quantity integer not null,
  refunded_quantity integer default 0 not null,
  price_cents bigint not null,
  discount_cents bigint default 0 not null,
  is_taxable boolean default true not null,
  is_gift_card boolean default false not null,
  taxes jsonb,
  product_id bigint,
  staff_label text default '' not null,
  is_tip boolean default false not null,
  current_quantity integer,
  constraint pk_order_lines primary key (shop_id, order_gid, line_id)
);

create table order_refunds (
  shop_id integer,
  order_gid text,
  refund_id bigint,
  amount_cents bigint not null,
  currency text not null,
  refunded_at timestamptz not null,
  shipping_cents bigint default 0 not null,
  shipping_tax_cents bigint default 0 not null,
  status text default 'success' not null,
  duties_cents bigint default 0 not null,
  tip_cents bigint default 0 not null,
  adjustment_cents bigint default 0 not null,
  adjustment_tax_cents bigint default 0 not null,
  unexplained_cents bigint default 0 not null,
  rounding_cents bigint default 0 not null,
  transactions jsonb,
  additional_fees_cents bigint default 0 not null,
  constraint pk_order_refunds primary key (shop_id, order_gid, refund_id)
);
create index ix_order_refunds_refunded_at on order_refunds (shop_id, refunded_at);

create table order_refund_lines (
  shop_id integer,
  order_gid text,
  refund_id bigint,
  refund_line_id bigint,
  line_id bigint not null,
  quantity integer not null,
  subtotal_cents bigint default 0 not null,
  tax_cents bigint default 0 not null,
  constraint pk_order_refund_lines primary key (shop_id, order_gid, refund_id, refund_line_id)
);

create table order_transactions (
  shop_id integer,
  order_transaction_id bigint,
  order_gid text not null,
  kind text not null,
  status text not null,
  gateway text default '' not null,
  amount_cents bigint not null,
  currency text not null,
  parent_id bigint,
  payment_ref text default '' not null,
  processed_at timestamptz not null,
  event_id bigint,
  is_test boolean default false not null,
  constraint pk_order_transactions primary key (shop_id, order_transaction_id)
);
create index ix_order_transactions_order on order_transactions (shop_id, order_gid);
create index ix_order_transactions_payment_ref on order_transactions (shop_id, payment_ref)
  where payment_ref <> '';

-- services/shopify/logistics
create table fulfillment_orders (
  shop_id integer,
  fulfillment_order_id bigint,
  order_gid text default '' not null,
  status text default '' not null,
  request_status text default '' not null,
  location_id bigint,
  is_on_hold boolean default false not null,
  hold_reason text default '' not null,
  fulfill_at timestamptz,
  prepared_at timestamptz,
  updated_at timestamptz not null,
  field_versions jsonb not null,
  event_id bigint,
  constraint pk_fulfillment_orders primary key (shop_id, fulfillment_order_id)
);
create index ix_fulfillment_orders_on_hold on fulfillment_orders (shop_id) where is_on_hold;
create index ix_fulfillment_orders_order on fulfillment_orders (shop_id, order_gid) where order_gid <> '';

create table fulfillment_events (
  shop_id integer,
  fulfillment_event_id bigint,
  fulfillment_id bigint not null,
  order_gid text default '' not null,
  status text default '' not null,
  happened_at timestamptz not null,
  delivery_expected_at timestamptz,
  updated_at timestamptz not null,
  deleted_at timestamptz,
  event_id bigint,
  constraint pk_fulfillment_events primary key (shop_id, fulfillment_event_id)
);
create index ix_fulfillment_events_fulfillment on fulfillment_events (shop_id, fulfillment_id, happened_at);
create index ix_fulfillment_events_order on fulfillment_events (shop_id, order_gid);

create table inventory_transfers (
  shop_id integer,
  inventory_transfer_id bigint,
  status text default '' not null,
  origin_id bigint,
  destination_id bigint,
  quantity bigint,
  updated_at timestamptz not null,
  field_versions jsonb not null,
  event_id bigint,
  constraint pk_inventory_transfers primary key (shop_id, inventory_transfer_id)
);

create table inventory_shipments (
  shop_id integer,
  inventory_shipment_id bigint,
  status text default '' not null,
  arrives_at timestamptz,
  quantity bigint,
  accepted_quantity bigint default 0 not null,
  rejected_quantity bigint default 0 not null,
  updated_at timestamptz not null,
  deleted_at timestamptz,
  field_versions jsonb not null,
  event_id bigint,
  constraint pk_inventory_shipments primary key (shop_id, inventory_shipment_id)
);

create table variant_stock (
  shop_id integer,
  variant_id bigint,
  product_id bigint,
  is_in_stock boolean not null,
  updated_at timestamptz not null,
  event_id bigint,
  constraint pk_variant_stock primary key (shop_id, variant_id)
);

create table order_notices (
  shop_id integer,
  order_gid text,
  risk_level text default '' not null,
  protect_status text default '' not null,
  protect_eligibility text default '' not null,
  updated_at timestamptz not null,
  field_versions jsonb not null,
  event_id bigint,
  doubts text default '' not null,
  constraint pk_order_notices primary key (shop_id, order_gid)
);

create table order_returns (
  shop_id integer,
  return_id bigint,
  order_gid text default '' not null,
  name text default '' not null,
  status text default '' not null,
  decline_reason text default '' not null,
  line_count integer,
  quantity bigint,
  shipping_attached_at timestamptz,
  updated_at timestamptz not null,
  field_versions jsonb not null,
  event_id bigint,
  constraint pk_order_returns primary key (shop_id, return_id)
);
create index ix_order_returns_order on order_returns (shop_id, order_gid);

create table reverse_fulfillment_orders (
  shop_id integer,
  reverse_fulfillment_order_id bigint,
  restocked_quantity bigint default 0 not null,
  not_restocked_quantity bigint default 0 not null,
  missing_quantity bigint default 0 not null,
  disposed_quantity bigint default 0 not null,
  updated_at timestamptz not null,
  field_versions jsonb not null,
  event_id bigint,
  constraint pk_reverse_fulfillment_orders primary key (shop_id, reverse_fulfillment_order_id)
);

create table shopify_disputes (
  shop_id integer,
  dispute_id bigint,
  order_gid text default '' not null,
  kind text default '' not null,
  status text not null,
  amount_cents bigint not null,
  currency text not null,
  reason text default '' not null,
  network_reason_code text default '' not null,
  initiated_at timestamptz,
  evidence_due_by timestamptz,
  evidence_sent_on timestamptz,
  finalized_on timestamptz,
  updated_at timestamptz not null,
  event_id bigint,
  constraint pk_shopify_disputes primary key (shop_id, dispute_id)
);
create index ix_shopify_disputes_order on shopify_disputes (shop_id, order_gid);

create table tender_transactions (
  shop_id integer,
  tender_transaction_id bigint,
  order_gid text default '' not null,
  amount_cents bigint not null,
  currency text not null,
  payment_method text default '' not null,
  remote_reference text default '' not null,
  is_test boolean default false not null,
  processed_at timestamptz not null,
  event_id bigint,
  constraint pk_tender_transactions primary key (shop_id, tender_transaction_id)
);
create index ix_tender_transactions_order on tender_transactions (shop_id, order_gid);

-- services/payments
create table transactions (
  shop_id integer,
  provider_id text,
  kind text not null,
  status text not null,
  amount_cents bigint not null,
  refunded_cents bigint default 0 not null,
  currency text not null,
  occurred_at timestamptz not null,
  parent_id text,
  version_at timestamptz not null,
  event_id bigint,
  fee_cents bigint,
  order_ref text default '' not null,
  reason text default '' not null,
  arrives_on date,
  content_digest text default '' not null,
  constraint pk_transactions primary key (shop_id, provider_id)
);
create index ix_transactions_occurred_at on transactions (shop_id, occurred_at);
create index ix_transactions_order_ref on transactions (shop_id, order_ref) where order_ref <> '';
create index ix_transactions_parent on transactions (shop_id, parent_id) where parent_id is not null;

create table balance_entries (
  shop_id integer,
  entry_id text,
  kind text not null,
  source_id text default '' not null,
  amount_cents bigint not null,
  fee_cents bigint not null,
  net_cents bigint not null,
  currency text not null,
  created_at timestamptz not null,
  available_on date,
  payout_id text default '' not null,
  constraint pk_balance_entries primary key (shop_id, entry_id)
);
create index ix_balance_entries_created_at on balance_entries (shop_id, created_at);
create index ix_balance_entries_payout on balance_entries (shop_id, payout_id);
create index ix_balance_entries_source on balance_entries (shop_id, source_id);

create table reconciliation_breaks (
  id bigint generated always as identity constraint pk_reconciliation_breaks primary key,
  shop_id integer not null,
  day date not null,
  kind text not null,
  provider_id text not null,
  ours jsonb,
  theirs jsonb,
  found_at timestamptz not null,
  closed_at timestamptz,
  subject text default 'charge' not null,
  cause text default '' not null,
  cause_event_id text default '' not null,
  evidence jsonb default '{}' not null,
  constraint uq_reconciliation_breaks_identity unique (shop_id, day, kind, provider_id)
);

create table reconciliation_staging (
  shop_id integer,
  day date,
  token text,
  kind text,
  provider_id text,
  subject text not null,
  ours jsonb,
  theirs jsonb,
  evidence jsonb default '{}' not null,
  cause text default '' not null,
  cause_event_id text default '' not null,
  found_at timestamptz not null,
  constraint pk_reconciliation_staging primary key (shop_id, day, token, kind, provider_id)
);

create table break_corrections (
  id bigint generated always as identity constraint pk_break_corrections primary key,
  shop_id integer not null,
  day date not null,
  kind text not null,
  provider_id text not null,
  subject text not null,
  change text not null,
  ours jsonb,
  theirs jsonb,
  at timestamptz not null,
  cause text default '' not null,
  cause_event_id text default '' not null,
  evidence jsonb default '{}' not null,
  constraint ck_break_corrections_change check (change in ('found','closed'))
);
create index ix_break_corrections_day on break_corrections (shop_id, day);

create table closed_periods (
  shop_id integer,
  period text,
  begins_on date not null,
  ends_before date not null,
  closed_at timestamptz not null,
  figures jsonb not null,
  files jsonb not null,
  manifest_key text not null,
  manifest_sha256 text not null,
  constraint pk_closed_periods primary key (shop_id, period)
);

create table period_corrections (
  id bigint generated always as identity constraint pk_period_corrections primary key,
  shop_id integer not null,
  period text not null,
  found_in text not null,
  account text not null,
  currency text not null,
  before_cents bigint not null,
  after_cents bigint not null,
  at timestamptz not null,
  constraint uq_period_corrections_identity unique (shop_id, period, found_in, account, currency)
);

-- services/conversations
create table interactions (
  shop_id integer,
  provider_id text,
  kind text not null,
  direction text not null,
  status text not null,
  participants jsonb not null,
  body text not null,
  detail jsonb not null,
  occurred_at timestamptz not null,
  version_at timestamptz not null,
  event_id bigint,
  constraint pk_interactions primary key (shop_id, provider_id)
);
create index ix_interactions_occurred_at on interactions (shop_id, occurred_at);
