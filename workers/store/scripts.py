"""The Lua that Redis runs: each script is one indivisible step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name Redis gives it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


DECIDE = Script(
    """
-- KEYS: verdict, gate, latest, attempts
-- ARGV: bytes, verdict ttl, gate maxlen, latest ttl, order, part, decision, deadline,
--   captured, horizon: decided, and the most by which an agent's clock may be ahead
local standing = redis.call('GET', KEYS[1])
if standing then
  redis.call('DEL', KEYS[4])
  return {standing, 0}
end
-- The verdict first: were a later line to fail, a gate that was not told still finds it by its key.
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('DEL', KEYS[4])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*',
  'part', ARGV[6], 'decision', ARGV[7], 'deadline', ARGV[8], 'verdict', ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
-- Texts of one fixed width, digits only: their order as text is their order as numbers.
local order, captured, horizon = ARGV[5], ARGV[9], ARGV[10]
local newest = redis.call('HGET', KEYS[3], 'order')
local passed = (not newest) or newest < order
if newest and newest > order then
  -- What stands there says that it is newer: it is not where its run has yet to begin, nor where this part
  -- was captured after that one had been decided (a counter that jumped, a clock that was set back).
  local seen = redis.call('HGET', KEYS[3], 'seen')
  passed = string.sub(newest, 1, 19) > horizon or (seen and captured > seen and captured <= horizon)
end
if passed and string.sub(order, 1, 19) <= horizon then
  redis.call('HSET', KEYS[3], 'order', order, 'part', ARGV[6], 'decision', ARGV[7], 'verdict', ARGV[1],
    'seen', ARGV[10])
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return {ARGV[1], 1}
"""
)
"""Write a verdict if the part has none; tell the gate and the board; return the one that stands."""

ATTEMPT = Script(
    """
-- KEYS: attempts. ARGV: ttl
local count = redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return count
"""
)
"""Count one more attempt; the counter never exists without a lifetime."""

HEATMAP = Script(
    """
-- KEYS: heatmap, heatmaps. ARGV: bytes, ttl, most kept
if not redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'NX') then
  return 0
end
redis.call('LPUSH', KEYS[2], KEYS[1])
while redis.call('LLEN', KEYS[2]) > tonumber(ARGV[3]) do
  redis.call('DEL', redis.call('RPOP', KEYS[2]))
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""
)
"""Keep a heatmap and drop the oldest ones over the cap."""

FORGET = Script(
    """
-- KEYS: hash. ARGV: id
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""
)
"""Delete a hash, unless somebody has replaced it since it was read."""

REVIEW = Script(
    """
-- KEYS: review. ARGV: label, by, at, note, ttl, replace, revision known
local function stands()
  return {redis.call('HGET', KEYS[1], 'label'), redis.call('HGET', KEYS[1], 'by'),
    redis.call('HGET', KEYS[1], 'at'), redis.call('HGET', KEYS[1], 'note'),
    redis.call('HGET', KEYS[1], 'revision')}
end
local label = redis.call('HGET', KEYS[1], 'label')
if label == ARGV[1] then
  return stands()
end
-- Whoever gave a label may take it back; one that was taken back is in nobody's way.
local own = ARGV[1] == 'withdrawn' and redis.call('HGET', KEYS[1], 'by') == ARGV[2]
if label and label ~= 'withdrawn' and not own and ARGV[6] ~= '1' then
  return stands()
end
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
revision = math.max(revision, tonumber(ARGV[7])) + 1
redis.call('HSET', KEYS[1], 'label', ARGV[1], 'by', ARGV[2], 'at', ARGV[3], 'note', ARGV[4],
  'revision', string.format('%.0f', revision))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return stands()
"""
)
"""Write a person's label unless the part has one, or in its place where that is meant, or take back one's
own; return what stands."""
