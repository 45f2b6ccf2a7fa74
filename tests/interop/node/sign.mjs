// Signs and verifies webhooks with the providers' own libraries.
// In: a JSON array of {act, provider, secret, body, headers?} on standard input. Out: an array of answers:
// headers for "sign", {valid, reason} for "verify".
import '@shopify/shopify-api/adapters/node';
import { LogSeverity, shopifyApi } from '@shopify/shopify-api';
import { createSHA256HMAC } from '@shopify/shopify-api/runtime';
import { readFileSync } from 'node:fs';
import Stripe from 'stripe';

const API_VERSION = '2026-07';
const stripe = new Stripe('sk_test_interop');

const acts = {
  async 'sign shopify'({ secret, body }) {
    return {
      'X-Shopify-Hmac-Sha256': await createSHA256HMAC(secret, body),
      'X-Shopify-Topic': 'orders/create',
      'X-Shopify-Shop-Domain': 'ada.myshopify.com',
      'X-Shopify-API-Version': API_VERSION,
      'X-Shopify-Webhook-Id': 'b54557e4-bdd9-4b37-8a5f-bf7d70bcd043',
    };
  },
  async 'verify shopify'({ secret, body, headers }) {
    const shopify = shopifyApi({
      apiKey: 'interop',
      apiSecretKey: secret,
      apiVersion: API_VERSION,
      hostName: 'localhost',
      isEmbeddedApp: false,
      logger: { level: LogSeverity.Error, log: () => {} },
    });
    const rawRequest = { method: 'POST', url: '/webhooks/shopify/ada', headers };
    return shopify.webhooks.validate({ rawBody: body, rawRequest, rawResponse: {} });
  },
  async 'sign stripe'({ secret, body }) {
    return { 'Stripe-Signature': stripe.webhooks.generateTestHeaderString({ payload: body, secret }) };
  },
  async 'verify stripe'({ secret, body, headers }) {
    try {
      stripe.webhooks.constructEvent(body, headers['Stripe-Signature'], secret);
      return { valid: true };
    } catch (error) {
      return { valid: false, reason: error.message };
    }
  },
};

const answers = [];
for (const asked of JSON.parse(readFileSync(0, 'utf8'))) {
  answers.push(await acts[`${asked.act} ${asked.provider}`](asked));
}
process.stdout.write(JSON.stringify(answers));
