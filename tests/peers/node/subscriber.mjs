// An independent subscriber: no code of ours, another language, another ZeroMQ binding.
// usage: node subscriber.mjs ENDPOINT MASK_FOLDER SILENCE_S
// Prints one JSON line a message; ends with 0 at a heartbeat that says Halted or Error, with 3 after SILENCE_S of silence.

import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Subscriber } from "zeromq"

const [endpoint, maskFolder, silence] = process.argv.slice(2)
const patience = () => setTimeout(() => process.exit(3), Number(silence) * 1000)

function unsafeNumbers(value, path = "") {
  if (typeof value === "number") {
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? [path] : []
  }
  if (value === null || typeof value !== "object") return []
  return Object.entries(value).flatMap(([key, inner]) => unsafeNumbers(inner, `${path}.${key}`))
}

const socket = new Subscriber({ linger: 0 })
// The station waits for a subscriber to verdicts and heartbeats: the others come first, so that none is missed.
socket.subscribe("mask", "state", "verdict", "heartbeat")
socket.connect(endpoint)

let timer = patience()
for await (const parts of socket) {
  clearTimeout(timer)
  timer = patience()
  const topic = parts[0].toString()
  const raw = parts[1].toString()
  const body = JSON.parse(raw)
  if (topic === "mask") writeFileSync(join(maskFolder, `${body.seq}.png`), parts[2])
  process.stdout.write(JSON.stringify({ topic, parts: parts.length, raw, body, unsafe: unsafeNumbers(body) }) + "\n")
  if (topic === "heartbeat" && (body.state === "Halted" || body.state === "Error")) break
}
clearTimeout(timer)
socket.close()
