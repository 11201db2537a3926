// An independent listener for a long run: no code of ours, another language, another ZeroMQ binding.
// usage: node listener.mjs ENDPOINT OUT [STATION.key OWN.key_secret]
// Writes "EPOCH SEQ TRIGGER ACCEPT PART" for every live verdict; ends at a state message or heartbeat that says Halted.

import { createWriteStream, readFileSync } from "node:fs"
import { Subscriber } from "zeromq"

const [endpoint, out, stationFile, ownFile] = process.argv.slice(2)

function half(file, name) {
  const found = readFileSync(file, "utf8").match(new RegExp(`^\\s*${name}-key = "(.{40})"$`, "m"))
  if (found === null) throw new Error(`${file} holds no ${name} key`)
  return found[1]
}

const curve = stationFile
  ? {
      curveServerKey: half(stationFile, "public"),
      curvePublicKey: half(ownFile, "public"),
      curveSecretKey: half(ownFile, "secret"),
    }
  : {}
const socket = new Subscriber({ linger: 0, receiveHighWaterMark: 100000, reconnectInterval: 50, ...curve })
socket.subscribe("verdict", "state", "heartbeat")
socket.connect(endpoint)
const file = createWriteStream(out)

for await (const parts of socket) {
  const topic = parts[0].toString()
  const body = JSON.parse(parts[1].toString())
  if (topic === "verdict" && !body.is_replay) {
    file.write(`${body.epoch} ${body.seq} ${body.trigger_seq} ${body.accept} ${body.part_id}\n`)
  }
  if (topic !== "verdict" && body.state === "Halted") break
}
socket.close()
file.end()
