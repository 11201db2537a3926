// An independent subscriber over CURVE: no code of ours, another language, another ZeroMQ binding.
// usage: node curve_subscriber.mjs ENDPOINT STATION.key OWN.key_secret COUNT
// Prints {"connecting": true}, then one JSON line a message; ends with 0 after COUNT messages. The handshake's fate is printed too.

import { readFileSync } from "node:fs"
import { Subscriber } from "zeromq"

const [endpoint, stationFile, ownFile, count] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")

function half(file, name) {
  const found = readFileSync(file, "utf8").match(new RegExp(`^\\s*${name}-key = "(.{40})"$`, "m"))
  if (found === null) throw new Error(`${file} holds no ${name} key`)
  return found[1]
}

const socket = new Subscriber({
  linger: 0,
  curveServerKey: half(stationFile, "public"),
  curvePublicKey: half(ownFile, "public"),
  curveSecretKey: half(ownFile, "secret"),
})
socket.events.on("handshake", () => say({ handshake: true }))
socket.events.on("handshake:error:auth", () => say({ handshake: false }))
socket.subscribe("verdict", "heartbeat")
socket.connect(endpoint)
say({ connecting: true })

let left = Number(count)
for await (const parts of socket) {
  say({ topic: parts[0].toString(), body: JSON.parse(parts[1].toString()) })
  left -= 1
  if (left === 0) break
}
socket.close()
