-- Batches of heartbeats for wrk, each beat with new content. Arguments: a file as for beat.lua, whose
-- bodies name their agents; and the number of beats in a batch.
dofile(debug.getinfo(1, "S").source:match("@(.*)batch.lua") .. "report.lua")

local pieces = {}
local sent, size = 0, 100
-- Rises from run to run.
local first = os.time() * 1000000

init = function(args)
  size = tonumber(args[2])
  for line in io.lines(args[1]) do
    local parts = {}
    for part in line:gmatch("[^\t]+") do parts[#parts + 1] = part end
    table.remove(parts, 1)
    pieces[#pieces + 1] = parts
  end
end

local headers = { ["Content-Type"] = "application/x-ndjson" }

request = function()
  local now = os.date("!%Y-%m-%dT%H:%M:%SZ")
  local lines = {}
  for at = 1, size do
    sent = sent + 1
    local p = pieces[sent % #pieces + 1]
    local number = string.format("%.0f", first + sent)
    lines[at] = p[1] .. number .. p[2] .. now .. p[3] .. number .. p[4]
  end
  return wrk.format("POST", "/agents/heartbeats", headers, table.concat(lines, "\n"))
end
