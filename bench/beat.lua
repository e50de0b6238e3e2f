-- Heartbeats for wrk. Arguments: a file with a line for each instance, its path and its body in
-- pieces, all divided by tabs; and "same" or "new": whether each beat has new content.
dofile(debug.getinfo(1, "S").source:match("@(.*)beat.lua") .. "report.lua")

local paths, pieces = {}, {}
local sent = 0
local second, now = 0, ""
local new = false
-- Rises from run to run.
local first = os.time() * 1000000

init = function(args)
  new = args[2] == "new"
  for line in io.lines(args[1]) do
    local parts = {}
    for part in line:gmatch("[^\t]+") do parts[#parts + 1] = part end
    paths[#paths + 1] = table.remove(parts, 1)
    pieces[#pieces + 1] = parts
  end
end

local headers = { ["Content-Type"] = "application/json" }

request = function()
  sent = sent + 1
  local at = sent % #paths + 1
  local p = pieces[at]
  if os.time() ~= second then
    second = os.time()
    now = os.date("!%Y-%m-%dT%H:%M:%SZ", second)
  end
  local step = new and string.format("%.0f", first + sent) or "0"
  local body = p[1] .. string.format("%.0f", first + sent) .. p[2] .. now .. p[3] .. step .. p[4]
  return wrk.format("POST", paths[at], headers, body)
end
