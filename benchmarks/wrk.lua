-- Posts prepared, signed bodies; every request has a webhook id of its own. Prints one JSON line.
-- Arguments after "--": file of "signature<TAB>body" lines, path, prefix of the webhook ids.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local file, path, prefix = args[1], args[2], args[3]
  heads, bodies, sent = {}, {}, 0
  for line in io.lines(file) do
    local signature, body = line:match("^(%S+)\t(.*)$")
    heads[#heads + 1] = table.concat({
      "POST " .. path .. " HTTP/1.1",
      "Host: 127.0.0.1",
      "Content-Type: application/json",
      "User-Agent: Shopify-Captain-Hook",
      "X-Shopify-Topic: orders/create",
      "X-Shopify-Shop-Domain: bench.myshopify.com",
      "X-Shopify-API-Version: 2026-07",
      "X-Shopify-Hmac-Sha256: " .. signature,
      "Content-Length: " .. #body,
      "X-Shopify-Webhook-Id: " .. prefix .. "-" .. number .. "-",
    }, "\r\n")
    bodies[#bodies + 1] = "\r\n\r\n" .. body
  end
end

function request()
  local at = (sent + number * 7919) % #bodies + 1
  sent = sent + 1
  return heads[at] .. sent .. bodies[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
