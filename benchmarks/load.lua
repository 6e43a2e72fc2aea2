-- wrk -s load.lua URL -- BODY_FILE COUNT_STATUSES PAUSE_MS [NAME VALUE]...
-- Posts one body with these headers, and prints the result as one line of JSON.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  for index = 4, #arguments, 2 do
    wrk.headers[arguments[index]] = arguments[index + 1]
  end
  local pause = tonumber(arguments[3])
  if pause > 0 then
    function delay()
      return pause * (0.5 + math.random())
    end
  end
  counts = ""
  if arguments[2] == "yes" then
    -- wrk parses the headers of every reply if this is defined, so it is defined only for counting statuses.
    local seen = {}
    function response(status, headers)
      local name = tostring(status)
      if status >= 400 and not (headers["retry-after"] or headers["Retry-After"]) then
        name = name .. " without Retry-After"
      end
      seen[name] = (seen[name] or 0) + 1
      local parts = {}
      for each, count in pairs(seen) do
        table.insert(parts, string.format('"%s":%d', each, count))
      end
      counts = table.concat(parts, ",")
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  -- The load has one thread.
  io.write(string.format(
    '\nload {"seconds":%.6f,"requests":%d,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f,"statuses":{%s}}\n',
    summary.duration / 1e6, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, threads[1]:get("counts")))
end
